# Copyright ppl-disent contributors.
# SPDX-License-Identifier: Apache-2.0
"""An adversary: a term of the objective that trains itself to read labels from latent values."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from pyro import poutine
from torch import Tensor, nn
from torch.nn.functional import logsigmoid

from ppl_disent.elbo import Step
from ppl_disent.errors import ArgumentError, DataError, SiteError
from ppl_disent.opponent import Opponent

if TYPE_CHECKING:
    from ppl_disent.svi import SVI

KINDS = ("entropy", "cross_entropy", "reversal")


class Adversary(Opponent):
    """A network q(y | z) that guesses labels, and what it makes of latent values as a term of the generator.

    As a term, ``TermELBO(terms={"adversary": (weight, adversary)})``, it is ``fool(step)``, in nats per datum:

    ===================  ==========================================================================================
    kind                 term
    ===================  ==========================================================================================
    ``"entropy"``        minus the entropy of q(y | z); with ``target="marginal"`` KL(q(y | z) || p(y)). No labels.
    ``"cross_entropy"``  minus the cross-entropy of q(y | z), log q(y | z): not bounded below while q lags behind.
    ``"reversal"``       the same, but the adversary learns at the same parameters from the very z of the term, as
                         with a gradient reversal layer; the other two learn from z of the guide after its step.
    ===================  ==========================================================================================

    Its own loss, ``learn(step)``, is the cross-entropy for every kind. ``after_step``, which our SVI calls, minimises
    it with its own Adam. The generator's step gives it no gradient, and its own gives the generator none: check
    networks of your own with :func:`check_isolation`. The history has ``adversary.z``, its loss, beside
    ``label_entropy.z``, the entropy H(Y) of the labels seen: their difference bounds what z tells of y from below.

    Sources: "Learning Latent Subspaces in Variational Autoencoders" (Klys et al., 2018),
    https://arxiv.org/abs/1812.06190, M2 and N; "Adversarial Information Factorization" (Creswell et al., 2017),
    https://arxiv.org/abs/1711.05175. Of log K outcomes, M2 is KL(q(y | z) || Uniform) - log K: where labels are not
    balanced a uniform target still pushes once z says nothing of y, and ``"marginal"`` does not.

    Args:
        network: Maps the values of the sites, ``(batch, latent)`` tensors, to ``(batch, labels)`` logits.
        labels: Number of labels: binary attributes, or classes.
        sites: The sites, of the guide first, whose values it sees.
        field: Position of the labels in the batch, a ``(batch, labels)`` tensor of 0 and 1.
        kind: Its term, see above.
        target: ``"uniform"`` or ``"marginal"``, for the entropy. p(y) is the mean of all labels where ``fit`` can see
            them, and of those seen so far.
        exclusive: One softmax over classes, of which each datum has one, rather than a Bernoulli a label.
        steps: Its steps for one of the generator; each draws z anew, at the price of a pass through the guide.
        lr: Its learning rate.
        warmup: Steps at the beginning in which it trains and its term is zero.
        weight: Of its own loss (b5 of CSVAE); Adam is all but indifferent to it.

    Raises:
        ArgumentError: For an argument out of its range.

    Example:
        >>> method = cvae((1, 8, 8), labels=1, latent_dim=4)  # nothing keeps its z from knowing the label
        >>> method.elbo = TermELBO(terms={"adversary": (1.0, Adversary(MLP(4, 1), labels=1))})
        >>> run = method.fit(load("digits_bars"), steps=3, progress=False)
        >>> list(run.history.filter(regex="adversary|entropy"))
        ['extra.adversary', 'adversary.z', 'label_entropy.z']
    """

    count: Tensor
    loss: Tensor
    seen: Tensor

    def __init__(
        self,
        network: nn.Module,
        labels: int,
        *,
        sites: Sequence[str] = ("z",),
        field: int = 1,
        kind: str = "entropy",
        target: str = "uniform",
        exclusive: bool = False,
        steps: int = 1,
        lr: float = 1e-3,
        warmup: int = 0,
        weight: float = 1.0,
    ) -> None:
        for name, got, fits, expected in (
            ("labels", labels, labels >= 1 + exclusive, f"at least {1 + exclusive}"),
            ("sites", sites, bool(sites) and not isinstance(sites, str), "a tuple of site names"),
            ("kind", kind, kind in KINDS, f"one of {KINDS}"),
            ("target", target, target in ("uniform", "marginal"), "'uniform' or 'marginal'"),
            ("target", target, target == "uniform" or kind == "entropy", "its default: only an entropy has a target"),
            ("steps", steps, steps >= 1, "at least 1"),
            ("lr", lr, 0 < lr < math.inf, "a positive number"),
            ("warmup", warmup, warmup >= 0, "at least 0 steps"),
            ("weight", weight, 0 < weight < math.inf, "a positive number"),
        ):
            if not fits:
                raise ArgumentError(name, got=got, expected=expected)
        super().__init__(network, torch.optim.Adam(network.parameters(), lr=lr, fused=True))
        self.labels, self.sites, self.field = labels, tuple(sites), field
        self.kind, self.target, self.exclusive = kind, target, exclusive
        self.steps, self.warmup, self.weight = steps, warmup, weight
        own = ("labels", "sites", "field", "kind", "target", "exclusive", "steps", "warmup", "weight")
        self.settings = {name: getattr(self, name) for name in own} | {"lr": lr}
        self.register_buffer("count", torch.zeros((), dtype=torch.float64))
        self.register_buffer("loss", torch.zeros((), dtype=torch.float64))
        # How often each outcome of each variable was seen: 2 of each attribute, or all classes of one.
        self.register_buffer("seen", torch.zeros((1, labels) if exclusive else (labels, 2), dtype=torch.float64))

    def forward(self, step: Step) -> Tensor:
        return self.fool(step)

    def fool(self, step: Step) -> Tensor:
        """Its term in the generator's objective: nats per datum, with gradients for the latent values alone."""
        log_q = self._log_q(self.frozen(*self._values(step)))
        y = self._outcomes(step, log_q)
        if self.kind != "entropy":
            term = (y * log_q).sum((-2, -1)).mean()
        elif self.target == "uniform":
            term = (log_q.exp() * log_q).sum((-2, -1)).mean()
        else:
            seen = self.seen + y.sum(0)
            log_p = (seen / seen.sum(-1, keepdim=True)).clamp_min(1e-6).log().to(log_q)
            term = (log_q.exp() * (log_q - log_p)).sum((-2, -1)).mean()
        if self.warmup:
            term = torch.where(self.count < self.warmup, 0.0, term)
        return term.to(step[self.sites[0]].dtype)

    def learn(self, step: Step) -> Tensor:
        """Its own loss, the cross-entropy in nats per datum, with gradients for its parameters alone."""
        log_q = self._log_q(self.network(*(z.detach() for z in self._values(step))))
        return -(self._outcomes(step, log_q) * log_q).sum((-2, -1)).mean()

    def after_step(self, svi: SVI, step: Step) -> None:
        """Trains it, by ``steps`` steps of its own optimizer."""
        at = step
        for _ in range(self.steps):
            if self.kind != "reversal":
                with torch.no_grad():
                    at = replace(step, guide_trace=poutine.trace(svi.guide).get_trace(*step.batch))
            loss = self.learn(at)
            self.descend(self.weight * loss)
        self.count += 1
        self.loss.copy_(loss.detach())
        self.seen += self._split(step.batch[self.field]).sum(0)

    def before_fit(self, svi: SVI, data: object) -> None:
        """Checks its parameters, and all labels where the data show them.

        Raises:
            ArgumentError: If the generator has a parameter of the adversary's.
            DataError: For labels that cannot be used.
        """
        super().before_fit(svi, data)
        labels = all_labels(data, self.field)
        if labels is None:
            return
        check_labels(labels, self.labels, exclusive=self.exclusive)
        self.seen.copy_(self._split(labels.to(self.seen)).sum(0))
        p = self.seen / self.seen.sum(-1, keepdim=True)
        excess = (torch.special.xlogy(p, p).sum(-1) + math.log(p.shape[-1])).max().item()
        # Both large and certain: by a likelihood ratio test such an imbalance is chance once in 1,000 samples.
        if self.kind == "entropy" and self.target == "uniform" and excess > 0.02 and 2 * len(labels) * excess > 10.8:
            shown = [round(v, 3) for v in (p[0] if self.exclusive else p[:, 1]).tolist()]
            warnings.warn(
                f"Adversary: unbalanced labels, P(y) = {shown}, and target='uniform': the term keeps pushing the "
                "adversary's guesses away from these shares even where z says nothing of y, which costs KL and "
                "reconstruction. Choose target='marginal', or balance the data.",
                stacklevel=2,
            )

    def record(self) -> dict[str, Tensor]:
        """``adversary.<sites>``, its last loss, and ``label_entropy.<sites>``, H(Y) of the labels seen: nats."""
        p, site = self.seen / self.seen.sum(-1, keepdim=True), "_".join(self.sites)
        return {f"adversary.{site}": self.loss, f"label_entropy.{site}": -torch.special.xlogy(p, p).sum()}

    def _values(self, step: Step) -> list[Tensor]:
        """The sites' values, in the network's dtype."""
        try:
            values = [step[site] for site in self.sites]
        except KeyError as error:
            raise SiteError(f"Adversary: {error.args[0]}.") from None
        dtype = next((p.dtype for p in self.network.parameters()), values[0].dtype)
        return [value.to(dtype) for value in values]

    def _log_q(self, logits: Tensor) -> Tensor:
        """log q(y | z) of each outcome of each variable, ``(batch, labels, 2)`` or ``(batch, 1, labels)``."""
        if logits.dim() != 2 or logits.shape[1] != self.labels:
            raise DataError(f"Adversary: its network gives {tuple(logits.shape)}, expected (batch, {self.labels}).")
        if self.exclusive:
            return logits.log_softmax(-1).unsqueeze(1)
        return torch.stack([logsigmoid(-logits), logsigmoid(logits)], -1)

    def _outcomes(self, step: Step, log_q: Tensor) -> Tensor:
        """1 for the outcomes that the labels name, 0 for the others, in the shape of ``log_q``."""
        if len(step.batch) <= self.field or step.batch[self.field].shape != (len(log_q), self.labels):
            got = [tuple(t.shape) for t in step.batch]
            raise DataError(f"labels: got a batch of {got}, expected (batch, {self.labels}) in field {self.field}.")
        return self._split(step.batch[self.field].to(log_q))

    def _split(self, y: Tensor) -> Tensor:
        return y.unsqueeze(1) if self.exclusive else torch.stack([1 - y, y], -1)


def all_labels(data: object, field: int = 1) -> Tensor | None:
    """All labels of what ``fit`` was given, ``(n, k)``; None where only the batches show them."""
    if isinstance(data, tuple) and len(data) > field and isinstance(data[field], Tensor):
        return data[field]
    labels = getattr(data, "labels", None)
    return labels if isinstance(labels, Tensor) and field == 1 else None


def check_labels(y: Tensor, labels: int, *, exclusive: bool = False) -> None:
    """Raises :class:`DataError` unless ``y`` is ``(n, labels)`` of 0 and 1, with one 1 a row where ``exclusive``."""
    if y.dim() != 2 or y.shape[1] != labels:
        raise DataError(f"labels: got shape {tuple(y.shape)}, expected (n, {labels}).")
    if not ((y == 0) | (y == 1)).all():
        low, high = (float(v) for v in y.double().aminmax())
        raise DataError(f"labels: got values from {low:.4g} to {high:.4g}, expected only 0 and 1. Try (y > 0).float().")
    if exclusive and not (y.sum(1) == 1).all():
        raise DataError("labels: got rows without a class, or with several, expected one 1 a row (exclusive=True).")
