# Copyright ppl-disent contributors.
# SPDX-License-Identifier: Apache-2.0
"""What every metric returns: a number, its parts, and the estimator that made it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, eq=False, repr=False)
class Score:
    """A score together with what it was made of.

    A figure without its estimator cannot be compared with a published one (the same metric moves by tenths between 10
    and 100 bins), so the two travel together. Compare, sort and plot scores through ``float(score)``;
    ``f"{score:.3f}"`` formats that float.

    Attributes:
        value: The score.
        per_factor: The score of every factor by its name, of which ``value`` is the mean; empty where a metric has no
            factors.
        detail: What was computed on the way, by name: arrays and floats, in the units that the metric states.
        estimator: The estimator and its settings, in words.

    Example:
        >>> from ppl_disent.metrics import Score
        >>> score = Score(0.5, {"shape": 1.0, "scale": 0.0}, estimator="by hand")
        >>> score
        Score(0.5; shape 1, scale 0; by hand)
        >>> f"{score:.2f}", float(score)
        ('0.50', 0.5)
    """

    value: float
    per_factor: Mapping[str, float] = field(default_factory=dict)
    detail: Mapping[str, Any] = field(default_factory=dict)
    estimator: str = ""

    def __float__(self) -> float:
        return float(self.value)

    def __format__(self, spec: str) -> str:
        return format(self.value, spec) if spec else repr(self)

    def __repr__(self) -> str:
        parts = ", ".join(f"{name} {value:.4g}" for name, value in self.per_factor.items())
        return "Score(" + "; ".join(filter(None, (f"{self.value:.4g}", parts, self.estimator))) + ")"
