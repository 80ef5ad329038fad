# Copyright ppl-disent contributors.
# SPDX-License-Identifier: Apache-2.0
"""A model and a guide as they are run to answer a question: quietly, and leaving no trace of it."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

import numpy as np
import pyro
import torch
from pyro import poutine
from pyro.distributions import Delta, Distribution
from pyro.poutine import Trace
from pyro.poutine.messenger import Messenger
from pyro.poutine.uncondition_messenger import UnconditionMessenger
from pyro.poutine.util import site_is_subsample
from torch import Tensor, nn

from ppl_disent.errors import ArgumentError, SiteError, check_whole
from ppl_disent.sites import latents, takes_conditions
from ppl_disent.svi import check_programs

Shapes = Sequence[tuple[tuple[int, ...], torch.dtype]]


class Pair:
    """Two programs, and what every question to them begins with. The methods but ``quiet`` are called within it.

    Args:
        model: The program of p.
        guide: The program of q.
        shapes: Shape and dtype of each batch field for one datum; otherwise those of the first batch asked about.
    """

    def __init__(self, model: nn.Module, guide: nn.Module, *, shapes: Shapes | None = None) -> None:
        check_programs(model, guide)
        self.model, self.guide, self.shapes = model, guide, shapes

    @contextmanager
    def quiet(self, seed: int | None = None) -> Iterator[None]:
        """Without gradient, in eval mode, without validation, with a param store of its own; all of it restored.

        With a seed, random numbers are those from it on, and the random state is restored too.
        """
        modules = [m for program in (self.model, self.guide) for m in program.modules()]
        modes = [m.training for m in modules]
        self.model.eval()
        self.guide.eval()
        try:
            # A store of its own: a PyroParam takes the value of whatever bears its name in the global one.
            drawn = nullcontext() if seed is None else seeded(apart(seed), self.device)
            with torch.no_grad(), pyro.validation_enabled(False), pyro.get_param_store().scope(), drawn:
                yield
        finally:
            for module, training in zip(modules, modes):
                module.training = training

    def guide_at_mean(self, batch: tuple[Tensor, ...]) -> Trace:
        """A trace of the guide in which each latent site has its mean (a draw where that is not known)."""
        batch = self.on_device(batch)
        _check_lengths(batch)
        self.shapes = self.shapes or shapes_of(batch)
        return poutine.trace(AtMean()(self.guide)).get_trace(*batch)

    def means(self, batch: tuple[Tensor, ...]) -> dict[str, Tensor]:
        """The guide's mean of each latent site of the model, ``{site: (n, ...)}``."""
        return values_of(self.guide_at_mean(batch))

    def check(self, batch: tuple[Tensor, ...]) -> None:
        """Raises :class:`ArgumentError` for a batch that the programs cannot take; remembers the first one's shapes."""
        _check_lengths(batch)
        for program in (self.model, self.guide):
            taken = inspect.signature(program.forward)
            try:
                taken.bind(*batch)
            except TypeError:
                expected = f"what {type(program).__name__} takes: {taken}"
                raise ArgumentError("batch", got=f"{len(batch)} fields", expected=expected) from None
        for i, (field, (shape, _)) in enumerate(zip(batch, self.shapes or ())):
            if field.shape[1:] != shape:
                expected = f"(n, {', '.join(map(str, shape))})"
                raise ArgumentError(f"batch[{i}]", got=tuple(field.shape), expected=expected)
        self.shapes = self.shapes or shapes_of(batch)

    def at_rows(self, index: Tensor) -> Pair:
        """The pair for the rows ``index`` of a batch, which may be repeated.

        It is another one only for a guide that knows its data by their place: such a guide has ``at_rows(index)``.
        """
        own = getattr(self.guide, "at_rows", None)
        return self if own is None else Pair(self.model, own(index), shapes=self.shapes)

    def traces(self, batch: tuple[Tensor, ...]) -> tuple[Trace, Trace]:
        """A draw of the guide for each datum, and the model at it."""
        guide_trace = poutine.trace(self.guide).get_trace(*batch)
        return guide_trace, poutine.trace(poutine.replay(self.model, trace=guide_trace)).get_trace(*batch)

    def decode(self, model: Any, batch: tuple[Tensor, ...], sites: dict[str, Tensor]) -> Distribution:
        """The distribution of x in the model, or the model under handlers, at latent values.

        Raises:
            SiteError: For a site that the model does not have.
        """
        trace = poutine.trace(poutine.condition(model, data=sites)).get_trace(*batch)
        known = {n: s for n, s in trace.nodes.items() if s["type"] == "sample" and not site_is_subsample(s)}
        if unknown := sites.keys() - known.keys():
            raise SiteError(f"no site {sorted(unknown)} in the model; there are {sorted(known)}.")
        return known[self._observed(trace, sites)]["fn"]

    def _observed(self, trace: Trace, sites: dict[str, Tensor]) -> str:
        """The site that is decoded: ``x``, or the only one observed."""
        if "x" in trace.nodes:
            return "x"
        plain = poutine.trace(self.model).get_trace(*self.blank(1))
        observed = [n for n, s in plain.nodes.items() if s["type"] == "sample" and s["is_observed"]]
        if len(observed) != 1:
            raise SiteError(f"which site is decoded? Name it 'x'; the observed ones are {observed}.")
        return observed[0]

    def generated(self, n: int, conditions: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """A batch for a model that draws x: zeros, and conditions of which there may be none if it looks at none.

        Raises:
            ArgumentError: For other conditions than it takes.
        """
        blank = self.blank(n)
        wanted = {len(blank) - 1} | ({0} if not takes_conditions(self.model) else set())
        if len(conditions) not in wanted or any(len(c) != n for c in conditions):
            got = [tuple(c.shape) for c in conditions]
            expected = f"{len(blank) - 1} tensors of length {n}: what the model takes beside x"
            raise ArgumentError("conditions", got=got, expected=expected)
        return (*blank[: len(blank) - len(conditions)], *self.on_device(conditions))

    def blank(self, n: int) -> tuple[Tensor, ...]:
        """A batch of n data that are zero, for a model that is run without data."""
        if self.shapes is None:
            raise ArgumentError(
                "batch", got="nothing", expected="a batch", hint="Or make Posterior(model, guide, shapes=...)."
            )
        device = self.device
        return tuple(torch.zeros(n, *shape, dtype=dtype, device=device) for shape, dtype in self.shapes)

    @property
    def device(self) -> torch.device:
        """Where the programs are."""
        tensors = (t for program in (self.model, self.guide) for t in (*program.parameters(), *program.buffers()))
        return next((t.device for t in tensors), torch.device("cpu"))

    def data(self, batch: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """The batch where the programs are, for a question that runs both on it.

        Raises:
            ArgumentError: For a batch that they cannot take.
        """
        batch = self.on_device(batch)
        self.check(batch)
        return batch

    def on_device(self, batch: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """The batch where the programs are.

        Raises:
            ArgumentError: For what is no tensor with the batch first.
        """
        return tuple(self.on_device_dict({f"batch[{i}]": t for i, t in enumerate(batch)}).values())

    def on_device_dict(self, sites: dict[str, Tensor]) -> dict[str, Tensor]:
        """Likewise, by name."""
        for name, value in sites.items():
            if not isinstance(value, Tensor) or value.dim() < 1:
                raise ArgumentError(name, got=value, expected="a tensor with the batch first")
        return {name: value.to(self.device) for name, value in sites.items()}


@contextmanager
def seeded(seed: int, device: torch.device) -> Iterator[None]:
    """Random numbers from a seed on; the random state is as before afterwards.

    Raises:
        ArgumentError: For what is no seed.
    """
    if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed < 2**63:
        raise ArgumentError("seed", got=seed, expected="an integer from 0 to 2^63 - 1")
    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices):
        torch.default_generator.manual_seed(seed)
        if devices:
            with torch.cuda.device(device):
                torch.cuda.manual_seed(seed)
        yield


def apart(seed: int) -> int:
    """Another seed: draws that begin with ``seed`` itself would repeat the noise of data that were made with it."""
    check_whole(0, seed=seed)
    return int(np.random.SeedSequence((seed, 1)).generate_state(1, np.uint64)[0]) >> 1


class Unobserved(UnconditionMessenger):
    """Draws what is observed. Pyro's own would draw what is computed too, in a shape with the plates' sizes."""

    def _pyro_sample(self, msg: Any) -> None:
        if not computed(msg):
            super()._pyro_sample(msg)


def computed(site: Any) -> bool:
    """Whether a site is a ``pyro.deterministic`` one."""
    return bool(site["infer"].get("_deterministic"))


class AtMean(Messenger):
    """Gives every latent site its mean instead of a draw (a draw where the mean is not known)."""

    def _pyro_sample(self, msg: Any) -> None:
        if msg["is_observed"] or msg["value"] is not None or site_is_subsample(msg):
            return
        try:
            msg["value"] = msg["fn"].mean
        except NotImplementedError:
            return
        msg["done"] = True


def shapes_of(batch: tuple[Tensor, ...]) -> tuple[tuple[tuple[int, ...], torch.dtype], ...]:
    """Shape and dtype of each batch field for one datum."""
    if not batch or any(t.dim() < 1 for t in batch):
        raise ArgumentError("batch", got=[tuple(t.shape) for t in batch], expected="tensors with the batch first")
    return tuple((tuple(t.shape[1:]), t.dtype) for t in batch)


def _check_lengths(batch: tuple[Tensor, ...]) -> None:
    lengths = [len(field) for field in batch]
    if not batch or min(lengths) < 1 or len(set(lengths)) > 1:
        expected = "the tensors that the guide takes, of one length, at least 1"
        raise ArgumentError("batch", got=lengths or "nothing", expected=expected)


def values_of(trace: Trace) -> dict[str, Tensor]:
    """The values of a trace's latent sites, without those that only an autoguide has."""
    return {name: site["value"] for name, site in latents(trace).items() if not site["infer"].get("is_auxiliary")}


def log_density(trace: Trace, name: str, rows: int) -> Tensor:
    """The log density of a site for each datum, ``(rows,)``.

    Raises:
        SiteError: For a point mass, or where it is not one number for each datum.
    """
    site = trace.nodes[name]
    base = site["fn"]
    while hasattr(base, "base_dist"):
        base = base.base_dist
    # An autoguide's point mass at the image of what it drew has a density: that of the image.
    if isinstance(base, Delta) and not site["is_observed"] and f"{name}_unconstrained" not in trace.nodes:
        raise SiteError(f"{name!r}: a point mass in the guide has no density, so there are no weights.")
    log_p: Tensor = site["fn"].log_prob(site["value"])
    if log_p.shape != (rows,):
        got = tuple(log_p.shape)
        raise SiteError(f"{name!r}: got a log density of shape {got}, expected one number for each datum.")
    return log_p
