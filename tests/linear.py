# Copyright ppl-disent contributors.
# SPDX-License-Identifier: Apache-2.0
"""A linear-Gaussian model, whose evidence and posterior are known, and its exact guide."""

import pyro
import pyro.distributions as dist
import torch
from torch import nn
from torch.distributions import MultivariateNormal

D, Z, SIGMA = 4, 2, 0.6


class Linear(nn.Module):
    """z ~ N(0, I), x ~ N(W z, sigma^2 I), whose evidence and posterior are known."""

    def __init__(self):
        super().__init__()
        self.W = nn.Parameter(torch.randn(D, Z, generator=torch.Generator().manual_seed(0)))

    def forward(self, x):
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(torch.zeros(len(x), Z), 1.0).to_event(1))
            pyro.sample("x", dist.Normal(z @ self.W.T, SIGMA).to_event(1), obs=x)

    def posterior(self, x):
        precision = torch.eye(Z) + self.W.T @ self.W / SIGMA**2
        return (x @ self.W / SIGMA**2) @ precision.inverse(), precision.inverse()

    def evidence(self, x):
        return MultivariateNormal(torch.zeros(D), self.W @ self.W.T + SIGMA**2 * torch.eye(D)).log_prob(x).detach()


class Guide(nn.Module):
    """The exact posterior, scaled and shifted."""

    def __init__(self, model, scale=1.0, shift=0.0):
        super().__init__()
        self.model, self.scale, self.shift = [model], scale, shift
        self.none = nn.Parameter(torch.zeros(()))

    def forward(self, x):
        mean, covariance = self.model[0].posterior(x)
        q = dist.MultivariateNormal(mean + self.shift, self.scale**2 * covariance)
        with pyro.plate("data", len(x)):
            pyro.sample("z", q)
