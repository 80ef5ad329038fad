# Copyright ppl-disent contributors.
# SPDX-License-Identifier: Apache-2.0
"""How far two distributions are apart: by coordinate where their densities are known, by draws where they are not."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.distributions import Distribution, Independent, MultivariateNormal, Normal, kl_divergence

from ppl_disent.errors import SiteError


def coordinate_kl(site: str, q: Distribution, p: Distribution) -> Tensor:
    """KL divergence of each coordinate of q from that of p, in nats; of a joint normal, that of its marginals.

    Where p has independent coordinates their sum is the divergence of q from p, less the total correlation of q.

    Args:
        site: The site's name, for the error.
        q: Of batch shape ``(n,)``.
        p: Likewise.

    Returns:
        An ``(n, coordinates)`` tensor.

    Raises:
        SiteError: If the divergence is not known in closed form, or not by coordinate.
    """
    marginals = _marginals(q), _marginals(p)
    try:
        kl = kl_divergence(*marginals)
    except NotImplementedError:
        kl = torch.empty(0)
    if kl.numel() != q.batch_shape.numel() * q.event_shape.numel():
        names = " and ".join(type(m).__name__ for m in marginals)
        raise SiteError(
            f"{site!r}: got {names}, expected a site that is normal, or with a known KL of each coordinate."
        )
    return kl.reshape(len(kl), -1)


def joint_kl(q: Distribution, p: Distribution, value: Tensor) -> Tensor:
    """KL divergence of q from p, in nats, ``(n,)``: in closed form, or else from one draw ``value`` of q."""
    joint = any(isinstance(base_of(d), MultivariateNormal) for d in (q, p))
    try:
        return kl_divergence(_joint(q), _joint(p)) if joint else kl_divergence(q, p)
    except NotImplementedError:
        return q.log_prob(value) - p.log_prob(value)


def base_of(distribution: Distribution) -> Distribution:
    """What ``to_event`` was called on."""
    while isinstance(distribution, Independent):
        distribution = distribution.base_dist
    return distribution


def _marginals(distribution: Distribution) -> Distribution:
    """Each coordinate's own; normals are made anew, since subclasses of Normal are not registered with torch's KL."""
    base = base_of(distribution)
    return Normal(base.mean, base.stddev) if isinstance(base, (Normal, MultivariateNormal)) else base


def _joint(distribution: Distribution) -> Distribution:
    """Normals of independent coordinates as a joint one: torch knows no KL between the two kinds."""
    base = base_of(distribution)
    if isinstance(base, Normal) and len(distribution.event_shape) == 1:
        return MultivariateNormal(base.mean, scale_tril=torch.diag_embed(base.stddev))
    return distribution


class TwoSamples(NamedTuple):
    """What :func:`two_samples` found.

    Attributes:
        mmd2: The unbiased estimate of the squared maximum mean discrepancy; may be negative.
        threshold: The largest of the permutations.
        p_value: How often it would be as large if both samples had one law; at least ``1 / (permutations + 1)``.
        bandwidth: Of the kernel, in standard deviations of a coordinate.
    """

    mmd2: float
    threshold: float
    p_value: float
    bandwidth: float


def mmd2(a: Tensor, b: Tensor, bandwidth: float) -> float:
    """The squared maximum mean discrepancy of two samples, unbiased, with the kernel ``exp(-|a - b|^2 / 2 h^2)``.

    Args:
        a: ``(m, coordinates)`` draws of one law.
        b: As many of the other.
        bandwidth: h.

    References:
        A Kernel Two-Sample Test (Gretton et al., 2012), equation 3, https://jmlr.org/papers/v13/gretton12a.html
    """
    both, first = torch.cat([a, b]), np.arange(2 * len(a)) < len(a)
    return float(_unbiased(_kernel(torch.cdist(both, both), bandwidth), first[:, None])[0])


def two_samples(a: Tensor, b: Tensor, *, seed: int, points: int = 1000, permutations: int = 499) -> TwoSamples:
    """Whether two samples have one law, by :func:`mmd2` and random permutations of which draw belongs to which.

    Coordinates are divided by their standard deviation over both samples; the bandwidth is the median distance between
    draws of either (Gretton et al., 2012, section 8).

    Args:
        a: ``(m, coordinates)`` draws of one law.
        b: As many of the other.
        seed: Of the permutations, and of which draws are taken.
        points: At most so many of each; memory and time grow with the square.
        permutations: How many.
    """
    rng = np.random.default_rng(seed)
    kept = rng.permutation(len(a))[:points]
    both = torch.cat([a[kept], b[kept]]).double()
    scale = both.std(0)
    both = both / torch.where(scale > 0, scale, 1.0)
    distance = torch.cdist(both, both)
    bandwidth = float(distance[*np.triu_indices(len(both), 1)].median()) or 1.0
    first = np.arange(len(both)) < len(kept)
    labels = np.stack([first, *(rng.permutation(first) for _ in range(permutations))], 1)
    found, *null = _unbiased(_kernel(distance, bandwidth), labels)
    above = 1 + int((np.array(null) >= found).sum())
    return TwoSamples(float(found), float(max(null)), above / (permutations + 1), bandwidth)


def _kernel(distance: Tensor, bandwidth: float) -> npt.NDArray[np.float64]:
    return (-0.5 * (distance / bandwidth).square()).exp().double().numpy()


def _unbiased(kernel: npt.NDArray[np.float64], first: npt.NDArray[np.bool_]) -> npt.NDArray[np.float64]:
    """The estimate for each column of ``first``, which says of every draw whether it is of the first sample."""
    m = len(kernel) // 2
    np.fill_diagonal(kernel, 0.0)
    across = (~first * (kernel @ first)).sum(0)
    return (kernel.sum() - 2 * across) / (m * (m - 1)) - 2 * across / m**2
