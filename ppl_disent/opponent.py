# Copyright ppl-disent contributors.
# SPDX-License-Identifier: Apache-2.0
"""What all terms share that train a network of their own against, or beside, the generator."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from ppl_disent.elbo import Step
from ppl_disent.errors import ArgumentError

if TYPE_CHECKING:
    from ppl_disent.svi import SVI


class Opponent(nn.Module):
    """Base of a term with a network and an optimizer of its own.

    A subclass has ``fool(step)``, its term, which calls :meth:`frozen`; ``learn(step)``, its own loss on detached
    values; and ``after_step(svi, step)``, which calls :meth:`descend`.

    Args:
        network: Its network, which neither program holds.
        optimizer: Of the network's parameters.

    Example:
        >>> network, z = nn.Linear(2, 1), torch.ones(3, 2, requires_grad=True)
        >>> opponent = Opponent(network, torch.optim.Adam(network.parameters()))
        >>> opponent.frozen(z).sum().backward()  # what its term does: only the latent values get a gradient
        >>> z.grad is None, network.weight.grad is None
        (False, True)
    """

    def __init__(self, network: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        super().__init__()
        self.network, self.optimizer = network, optimizer

    def fool(self, step: Step) -> Tensor:
        """Its term in the generator's objective: nats per datum, with gradients for the latent values alone."""
        raise NotImplementedError

    def learn(self, step: Step) -> Tensor:
        """Its own loss, with gradients for its parameters alone."""
        raise NotImplementedError

    def after_step(self, svi: SVI, step: Step) -> None:
        """Trains it."""
        raise NotImplementedError

    def forward(self, step: Step) -> Tensor:
        return self.fool(step)

    def frozen(self, *values: Tensor) -> Tensor:
        """The network, whom nothing that the generator does reaches: no graph to its parameters, buffers of its own."""
        state = {name: p.detach() for name, p in self.network.named_parameters()}
        state |= {name: b.clone() for name, b in self.network.named_buffers()}
        found: Tensor = functional_call(self.network, state, values)
        return found

    def descend(self, loss: Tensor) -> None:
        """One step of its optimizer, which leaves no gradient behind."""
        parameters = [p for group in self.optimizer.param_groups for p in group["params"]]
        self.optimizer.zero_grad()
        loss.backward(inputs=parameters)
        self.optimizer.step()
        self.optimizer.zero_grad()

    def before_fit(self, svi: SVI, data: object) -> None:
        """Raises :class:`ArgumentError` if the generator has a parameter of its own."""
        if common := sorted(shared(self, svi)):
            hint = "Give it a network of its own, which neither program holds."
            raise ArgumentError("network", got=common, expected="no parameter that the generator trains", hint=hint)

    def get_extra_state(self) -> dict[str, Any]:
        """Its optimizer's state, which ``state_dict`` holds beside the network's."""
        return self.optimizer.state_dict()

    def set_extra_state(self, state: dict[str, Any]) -> None:
        """Restores ``get_extra_state()``; a copy, since torch's optimizer would keep the very tensors."""
        self.optimizer.load_state_dict(copy.deepcopy(state))


def check_isolation(svi: SVI, *batch: Tensor) -> None:
    """Steps a copy of generator and adversaries, each alone, and raises if one changes the other.

    For networks, terms and guides of your own: a generator that trains its adversary makes it blind, and the term
    then looks perfect. Nothing of ``svi``, nor the random state, is changed.

    Args:
        svi: With an :class:`Adversary`, or another opponent, among the terms of its objective, for instance
            ``SVI(method.model, method.guide, method.optim, method.elbo)``.
        *batch: A batch.

    Raises:
        ArgumentError: If there is no adversary, or naming the parameters and buffers that the wrong step changes or
            gives gradients to.

    Example:
        >>> method = factor_vae((1, 8, 8), discriminator_units=8)
        >>> svi = SVI(method.model, method.guide, method.optim, method.elbo)
        >>> check_isolation(svi, torch.rand(16, 1, 8, 8))  # raises where one trains the other
    """
    devices = {t.device for t in batch if t.device.type == "cuda"}
    with torch.random.fork_rng(list(devices)):
        # Without the other callbacks, which may hold anything, and which are not what is asked about.
        twin: Any = copy.deepcopy(svi, {id(svi.callbacks): []})
        adversaries = {name: t for name, (_, t) in twin.elbo.terms.items() if isinstance(t, Opponent)}
        if not adversaries:
            raise ArgumentError("svi", got=list(twin.elbo.terms), expected="an Adversary among the objective's terms")
        programs = {"model": twin.model, "guide": twin.guide}
        leaks = [f"{n} (held by both)" for a in adversaries.values() for n in sorted(shared(a, twin))]
        twin.call_hooks = lambda *_: None  # the generator alone
        with _watched("the generator's step", adversaries, leaks):
            twin.step(*batch)
        step = twin.elbo.measure(twin.model, twin.guide, *batch)
        for name, adversary in adversaries.items():
            others = {n: a for n, a in adversaries.items() if n != name}
            with _watched(f"the step of {name!r}", programs | others, leaks):
                adversary.after_step(twin, step)
                adversary.learn(twin.elbo.measure(twin.model, twin.guide, *batch)).backward()
    if leaks:
        raise ArgumentError("isolation", got=leaks, expected="no change or gradient but in one's own step")


def shared(opponent: Opponent, svi: SVI) -> set[str]:
    """Names of the parameters that the adversary and the generator have in common."""
    theirs = {id(p) for program in (svi.model, svi.guide) for p in program.parameters()}
    return {name for name, p in opponent.named_parameters() if id(p) in theirs}


@contextmanager
def _watched(what: str, modules: dict[str, Any], leaks: list[str]) -> Iterator[None]:
    """Adds to ``leaks`` what of some modules has changed, or has got a gradient, when the block is left."""
    named = {f"{k}.{n}": t for k, m in modules.items() for n, t in (*m.named_parameters(), *m.named_buffers())}
    before = {name: tensor.detach().clone() for name, tensor in named.items()}
    for tensor in named.values():
        tensor.grad = None
    yield
    leaks += [f"{name} (gradient from {what})" for name, tensor in named.items() if tensor.grad is not None]
    leaks += [f"{name} (changed by {what})" for name, tensor in named.items() if not torch.equal(tensor, before[name])]
