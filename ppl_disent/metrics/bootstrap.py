# Copyright ppl-disent contributors.
# SPDX-License-Identifier: Apache-2.0
"""How far a score could be off for want of points: 95 % bootstrap intervals, of every metric for which one is honest.

``bootstrap=200`` means the same everywhere: what a score averages over is drawn again with replacement 200 times, and
``detail["interval"]`` is the interval of its value. What was made before stays as it is (bins, active latents, machines
and classifiers, the split):

- points: :func:`mig`, :func:`rmig`, :func:`jemmig`, :func:`modularity_explicitness` (its modularity),
  :func:`infomec` (its InfoM, binned or discrete), :func:`sap` with the squared correlation,
  :func:`gaussian_total_correlation`, :func:`mean_mutual_information`;
- points held out: :func:`sap` with machines;
- evaluation votes or points: :func:`factor_vae_score`, :func:`beta_vae_score`;
- training points: :func:`dci`, whose score is what its predictors have learned, so that these are **fitted anew** for
  each resample, which costs as much as the score;
- runs: :func:`udr`, in whose trials intervals from four runs held the truth in 65 % of cases only: runs are few.

Two have none, for it would not hold the truth. Drawn points repeat, and a point that occurs twice is its own nearest
neighbour: not :func:`infomec` with ``"knn"``. No resample goes beyond the largest deviation of the points, which is the
unit of :func:`irs`, and which grows with N: of normal codes 2 % of such intervals held the score of many points.

An interval is the basic one: where resamples score between ``low`` and ``high`` (the 2.5th and the 97.5th percentile),
it reaches from ``2 score - high`` to ``2 score - low``, within the range of the score. Resampling repeats points, which
biases an information upwards once more than the sample did; reflected about the score, the interval takes that bias
away rather than count it twice, and so may lie below the score where this is mostly bias, as for noise.

It tells of the points that were drawn, with the code as it is: not of the spread over training runs, which is larger.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from ppl_disent.errors import ArgumentError
from ppl_disent.metrics.information import Indices
from ppl_disent.metrics.score import Score


def with_interval(
    score: Score,
    statistic: Callable[[Indices], float],
    points: int,
    *,
    bootstrap: int,
    seed: int,
    ceiling: float = 1.0,
) -> Score:
    """A score with its 95 % interval in ``detail["interval"]``, a pair of floats from 0 to ``ceiling``.

    Args:
        score: That of all points.
        statistic: From ``(points,)`` positions, drawn with replacement, to the score of these points.
        points: How many there are.
        bootstrap: How many times to draw; 200 is enough for two digits. 0 leaves the score as it is.
        seed: Of the draws.
        ceiling: The largest score there is; the smallest is 0.

    Returns:
        The score; an infinite one has an interval that is this point.

    Raises:
        ArgumentError: If ``bootstrap`` is neither 0 nor an integer of at least 2.
    """
    check_bootstrap(bootstrap)
    if bootstrap == 0:
        return score
    interval = (score.value, score.value)
    if math.isfinite(score.value):
        rng = np.random.default_rng(seed)
        drawn = [statistic(rng.integers(points, size=points)) for _ in range(bootstrap)]
        # Not interpolated, for resamples can be infinite.
        high, low = np.quantile(drawn, [0.025, 0.975], method="inverted_cdf")
        low, high = (min(ceiling, max(0.0, 2 * score.value - float(end))) for end in (low, high))
        interval = (low, high)
    return replace(score, detail={**score.detail, "interval": interval})


def check_bootstrap(bootstrap: int) -> None:
    """Raises :class:`ArgumentError` unless it is 0 or at least 2; at the door of metrics that take long."""
    if not isinstance(bootstrap, int) or bootstrap < 0 or bootstrap == 1:
        raise ArgumentError("bootstrap", got=bootstrap, expected="0, or at least 2 resamples")
