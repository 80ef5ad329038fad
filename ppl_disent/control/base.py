# Copyright ppl-disent contributors.
# SPDX-License-Identifier: Apache-2.0
"""What all callbacks that weight a KL divergence share."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from ppl_disent.elbo import Step
from ppl_disent.errors import ArgumentError, SiteError

if TYPE_CHECKING:
    from ppl_disent.svi import SVI


class KLScale(nn.Module):
    """Base of the callbacks here: writes ``update(kl)`` into ``kl_scale[site]`` before the terms are summed.

    Args:
        site: The latent site whose KL divergence is weighted.
        **settings: What the callback was made with; compared when a run is resumed.

    Example:
        >>> from ppl_disent.control import KLScale
        >>> class Bump(KLScale):  # any law of the step and of the KL
        ...     def update(self, kl):
        ...         self.count += 1
        ...         return 1 + 3 * torch.exp(-self.count / 1000)
        >>> run = vae((1, 8, 8)).fit(load("digits"), steps=3, callbacks=[Bump("z")], progress=False)
    """

    count: Tensor
    beta: Tensor

    def __init__(self, site: str, **settings: float | bool | None) -> None:
        super().__init__()
        self.site, self.settings = site, settings
        self._state("count", 0.0)

    def _state(self, name: str, value: float | list[float]) -> None:
        self.register_buffer(name, torch.tensor(value, dtype=torch.float64))

    def update(self, kl: float | Tensor) -> Tensor:
        """Advances by one optimisation step.

        Args:
            kl: Unscaled KL divergence of this step's batch, nats per datum; a number or a 0-dim tensor.

        Returns:
            beta, the weight of the KL divergence in this step: a 0-dim float64 tensor.
        """
        raise NotImplementedError

    def before_fit(self, svi: SVI, data: object) -> None:
        """Checks the site."""
        if self.site not in svi.elbo.kl_scale:
            sites = sorted(svi.elbo.kl_scale)
            raise SiteError(f"{type(self).__name__}: no latent site {self.site!r}; the model has {sites}.")
        rivals = [hook for hook in svi.hooks if isinstance(hook, KLScale) and hook.site == self.site]
        if len(rivals) > 1:
            got = [type(hook).__name__ for hook in rivals]
            raise ArgumentError("callbacks", got=got, expected=f"one that writes the weight of {self.site!r}")

    def before_backward(self, svi: SVI, step: Step) -> None:
        """Sets this step's weight."""
        svi.elbo.kl_scale[self.site].copy_(self.update(step.kl[self.site].detach()))

    def record(self) -> dict[str, Tensor]:
        """Columns of the history: 0-dim tensors on the device."""
        return {}

    def extra_repr(self) -> str:
        return ", ".join([repr(self.site), *(f"{k}={v}" for k, v in self.settings.items())])


def require(name: str, got: object, condition: bool, expected: str) -> None:
    """Raises :class:`ArgumentError` unless the condition holds."""
    if not condition:
        raise ArgumentError(name, got=got, expected=expected)
