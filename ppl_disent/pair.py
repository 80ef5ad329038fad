# Copyright ppl-disent contributors.
# SPDX-License-Identifier: Apache-2.0
"""A model and a guide as they are run to answer a question: quietly, and leaving no trace of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import pyro
import torch
from pyro import poutine
from pyro.distributions import Distribution
from pyro.poutine import Trace
from pyro.poutine.messenger import Messenger
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
    def quiet(self) -> Iterator[None]:
        """Without gradient, in eval mode, without validation, with a param store of its own; all of it restored."""
        modules = [m for program in (self.model, self.guide) for m in program.modules()]
        modes = [m.training for m in modules]
        self.model.eval()
        self.guide.eval()
        try:
            # A store of its own: a PyroParam takes the value of whatever bears its name in the global one.
            with torch.no_grad(), pyro.validation_enabled(False), pyro.get_param_store().scope():
                yield
        finally:
            for module, training in zip(modules, modes):
                module.training = training

    def guide_at_mean(self, batch: tuple[Tensor, ...]) -> Trace:
        """A trace of the guide in which each latent site has its mean (a draw where that is not known)."""
        batch = self.data(batch)
        self.shapes = self.shapes or tuple((tuple(t.shape[1:]), t.dtype) for t in batch)
        return poutine.trace(AtMean()(self.guide)).get_trace(*batch)

    def means(self, batch: tuple[Tensor, ...]) -> dict[str, Tensor]:
        """The guide's mean of each latent site of the model, ``{site: (n, ...)}``."""
        return values_of(self.guide_at_mean(batch))

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
        """The batch where the programs are.

        Raises:
            ArgumentError: For no batch, or fields of different lengths.
        """
        batch = self.on_device(batch)
        if len({len(field) for field in batch}) != 1:
            got = [tuple(field.shape) for field in batch] or "nothing"
            raise ArgumentError("batch", got=got, expected="the tensors that the guide takes, of one length")
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
def seeded(seed: int) -> Iterator[None]:
    """Draws within are those of a seed; afterwards torch's generators are as they were.

    They are not those of ``torch.manual_seed(seed)``: data made with it would be correlated with them.
    """
    check_whole(0, seed=seed)
    own = int(np.random.SeedSequence((seed, 1)).generate_state(1, np.uint64)[0]) >> 1
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        torch.manual_seed(own)
        yield


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


def values_of(trace: Trace) -> dict[str, Tensor]:
    """The values of a trace's latent sites, without those that only an autoguide has."""
    return {name: site["value"] for name, site in latents(trace).items() if not site["infer"].get("is_auxiliary")}
