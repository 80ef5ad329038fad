# Copyright ppl-disent contributors.
# SPDX-License-Identifier: Apache-2.0
"""Reads binary labels."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ppl_disent.errors import ArgumentError
from ppl_disent.metrics.information import Indices, as_array


def as_labels(
    name: str, value: object, points: int, label_names: Sequence[str] | None
) -> tuple[Indices, tuple[str, ...]]:
    """Binary labels as an ``(N, k)`` array, and their names.

    Args:
        name: The argument, for the error message.
        value: An ``(N, k)`` tensor or array of 0 and 1, of any type; ``(N,)`` is one label.
        points: N.
        label_names: k different names; by default ``y0``, ``y1`` and so on.

    Raises:
        ArgumentError: If shape, values or names do not fit.
    """
    array = as_array(name, value)
    array = array[:, None] if array.ndim == 1 else array
    if array.ndim != 2 or len(array) != points or not array.shape[1]:
        raise ArgumentError(name, got=array.shape, expected=f"the shape ({points}, labels)")
    if not np.isin(array, (0, 1)).all():
        got = f"values from {array.min():g} to {array.max():g}"
        raise ArgumentError(name, got=got, expected="only 0 and 1", hint="Labels in {-1, 1} are (labels + 1) / 2.")
    width = array.shape[1]
    names = [f"y{i}" for i in range(width)] if label_names is None else label_names
    if isinstance(names, str) or len(names) != width or len(set(names)) != width:
        raise ArgumentError("label_names", got=names, expected=f"{width} different names, one for each label")
    return array.astype(np.int64), tuple(names)
