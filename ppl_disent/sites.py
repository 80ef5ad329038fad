# Copyright ppl-disent contributors.
# SPDX-License-Identifier: Apache-2.0
"""The sample sites of two programs: which there are, whether they fit together, and over how many data."""

from __future__ import annotations

import inspect
import warnings
from typing import Any

import torch
from pyro.poutine import Trace
from pyro.poutine.util import site_is_subsample
from torch import Tensor, nn

from ppl_disent.errors import SiteError


def samples(trace: Trace) -> dict[str, Any]:
    """The sample sites of a trace, in their order, without those that only choose a subsample."""
    return {n: s for n, s in trace.nodes.items() if s["type"] == "sample" and not site_is_subsample(s)}


def latents(trace: Trace) -> dict[str, Any]:
    """Those that are not observed."""
    return {name: site for name, site in samples(trace).items() if not site["is_observed"]}


def common_latents(model_trace: Trace, guide_trace: Trace) -> dict[str, Any]:
    """The latent sites of a model, ``{name: site of the guide}``; raises :class:`SiteError` if the guide lacks one."""
    q = latents(guide_trace)
    if missing := latents(model_trace).keys() - q.keys():
        raise SiteError(f"latents {sorted(missing)} of the model are missing in the guide.")
    return {name: q[name] for name in latents(model_trace)}


def takes_conditions(model: nn.Module) -> bool:
    """Whether a model may look at more than x: not if its forward names nothing else, as ``(x, *_)``."""
    rest = inspect.Parameter.VAR_POSITIONAL
    kinds = [p.kind for p in inspect.signature(model.forward).parameters.values()]
    return kinds[:1] == [rest] or kinds[1:2] not in ([], [rest])


def data_size(trace: Trace, batch: tuple[Tensor, ...]) -> int:
    """The size of the plate over the data: full where it subsamples, since Pyro then scales log densities up to it."""
    frames = {
        frame.name: frame
        for site in trace.nodes.values()
        if site["type"] == "sample" and site["is_observed"] and not site_is_subsample(site)
        for frame in site["cond_indep_stack"]
    }
    if len(frames) > 1:
        length = len(batch[0]) if batch and isinstance(batch[0], Tensor) and batch[0].dim() else None
        over_batch = [frame for frame in frames.values() if frame.size == length]
        if "data" not in frames and len(over_batch) != 1:
            raise SiteError(f"which plate is over the data? Name it 'data'; the plates are {sorted(frames)}.")
        frames = {"data": frames["data"] if "data" in frames else over_batch[0]}
    for frame in frames.values():
        return frame.full_size or frame.size
    return 1


def check_sites(model_trace: Trace, guide_trace: Trace) -> None:
    """Raises :class:`SiteError` with every way in which the guide does not fit the model."""
    p = latents(model_trace)
    q = {name: site for name, site in latents(guide_trace).items() if not site["infer"].get("is_auxiliary")}
    observed = {n for n, s in model_trace.nodes.items() if s["type"] == "sample" and s["is_observed"]}
    wrong = [f"latent {name!r} of the model is missing in the guide" for name in p.keys() - q.keys()]
    for name in q.keys() - p.keys():
        what = "is observed in the model" if name in observed else "is not in the model"
        wrong.append(f"site {name!r} of the guide {what}")
    for name in p.keys() & q.keys():
        p_fn, q_fn = p[name]["fn"], q[name]["fn"]
        shapes = [tuple(fn.batch_shape) + tuple(fn.event_shape) for fn in (p_fn, q_fn)]
        if shapes[0] != shapes[1]:
            wrong.append(f"site {name!r} has shape {shapes[0]} in the model and {shapes[1]} in the guide")
        elif p_fn.event_dim != q_fn.event_dim:
            wrong.append(f"site {name!r} has event_dim {p_fn.event_dim} in the model and {q_fn.event_dim} in the guide")
        if not q_fn.has_rsample:
            wrong.append(f"site {name!r}: {type(q_fn).__name__} in the guide has no reparametrised sample (rsample)")
        if not torch.equal(torch.as_tensor(p[name]["scale"]), torch.as_tensor(q[name]["scale"])):
            wrong.append(
                f"site {name!r} has poutine.scale {p[name]['scale']} in the model and {q[name]['scale']} in the guide; "
                f"weights belong in TermELBO(kl_scale=...)"
            )
    if not observed:
        wrong.append("the model observes nothing (no site has obs=)")
    elif not any(model_trace.nodes[name]["cond_indep_stack"] for name in observed):
        wrong.append(
            "no observed site is in a plate: put it into pyro.plate('data', len(x)), so that terms are per datum"
        )
    if wrong:
        raise SiteError("model and guide do not match: " + "; ".join(sorted(wrong)) + ".")
    if list(p) != list(q):
        warnings.warn(
            f"the model draws its latents in the order {list(p)}, the guide in {list(q)}: an analytic KL is wrong "
            "where a latent's parents in the model are its descendants in the guide",
            stacklevel=2,
        )
