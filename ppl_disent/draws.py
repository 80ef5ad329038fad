# Copyright ppl-disent contributors.
# SPDX-License-Identifier: Apache-2.0
"""Draws of a pair and what there is to say of each: made a few at a time, and put where they belong."""

from __future__ import annotations

import inspect
import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from pyro import poutine
from pyro.poutine import Trace
from pyro.poutine.messenger import Messenger
from torch import Tensor

from ppl_disent.errors import ArgumentError, SiteError
from ppl_disent.pair import Pair, Unobserved, computed, log_density
from ppl_disent.sites import latents, samples

DENSITIES = ("log_likelihood", "sample_stats")
PREDICTIVE = ("posterior_predictive", "prior_predictive")
DATA = ("observed_data", "constant_data")
GROUPS = ("posterior", "prior", *DENSITIES, *PREDICTIVE, *DATA)
# {group: {variable: (names of its axes, values)}}
Groups = dict[str, dict[str, tuple[list[str], npt.NDArray[Any]]]]


@dataclass
class Answer:
    """A variable of a group at some rows, each a draw for a datum: ``(rows, *shape)``; ``shape`` if not ``local``."""

    group: str
    name: str
    value: Tensor
    local: bool = True

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one draw for one datum."""
        return tuple(self.value.shape[self.local :])

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of what is kept: draws need no more than float32, differences of log densities do."""
        keep = self.group in DATA + DENSITIES or not self.value.is_floating_point()
        return torch.empty(0, dtype=self.value.dtype if keep else torch.float32).numpy().dtype

    def dims(self, given: Mapping[str, Sequence[str]]) -> list[str]:
        """The names of the axes."""
        k = len(self.shape)
        own = [f"{self.name}_dim"] if k == 1 else [f"{self.name}_dim_{i}" for i in range(k)]
        if k == 3 and self.group not in ("posterior", "prior"):
            own = ["channel", "row", "column"]
        elif k == 1 and self.group == "constant_data":
            own = ["attribute"]
        if self.group not in DENSITIES:
            own = list(given.get(self.name, own))
        if len(own) != k:
            raise ArgumentError(f"dims[{self.name!r}]", got=own, expected=f"{k} names")
        drawn = [] if self.group in DATA else ["chain", "draw"]
        return drawn + ["datum"] * self.local + own


