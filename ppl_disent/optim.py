# Copyright ppl-disent contributors.
# SPDX-License-Identifier: Apache-2.0
"""A Pyro optimizer that steps all tensors together, and the state of any Pyro optimizer."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from pyro.optim import PyroOptim
from torch import Tensor

from ppl_disent.errors import ArgumentError


class JointOptim(PyroOptim):
    """One torch optimizer over all tensors, where Pyro's own ``PyroOptim`` makes one a tensor.

    It can therefore be fused, and clip the norm of the whole gradient.

    Args:
        optim_constructor: A class such as ``torch.optim.Adam``, or ``callable(params, **optim_args) -> Optimizer``.
        optim_args: Its keyword arguments.
        clip_args: ``{"clip_norm": c}`` and/or ``{"clip_value": c}``, applied to all gradients together.

    Raises:
        ArgumentError: For a learning rate that is not a positive number.

    Example:
        >>> optim = JointOptim(torch.optim.Adam, {"lr": 1e-3, "fused": True}, {"clip_norm": 10.0})
        >>> run = vae((1, 8, 8)).fit(load("digits"), steps=3, optim=optim, progress=False)
    """

    def __init__(
        self,
        optim_constructor: Callable[..., torch.optim.Optimizer],
        optim_args: Mapping[str, Any],
        clip_args: Mapping[str, float] | None = None,
    ) -> None:
        super().__init__(optim_constructor, dict(optim_args), dict(clip_args or {}))
        lr = optim_args.get("lr", 1.0)
        if not (isinstance(lr, Tensor) or (isinstance(lr, (int, float)) and 0 < lr < float("inf"))):
            raise ArgumentError("lr", got=lr, expected="a positive number")
        self.optimizer: torch.optim.Optimizer | None = None

    def __call__(self, params: Iterable[Tensor], *args: Any, **kwargs: Any) -> None:
        """Steps ``params`` with their gradients; those not seen before join the optimizer."""
        params = params if isinstance(params, list) else list(params)
        self.include(params)
        assert self.optimizer is not None
        if self.pt_clip_args:
            self._clip_grad(params, **self.pt_clip_args)
        self.optimizer.step(*args, **kwargs)

    def include(self, params: Iterable[Tensor]) -> None:
        """Makes the optimizer know ``params``, without a step."""
        new = [p for p in params if p not in self.optim_objs]
        if not new:
            return
        if self.optimizer is None:
            self.optimizer = self.pt_optim_constructor(new, **self.pt_optim_args)
        else:
            self.optimizer.add_param_group({"params": new})
        self.optim_objs.update(dict.fromkeys(new, self.optimizer))

    def restrict(self, params: Iterable[Tensor]) -> None:
        """Makes the optimizer one of exactly ``params``, all in one group; it forgets what it knew of any others."""
        params = list(params)
        if set(self.optim_objs) - set(params):
            self.optimizer = None
            self.optim_objs.clear()
        self.include(params)

    def get_state(self) -> dict[str, Any]:
        """The torch optimizer's ``state_dict``; empty before the first step."""
        return {} if self.optimizer is None else self.optimizer.state_dict()

    def set_state(self, state_dict: dict[str, Any]) -> None:
        """Restores ``get_state()``; the parameters must be known already (``include``), in the same order."""
        if state_dict:
            if self.optimizer is None:
                raise ArgumentError("state_dict", got="a state", expected="one for parameters included before")
            self.optimizer.load_state_dict(state_dict)


def follow_layout(optim: PyroOptim) -> None:
    """Gives an optimizer's state the strides of its parameters: fused kernels walk both in the order of memory."""
    for optimizer in {id(o): o for o in optim.optim_objs.values()}.values():
        for p, state in getattr(optimizer, "optimizer", optimizer).state.items():
            for key, value in state.items():
                if isinstance(value, Tensor) and value.shape == p.shape and value.stride() != p.stride():
                    state[key] = torch.empty_like(p).copy_(value)


def adam(lr: float) -> JointOptim:
    """Fused Adam over all tensors, the optimizer of the methods here.

    Args:
        lr: Learning rate, positive.

    Example:
        >>> run = vae((1, 8, 8)).fit(load("digits"), steps=3, optim=adam(5e-4), progress=False)
    """
    return JointOptim(torch.optim.Adam, {"lr": lr, "fused": True})


def describe(optim: PyroOptim) -> dict[str, str]:
    """What an optimizer was made with, to compare two runs."""
    constructor = getattr(optim.pt_optim_constructor, "__name__", type(optim.pt_optim_constructor).__name__)
    args = optim.pt_optim_args
    shown = {str(k): repr(v) for k, v in args.items()} if isinstance(args, dict) else {"optim_args": "a function"}
    return {"optim": f"{type(optim).__name__}({constructor})"} | {f"optim.{k}": v for k, v in sorted(shown.items())}
