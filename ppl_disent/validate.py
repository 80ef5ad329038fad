# Copyright ppl-disent contributors.
# SPDX-License-Identifier: Apache-2.0
"""The step before the first: everything that can be wrong with a pair and its data, found before any training."""

from __future__ import annotations

import pyro
import torch
from pyro import poutine
from torch import Tensor, nn

from ppl_disent.batches import Batches
from ppl_disent.elbo import Step, TermELBO
from ppl_disent.errors import ArgumentError, DataError, NonFiniteError, SiteError


def validated_step(model: nn.Module, guide: nn.Module, elbo: TermELBO, batches: Batches) -> Step:
    """Evaluates the objective once with all of Pyro's and our checks, and leaves no trace of it."""
    for i, values in enumerate(batches.tensors or batches.first):
        if values.is_floating_point() and not values.isfinite().all():
            raise DataError(f"data: field {i} of the batch has NaN or infinite values.")
    devices = [t.device for t in batches.first if t.device.type == "cuda"][:1]
    buffers = [(b, b.clone()) for program in (model, guide) for b in program.buffers()]
    owned = [{id(p) for p in program.parameters()} for program in (model, guide)]
    with torch.random.fork_rng(devices), pyro.validation_enabled(True):
        try:
            step = elbo.evaluate(model, guide, *batches.first)
        except DataError as error:
            raise DataError(str(error).split("\nTrace Shapes")[0]) from None  # Pyro's addition says nothing here
        except (ArgumentError, SiteError, NonFiniteError):
            raise
        except (ValueError, RuntimeError) as error:
            _explain(error, model, guide, batches)
            raise
    with torch.no_grad():
        for buffer, before in buffers:
            buffer.copy_(before)
    _check_params(step, model, guide, owned)
    _check_support(step, batches)
    for name, value in step.named().items():
        if name != "loss" and (not isinstance(value, Tensor) or value.dim()):
            got = tuple(value.shape) if isinstance(value, Tensor) else value
            raise ArgumentError(name, got=got, expected="a 0-dim tensor, nats per datum")
        if name != "loss" and not value.isfinite():
            raise NonFiniteError(0, name, value.item(), "Check the data's scale and the networks' initial values.")
    return step


def _explain(error: Exception, model: nn.Module, guide: nn.Module, batches: Batches) -> None:
    """Raises :class:`DataError` if the observed values are what a program's error came from."""
    with pyro.validation_enabled(False):
        try:
            guide_trace = poutine.trace(guide).get_trace(*batches.first)
            model_trace = poutine.trace(poutine.replay(model, trace=guide_trace)).get_trace(*batches.first)
        except Exception:
            return
    observed = {n: s["value"] for n, s in model_trace.nodes.items() if s["type"] == "sample" and s["is_observed"]}
    try:
        _check_support(Step(0, batches.first, {}, observed, model_trace=model_trace), batches)
    except DataError as found:
        raise found from error


def _check_params(step: Step, model: nn.Module, guide: nn.Module, owned: list[set[int]]) -> None:
    """``pyro.param`` statements must name parameters of their own module: nothing else is trained, or kept.

    ``owned`` are those of model and guide before the step: Pyro puts one tensor into both where they share a name.
    """
    ours = {id(p) for program in (model, guide) for p in program.parameters()}
    for trace, own, other in zip((step.model_trace, step.guide_trace), owned, owned[::-1]):
        for name, site in trace.nodes.items() if trace is not None else ():
            if site["type"] != "param":
                continue
            tensor = id(site["value"].unconstrained())
            if tensor in other and tensor not in own:
                raise ArgumentError(
                    "model, guide",
                    got=f"a parameter of each under the name {name!r}",
                    expected="names of their own",
                    hint="Pyro would tie them; name the modules: PyroModule(name='model'), PyroModule(name='guide').",
                )
            if tensor not in ours:
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
        if (made := site["fn"].batch_shape + site["fn"].event_shape) != site["value"].shape:
            given = tuple(site["value"].shape)
            raise DataError(f"{name}: got shape {given}, expected {tuple(made)}, that of the model's distribution.")
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
