# Copyright ppl-disent contributors.
# SPDX-License-Identifier: Apache-2.0
"""bfloat16 inside of the networks only: distributions, objective and optimizers keep the programs' own dtype."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map

PRECISIONS = ("float32", "bfloat16", "auto")


def resolved(precision: str, device: torch.device) -> str:
    """``"auto"`` is bfloat16 where the processor has instructions for it, else float32."""
    if precision != "auto":
        return precision
    if device.type == "cuda":
        native = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        known = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
        native = known.get("avx512_bf16", False) or known.get("amx_bf16", False)
    return "bfloat16" if native else "float32"


@contextmanager
def lowered(programs: tuple[nn.Module, ...], precision: str, device: torch.device) -> Iterator[None]:
    """Runs the networks of ``programs`` under autocast; their outputs come back in the programs' dtype.

    A network is a module that a program holds, directly or in a ``ModuleDict`` or ``ModuleList``. Convolutions are
    channels-last meanwhile, which is where bfloat16 kernels are fast.
    """
    with ExitStack() as stack:
        if precision == "bfloat16":
            networks = {id(net): net for program in programs for net in _networks(program)}
            for net in networks.values():
                net.forward = _autocast(net.forward, device.type)
                stack.callback(delattr, net, "forward")
                if any(isinstance(layer, (nn.Conv2d, nn.ConvTranspose2d)) for layer in net.modules()):
                    net.to(memory_format=torch.channels_last)
                    stack.callback(net.to, memory_format=torch.contiguous_format)
        yield


def _networks(module: nn.Module) -> Iterator[nn.Module]:
    for child in module.children():
        if isinstance(child, (nn.ModuleDict, nn.ModuleList)):
            yield from _networks(child)
        else:
            yield child


def _autocast(forward: Callable[..., Any], device_type: str) -> Callable[..., Any]:
    def widen(value: Any) -> Any:
        return value.float() if isinstance(value, Tensor) and value.dtype == torch.bfloat16 else value

    def call(*args: Any, **kwargs: Any) -> Any:
        with torch.autocast(device_type, torch.bfloat16):
            result = forward(*args, **kwargs)
        return tree_map(widen, result)

    return call
