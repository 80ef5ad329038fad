# Copyright ppl-disent contributors.
# SPDX-License-Identifier: Apache-2.0
"""Amortised diagonal Gaussian over named latent sites."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pyro
import pyro.distributions as dist
from torch import Tensor, nn


class Gaussian(nn.Module):
    """``q(z_1, z_2, ... | batch)``, a product of diagonal Gaussians, one a site.

    Args:
        sees: Which batch fields a site's network is called with, ``{site: indices}``; a site not named sees the first
            field only. CVAE's q(z | x, y) on batches ``(x, y)`` is ``Gaussian(z=net, sees={"z": (0, 1)})``.
        **networks: ``{site: network}``. A network maps its batch fields, ``(batch, ...)``, to a
            ``(batch, 2 * latent)`` tensor: means, then log variances.

    Raises:
        ValueError: Without a network, for a site name that a torch module cannot hold, or for a site in ``sees``
            that has no network.

    Example:
        >>> from guides import Gaussian
        >>> guide = Gaussian(z=nn.Linear(5, 2 * 3))
        >>> guide(torch.zeros(7, 5))["z"].shape
        torch.Size([7, 3])
    """

    def __init__(self, sees: Mapping[str, Sequence[int]] | None = None, **networks: nn.Module) -> None:
        super().__init__()
        if not networks:
            raise ValueError("networks: got none, expected at least one, such as Gaussian(z=network).")
        taken = [site for site in networks if "." in site or hasattr(nn.ModuleDict, site)]
        if taken:
            raise ValueError(f"networks: a torch module cannot hold the site names {taken}; choose others.")
        if unknown := set(sees or {}) - set(networks):
            raise ValueError(f"sees: got sites {sorted(unknown)}, expected some of {sorted(networks)}.")
        self.networks = nn.ModuleDict(networks)
        self.sees = {site: tuple((sees or {}).get(site, (0,))) for site in networks}

    def forward(self, *batch: Tensor) -> dict[str, Tensor]:
        """Samples every site, ``{site: (batch, latent) tensor}``, inside a plate named ``data``."""
        values = {}
        with pyro.plate("data", len(batch[0])):
            for site, network in self.networks.items():
                mean, log_variance = network(*[batch[i] for i in self.sees[site]]).chunk(2, -1)
                q = dist.Normal(mean, (0.5 * log_variance).exp()).to_event(1)
                values[site] = pyro.sample(site, q)
        return values
