# Copyright ppl-disent contributors.
# SPDX-License-Identifier: Apache-2.0
"""beta-TCVAE: the KL of a VAE in three parts, of which the total correlation is weighted more."""

from __future__ import annotations

import math
import weakref
from collections.abc import Sequence, Sized
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.distributions import Normal

from ppl_disent.elbo import Step, TermELBO
from ppl_disent.errors import ArgumentError, SiteError
from ppl_disent.method import Method, builder
from ppl_disent.methods.vae import vae

if TYPE_CHECKING:
    from ppl_disent.svi import SVI


class Decomposition:
    """``KL(q(z | x) || p(z)) = MI + TC + DWKL`` on average over the data, each part estimated from one batch.

    Mutual information ``MI = E log q(z | x) / q(z)``, total correlation ``TC = E log q(z) / prod_j q(z_j)`` and
    dimension-wise KL ``DWKL = E log prod_j q(z_j) / p(z)``, nats per datum. "Isolating Sources of Disentanglement in
    Variational Autoencoders" (Chen et al., 2018), https://arxiv.org/abs/1802.04942, equation 2, with q(z) by
    minibatch-weighted sampling (equation 3; its value is off by a constant that grows with log N, its gradient is not)
    or minibatch stratified sampling (appendix C), as rtqichen/beta-tcvae, elbo_decomposition and vae_quant.py.

    Args:
        site: A site that is normal under the guide, ``(batch, latent)``.
        estimator: ``"mws"`` or ``"mss"``.
        size: Number of data N; by default that of the data that ``fit`` is given, and under ``SVI`` alone the batch's.

    Raises:
        ArgumentError: For an unknown estimator.
    """

    def __init__(self, site: str = "z", *, estimator: str = "mws", size: int | None = None) -> None:
        if estimator not in ("mws", "mss"):
            raise ArgumentError("estimator", got=estimator, expected="'mws' or 'mss'")
        self.site, self.estimator, self.size = site, estimator, size
        self._given = size
        self._step: Any = None
        self._parts: dict[str, Tensor] = {}

    def parts(self, step: Step) -> dict[str, Tensor]:
        """``mi``, ``tc`` and ``dwkl`` of a step, 0-dim; computed once for each."""
        if self._step is None or self._step() is not step:
            self._parts, self._step = self._estimate(step), weakref.ref(step)
        return self._parts

    def _estimate(self, step: Step) -> dict[str, Tensor]:
        assert step.model_trace is not None
        q, z = coordinates(step, self.site), step[self.site]
        n, size = len(z), self.size or len(z)
        # (i, j, d): log q(z_i[d] | x_j).
        each = Normal(q.loc[None], q.scale[None]).log_prob(z[:, None])
        weights = _stratified(n, size).to(each) if self.estimator == "mss" else each.new_full((n, n), 1 / (n * size))
        log_w = weights.log()
        log_q = (log_w + each.sum(2)).logsumexp(1)
        log_product = (log_w[:, :, None] + each).logsumexp(1).sum(1)
        log_given = each.diagonal().sum(0)
        log_p = step.model_trace.nodes[self.site]["fn"].log_prob(z)
        return {
            "mi": (log_given - log_q).mean(),
            "tc": (log_q - log_product).mean(),
            "dwkl": (log_product - log_p).mean(),
        }


class Part:
    """One part of a :class:`Decomposition` as a term.

    Args:
        whole: Shared by the parts.
        name: ``"mi"``, ``"tc"`` or ``"dwkl"``.
    """

    def __init__(self, whole: Decomposition, name: str) -> None:
        self.whole, self.name = whole, name
        self.settings = {"site": whole.site, "estimator": whole.estimator, "size": whole._given}

    def __call__(self, step: Step) -> Tensor:
        return self.whole.parts(step)[self.name]

    def before_fit(self, svi: SVI, data: Any) -> None:
        """Learns the number of data; raises :class:`ArgumentError` where they do not tell it."""
        if self.whole._given is not None:
            return
        of = getattr(data, "dataset", data)  # a DataLoader has batches for a length
        rows = of[0] if isinstance(of, tuple) and of else of
        if not isinstance(rows, Sized) or (isinstance(of, list) and of is data):
            hint = "Pass data_size=."
            raise ArgumentError("data", got=type(data).__name__, expected="data that tell their number", hint=hint)
        self.whole.size = len(rows)


