# Copyright ppl-disent contributors.
# SPDX-License-Identifier: Apache-2.0
"""How far a score could be off for want of points: bootstrap intervals, for the metrics where these are cheap.

An interval is the basic one: where resamples of the points score between ``low`` and ``high`` (the 2.5th and the 97.5th
percentile), it reaches from ``2 score - high`` to ``2 score - low``, within [0, 1]. Resampling repeats points, which
biases an information upwards once more than the sample did; reflected about the score, the interval takes that bias
away rather than count it twice, and so may lie below the score where this is mostly bias, as for noise.

It tells of the points that were drawn, with the code as it is: not of the spread over training runs, which is larger.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from ppl_disent.errors import ArgumentError
from ppl_disent.metrics.information import Indices
from ppl_disent.metrics.score import Score


def with_interval(
    score: Score, statistic: Callable[[Indices], float], points: int, *, bootstrap: int, seed: int
) -> Score:
    """A score in [0, 1] with its 95 % interval in ``detail["interval"]``, a pair of floats.

    Args:
        score: That of all points.
        statistic: From ``(points,)`` positions, drawn with replacement, to the score of these points.
        points: How many there are.
        bootstrap: How many times to draw; 200 is enough for two digits. 0 leaves the score as it is.
        seed: Of the draws.

    Raises:
        ArgumentError: If ``bootstrap`` is neither 0 nor an integer of at least 2.
    """
    if bootstrap == 0:
        return score
    if not isinstance(bootstrap, int) or bootstrap < 2:
        raise ArgumentError("bootstrap", got=bootstrap, expected="0, or at least 2 resamples")
    rng = np.random.default_rng(seed)
    drawn = [statistic(rng.integers(points, size=points)) for _ in range(bootstrap)]
    high, low = np.percentile(drawn, [2.5, 97.5])
    interval = tuple(min(1.0, max(0.0, 2 * score.value - float(end))) for end in (low, high))
    return replace(score, detail={**score.detail, "interval": interval})