def collect(
    pair: Pair,
    batch: tuple[Tensor, ...],
    *,
    draws: int,
    predictive: int | None,
    groups: Collection[str] | None,
    dims: Mapping[str, Sequence[str]],
    memory: float,
    rows: int,
) -> Groups:
    """The variables of the groups asked for, within ``pair.quiet()``; see :meth:`ppl_disent.Posterior.to_arviz`."""
    for name, value in (("draws", draws), ("predictive", 1 if predictive is None else predictive), ("rows", rows)):
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise ArgumentError(name, got=value, expected="an integer of at least 1")
    if predictive is not None and predictive > draws:
        raise ArgumentError("predictive", got=predictive, expected=f"at most draws = {draws}")
    wanted = set(GROUPS if groups is None else groups)
    if not wanted or not wanted <= set(GROUPS):
        raise ArgumentError("groups", got=groups, expected=f"some of {GROUPS}")
    pair.check(batch)
    n = len(batch[0])
    every = torch.arange(n, device=pair.device)
    some = every[:7]
    trace = poutine.trace(pair.at_rows(some).guide).get_trace(*(field[some] for field in batch))
    # What all data share, or what knows how many they are, has to be drawn for all of them at a time.
    apart = all(_local(site, len(some)) for site in latents(trace).values())
    parts = every.split(rows) if apart else (every,)
    plan = list(_answers(pair, batch, some if apart else every, 1, wanted))
    if unknown := dims.keys() - {a.name for a in plan}:
        raise ArgumentError("dims", got=sorted(unknown), expected=f"some of {sorted({a.name for a in plan})}")

    def shape(a: Answer, few: int) -> tuple[int, ...]:
        drawn = () if a.group in DATA else (1, few if a.group in PREDICTIVE else draws)
        return (*drawn, *[n] * a.local, *a.shape)

    def size(few: int) -> int:
        return sum(math.prod(shape(a, few)) * a.dtype.itemsize for a in plan)

    few = predictive or draws
    if predictive is None and size(draws) > memory and size(1) > size(0):
        few = max(1, int((memory - size(0)) / (size(1) - size(0))))
    if size(few) > memory:
        hint = "Ask for fewer data, draws=, predictive= draws or groups=; or allow more."
        raise ArgumentError("memory", got=memory, expected=f"the {size(few)} bytes of what is asked for", hint=hint)
    kept = {(a.group, a.name): np.empty(shape(a, few), a.dtype) for a in plan}
    for part in parts:
        at = slice(int(part[0]), int(part[-1]) + 1)
        many = max(1, rows // len(part)) if apart else 1
        for first in range(0, draws, many):
            count = min(many, draws - first)
            for a in _answers(pair, batch, part.repeat(count), max(0, min(count, few - first)) * len(part), wanted):
                values, array = a.value.cpu().numpy(), kept[a.group, a.name]
                if a.group in DATA:
                    array[at] = values[: len(part)]
                elif a.local:
                    values = values.reshape(-1, len(part), *a.shape)
                    array[0, first : first + len(values), at] = values
                else:
                    array[0, first] = values
    found: Groups = {}
    for a in plan:
        found.setdefault(a.group, {})[a.name] = (a.dims(dims), kept[a.group, a.name])
    return found


def _answers(
    pair: Pair, batch: tuple[Tensor, ...], index: Tensor, few: int, wanted: Collection[str]
) -> Iterator[Answer]:
    """What there is to say of a draw for each of the rows ``index`` of a batch; predictions for the first ``few``."""
    rows, own = len(index), tuple(field[index] for field in batch)
    guide_trace, trace = pair.at_rows(index).traces(own)
    seen = [name for name, site in samples(trace).items() if site["is_observed"] and not computed(site)]
    hidden = [name for name in samples(trace) if name not in seen]

    def values(group: str, trace: Trace) -> Iterator[Answer]:
        if group in wanted:
            for name in hidden:
                yield Answer(group, name, trace.nodes[name]["value"], _local(trace.nodes[name], rows))
        if (predictive := f"{group}_predictive") in wanted and few:
            given = {name: trace.nodes[name]["value"] for name in hidden if not computed(trace.nodes[name])}
            given = {name: v[:few] if _local(trace.nodes[name], rows) else v for name, v in given.items()}
            # In this order: a condition inside of `Unobserved` would be forgotten.
            model = poutine.condition(Unobserved()(pair.model), data=given)
            drawn = poutine.trace(model).get_trace(*(field[:few] for field in own))
            for name in seen:
                yield Answer(predictive, name, drawn.nodes[name]["value"])

    yield from values("posterior", trace)
    if {"prior", "prior_predictive"} & set(wanted):
        prior = poutine.trace(Until(hidden[-1])(Unobserved()(pair.model)))
        with suppress(Until.Reached):
            prior(*own)
        yield from values("prior", prior.msngr.trace)
    if "log_likelihood" in wanted:
        yield from (Answer("log_likelihood", name, log_density(trace, name, rows).double()) for name in seen)
    if "sample_stats" in wanted:
        terms = {"log_lik": _total(trace, seen, rows)}
        terms["log_prior"] = _total(trace, latents(trace), rows)
        terms["log_q"] = _total(guide_trace, latents(guide_trace), rows)
        for name, parts, sign in (("lp", ("log_lik", "log_prior"), 1), ("log_weight", ("lp", "log_q"), -1)):
            first, second = (terms[part] for part in parts)
            terms[name] = None if first is None or second is None else first + sign * second
        yield from (Answer("sample_stats", name, term) for name, term in terms.items() if term is not None)
    if "observed_data" in wanted:
        yield from (Answer("observed_data", name, trace.nodes[name]["value"]) for name in seen)
    if "constant_data" in wanted:
        for name, field in zip(_field_names(pair, len(own)), own):
            if name not in seen and all(trace.nodes[other]["value"] is not field for other in seen):
                yield Answer("constant_data", name, field)


def _total(trace: Trace, names: Collection[str], rows: int) -> Tensor | None:
    """The sum of log densities of sites for each datum; None where one of them has none."""
    try:
        return torch.stack([log_density(trace, name, rows).double() for name in names]).sum(0)
    except SiteError:
        return None


def _field_names(pair: Pair, count: int) -> list[str]:
    """What the model calls the fields of a batch."""
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    names = [p.name for p in inspect.signature(pair.model.forward).parameters.values() if p.kind in kinds]
    return [names[i] if i < len(names) else f"field_{i}" for i in range(count)]


class Until(Messenger):
    """Ends a program after a site, so that what comes after it is not computed."""

    class Reached(Exception):
        """The program has come to the site."""

    def __init__(self, site: str) -> None:
        super().__init__()
        self.site = site

    def _pyro_post_sample(self, msg: Any) -> None:
        if msg["name"] == self.site:
            raise self.Reached


def _local(site: Any, rows: int) -> bool:
    """Whether a site has a value for each of the rows."""
    value = site["value"]
    plated = any(frame.size == rows for frame in site["cond_indep_stack"]) or site["fn"].batch_shape[:1] == (rows,)
    return plated and value.dim() > 0 and len(value) == rows
