# Copyright ppl-disent contributors.
# SPDX-License-Identifier: Apache-2.0
"""A figure that a notebook shows."""

from __future__ import annotations

import io

import matplotlib.figure


class Figure(matplotlib.figure.Figure):
    """A figure without pyplot, which Jupyter shows also where ``%matplotlib inline`` has not been said."""

    def _repr_png_(self) -> bytes:
        buffer = io.BytesIO()
        self.savefig(buffer, format="png")
        return buffer.getvalue()
