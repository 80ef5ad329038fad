# Copyright ppl-disent contributors.
# SPDX-License-Identifier: Apache-2.0
"""Burgess' beta-VAE: the KL divergence is held at a capacity that grows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from ppl_disent.elbo import Step, TermELBO
from ppl_disent.errors import ArgumentError
from ppl_disent.method import Method, builder
from ppl_disent.methods.vae import vae

if TYPE_CHECKING:
    from ppl_disent.svi import SVI


class Capacity(nn.Module):
    """The term ``|KL(site) - C|`` in nats, and the callback that raises C linearly from 0.

    Args:
        site: The latent site.
        capacity: Final C, nats.
        steps: Optimisation steps until then.

    Example:
        >>> from ppl_disent.methods import Capacity
        >>> method, term = vae((1, 8, 8)), Capacity("z", capacity=5.0, steps=10)
        >>> method.elbo = TermELBO(kl_scale=0.0, terms={"capacity": (100.0, term)})
        >>> run = method.fit(load("digits"), steps=3, progress=False)
        >>> float(term.capacity)  # of the step to come
        2.0
    """

    count: Tensor

    def __init__(self, site: str, *, capacity: float, steps: int) -> None:
        super().__init__()
        if not capacity > 0:
            raise ArgumentError("capacity", got=capacity, expected="a positive number of nats")
        if not steps >= 1:
            raise ArgumentError("capacity_steps", got=steps, expected="an integer of at least 1")
        self.site, self.settings = site, {"capacity": capacity, "steps": steps}
        # Step 1 has capacity / steps, as in the code of ControlVAE's comparison.
        self.register_buffer("count", torch.ones((), dtype=torch.float64))

    @property
    def capacity(self) -> Tensor:
        """C at this step, a 0-dim tensor."""
        return self.settings["capacity"] * (self.count / self.settings["steps"]).clamp(max=1.0)

    def forward(self, step: Step) -> Tensor:
        kl = step.kl[self.site]
        return (kl - self.capacity.to(kl)).abs()

    def after_step(self, svi: SVI, step: Step) -> None:
        self.count += 1

    def record(self) -> dict[str, Tensor]:
        return {f"capacity.{self.site}": self.capacity}


@builder
def capacity_vae(
    shape: Sequence[int],
    *,
    gamma: float = 1000.0,
    capacity: float = 25.0,
    capacity_steps: int = 100_000,
    latent_dim: int = 10,
    likelihood: str = "bernoulli",
    sigma: float = 1.0,
    learn_sigma: bool = False,
    network: str = "auto",
    lr: float = 1e-4,
) -> Method:
    """beta-VAE with growing capacity, ``-log p(x | z) + gamma |KL - C|``.

    Source: Burgess et al., "Understanding disentangling in beta-VAE" (2018), https://arxiv.org/abs/1804.03599,
    equation 8; gamma, C and its steps as in google-research/disentanglement_lib, unsupervised_study_v1/sweep.py.

    Args:
        shape: Shape of one x.
        gamma: Weight of the distance between KL and capacity.
        capacity: Final capacity C, nats.
        capacity_steps: Optimisation steps in which C grows linearly from 0.
        latent_dim: Number of latent values.
        likelihood: As for :func:`vae`, like the four below.
        sigma: Standard deviation of a Gaussian likelihood.
        learn_sigma: Learn it.
        network: Which networks.
        lr: Learning rate of Adam.

    Raises:
        ArgumentError: For an argument out of its range.

    Example:
        >>> method = capacity_vae((1, 8, 8), capacity=25.0, capacity_steps=100)
        >>> run = method.fit(load("digits"), steps=3, progress=False)
        >>> run.history["capacity.z"].item()  # 25 nats after 100 steps
        1.0
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
    term = Capacity("z", capacity=capacity, steps=capacity_steps)
    method.name = "capacity_vae"
    method.elbo = TermELBO(kl_scale={"z": 0.0}, terms={"capacity": (gamma, term)})
    return method
