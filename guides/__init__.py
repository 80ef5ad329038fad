# Copyright ppl-disent contributors.
# SPDX-License-Identifier: Apache-2.0
"""The q side: guides written with torch and pyro only; networks come in through the constructor."""

from guides.gaussian import Gaussian as Gaussian
from guides.stiefel import Span as Span
from guides.stiefel import Stiefel as Stiefel

__all__ = ["Gaussian", "Span", "Stiefel"]
