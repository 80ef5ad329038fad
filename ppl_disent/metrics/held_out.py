# Copyright ppl-disent contributors.
# SPDX-License-Identifier: Apache-2.0
"""What the metrics that train a predictor share: which points it sees, and in which units."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from ppl_disent.errors import ArgumentError
from ppl_disent.metrics.information import Array, Factors, Indices, as_factors, varying


def split(points: int, held_out: float, seed: int) -> tuple[Indices, Indices]:
    """Positions to train on and to test on, disjoint and in random order.

    Args:
        points: N.
        held_out: The share to test on, between 0 and 1, rounded to the nearest number of points.
        seed: The same seed gives the same positions.

    Raises:
        ArgumentError: If one of the two would be empty.
    """
    tested = round(points * held_out) if 0 < held_out < 1 else 0
    if not 0 < tested < points:
        expected = f"a share between 0 and 1 of which {points} points leave some to train on and some to test on"
        raise ArgumentError("held_out", got=held_out, expected=expected)
    order = np.random.default_rng(seed).permutation(points)
    return order[tested:], order[:tested]


def check_varying(names: Sequence[str], values: npt.NDArray[np.generic], rows: Indices, which: str) -> None:
    """Raises unless each column of ``values`` has at least two values among these rows; ``which`` says which they are.

    Raises:
        ArgumentError: If one has not.
    """
    for name, column in zip(names, values[rows].T):
        if (column == column[0]).all():
            got = f"{name!r}, with one value among the {len(rows)} points {which}"
            raise ArgumentError("factors", got=got, expected="at least two", hint="Take more points or another seed.")


def standardised(values: Array, train: Indices) -> Array:
    """Columns less the mean, over the standard deviation (divided by n), of the training points; constants become 0."""
    values = values.astype(np.float64)
    mean, std, moves = values[train].mean(0), values[train].std(0), varying(values[train])
    return np.where(moves, values - mean, 0.0) / np.where(moves, std, 1.0)


def several_factors(value: object, names: Sequence[str] | None, points: int) -> Factors:
    """Factors as :func:`as_factors` reads them, for metrics that ask which of several factors a latent is about.

    Raises:
        ArgumentError: As there, and for a single factor.
    """
    factors = as_factors(value, names, points)
    if len(factors.sizes) < 2:
        raise ArgumentError("factors", got="one factor", expected="at least two, for there is nothing to tell apart")
    return factors
