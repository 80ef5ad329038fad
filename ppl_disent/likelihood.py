# Copyright ppl-disent contributors.
# SPDX-License-Identifier: Apache-2.0
"""From a decoder's output to the distribution of x."""

from __future__ import annotations

import math

import pyro.distributions as dist
import torch
from torch import Tensor, nn

from ppl_disent.errors import ArgumentError


class Bernoulli(nn.Module):
    """Independent Bernoulli pixels; the decoder's output are logits.

    Grey values in [0, 1] are allowed: their log likelihood is minus the cross-entropy, as in the papers' losses.

    Example:
        >>> x = Bernoulli()(torch.zeros(2, 1, 8, 8))  # 64 fair coins: ln 2 nats each, also for grey values
        >>> x.log_prob(torch.rand(2, 1, 8, 8))
        tensor([-44.3614, -44.3614])
    """

    def forward(self, logits: Tensor) -> dist.Distribution:
        """Maps logits ``(batch, *x_shape)`` to a distribution of batch shape ``(batch,)``."""
        return dist.Bernoulli(logits=logits, validate_args=False).to_event(logits.dim() - 1)


class Gaussian(nn.Module):
    """Independent Gaussian pixels of one standard deviation; the decoder's output are means.

    Args:
        sigma: The standard deviation, in units of x; its first value where it is learned.
        learn: Learn it, one number for all pixels.

    Example:
        >>> Gaussian(sigma=0.1)(torch.zeros(2, 3)).log_prob(torch.zeros(2, 3))
        tensor([4.1509, 4.1509])
        >>> [name for name, _ in Gaussian(sigma=0.1, learn=True).named_parameters()]
        ['log_sigma']
    """

    log_sigma: Tensor

    def __init__(self, sigma: float = 1.0, *, learn: bool = False) -> None:
        super().__init__()
        if not 0 < sigma < math.inf:
            raise ArgumentError("sigma", got=sigma, expected="a positive number")
        log_sigma = torch.tensor(math.log(sigma))
        if learn:
            self.log_sigma = nn.Parameter(log_sigma)
        else:
            self.register_buffer("log_sigma", log_sigma)

    def forward(self, mean: Tensor) -> dist.Distribution:
        """Maps means ``(batch, *x_shape)`` to a distribution of batch shape ``(batch,)``."""
        return dist.Normal(mean, self.log_sigma.exp().expand_as(mean)).to_event(mean.dim() - 1)


def likelihood(name: str, *, sigma: float = 1.0, learn_sigma: bool = False) -> nn.Module:
    """A likelihood by name.

    Args:
        name: ``"bernoulli"`` or ``"gaussian"``.
        sigma: Standard deviation of the Gaussian.
        learn_sigma: Learn it.
    """
    if name == "bernoulli":
        if sigma != 1.0 or learn_sigma:
            given = f"sigma={sigma}, learn_sigma={learn_sigma}"
            raise ArgumentError("sigma, learn_sigma", got=given, expected="their defaults: a Bernoulli has no sigma")
        return Bernoulli()
    if name == "gaussian":
        return Gaussian(sigma, learn=learn_sigma)
    raise ArgumentError("likelihood", got=name, expected="'bernoulli' or 'gaussian'")
