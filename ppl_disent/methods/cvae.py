# Copyright ppl-disent contributors.
# SPDX-License-Identifier: Apache-2.0
"""CVAE: the program p(z) p(x | z, y), and what all methods on labelled data share."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import pyro
import pyro.distributions as dist
import torch
from pyro.infer.util import is_validation_enabled
from torch import Tensor, nn

from guides import Gaussian
from ppl_disent.adversary import all_labels, check_labels
from ppl_disent.elbo import TermELBO
from ppl_disent.errors import ArgumentError, DataError
from ppl_disent.likelihood import likelihood as likelihood_of
from ppl_disent.method import Method, builder
from ppl_disent.methods.vae import networks
from ppl_disent.nn import MLP, ConvEncoder
from ppl_disent.optim import adam

if TYPE_CHECKING:
    from ppl_disent.svi import SVI


class CVAE(nn.Module):
    """``p(z) p(x | z, y)`` with a standard normal z, or ``p(z | y) p(x | z, y)`` with a learned prior.

    Args:
        decoder: Maps z and y, ``(batch, latent_dim + labels)``, to what the likelihood takes, ``(batch, *x_shape)``.
        latent_dim: Number of latent values.
        labels: Number of labels.
        likelihood: Maps the decoder's output to a distribution of batch shape ``(batch,)``.
        prior: Maps y, ``(batch, labels)``, to means and log variances of z, ``(batch, 2 * latent_dim)``; None for a
            standard normal.

    Example:
        >>> from ppl_disent.methods import CVAE
        >>> model = CVAE(MLP(4 + 1, (1, 8, 8)), 4, 1, Bernoulli(), prior=MLP(1, 2 * 4))
        >>> trace = pyro.poutine.trace(model).get_trace(torch.rand(5, 1, 8, 8), torch.ones(5, 1))
        >>> trace.nodes["z"]["value"].shape
        torch.Size([5, 4])
    """

    def __init__(
        self, decoder: nn.Module, latent_dim: int, labels: int, likelihood: nn.Module, prior: nn.Module | None = None
    ) -> None:
        super().__init__()
        self.decoder, self.latent_dim, self.labels = decoder, latent_dim, labels
        self.likelihood, self.prior = likelihood, prior

    def forward(self, x: Tensor, y: Tensor | None = None, *_: Tensor) -> Tensor:
        """Generates ``x``, ``(batch, *x_shape)``, given labels ``y``, ``(batch, labels)``."""
        y = checked(x, y, self.labels)
        mean, log_variance = x.new_zeros(2, len(x), self.latent_dim) if self.prior is None else halves(self.prior(y))
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(mean, (0.5 * log_variance).exp()).to_event(1))
            return pyro.sample("x", self.likelihood(self.decoder(torch.cat([z, y], -1))), obs=x)


class LabelledGaussian(Gaussian):
    """``q(z | x, y)``, a diagonal Gaussian whose network sees image and labels.

    Args:
        network: Maps x and y to means and log variances of z, ``(batch, 2 * latent)``.
        labels: Number of labels.
    """

    def __init__(self, network: nn.Module, labels: int) -> None:
        super().__init__(sees={"z": (0, 1)}, z=network)
        self.labels = labels

    def forward(self, *batch: Tensor) -> dict[str, Tensor]:
        """Samples z, ``{"z": (batch, latent) tensor}``."""
        x, y = (*batch, None)[:2]
        assert x is not None
        return super().forward(x, checked(x, y, self.labels))


class Labels:
    """A callback that checks all labels before a fit, where the data show them.

    Args:
        labels: Number of labels.
        exclusive: Each datum has exactly one.
    """

    def __init__(self, labels: int, *, exclusive: bool = False) -> None:
        self.labels, self.exclusive = labels, exclusive

    def before_fit(self, svi: SVI, data: object) -> None:
        """Raises :class:`DataError` for labels of the wrong number or value."""
        if (y := all_labels(data)) is not None:
            check_labels(y, self.labels, exclusive=self.exclusive)


@builder
def cvae(
    shape: Sequence[int],
    *,
    labels: int,
    prior: str = "standard",
    latent_dim: int = 10,
    likelihood: str = "bernoulli",
    sigma: float = 1.0,
    learn_sigma: bool = False,
    network: str = "auto",
    lr: float = 1e-3,
) -> Method:
    """CVAE: Kingma et al., "Semi-Supervised Learning with Deep Generative Models" (2014),
    https://arxiv.org/abs/1406.5298, with every y observed. Batches are ``(x, y)``, y of shape ``(batch, labels)``.

    Nothing keeps z from knowing y. With other labels y': ``q.decode(x, y', z=q.encode(x, y)["z"].mean)``.

    Args:
        shape: Shape of one x.
        labels: Number of labels k, values 0 and 1.
        prior: ``"standard"``, p(z) = N(0, I); ``"conditional"``, a learned Gaussian p(z | y), the form of Sohn et al.,
            "Learning Structured Output Representation using Deep Conditional Generative Models" (2015).
        latent_dim: Number of latent values.
        likelihood: As for :func:`vae`, like the four below.
        sigma: Standard deviation of a Gaussian likelihood.
        learn_sigma: Learn it.
        network: Which networks. A convolutional encoder sees the labels after its convolutions.
        lr: Learning rate of Adam; the default is that of Pyro's example of a CVAE.

    Raises:
        ArgumentError: For an argument out of its range.

    Example:
        >>> data = load("digits_bars")
        >>> q = cvae(data.shape, labels=1, latent_dim=4).fit(data, steps=3, progress=False).posterior
        >>> x, y = data.batch(range(5))
        >>> q.decode(x, 1 - y, z=q.encode(x, y)["z"].mean).mean.shape  # the same codes, the other label
        torch.Size([5, 1, 8, 8])
    """
    require_sizes(labels=labels, latent_dim=latent_dim)
    if prior not in ("standard", "conditional"):
        raise ArgumentError("prior", got=prior, expected="'standard' or 'conditional'")
    decoder = networks(tuple(shape), latent_dim + labels, network)[1]
    learned = MLP(labels, 2 * latent_dim) if prior == "conditional" else None
    of_x = likelihood_of(likelihood, sigma=sigma, learn_sigma=learn_sigma)
    model = CVAE(decoder, latent_dim, labels, of_x, learned)
    guide = LabelledGaussian(encoder(shape, 2 * latent_dim, network, labels=labels), labels)
    return Method("cvae", model, guide, TermELBO(), callbacks=[Labels(labels)], optim=adam(lr))


def encoder(shape: Sequence[int], outputs: int, network: str, *, labels: int = 0) -> nn.Module:
    """The encoder of :func:`ppl_disent.methods.vae.networks`, which takes labels beside x.

    Args:
        shape: Shape of one x.
        outputs: Number of outputs.
        network: As for :func:`vae`.
        labels: Number of labels it sees; without any it is called with x alone.
    """
    shape = tuple(shape)
    with torch.random.fork_rng(devices=[]):  # made to be looked at, not to be used
        kind = type(networks(shape, 1, network)[0])
    if kind is MLP:
        return MLP(math.prod(shape) + labels, outputs)
    if network == "burgess":
        return ConvEncoder(shape, outputs, channels=(32, 32, 32, 32), hidden=(256, 256), fields=labels)
    return ConvEncoder(shape, outputs, fields=labels)


def checked(x: Tensor, y: Tensor | None, labels: int) -> Tensor:
    """The labels of a batch, ``(batch, labels)`` in the dtype of x; values are looked at under Pyro's validation.

    Raises:
        DataError: For a batch without labels, or with labels of another shape or value.
    """
    if y is None:
        raise DataError(f"labels: got a batch without any, expected (x, y) with y of shape (batch, {labels}).")
    if y.shape != (len(x), labels):
        raise DataError(f"labels: got shape {tuple(y.shape)}, expected ({len(x)}, {labels}).")
    if is_validation_enabled():
        check_labels(y, labels)
    return y.to(x)


def halves(parameters: Tensor) -> tuple[Tensor, Tensor]:
    """Means and log variances, each ``(batch, latent)``."""
    mean, log_variance = parameters.chunk(2, -1)
    return mean, log_variance


def require_sizes(**sizes: int) -> None:
    """Raises :class:`ArgumentError` unless each is an integer of at least 1."""
    for name, size in sizes.items():
        if not isinstance(size, int) or isinstance(size, bool) or size < 1:
            raise ArgumentError(name, got=size, expected="an integer of at least 1")
