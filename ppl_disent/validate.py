# Copyright ppl-disent contributors.
# SPDX-License-Identifier: Apache-2.0
"""The step before the first: everything that can be wrong with a pair and its data, found before any training."""

from __future__ import annotations

import pyro
import torch
from torch import Tensor, nn

from ppl_disent.batches import Batches
from ppl_disent.elbo import Step, TermELBO
from ppl_disent.errors import ArgumentError, DataError, NonFiniteError


def validated_step(model: nn.Module, guide: nn.Module, elbo: TermELBO, batches: Batches) -> Step:
    """Evaluates the objective once with all of Pyro's and our checks, and leaves no trace of it."""
    for i, values in enumerate(batches.tensors or batches.first):
        if values.is_floating_point() and not values.isfinite().all():
            raise DataError(f"data: field {i} of the batch has NaN or infinite values.")
    devices = [t.device for t in batches.first if t.device.type == "cuda"][:1]
    buffers = [(b, b.clone()) for program in (model, guide) for b in program.buffers()]
    with torch.random.fork_rng(devices), pyro.validation_enabled(True):
        try:
            step = elbo.evaluate(model, guide, *batches.first)
        except DataError as error:
            raise DataError(str(error).split("\nTrace Shapes")[0]) from None  # Pyro's addition says nothing here
    with torch.no_grad():
        for buffer, before in buffers:
            buffer.copy_(before)
    _check_params(step, model, guide)
    _check_support(step, batches)
    for name, value in step.named().items():
        if name != "loss" and value.dim():
            raise ArgumentError(name, got=tuple(value.shape), expected="a 0-dim tensor, nats per datum")
        if name != "loss" and not value.isfinite():
            raise NonFiniteError(0, name, value.item(), "Check the data's scale and the networks' initial values.")
    return step


def _check_params(step: Step, model: nn.Module, guide: nn.Module) -> None:
    """``pyro.param`` statements must name parameters of the modules: nothing else is trained, or kept."""
    ours = {id(p) for program in (model, guide) for p in program.parameters()}
    for trace in (step.model_trace, step.guide_trace):
        for name, site in trace.nodes.items() if trace is not None else ():
            if site["type"] == "param" and id(site["value"].unconstrained()) not in ours:
                raise ArgumentError(
                    "model, guide",
                    got=f"a pyro.param statement {name!r}",
                    expected="parameters held by the module",
                    hint="Use torch.nn.Parameter, or pyro.nn.PyroParam in a PyroModule.",
                )


def _check_support(step: Step, batches: Batches) -> None:
    """Observed values must be possible; Bernoulli means grey values in [0, 1] too, as the papers' losses do."""
    assert step.model_trace is not None
    for name, site in step.model_trace.nodes.items():
        if name not in step.log_lik or not isinstance(site["value"], Tensor):
            continue
        base = site["fn"]
        while hasattr(base, "base_dist"):
            base = base.base_dist
        values = site["value"].detach()
        for i, batch_field in enumerate(batches.first):
            if batches.tensors is not None and site["value"] is batch_field:
                values = batches.tensors[i]
        low, high = (float(values.min()), float(values.max())) if values.numel() else (0.0, 0.0)
        if isinstance(base, torch.distributions.Bernoulli):
            possible, expected = low >= 0 and high <= 1, "values in [0, 1]"
        else:
            try:
                possible, expected = bool(base.support.check(site["value"]).all()), f"values in {base.support}"
            except NotImplementedError:
                continue
        if not possible:
            kind = type(base).__name__
            raise DataError(f"{name}: got values from {low:.4g} to {high:.4g}, expected {expected} ({kind}).")
