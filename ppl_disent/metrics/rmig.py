# Copyright ppl-disent contributors.
# SPDX-License-Identifier: Apache-2.0
"""The robust mutual information gap, from the whole of q(z|x) on a fixed grid of bins."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.distributions import Distribution

from ppl_disent.errors import ArgumentError
from ppl_disent.metrics.bootstrap import with_interval
from ppl_disent.metrics.information import Array, Factors, Indices, as_codes, as_factors, entropy, gap_score, moment
from ppl_disent.metrics.score import Score

# Densities held at a time: a few megabytes, so that they stay in the processor's cache.
_CHUNK = 2**18


def rmig(
    codes: Distribution | tuple[Tensor | npt.ArrayLike, Tensor | npt.ArrayLike] | Tensor | npt.ArrayLike,
    factors: Tensor | npt.ArrayLike,
    *,
    bins: int = 100,
    limits: tuple[float, float] = (-4.0, 4.0),
    bootstrap: int = 0,
    seed: int = 0,
    factor_names: Sequence[str] | None = None,
) -> Score:
    """The robust mutual information gap (RMIG): MIG of the noisy code ``z ~ q(z|x)``, averaged over all x.

    The joint of latent j and factor k is ``p(b, v) = mean_n q_j(b | x_n) [v_k(x_n) = v]`` over fixed bins b, and the
    gap is that of MIG: ``(I_1 - I_2) / H(v_k)``, averaged over the factors, in [0, 1]. ``q_j(b | x)`` is the normal
    density at the middle of bin b, normalised over the bins; where no bin reaches a density of 1e-5 (a code narrower
    than the bins, or far outside of them) all of it goes to the bin of the mean, out of range to the end bin. So a code
    without noise is simply put into its bin.

    This follows the authors' script (clarken92/DisentanglementMetrics, working/disentanglement/dSprites/FactorVAE/
    exp_4_paper/7a_interpretability_metrics_v2.py), with one difference: the information is exact where the script clips
    logarithms at 1e-8, which moves the gap of a factor by less than 1e-6.

    Pitfalls:
        *A perfect code need not score 1, and a noisy one is punished although it is disentangled*: the code that is the
        factors of the dSprites grid, each scaled to [-1.5, 1.5), scores 0.994, 0.858, 0.467 and 0.123 with standard
        deviations 0.001, 0.05, 0.3 and 1 (at 0.001 two of the 40 orientations can share a bin). Codes beyond
        ``limits`` all land in an end bin and look alike. The threshold of 1e-5 is absolute: codes, stddevs and limits
        scaled together need not score the same where stddevs are smaller than a bin. The definition asks for every x:
        on the full grid of factors noise latents have no information at all, on a sample they do
        (:mod:`ppl_disent.metrics.information`). A distribution that is not normal is taken for a normal one of the
        same mean and standard deviation.

    Args:
        codes: A distribution with batch shape ``(N,)``, event shape ``(L,)``, a mean and a stddev; or the pair
            ``(mean, stddev)`` of ``(N, L)`` tensors or arrays, in a tuple; or an ``(N, L)`` tensor or array of codes
            without noise. Any real type, on any device; the work is done on the host.
        factors: An ``(N, K)`` tensor or array of discrete values; ``(N,)`` is one factor.
        bins: The number of bins of a latent. The script's default is 100, its authors ran it with 200.
        limits: The outer edges of the bins.
        bootstrap: Resamples for ``detail["interval"]``, see :mod:`ppl_disent.metrics.bootstrap`; 0 for none. Each
            costs as much as the score.
        seed: Of the bootstrap.
        factor_names: K names, the keys of ``per_factor``; by default ``v0``, ``v1`` and so on.

    Returns:
        The mean gap. ``per_factor`` has the gap of every factor; ``detail`` has ``mutual_information``, an ``(L, K)``
        array in nats, ``factor_entropy`` ``(K,)`` and ``code_entropy`` ``(L,)`` of the binned latents, in nats, and
        ``top_latents`` ``(K, 2)``, the best two, and ``interval`` where it was asked for.

    Raises:
        ArgumentError: If shapes do not fit, a code is NaN or infinite, a stddev negative, the limits not increasing, or
            a factor is continuous or has one value only.

    Example:
        >>> import numpy as np
        >>> mean, stddev = np.array([[-1.0], [1.0]]), np.full((2, 1), 0.5)
        >>> f"{rmig(mean, [0, 1]):.3f}, {rmig((mean, stddev), [0, 1]):.3f}"
        '1.000, 0.913'

    References:
        Theory and Evaluation Metrics for Learning Disentangled Representations (Do & Tran, 2020), section 3.2,
        https://arxiv.org/abs/1908.09961.
    """
    mean, std = as_normal(codes)
    v = as_factors(factors, factor_names, len(mean))
    joint = quantised_joint(mean, std, v, bins=bins, limits=limits)
    estimator = f"q(z|x) on {bins} bins over [{limits[0]:g}, {limits[1]:g}], N = {len(mean)}"
    score = gap_score(joint, v, estimator, code_entropy=entropy(joint[0].sum(-1)))

    def resampled(rows: Indices) -> float:
        some = v.take(rows)
        return gap_score(quantised_joint(mean[rows], std[rows], some, bins=bins, limits=limits), some, "").value

    return with_interval(score, resampled, len(mean), bootstrap=bootstrap, seed=seed)


def quantised_joint(
    mean: Array, std: Array, factors: Factors, *, bins: int, limits: tuple[float, float]
) -> list[Array]:
    """The joint probabilities of every latent's bin and every factor's value, averaged over q(z|x) of all N points.

    N * L * bins densities in chunks, then one indexed addition of them for every factor: a factor's values are one-hot,
    so the product of matrices in the authors' script needs no multiplication. Only the inputs grow with N.

    Args:
        mean: An ``(N, L)`` array.
        std: An ``(N, L)`` array, not negative.
        factors: K factors over the same N points.
        bins: B, at least 2.
        limits: The outer edges of the bins.

    Returns:
        K arrays ``(L, B, n_k)``, every ``(B, n_k)`` table of which sums to 1.
    """
    if bins < 2:
        raise ArgumentError("bins", got=bins, expected="at least 2")
    if not -math.inf < limits[0] < limits[1] < math.inf:
        raise ArgumentError("limits", got=limits, expected="two finite numbers, the lower one first")
    points, latents = mean.shape
    edges = torch.from_numpy(np.linspace(*limits, bins + 1))
    centres = (edges[1:] + edges[:-1]) / 2
    starts = np.cumsum((0, *factors.sizes))
    values = torch.from_numpy(factors.classes + starts[:-1])
    joint = centres.new_zeros(int(starts[-1]), latents * bins)
    size = max(1, _CHUNK // (latents * bins))
    for m, s, v in zip(torch.from_numpy(mean).split(size), torch.from_numpy(std).split(size), values.split(size)):
        # The floors under variance and stddev are the script's (utils/general.py, normal_density).
        exponent = (centres - m[..., None]).square_().mul_(-0.5 / s.square().clamp(min=1e-8)[..., None])
        top = exponent.amax(-1)
        narrow = top - s.clamp(min=1e-8).log() - 0.5 * math.log(2 * math.pi) < math.log(1e-5)
        # Below exp(-700) lie the subnormal numbers, which weigh nothing and take many times as long to add.
        q = exponent.sub_(top[..., None]).clamp_(min=-700).softmax(-1)
        q[narrow] = F.one_hot(torch.bucketize(m[narrow], edges[1:-1], right=True), bins).to(q)
        for column in v.T:
            joint.index_add_(0, column, q.flatten(1))
    tables = (joint / points).reshape(-1, latents, bins).permute(1, 2, 0).numpy()
    return np.split(tables, starts[1:-1], axis=-1)


def as_normal(codes: object) -> tuple[Array, Array]:
    """Mean and stddev, both ``(N, L)`` in float64; a code without noise has stddev 0."""
    if isinstance(codes, Distribution):
        codes = moment("codes", codes, "mean"), moment("codes", codes, "stddev")
    given, spread = codes if isinstance(codes, tuple) and len(codes) == 2 else (codes, None)
    mean = as_codes("codes", given)
    std = np.zeros_like(mean) if spread is None else as_codes("stddev of codes", spread)
    if std.shape != mean.shape:
        raise ArgumentError("codes", got=f"mean {mean.shape} and stddev {std.shape}", expected="one shape for both")
    if (std < 0).any():
        raise ArgumentError("stddev of codes", got=float(std.min()), expected="no negative value")
    # A copy: torch refuses to share memory that it may not write to.
    return mean.astype(np.float64), std.astype(np.float64)
