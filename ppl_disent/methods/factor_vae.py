# Copyright ppl-disent contributors.
# SPDX-License-Identifier: Apache-2.0
"""FactorVAE: a VAE whose total correlation is pressed down by a discriminator."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

from torch import nn

from ppl_disent.elbo import TermELBO
from ppl_disent.errors import ArgumentError
from ppl_disent.method import Method, builder
from ppl_disent.methods.vae import vae
from ppl_disent.total_correlation import TotalCorrelation


@builder
def factor_vae(
    shape: Sequence[int],
    *,
    gamma: float = 10.0,
    discriminator_layers: int = 6,
    discriminator_units: int = 1000,
    discriminator_lr: float = 1e-4,
    latent_dim: int = 10,
    likelihood: str = "bernoulli",
    sigma: float = 1.0,
    learn_sigma: bool = False,
    network: str = "auto",
    lr: float = 1e-4,
) -> Method:
    """FactorVAE: Kim & Mnih, "Disentangling by Factorising" (2018), https://arxiv.org/abs/1802.05983.

    The loss is that of a VAE plus gamma times the total correlation that a discriminator sees; see
    :class:`ppl_disent.TotalCorrelation`. Its seven linear layers have LeakyReLU of slope 0.2 between them.

    Args:
        shape: Shape of one x.
        gamma: Weight of the total correlation; the default is one of the two of 1Konny/FactorVAE for dSprites, whose
            other is 6.4.
        discriminator_layers: Hidden layers of D; 6 in disentanglement_lib, 5 in 1Konny/FactorVAE.
        discriminator_units: Their width.
        discriminator_lr: D's learning rate.
        latent_dim: Number of latent values, at least 2.
        likelihood: As for :func:`vae`, like the four below.
        sigma: Standard deviation of a Gaussian likelihood.
        learn_sigma: Learn it.
        network: Which networks.
        lr: Learning rate of Adam.

    Raises:
        ArgumentError: For an argument out of its range.

    Example:
        >>> method = factor_vae((1, 8, 8), gamma=10.0, discriminator_units=16)
        >>> run = method.fit(load("digits"), steps=3, progress=False)
        >>> list(run.history.filter(regex="tc|discriminator"))
        ['extra.tc', 'discriminator.z']
    """
    if not math.isfinite(gamma):
        raise ArgumentError("gamma", got=gamma, expected="a finite number")
    if not isinstance(latent_dim, int) or latent_dim < 2:
        raise ArgumentError("latent_dim", got=latent_dim, expected="at least 2, to be told apart")
    for name, value in (("discriminator_layers", discriminator_layers), ("discriminator_units", discriminator_units)):
        if not isinstance(value, int) or value < 1:
            raise ArgumentError(name, got=value, expected="an integer of at least 1")
    method = vae(
        shape,
        latent_dim=latent_dim,
        likelihood=likelihood,
        sigma=sigma,
        learn_sigma=learn_sigma,
        network=network,
        lr=lr,
    )
    widths = [latent_dim, *[discriminator_units] * discriminator_layers]
    layers: list[nn.Module] = []
    for i, o in pairwise(widths):
        layers += [nn.Linear(i, o), nn.LeakyReLU(0.2)]
    network_of_d = nn.Sequential(*layers, nn.Linear(discriminator_units, 2))
    term = TotalCorrelation(network_of_d, lr=discriminator_lr)
    return Method("factor_vae", method.model, method.guide, TermELBO(terms={"tc": (gamma, term)}), optim=method.optim)
