# Copyright ppl-disent contributors.
# SPDX-License-Identifier: Apache-2.0
"""ControlVAE: a positional PI controller holds the KL divergence at a set point."""

from __future__ import annotations

from collections.abc import Sequence

from ppl_disent.control import PI
from ppl_disent.method import Method, builder
from ppl_disent.methods.vae import vae


@builder
def control_vae(
    shape: Sequence[int],
    *,
    target_kl: float = 18.0,
    start: float = 0.5,
    step: float = 0.15,
    every: int = 5000,
    kp: float = 0.01,
    ki: float = 0.001,
    beta_min: float = 1.0,
    beta_max: float | None = None,
    exact: bool = False,
    latent_dim: int = 10,
    likelihood: str = "bernoulli",
    sigma: float = 1.0,
    learn_sigma: bool = False,
    network: str = "auto",
    lr: float = 1e-4,
) -> Method:
    """ControlVAE: Shao et al. (2020), https://arxiv.org/abs/2004.05988; see :class:`ppl_disent.PI`.

    Args:
        shape: Shape of one x.
        target_kl: Final set point, nats.
        start: First set point, nats.
        step: Rise of the set point every ``every`` steps, nats.
        every: Steps between two rises.
        kp: Proportional gain.
        ki: Integral gain.
        beta_min: Lower limit of beta.
        beta_max: Upper limit of beta; None for none.
        exact: The authors' arithmetic, with its latch-up.
        latent_dim: Number of latent values.
        likelihood: As for :func:`vae`, like the four below.
        sigma: Standard deviation of a Gaussian likelihood.
        learn_sigma: Learn it.
        network: Which networks.
        lr: Learning rate of Adam.

    Raises:
        ArgumentError: For an argument out of its range.

    Example:
        >>> method = control_vae((1, 8, 8), target_kl=5.0, every=2)
        >>> run = method.fit(load("digits"), steps=4, log_every=1, progress=False)
        >>> run.history["set_point.z"].round(2).tolist()
        [0.5, 0.65, 0.65, 0.8]
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
    method.name = "control_vae"
    method.callbacks = [
        PI(
            "z",
            target=target_kl,
            start=start,
            step=step,
            every=every,
            kp=kp,
            ki=ki,
            beta_min=beta_min,
            beta_max=beta_max,
            exact=exact,
        )
    ]
    return method
