# Copyright ppl-disent contributors.
# SPDX-License-Identifier: Apache-2.0
"""The mutual information of a continuous latent with a discrete factor, from distances to nearest neighbours."""

from __future__ import annotations

import numpy as np

from ppl_disent.metrics.information import Array, Factors, Indices, varying


def neighbour_information(codes: Array, factors: Factors, *, neighbours: int = 10, seed: int = 0) -> Array:
    """The mutual information in nats of every latent with every factor, by the estimator of Ross (2014).

    For a point whose value of the factor occurs ``n_v`` times, let d be the distance to the k-th nearest neighbour
    among these and m the number of points of any value nearer than d, itself included: the estimate is
    ``psi(N) + <psi(k)> - <psi(n_v)> - <psi(m)>``, at least 0, over the points whose value occurs more than once (k is
    at most ``n_v - 1``). Codes are scaled to unit variance and given noise of 1e-10, which tells equal codes apart, as
    in scikit-learn's ``mutual_info_classif``, to which this is equal but for that noise, and for values of fewer
    than 2 k points, on which it rounds distances. In one dimension neighbours are found by sorting: N log N for each
    pair, without a tree.

    Args:
        codes: An ``(N, L)`` array.
        factors: K factors over the same N points.
        neighbours: k.
        seed: Of the noise.

    Returns:
        An ``(L, K)`` array. Estimates of codes with few different values can exceed the factor's entropy.

    References:
        Mutual Information between Discrete and Continuous Data Sets (Ross, 2014),
        https://doi.org/10.1371/journal.pone.0087357.
    """
    z = codes / np.where(varying(codes), codes.std(0), 1.0)
    noise = np.random.default_rng(seed).standard_normal(z.shape)
    z = z + 1e-10 * np.maximum(1, np.abs(z).mean(0)) * noise
    return np.array([[_ross(x, v, neighbours) for v in factors.classes.T] for x in z.T])


def _ross(x: Array, classes: Indices, neighbours: int) -> float:
    from scipy.special import digamma

    counts = np.bincount(classes)
    kept = counts[classes] > 1
    if not kept.any():
        return 0.0
    x, classes = x[kept], classes[kept]
    order = np.argsort(x, kind="stable")
    x, classes = x[order], classes[order]
    distance = np.empty_like(x)
    for rows in np.split(np.argsort(classes, kind="stable"), np.cumsum(counts[counts > 1])[:-1]):
        distance[rows] = _kth_distance(x[rows], min(neighbours, len(rows) - 1))
    found = counts[classes]
    nearer = _nearer(x, distance)
    known = digamma(np.minimum(neighbours, found - 1)) - digamma(found) - digamma(nearer)
    return max(0.0, float(digamma(len(x)) + known.mean()))


def _kth_distance(x: Array, k: int) -> Array:
    """The distance of each of n sorted numbers to its k-th nearest neighbour, k at most n - 1.

    The k nearest and the number itself are k + 1 in a row: the best of the rows that contain it.
    """
    best = np.full(len(x), np.inf)
    for below in range(k + 1):
        first = np.arange(len(x) - k)
        at = first + below
        reach = np.maximum(x[at] - x[first], x[first + k] - x[at])
        best[at] = np.minimum(best[at], reach)
    return best


def _nearer(x: Array, distance: Array) -> Indices:
    """How many of the sorted numbers are nearer to each of them than its distance, itself included."""
    low = np.searchsorted(x, x - distance, side="right")
    high = np.searchsorted(x, x + distance, side="left")
    # The sums were rounded; the differences of the numbers decide.
    last = len(x) - 1
    while (wrong := x - x[np.minimum(low, last)] >= distance).any():
        low += wrong
    while (wrong := (low > 0) & (x - x[np.maximum(low - 1, 0)] < distance)).any():
        low -= wrong
    while (wrong := x[np.maximum(high - 1, 0)] - x >= distance).any():
        high -= wrong
    while (wrong := (high <= last) & (x[np.minimum(high, last)] - x < distance)).any():
        high += wrong
    return np.maximum(high - low, 1)
