# Copyright ppl-disent contributors.
# SPDX-License-Identifier: Apache-2.0
"""DIP-VAE: the codes' covariance is drawn to the identity."""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import Tensor

from ppl_disent.elbo import Step, TermELBO
from ppl_disent.errors import ArgumentError
from ppl_disent.method import Method, builder
from ppl_disent.methods.beta_tcvae import coordinates
from ppl_disent.methods.vae import vae


class CovariancePenalty:
    """How far the codes' covariance over the batch is from the identity: a sum of squares, without a unit.

    Args:
        part: ``"od"``, the sum over i != j of C_ij^2 (each pair twice), or ``"d"``, the sum over i of (C_ii - 1)^2.
        variant: ``"i"``: C is the covariance of q's means. ``"ii"``: that of z, with the mean of q's variances added.
        site: The latent site; its guide is a distribution of ``(batch, latent)`` independent coordinates.

    Example:
        >>> from ppl_disent.methods import CovariancePenalty
        >>> method = vae((1, 8, 8))  # any pair with a Gaussian site
        >>> method.elbo = TermELBO(terms={"od": (5.0, CovariancePenalty("od", variant="ii"))})
        >>> run = method.fit(load("digits"), steps=3, progress=False)
    """

    def __init__(self, part: str, *, variant: str, site: str = "z") -> None:
        self.part, self.variant, self.site = part, variant, site
        self.settings = {"part": part, "variant": variant, "site": site}

    def __call__(self, step: Step) -> Tensor:
        q = coordinates(step, self.site)
        centred = q.mean - q.mean.mean(0)
        covariance = centred.T @ centred / len(centred)
        if self.variant == "ii":
            covariance = covariance + q.variance.mean(0).diag()
        diagonal = covariance.diagonal()
        if self.part == "d":
            return (diagonal - 1).square().sum()
        return (covariance - diagonal.diag()).square().sum()


@builder
def dip_vae(
    shape: Sequence[int],
    *,
    lambda_od: float = 10.0,
    lambda_d: float | None = None,
    variant: str = "i",
    latent_dim: int = 10,
    likelihood: str = "bernoulli",
    sigma: float = 1.0,
    learn_sigma: bool = False,
    network: str = "auto",
    lr: float = 1e-4,
) -> Method:
    """DIP-VAE: Kumar et al., "Variational Inference of Disentangled Latent Concepts from Unlabeled Observations"
    (2018), https://arxiv.org/abs/1711.00848, equations 6 (variant i) and 7 (variant ii).

    Minimises ``-log p(x | z) + KL + lambda_od sum_(i != j) C_ij^2 + lambda_d sum_i (C_ii - 1)^2``, C the covariance of
    the codes over the batch, divided by the batch's size.

    Args:
        shape: Shape of one x.
        lambda_od: Weight of the squared covariances; the default is from the middle of those that
            google-research/disentanglement_lib compares (1 to 50).
        lambda_d: Weight of the squared distances of the variances from 1; by default, as there, 10 lambda_od for
            variant i and lambda_od for variant ii.
        variant: ``"i"``, the covariance of q's means, or ``"ii"``, that of z.
        latent_dim: Number of latent values.
        likelihood: As for :func:`vae`, like the four below.
        sigma: Standard deviation of a Gaussian likelihood.
        learn_sigma: Learn it.
        network: Which networks.
        lr: Learning rate of Adam.

    Raises:
        ArgumentError: For an argument out of its range.

    Example:
        >>> run = dip_vae((1, 8, 8), lambda_od=10.0, variant="ii").fit(load("digits"), steps=3, progress=False)
        >>> list(run.history.filter(like="extra"))
        ['extra.dip_od', 'extra.dip_d']
    """
    if variant not in ("i", "ii"):
        raise ArgumentError("variant", got=variant, expected="'i' or 'ii'")
    if lambda_d is None:
        lambda_d = (10 if variant == "i" else 1) * lambda_od
    for name, weight in (("lambda_od", lambda_od), ("lambda_d", lambda_d)):
        if not math.isfinite(weight):
            raise ArgumentError(name, got=weight, expected="a finite number")
    method = vae(
        shape,
        latent_dim=latent_dim,
        likelihood=likelihood,
        sigma=sigma,
        learn_sigma=learn_sigma,
        network=network,
        lr=lr,
    )
    weights = {"od": lambda_od, "d": lambda_d}
    terms = {f"dip_{part}": (weight, CovariancePenalty(part, variant=variant)) for part, weight in weights.items()}
    method.name, method.elbo = "dip_vae", TermELBO(terms=terms)
    return method