def coordinates(step: Step, site: str) -> Normal:
    """q of one site, ``(batch, latent)`` independent normals; raises :class:`SiteError` if it is anything else."""
    assert step.guide_trace is not None
    node = step.guide_trace.nodes.get(site)
    if node is None or node["type"] != "sample":
        raise SiteError(f"no latent site {site!r} in the guide.")
    q = node["fn"]
    while hasattr(q, "base_dist"):
        q = q.base_dist
    if not isinstance(q, Normal) or q.loc.dim() != 2:
        raise SiteError(f"site {site!r}: its guide is {node['fn']}, expected independent coordinates, such as Normal.")
    return q


def _stratified(n: int, size: int) -> Tensor:
    """The weights of minibatch stratified sampling, ``(n, n)``; each row sums to 1."""
    if n == 1:
        return torch.ones(1, 1)
    weights = torch.full((n, n), 1 / (n - 1))
    weights.fill_diagonal_(1 / size)
    # The datum after the own one stands for the rest, as in rtqichen/beta-tcvae, vae_quant.py; but there the weight of
    # the own datum is in column 0 of every row, not on the diagonal.
    weights[torch.arange(n), (torch.arange(n) + 1) % n] = (size - n + 1) / (size * (n - 1))
    return weights


@builder
def beta_tcvae(
    shape: Sequence[int],
    *,
    beta: float = 6.0,
    alpha: float = 1.0,
    gamma: float = 1.0,
    estimator: str = "mws",
    data_size: int | None = None,
    latent_dim: int = 10,
    likelihood: str = "bernoulli",
    sigma: float = 1.0,
    learn_sigma: bool = False,
    network: str = "auto",
    lr: float = 1e-3,
) -> Method:
    """beta-TCVAE: Chen et al., "Isolating Sources of Disentanglement in Variational Autoencoders" (2018),
    https://arxiv.org/abs/1802.04942, equation 4: ``-E log p(x | z) + alpha MI + beta TC + gamma DWKL``.

    Their sum with weights 1 is the KL, which is known exactly; so the loss is that of a VAE plus ``alpha - 1`` times
    MI, and so on: the same on average, with less noise. See :class:`ppl_disent.methods.beta_tcvae.Decomposition`.

    Args:
        shape: Shape of one x.
        beta: Weight of the total correlation; the default is that of the authors' README, rtqichen/beta-tcvae.
        alpha: Weight of the mutual information of z and the datum's index.
        gamma: Weight of the dimension-wise KL.
        estimator: ``"mws"``, minibatch-weighted, or ``"mss"``, minibatch stratified sampling.
        data_size: Number of data; by default that of the data that ``fit`` is given.
        latent_dim: Number of latent values.
        likelihood: As for :func:`vae`, like the four below.
        sigma: Standard deviation of a Gaussian likelihood.
        learn_sigma: Learn it.
        network: Which networks.
        lr: Learning rate of Adam, that of rtqichen/beta-tcvae.

    Raises:
        ArgumentError: For an argument out of its range.

    Example:
        >>> run = beta_tcvae((1, 8, 8), beta=6.0).fit(load("digits"), steps=3, progress=False)
        >>> list(run.history.filter(like="extra"))  # mutual information, total correlation, dimension-wise KL
        ['extra.mi', 'extra.tc', 'extra.dwkl']
    """
    for name, value in (("beta", beta), ("alpha", alpha), ("gamma", gamma)):
        if not math.isfinite(value):
            raise ArgumentError(name, got=value, expected="a finite number")
    if data_size is not None and (not isinstance(data_size, int) or data_size < 1):
        raise ArgumentError("data_size", got=data_size, expected="None or an integer of at least 1")
    whole = Decomposition(estimator=estimator, size=data_size)
    terms = {name: (w - 1, Part(whole, name)) for name, w in (("mi", alpha), ("tc", beta), ("dwkl", gamma))}
    method = vae(
        shape,
        latent_dim=latent_dim,
        likelihood=likelihood,
        sigma=sigma,
        learn_sigma=learn_sigma,
        network=network,
        lr=lr,
    )
    return Method("beta_tcvae", method.model, method.guide, TermELBO(terms=terms), optim=method.optim)
