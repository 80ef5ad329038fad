# Copyright ppl-disent contributors.
# SPDX-License-Identifier: Apache-2.0
"""DynamicVAE: an incremental PI controller lets beta fall from a large value to below one."""

from __future__ import annotations

from collections.abc import Sequence

from ppl_disent.control import IncrementalPI
from ppl_disent.method import Method, builder
from ppl_disent.methods.vae import vae


@builder
def dynamic_vae(
    shape: Sequence[int],
    *,
    target_kl: float = 20.0,
    start: float = 0.5,
    step: float = 0.15,
    every: int = 6000,
    ramp: int = 1000,
    kp: float = 0.01,
    ki: float = 0.005,
    window: int = 5,
    beta_init: float = 50.0,
    beta_min: float = 0.1,
    beta_max: float | None = None,
    exact: bool = False,
    latent_dim: int = 10,
    likelihood: str = "bernoulli",
    sigma: float = 1.0,
    learn_sigma: bool = False,
    network: str = "auto",
    lr: float = 1e-4,
) -> Method:
    """DynamicVAE: Shao et al. (2020), https://arxiv.org/abs/2009.06795; see :class:`ppl_disent.IncrementalPI`.

    The defaults are those for dSprites (shj1987/DynamicVAE-CVPR2022, 2D-sprites/run_dynamic.sh). The set point then
    reaches 20 nats after 780,999 steps: for a shorter run raise ``step`` or lower ``every`` and ``ramp``.

    Args:
        shape: Shape of one x.
        target_kl: Final set point, nats.
        start: First set point, nats.
        step: Rise of the set point a period, nats.
        every: Steps a period.
        ramp: Steps a rise takes.
        kp: Proportional gain.
        ki: Integral gain.
        window: Number of KLs averaged.
        beta_init: beta before the first step.
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
        >>> method = dynamic_vae((1, 8, 8), target_kl=5.0, step=0.01, every=1, ramp=1, beta_init=2.0)
        >>> run = method.fit(load("digits"), steps=3, progress=False)
        >>> list(run.history.filter(regex="^kl|set_point|beta"))
        ['kl.z', 'kl_scale.z', 'set_point.z', 'beta.z']
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
    method.name = "dynamic_vae"
    method.callbacks = [
        IncrementalPI(
            "z",
            target=target_kl,
            start=start,
            step=step,
            every=every,
            ramp=ramp,
            kp=kp,
            ki=ki,
            window=window,
            beta_init=beta_init,
            beta_min=beta_min,
            beta_max=beta_max,
            exact=exact,
        )
    ]
    return method
