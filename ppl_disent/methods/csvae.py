# Copyright ppl-disent contributors.
# SPDX-License-Identifier: Apache-2.0
"""CSVAE: each label has a latent subspace of its own, and an adversary keeps the labels out of the rest."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor, nn

from ppl_disent.elbo import TermELBO
from ppl_disent.errors import ArgumentError
from ppl_disent.likelihood import likelihood as likelihood_of
from ppl_disent.method import Method, builder
from ppl_disent.methods.cvae import Labels, checked, encoder, halves, require_sizes
from ppl_disent.methods.cvae_if import adversarial
from ppl_disent.methods.vae import networks
from ppl_disent.optim import adam


class Subspace(nn.Module):
    """``p(w_i | y_i)``: one diagonal Gaussian where the attribute is off, another where it is on.

    Args:
        dim: Number of coordinates of W_i.
        off: Mean and standard deviation, in all coordinates, for y_i = 0.
        on: The same for y_i = 1.
        learn: Learn means and scales, from these values on.

    Example:
        >>> from ppl_disent.methods.csvae import Subspace
        >>> Subspace(2)(torch.tensor([0.0, 1.0])).mean  # without the attribute, with it
        tensor([[0., 0.],
                [3., 3.]])
    """

    mean: Tensor
    log_scale: Tensor

    def __init__(
        self, dim: int, *, off: Sequence[float] = (0.0, 0.1), on: Sequence[float] = (3.0, 1.0), learn: bool = False
    ) -> None:
        super().__init__()
        for name, given in (("prior_off", off), ("prior_on", on)):
            if not (len(given) == 2 and math.isfinite(given[0]) and 0 < given[1] < math.inf):
                raise ArgumentError(name, got=given, expected="a mean and a positive standard deviation")
        rows = torch.tensor([list(off), list(on)])
        for name, values in (("mean", rows[:, :1]), ("log_scale", rows[:, 1:].log())):
            table = values.repeat(1, dim)  # row y_i
            if learn:
                self.register_parameter(name, nn.Parameter(table))
            else:
                self.register_buffer(name, table)

    def forward(self, y: Tensor) -> dist.Distribution:
        """Maps ``(batch,)`` labels to a distribution of batch shape ``(batch,)``; between 0 and 1 it interpolates."""
        share = torch.stack([1 - y, y], -1)
        return dist.Normal(share @ self.mean, (share @ self.log_scale).exp()).to_event(1)


class CSVAE(nn.Module):
    """``p(z) p(w_0 | y_0) p(w_1 | y_1) ... p(x | z, w)`` with a standard normal z: x depends on y through w alone.

    Args:
        decoder: Maps z, w_0, w_1, ... side by side, ``(batch, latent)``, to what the likelihood takes.
        latent_dim: Number of coordinates of Z.
        subspaces: Maps y_i, ``(batch,)``, to p(w_i | y_i), for each label.
        likelihood: Maps the decoder's output to a distribution of batch shape ``(batch,)``.

    Example:
        >>> from ppl_disent.methods.csvae import CSVAE, Subspace
        >>> model = CSVAE(MLP(4 + 2, (1, 8, 8)), 4, [Subspace(2)], Bernoulli())
        >>> trace = pyro.poutine.trace(model).get_trace(torch.rand(5, 1, 8, 8), torch.ones(5, 1))
        >>> trace.nodes["w_0"]["value"].shape
        torch.Size([5, 2])
    """

    def __init__(
        self, decoder: nn.Module, latent_dim: int, subspaces: Sequence[nn.Module], likelihood: nn.Module
    ) -> None:
        super().__init__()
        self.decoder, self.latent_dim, self.likelihood = decoder, latent_dim, likelihood
        self.subspaces = nn.ModuleList(subspaces)

    def forward(self, x: Tensor, y: Tensor | None = None, *_: Tensor) -> Tensor:
        """Generates ``x``, ``(batch, *x_shape)``, given labels ``y``, ``(batch, labels)``."""
        y = checked(x, y, len(self.subspaces))
        with pyro.plate("data", len(x)):
            prior = dist.Normal(x.new_zeros(len(x), self.latent_dim), 1.0).to_event(1)
            latents = [pyro.sample("z", prior)]
            for i, subspace in enumerate(self.subspaces):
                latents.append(pyro.sample(f"w_{i}", subspace(y[:, i])))
            return pyro.sample("x", self.likelihood(self.decoder(torch.cat(latents, -1))), obs=x)


class CSVAEGuide(nn.Module):
    """``q(z | x) q(w_0, w_1, ... | x, y)``, diagonal Gaussians; one network gives all w.

    Args:
        z: Maps x, or x and y, to means and log variances of z, ``(batch, 2 * latent)``.
        w: Maps x and y to those of all w side by side, ``(batch, 2 * sum(dims))``.
        dims: Number of coordinates of each W_i.
        z_sees_y: q(z | x, y) instead of q(z | x).
    """

    def __init__(self, z: nn.Module, w: nn.Module, dims: Sequence[int], *, z_sees_y: bool = False) -> None:
        super().__init__()
        self.z, self.w, self.dims, self.z_sees_y = z, w, list(dims), z_sees_y

    def forward(self, x: Tensor, y: Tensor | None = None, *_: Tensor) -> None:
        """Samples z and every w_i for ``x``, ``(batch, *x_shape)``, and labels ``y``, ``(batch, labels)``."""
        y = checked(x, y, len(self.dims))
        of_z, of_w = halves(self.z(x, y) if self.z_sees_y else self.z(x)), halves(self.w(x, y))
        sites = {"z": of_z}
        sites |= {f"w_{i}": pair for i, pair in enumerate(zip(*(half.split(self.dims, -1) for half in of_w)))}
        with pyro.plate("data", len(x)):
            for site, (mean, log_variance) in sites.items():
                pyro.sample(site, dist.Normal(mean, (0.5 * log_variance).exp()).to_event(1))


@builder
def csvae(
    shape: Sequence[int],
    *,
    labels: int,
    w_dim: int | Sequence[int] = 2,
    b1: float = 20.0,
    b2: float = 1.0,
    b3: float = 0.2,
    b4: float = 1.0,
    b5: float = 1.0,
    prior_off: Sequence[float] = (0.0, 0.1),
    prior_on: Sequence[float] = (3.0, 1.0),
    learn_prior: bool = False,
    z_sees_y: bool = False,
    adversary: str = "cross_entropy",
    target: str = "uniform",
    exclusive: bool = False,
    adversary_steps: int = 1,
    adversary_lr: float = 1e-3,
    adversary_warmup: int = 0,
    adversary_hidden: Sequence[int] = (64, 64),
    latent_dim: int = 10,
    likelihood: str = "bernoulli",
    sigma: float = 1.0,
    learn_sigma: bool = False,
    network: str = "auto",
    lr: float = 1e-3,
) -> Method:
    """CSVAE: Klys et al., "Learning Latent Subspaces in Variational Autoencoders" (2018),
    https://arxiv.org/abs/1812.06190, terms M1, M2 and N. Batches are ``(x, y)``, y of shape ``(batch, labels)``.

    Minimises ``-b1 log p(x | z, w) + b2 sum_i KL(w_i) + b3 KL(z) + b4 A`` in nats per datum, A of its adversary, the
    paper's M2 with ``adversary="entropy"``. The default b1, b2, b3 are common to several public reimplementations, some
    of whose terms are means over coordinates or sums over a batch; those of the paper are not known here. Dividing by
    b2 shows what they mean for a Gaussian x: an ELBO with variance ``sigma^2 b2 / b1`` and weight b3 / b2 of KL(z), up
    to a constant.

    The default adversary is not the paper's. On six variants of the swiss roll (``python -m experiments.adversaries``;
    the table is in experiments/results) a fresh probe found about as much of y in z with M2 as without any adversary,
    and at b4 = 10 up to three times the KL of z: the entropy is high as soon as the run's own adversary is lost, and it
    is easily lost. The cross-entropy with weight 1 leaked least, at no cost in KL of z.

    Args:
        shape: Shape of one x.
        labels: Number of labels k, values 0 and 1; each has a subspace W_i, the site ``w_0``, ``w_1``, ...
        w_dim: Number of coordinates of each W_i: one number for all, or k.
        b1: Weight of the log likelihood.
        b2: Weight of the KL divergence of each w_i.
        b3: Weight of the KL divergence of z.
        b4: Weight of the adversary's term.
        b5: Weight of the adversary's own loss, N; Adam is all but indifferent to it.
        prior_off: Mean and standard deviation of p(w_i | y_i = 0). Which class lies at 0 is contested: the paper's
            rule for switching an attribute, w_l = 0 for the others, wants it to be the absent one.
        prior_on: The same for y_i = 1.
        learn_prior: Learn both, each coordinate apart. Nothing then keeps the two apart.
        z_sees_y: q(z | x, y) instead of q(z | x).
        adversary: ``"cross_entropy"``, ``"reversal"`` (the same at the same parameters), ``"entropy"`` (M2) or
            ``"none"``; see :class:`ppl_disent.Adversary`.
        target: What the entropy drives guesses to: ``"uniform"``, or p(y), ``"marginal"``, for unbalanced labels.
        exclusive: The labels are classes, of which each datum has one: one softmax.
        adversary_steps: Steps of the adversary for one of the generator.
        adversary_lr: Its learning rate.
        adversary_warmup: Steps at the beginning in which it trains and its term is zero.
        adversary_hidden: Widths of its hidden layers.
        latent_dim: Number of coordinates of Z.
        likelihood: As for :func:`vae`, like the four below.
        sigma: Standard deviation of a Gaussian likelihood.
        learn_sigma: Learn it.
        network: Which networks. A convolutional encoder sees the labels after its convolutions.
        lr: Learning rate of Adam; the default is that of several public reimplementations.

    Raises:
        ArgumentError: For an argument out of its range.

    Example:
        >>> data = load("digits_bars")
        >>> q = csvae(data.shape, labels=1, latent_dim=4).fit(data, steps=3, progress=False).posterior
        >>> {site: code.mean.shape[1] for site, code in q.encode(*data.batch(range(5))).items()}
        {'z': 4, 'w_0': 2}
        >>> q.swap("w_0", data.batch([0, 1]), data.batch([1, 0])).mean.shape  # each with the other's w
        torch.Size([2, 1, 8, 8])
    """
    require_sizes(labels=labels, latent_dim=latent_dim)
    dims = [w_dim] * labels if isinstance(w_dim, int) else list(w_dim)
    if len(dims) != labels:
        raise ArgumentError("w_dim", got=w_dim, expected=f"one size, or one for each of the {labels} labels")
    for dim in dims:
        require_sizes(w_dim=dim)
    model = CSVAE(
        networks(tuple(shape), latent_dim + sum(dims), network)[1],
        latent_dim,
        [Subspace(dim, off=prior_off, on=prior_on, learn=learn_prior) for dim in dims],
        likelihood_of(likelihood, sigma=sigma, learn_sigma=learn_sigma),
    )
    guide = CSVAEGuide(
        encoder(shape, 2 * latent_dim, network, labels=labels if z_sees_y else 0),
        encoder(shape, 2 * sum(dims), network, labels=labels),
        dims,
        z_sees_y=z_sees_y,
    )
    terms = adversarial(
        latent_dim,
        labels,
        gamma=b4,
        adversary=adversary,
        target=target,
        exclusive=exclusive,
        steps=adversary_steps,
        lr=adversary_lr,
        warmup=adversary_warmup,
        hidden=adversary_hidden,
        weight=b5,
    )
    kl_scale = {"z": b3} | {f"w_{i}": b2 for i in range(labels)}
    elbo = TermELBO(kl_scale=kl_scale, lik_scale={"x": b1}, terms=terms)
    return Method("csvae", model, guide, elbo, callbacks=[Labels(labels, exclusive=exclusive)], optim=adam(lr))
