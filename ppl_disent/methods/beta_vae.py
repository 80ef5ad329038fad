# Copyright ppl-disent contributors.
# SPDX-License-Identifier: Apache-2.0
"""beta-VAE: a constant weight on the KL divergence."""

from __future__ import annotations

from collections.abc import Sequence

from ppl_disent.elbo import TermELBO
from ppl_disent.method import Method, builder
from ppl_disent.methods.vae import vae


@builder
def beta_vae(
    shape: Sequence[int],
    *,
    beta: float = 4.0,
    latent_dim: int = 10,
    likelihood: str = "bernoulli",
    sigma: float = 1.0,
    learn_sigma: bool = False,
    network: str = "auto",
    lr: float = 1e-4,
) -> Method:
    """beta-VAE: Higgins et al., "beta-VAE: Learning Basic Visual Concepts with a Constrained Variational Framework"
    (2017), https://openreview.net/forum?id=Sy2fzU9gl, equation 4.

    Args:
        shape: Shape of one x.
        beta: Weight of the KL divergence; the default is that of shj1987/ControlVAE-ICML2020.
        latent_dim: Number of latent values.
        likelihood: As for :func:`vae`, like the four below.
        sigma: Standard deviation of a Gaussian likelihood.
        learn_sigma: Learn it.
        network: Which networks.
        lr: Learning rate of Adam.

    Raises:
        ArgumentError: For an argument out of its range.

    Example:
        >>> run = beta_vae((1, 8, 8), beta=8.0).fit(load("digits"), steps=3, progress=False)
        >>> run.history["kl_scale.z"].item()
        8.0
    """
    method = vae(
        shape,
        latent_dim=latent_dim,
        likelihood=likelihood,
        sigma=sigma,
        learn_sigma=learn_sigma,
        network=network,
        lr=lr,
    )
    method.name, method.elbo = "beta_vae", TermELBO(kl_scale={"z": beta})
    return method
