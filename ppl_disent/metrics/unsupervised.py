# Copyright ppl-disent contributors.
# SPDX-License-Identifier: Apache-2.0
"""Scores that need no factors: how far are the latents from being independent of each other?"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from torch import Tensor
from torch.distributions import Distribution

from ppl_disent.errors import ArgumentError
from ppl_disent.metrics.bootstrap import with_interval
from ppl_disent.metrics.information import (
    Array,
    Factors,
    Indices,
    as_codes,
    equal_width_bins,
    information_matrix,
    joint_counts,
    varying,
)
from ppl_disent.metrics.score import Score


def gaussian_total_correlation(
    codes: Tensor | npt.ArrayLike | Distribution, *, bootstrap: int = 0, seed: int = 0
) -> Score:
    """The total correlation in nats that the codes would have if they were normal: 0 for uncorrelated latents.

    ``(sum_j ln S_jj - ln det S) / 2`` with the covariance S of the codes: the KL divergence of the normal distribution
    with covariance S from the product of its marginals. As in disentanglement_lib
    (evaluation/metrics/unsupervised_metrics.py), but for latents that are constant: they are left out here, where they
    would make it undefined. If one latent is a linear function of others, it is infinite.

    Pitfalls:
        It is the dependence of *these* codes: of means, it says little about the total correlation of samples of q(z),
        which the methods penalise, and says nothing of dependence without correlation.

    Args:
        codes: An ``(N, L)`` tensor or array, of any real type, on any device; or a distribution with batch shape
            ``(N,)`` and event shape ``(L,)``, of which the mean is taken.
        bootstrap: Resamples for ``detail["interval"]``, see :mod:`ppl_disent.metrics.bootstrap`; 0 for none. Latents
            that are left out stay so.
        seed: Of the bootstrap.

    Returns:
        The total correlation, at least 0. ``detail`` has ``wasserstein``, the squared Wasserstein distance
        ``2 tr S - 2 tr (S diag S)^(1/2)`` between the same two distributions, in the unit of the codes squared;
        ``wasserstein_normalised``, that over ``tr S``; ``correlation`` ``(L, L)`` (NaN for constant latents);
        ``active`` ``(L,)``; and ``interval`` where it was asked for.

    Raises:
        ArgumentError: If a code is NaN or infinite, the shape is not (N, L), or there are fewer than two points.

    Example:
        >>> import numpy as np
        >>> z = np.array([[1, 1], [1, -1], [-1, 1], [-1, -1]]) @ [[1, 0.9], [0, 0.19**0.5]]  # a correlation of 0.9
        >>> f"{gaussian_total_correlation(z):.3f}"
        '0.830'

    References:
        Challenging Common Assumptions in the Unsupervised Learning of Disentangled Representations (Locatello et al.,
        2019), appendix C, https://arxiv.org/abs/1811.12359.
    """
    z = as_codes("codes", codes).astype(np.float64)
    if len(z) < 2:
        raise ArgumentError("codes", got=z.shape, expected="at least two points")
    active = varying(z)
    correlation = np.full((z.shape[1], z.shape[1]), np.nan)
    total = wasserstein = trace = 0.0
    if active.any():
        covariance = np.atleast_2d(np.cov(z[:, active], rowvar=False))
        scale = np.sqrt(np.diag(covariance))
        correlation[np.ix_(active, active)] = inner = covariance / np.outer(scale, scale)
        total = _dependence(inner)
        # S diag S has the eigenvalues of the symmetric (diag S)^(1/2) S (diag S)^(1/2).
        roots = np.sqrt(np.maximum(np.linalg.eigvalsh(covariance * np.outer(scale, scale)), 0))
        trace = float(np.trace(covariance))
        wasserstein = max(0.0, 2 * trace - 2 * float(roots.sum()))
    detail = {
        "wasserstein": wasserstein,
        "wasserstein_normalised": wasserstein / trace if trace else 0.0,
        "correlation": correlation,
        "active": active,
    }
    score = Score(total, {}, detail, f"Gaussian total correlation in nats of {active.sum()} latents, N = {len(z)}")

    def resampled(rows: Indices) -> float:
        covariance = np.atleast_2d(np.cov(z[rows][:, active], rowvar=False))
        # A latent that is constant in a resample is a function of the others.
        scale = np.sqrt(np.maximum(np.diag(covariance), np.finfo(float).tiny))
        return _dependence(covariance / np.outer(scale, scale))

    return with_interval(score, resampled, len(z), bootstrap=bootstrap, seed=seed, ceiling=np.inf)


def _dependence(correlation: Array) -> float:
    """``-ln det / 2`` of a matrix of correlations, infinite where its rank is not full."""
    if not correlation.size:
        return 0.0
    values = np.linalg.eigvalsh(correlation)
    rank_deficient = values[0] <= len(values) * np.finfo(float).eps * values[-1]
    return np.inf if rank_deficient else max(0.0, -0.5 * float(np.log(values).sum()))


def mean_mutual_information(
    codes: Tensor | npt.ArrayLike | Distribution, *, bins: int = 20, bootstrap: int = 0, seed: int = 0
) -> Score:
    """The mutual information of two latents in nats, averaged over all pairs: 0 for independent ones.

    The plug-in estimate on bins of equal width, as in disentanglement_lib (evaluation/metrics/
    unsupervised_metrics.py, ``mutual_info_score``), to which it is equal on the same points.

    Pitfalls:
        Sampled points bias it upwards, by about ``(bins - 1)^2 / (2 N)`` where bins are evenly filled. Constant latents
        count as independent of all: leave them out where runs with different numbers of them are compared.

    Args:
        codes: As for :func:`gaussian_total_correlation`, at least two latents.
        bins: The number of bins of a latent.
        bootstrap: Resamples for ``detail["interval"]``, see :mod:`ppl_disent.metrics.bootstrap`; 0 for none. Bins stay
            as they are.
        seed: Of the bootstrap.

    Returns:
        The mean over the pairs. ``detail`` has ``mutual_information``, ``(L, L)``, on its diagonal the entropies, and
        ``interval`` where it was asked for.

    Raises:
        ArgumentError: If a code is NaN or infinite, the shape is not (N, L), or there is one latent only.

    Example:
        >>> import numpy as np
        >>> v = np.indices((2, 2)).reshape(2, -1).T  # every combination of two latents
        >>> f"{mean_mutual_information(v[:, [0, 0, 1]]):.3f}"  # ln 2 for one of three pairs
        '0.231'
    """
    z = as_codes("codes", codes)
    if z.shape[1] < 2:
        raise ArgumentError("codes", got=z.shape, expected="at least two latents")
    binned = equal_width_bins(z, bins) - 1
    names = tuple(f"z{j}" for j in range(z.shape[1]))
    pairs = ~np.eye(len(names), dtype=bool)

    def of(rows: Indices | slice) -> Array:
        counted = Factors(binned[rows], (bins,) * len(names), names, np.zeros(len(names)))
        return information_matrix(joint_counts(binned[rows], counted))

    information = of(slice(None))
    how = f"plug-in on {bins} equal-width bins in nats, N = {len(z)}"
    score = Score(float(information[pairs].mean()), {}, {"mutual_information": information}, how)

    def resampled(rows: Indices) -> float:
        return float(of(rows)[pairs].mean())

    return with_interval(score, resampled, len(z), bootstrap=bootstrap, seed=seed, ceiling=np.inf)
