# Copyright ppl-disent contributors.
# SPDX-License-Identifier: Apache-2.0
"""The log evidence of data by importance sampling from the guide, and whether to believe it."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ppl_disent.errors import check_whole
from ppl_disent.pair import Pair, log_density
from ppl_disent.sites import common_latents, samples


@dataclass(frozen=True)
class Evidence:
    """What ``log_evidence`` found, for each of n data: ``(n,)`` tensors on the host, nats where there is a unit.

    Weights are as drawn, not smoothed: at a k-hat of 0.6 smoothing takes away more than half of the variance of
    ``value``, but multiplies its bias by four or more, and a mean over data averages out the one only.

    Attributes:
        value: log p(x), a lower bound in expectation.
        error: Its standard error, by the delta method; too small where ``khat`` is large.
        khat: Pareto shape of the largest weights: above ``limit`` value and error are not to be trusted, the guide is
            too narrow, or elsewhere.
        ess: Effective number of particles.
        elbo: The mean log weight: what training maximises, with all weights 1.
        particles: Draws for each datum.

    Example:
        >>> x = torch.rand(20, 1, 4, 4)
        >>> q = vae((1, 4, 4), latent_dim=2).fit(x, steps=3, progress=False).posterior
        >>> found = q.log_evidence(x, particles=100)
        >>> found.value.shape, bool((found.value.mean() >= found.elbo.mean()))
        (torch.Size([20]), True)
    """

    value: Tensor
    error: Tensor
    khat: Tensor
    ess: Tensor
    elbo: Tensor
    particles: int

    @property
    def gap(self) -> Tensor:
        """What the ELBO lacks: the KL divergence of the guide from the true posterior, ``(n,)``."""
        return self.value - self.elbo

    @property
    def limit(self) -> float:
        """The largest k-hat to be trusted with so many particles: Vehtari et al. (2024), equation 13; at most 0.7."""
        return min(1 - 1 / math.log10(self.particles), 0.7) if self.particles > 1 else -math.inf

    def __repr__(self) -> str:
        k, shown = self.khat, [f"{float(v.mean()):.4g}" for v in (self.value, self.elbo, self.ess)]
        bad = float((k > self.limit).double().mean())
        return (
            f"Evidence(n = {len(k)}: log p(x) {shown[0]}, ELBO {shown[1]} nats, {shown[2]} effective particles, means; "
            f"k-hat above {self.limit:.2g} for {100 * bad:.0f} %)"
        )


def log_evidence(pair: Pair, batch: tuple[Tensor, ...], particles: int, rows: int) -> Evidence:
    """As :meth:`ppl_disent.Posterior.log_evidence`, within ``pair.quiet()``."""
    check_whole(1, particles=particles, rows=rows)
    n = len(batch[0])
    parts = []
    for some in torch.arange(n, device=pair.device).split(rows):
        many = max(1, rows // len(some))
        counts = [min(many, particles - done) for done in range(0, particles, many)]
        drawn = [_log_weights(pair, batch, some.repeat(count)) for count in counts]
        parts.append(torch.cat(drawn).reshape(particles, -1).cpu().double())
    log_w = torch.cat(parts, 1)
    mean: Tensor = log_w.logsumexp(0) - math.log(particles)
    relative = (log_w - mean).exp()
    error = relative.std(0) / math.sqrt(particles) if particles > 1 else torch.full_like(mean, math.nan)
    ess = particles * relative.mean(0).square() / relative.square().mean(0)
    return Evidence(mean, error, torch.from_numpy(pareto_khat(log_w.T.numpy())), ess, log_w.mean(0), particles)


def _log_weights(pair: Pair, batch: tuple[Tensor, ...], index: Tensor) -> Tensor:
    """log p(x, latents) - log q(latents) of a draw for each of the rows ``index``."""
    guide_trace, model_trace = pair.at_rows(index).traces(tuple(field[index] for field in batch))
    common_latents(model_trace, guide_trace)
    total = torch.zeros(len(index), dtype=torch.float64, device=pair.device)
    for sign, trace in ((1, model_trace), (-1, guide_trace)):
        for name in samples(trace):
            total += sign * log_density(trace, name, len(index))
    return total


def pareto_khat(log_weights: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """The shape of a generalised Pareto distribution fitted to the largest weights.

    "Pareto Smoothed Importance Sampling" (Vehtari et al., 2024), https://arxiv.org/abs/1507.02646, with the fit of "A
    New and Efficient Estimation Method for the Generalized Pareto Distribution" (Zhang & Stephens, 2009). As
    ``arviz.psislw``, whose place changes between ArviZ's versions.

    Args:
        log_weights: ``(n, particles)``.

    Returns:
        ``(n,)``; infinite for fewer than 5 weights in the tail, as with fewer than 25 particles, or where the largest
        is not finite; minus infinity for weights that are equal within float32's rounding, which have no tail.
    """
    return np.array([_khat(row) for row in log_weights])


def _khat(log_w: npt.NDArray[np.float64]) -> float:
    top = log_w.max()
    if not math.isfinite(top):
        return math.inf
    if len(log_w) >= 25 and top - log_w.min() <= 1e-6 * max(1.0, abs(top)):
        return -math.inf
    log_w = log_w - top
    largest = math.ceil(min(len(log_w) / 5, 3 * math.sqrt(len(log_w))))
    ordered = np.sort(log_w)
    if largest >= len(ordered):
        return math.inf
    cut = max(ordered[-largest - 1], math.log(np.finfo(float).tiny))
    tail = np.exp(ordered[ordered > cut]) - math.exp(cut)
    n = len(tail)
    if n <= 4 or tail[-1] <= 0 or tail[int(n / 4 + 0.5) - 1] <= 0:
        return math.inf
    m = 30 + int(math.sqrt(n))
    b = (1 - np.sqrt(m / (np.arange(1, m + 1) - 0.5))) / (3 * tail[int(n / 4 + 0.5) - 1]) + 1 / tail[-1]
    with np.errstate(divide="ignore", invalid="ignore"):
        k = np.log1p(-b[:, None] * tail).mean(1)
        profile = n * (np.log(-b / k) - k - 1)
    kept = np.isfinite(profile)
    weight = 1 / np.exp(profile[kept] - profile[kept][:, None]).sum(1)
    real = weight >= 10 * np.finfo(float).eps
    mean = (b[kept][real] * weight[real]).sum() / weight[real].sum()
    return float((n * np.log1p(-mean * tail).mean() + 5) / (n + 10))
