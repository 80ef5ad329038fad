# Copyright ppl-disent contributors.
# SPDX-License-Identifier: Apache-2.0
"""One optimisation step: Pyro's SVI with callbacks, and a manifold's optimizer beside Pyro's own."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import pyro
import pyro.infer
import torch
from pyro.optim import PyroOptim
from torch import Tensor, nn

from ppl_disent.elbo import TermELBO
from ppl_disent.errors import ArgumentError
from ppl_disent.optim import JointOptim

ManifoldOptim = torch.optim.Optimizer | Callable[[list[Tensor]], torch.optim.Optimizer]


class SVI(pyro.infer.SVI):
    """Stochastic variational inference, one step at a time, without a host synchronisation of its own.

    Each step measures the terms, calls ``before_backward`` of the hooks, sums the terms, steps both optimizers on the
    gradients of one backward pass, and calls ``after_step`` of the hooks. Hooks are the objective's terms and the
    callbacks, in this order; an object that is both is called once.

    Args:
        model: The program of p, a torch module.
        guide: The program of q, a torch module. Parameters shared with the model are stepped once.
        optim: Pyro's optimizer for all Euclidean parameters; any ``PyroOptim``.
        loss: The objective.
        manifold_optim: Optimizer of each ``geoopt.ManifoldParameter``, or ``callable(parameters) -> Optimizer``.
        callbacks: Objects with any of ``before_fit(svi, data)``, ``before_backward(svi, step)``,
            ``after_step(svi, step)``, ``record()``, ``after_record(svi, row)``, ``after_fit(run, data)``,
            ``state_dict()`` and ``load_state_dict(state)``. One with ``observes = True`` only watches: it has no state,
            and a run may be resumed with or without it.

    Attributes:
        index: Steps taken.
        elbo: The objective.
        parameters: The tensors trained, each once, Euclidean before manifold.

    Raises:
        ArgumentError: For programs that are no modules, an objective that is no ``TermELBO``, or parameters on a
            manifold without a ``manifold_optim`` (or the reverse).

    Example:
        >>> method = vae((1, 8, 8))
        >>> svi = SVI(method.model, method.guide, pyro.optim.Adam({"lr": 1e-3}), TermELBO())
        >>> losses = [svi.step(torch.rand(16, 1, 8, 8)) for step in range(3)]  # 0-dim tensors on the device
        >>> svi.index
        3
    """

    def __init__(
        self,
        model: nn.Module,
        guide: nn.Module,
        optim: PyroOptim,
        loss: TermELBO,
        *,
        manifold_optim: ManifoldOptim | None = None,
        callbacks: Iterable[Any] = (),
    ) -> None:
        check_programs(model, guide)
        if not isinstance(loss, TermELBO):
            raise ArgumentError("loss", got=loss, expected="a TermELBO")
        if not isinstance(optim, PyroOptim):
            raise ArgumentError(
                "optim", got=optim, expected="a pyro.optim.PyroOptim, such as pyro.optim.Adam({'lr': ..})"
            )
        super().__init__(model, guide, optim, loss)
        self.elbo, self.index = loss, 0
        self.callbacks = list(callbacks)
        names = named_parameters(model, guide)
        self._names = {p: name for name, p in names.items()}
        # By attribute: importing geoopt costs a second, and most pairs have no manifold.
        manifold = [p for p in names.values() if hasattr(p, "manifold")]
        self._euclidean = [p for p in names.values() if not hasattr(p, "manifold")]
        self.parameters = self._euclidean + manifold
        if not self.parameters:
            raise ArgumentError("model, guide", got="no parameters", expected="something to train")
        for p in self.parameters:
            p.grad = None  # of something else
        if isinstance(optim, JointOptim):
            optim.restrict(self._euclidean)
        if bool(manifold) != (manifold_optim is not None):
            what = "parameters on a manifold" if manifold else "no parameter on a manifold"
            hint = "Use for instance ppl_disent.manifold.optimizer('cayley_adam', lr=1e-4)." if manifold else ""
            raise ArgumentError("manifold_optim", got=manifold_optim, expected=f"to fit a pair with {what}", hint=hint)
        if manifold_optim is not None and not isinstance(manifold_optim, torch.optim.Optimizer):
            manifold_optim = manifold_optim(manifold)
        self.manifold_optim: torch.optim.Optimizer | None = manifold_optim

    @property
    def hooks(self) -> list[Any]:
        """The objective's terms, then the callbacks, each once."""
        everything = [term for _, term in self.elbo.terms.values()] + self.callbacks
        return list({id(hook): hook for hook in everything}.values())

    @property
    def acting(self) -> list[Any]:
        """The hooks without those that only observe: what a resumed run must share."""
        return [hook for hook in self.hooks if not getattr(hook, "observes", False)]

    def call_hooks(self, name: str, *args: Any) -> None:
        """Calls the method ``name`` of every hook that has one."""
        for hook in self.hooks:
            if (method := getattr(hook, name, None)) is not None:
                method(*args)

    def step(self, *batch: Tensor) -> Tensor:
        """One optimisation step on one batch.

        Returns:
            The loss before the step: a detached 0-dim tensor on the device, nats per datum.
        """
        self.index += 1
        step = self.elbo.measure(self.model, self.guide, *batch, index=self.index)
        self.call_hooks("before_backward", self, step)
        step.loss = self.elbo.combine(step)
        step.loss.backward()
        self._step_optimizers()
        self.call_hooks("after_step", self, step)
        return step.loss.detach()

    def _step_optimizers(self) -> None:
        # A parameter that this batch did not use has no gradient; stock Pyro would not step it either.
        live = [p for p in self._euclidean if p.grad is not None]
        if live:
            if all(p in self.optim.optim_objs for p in live):
                self.optim(live)
            else:
                with self._named_in_store():
                    self.optim(live)
        if self.manifold_optim is not None:
            self.manifold_optim.step()
        for p in self.parameters:
            p.grad = None

    def _named_in_store(self) -> Any:
        """A param store that knows our names: a per-parameter ``PyroOptim`` asks it for them when it meets a tensor."""
        params = {name: p for p, name in self._names.items()}
        constraints = dict.fromkeys(params, torch.distributions.constraints.real)
        return pyro.get_param_store().scope({"params": params, "constraints": constraints})

    def state_dict(self) -> dict[str, Any]:
        """Everything that the next step depends on, but the random state and the data: tensors and plain values."""
        with self._named_in_store():
            optim = self.optim.get_state()
        return {
            "index": self.index,
            "model": self.model.state_dict(),
            "guide": self.guide.state_dict(),
            "optim": optim,
            "manifold_optim": None if self.manifold_optim is None else self.manifold_optim.state_dict(),
            "kl_scale": self.elbo.kl_scale,
            "hooks": [hook.state_dict() if hasattr(hook, "state_dict") else None for hook in self.acting],
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restores ``state_dict()`` into programs, optimizers and hooks of the same make.

        Raises:
            RuntimeError, KeyError, ValueError: As torch raises them for parts of another make.
        """
        self.model.load_state_dict(state["model"])
        self.guide.load_state_dict(state["guide"])
        if not isinstance(self.optim, JointOptim):
            self.optim.optim_objs.clear()  # a PyroOptim restores only those of tensors that it has not seen
        self.optim.set_state(state["optim"])
        if self.manifold_optim is not None:
            self.manifold_optim.load_state_dict(state["manifold_optim"])
        for site, value in state["kl_scale"].items():
            self.elbo.kl_scale[site].copy_(value)
        for hook, hook_state in zip(self.acting, state["hooks"], strict=True):
            if hook_state is not None:
                hook.load_state_dict(hook_state)
        self.index = state["index"]


def named_parameters(model: nn.Module, guide: nn.Module) -> dict[str, Tensor]:
    """The tensors a pair trains, each once, under the names of Pyro's param store (see :func:`pyro_pair`)."""
    named: dict[Tensor, str] = {}
    for program, module in (("model", model), ("guide", guide)):
        for name, p in module.named_parameters():
            if p.requires_grad:
                named.setdefault(p, f"{program}$$${name}")
    return {name: p for p, name in named.items()}


def check_programs(model: object, guide: object) -> None:
    """Raises :class:`ArgumentError` unless both are torch modules."""
    for name, program in (("model", model), ("guide", guide)):
        if not isinstance(program, nn.Module):
            raise ArgumentError(
                name, got=program, expected="a torch.nn.Module", hint="Put pyro.sample into the forward of a module."
            )


def pyro_pair(model: nn.Module, guide: nn.Module) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """The same two programs for Pyro's own ``SVI``, registered in its param store as ``model`` and ``guide``.

    Pyro's ``SVI`` trains only what its store has seen; plain modules are unknown to it.

    Returns:
        ``(model, guide)``: two functions to be passed to ``pyro.infer.SVI``.

    Raises:
        ArgumentError: If the store would silently train something else: a non-contiguous parameter (it keeps a copy),
            or a name that already stands for another tensor (it keeps that one).

    Example:
        >>> method = vae((1, 8, 8))
        >>> programs = pyro_pair(method.model, method.guide)
        >>> svi = pyro.infer.SVI(*programs, pyro.optim.Adam({"lr": 1e-3}), method.elbo)
        >>> loss = svi.step(torch.rand(16, 1, 8, 8))
    """
    check_programs(model, guide)
    check_contiguous(named_parameters(model, guide))

    def registered(name: str, program: nn.Module) -> Callable[..., Any]:
        def call(*batch: Tensor) -> Any:
            pyro.module(name, program)
            return program(*batch)

        return call

    store = pyro.get_param_store()
    known = dict(store._params)
    taken = [
        f"{name}$$${n}"
        for name, program in (("model", model), ("guide", guide))
        for n, p in program.named_parameters()
        if known.get(f"{name}$$${n}", p) is not p
    ]
    if taken:
        raise ArgumentError(
            "pyro's param store",
            got=taken,
            expected="none of these names, or the same tensors",
            hint="Call pyro.clear_param_store() first.",
        )
    return registered("model", model), registered("guide", guide)


def check_contiguous(parameters: dict[str, Tensor]) -> None:
    """Raises :class:`ArgumentError` for parameters that Pyro's store would copy instead of train."""
    if odd := [name.replace("$$$", ".") for name, p in parameters.items() if not p.is_contiguous()]:
        raise ArgumentError(
            "parameters", got=odd, expected="contiguous tensors", hint="Build them from tensor.contiguous()."
        )
