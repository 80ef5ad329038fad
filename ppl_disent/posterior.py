# Copyright ppl-disent contributors.
# SPDX-License-Identifier: Apache-2.0
"""Questions to a fitted pair, each an effect handler over the same two programs."""

from __future__ import annotations

import operator
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pyro
import torch
from pyro import poutine
from pyro.distributions import Distribution
from pyro.poutine import Trace
from pyro.poutine.messenger import Messenger
from pyro.poutine.util import site_is_subsample
from torch import Tensor, nn

from ppl_disent.errors import ArgumentError, SiteError
from ppl_disent.sites import latents, takes_conditions
from ppl_disent.svi import check_programs

if TYPE_CHECKING:
    from ppl_disent.evidence import Evidence

Shapes = Sequence[tuple[tuple[int, ...], torch.dtype]]


class Posterior:
    """A fitted pair, ready for questions. Every answer is made without gradient and in eval mode; both are restored.

    Batches may be on any device and are moved to the programs'.

    Args:
        model: The program of p.
        guide: The program of q.
        shapes: Shape and dtype of each batch field for one datum, which ``decode`` and ``sample`` need to run the
            model without data; otherwise known from the first batch asked about.

    Example:
        >>> q = run.posterior  # doctest: +SKIP
        >>> codes = q.encode(x)["z"].mean  # (n, latent)  # doctest: +SKIP
    """

    def __init__(self, model: nn.Module, guide: nn.Module, *, shapes: Shapes | None = None) -> None:
        check_programs(model, guide)
        self.model, self.guide, self._shapes = model, guide, shapes

    def encode(self, *batch: Tensor) -> dict[str, Distribution]:
        """q of each latent site given the batch, ``{site: distribution of batch shape (n,)}``.

        Where a site's distribution depends on another latent's value, that value is the mean.
        """
        with self._quiet():
            sites = latents(self._guide_at_mean(batch)).items()
            return {name: site["fn"] for name, site in sites if not site["infer"].get("is_auxiliary")}

    def prior(self, *batch: Tensor) -> dict[str, Distribution]:
        """p of each latent site as the model has it for the batch, ``{site: distribution of batch shape (n,)}``.

        What ``encode`` is compared with for a KL divergence per datum or per coordinate. Where a site's prior depends
        on another latent's value, that value is the guide's mean.
        """
        with self._quiet():
            batch = self._on_device(batch)
            values = _values(self._guide_at_mean(batch))
            trace = poutine.trace(poutine.condition(self.model, data=values)).get_trace(*batch)
            return {name: trace.nodes[name]["fn"] for name in values if name in trace.nodes}

    def decode(self, *batch: Tensor, **sites: Tensor) -> Distribution:
        """p(x | latent values), a distribution of batch shape ``(n,)``.

        Args:
            *batch: Conditions of the model, with or without x itself where it has none; may be left out.
            **sites: ``{site: (n, ...) values}``; sites not given are drawn from the prior.

        Raises:
            SiteError: For a site that the model does not have.
            ArgumentError: Without a batch or a value, or if their lengths differ.
        """
        with self._quiet():
            batch, sites = self._on_device(batch), self._on_device_dict(sites)
            lengths = {len(value) for value in (*batch, *sites.values())}
            if len(lengths) != 1:
                got = sorted(lengths) or "nothing"
                raise ArgumentError("batch, sites", got=got, expected="a batch or latent values, of one length")
            model: Any = self.model
            if len(batch) < (fields := len(self._shapes or [None])):
                if not batch and fields > 1 and takes_conditions(self.model):
                    raise ArgumentError("batch", got="nothing", expected="the conditions of the model, beside x")
                # In this order: a condition inside of `uncondition` would be forgotten.
                blank, model = self._blank(lengths.pop()), poutine.uncondition(self.model)
                batch = (*blank[: fields - len(batch)], *batch)
            return self._decode(model, batch, sites)

    def reconstruct(self, *batch: Tensor) -> Tensor:
        """The mean of p(x | latents) at the guide's means: ``(n, *x_shape)``."""
        with self._quiet():
            batch = self._on_device(batch)
            return self._decode(self.model, batch, _values(self._guide_at_mean(batch))).mean

    def sample(self, n: int, *conditions: Tensor, noise: bool = False) -> Tensor:
        """Images of the model: latents from the prior, then the mean of p(x | latents): ``(n, *x_shape)``.

        Args:
            n: How many.
            *conditions: What the model takes beside x, ``(n, ...)`` tensors.
            noise: Draw x from p(x | latents), rather than its mean.
        """
        if not isinstance(n, int) or n < 1:
            raise ArgumentError("n", got=n, expected="an integer of at least 1")
        with self._quiet():
            blank = self._blank(n)
            wanted = {len(blank) - 1} | ({0} if not takes_conditions(self.model) else set())
            if len(conditions) not in wanted or any(len(c) != n for c in conditions):
                got = [tuple(c.shape) for c in conditions]
                expected = f"{len(blank) - 1} tensors of length {n}: what the model takes beside x"
                raise ArgumentError("conditions", got=got, expected=expected)
            batch = (*blank[: len(blank) - len(conditions)], *self._on_device(conditions))
            p = self._decode(poutine.uncondition(self.model), batch, {})
            return p.sample() if noise else p.mean

    def traverse(
        self, site: str, dim: int, values: Tensor | Sequence[float], *batch: Tensor, units: str = "latent"
    ) -> Tensor:
        """Decodes each datum with one latent coordinate replaced by each of ``values``, all else at the guide's means.

        Args:
            site: A latent site with values of shape ``(n, latent)``.
            dim: The coordinate.
            values: Its values, one-dimensional.
            *batch: The data; without any, all else is at the prior's mean and n is 1.
            units: Of the values: ``"latent"``, as they are, or ``"sd"``, standard deviations of the model's prior.

        Returns:
            Means of p(x | latents), an ``(n, len(values), *x_shape)`` tensor.

        Raises:
            SiteError: For an unknown site.
            ArgumentError: For a ``dim`` that the site does not have, or ``values`` that are no vector.
        """
        with self._quiet():
            if batch:
                batch = self._on_device(batch)
                at_mean = _values(self._guide_at_mean(batch))
            else:
                batch = self._blank(1)
                at_mean = _values(poutine.trace(_AtMean()(self.model)).get_trace(*batch))
            if site not in at_mean:
                raise SiteError(f"no latent site {site!r}; there are {sorted(at_mean)}.")
            at = at_mean[site]
            asked, whole = dim, hasattr(dim, "__index__") and not isinstance(dim, bool)
            dim = operator.index(dim) if whole else -1
            if at.dim() != 2 or not whole or not -at.shape[1] <= dim < at.shape[1]:
                raise ArgumentError(
                    "dim", got=asked, expected=f"a coordinate of {site!r}, which has {tuple(at.shape[1:])}"
                )
            row = torch.as_tensor(values, dtype=at.dtype, device=at.device)
            if row.dim() != 1 or not len(row):
                raise ArgumentError("values", got=values, expected="a vector of at least one value")
            if units not in ("latent", "sd"):
                raise ArgumentError("units", got=units, expected="'latent' or 'sd'")
            n, m = len(at), len(row)
            repeated = {name: value.repeat_interleave(m, 0) for name, value in at_mean.items()}
            repeated[site][:, dim] = row.repeat(n)
            if units == "sd":
                trace = poutine.trace(poutine.condition(self.model, data=at_mean)).get_trace(*batch)
                repeated[site][:, dim] *= trace.nodes[site]["fn"].stddev[:, dim].repeat_interleave(m)
            many = tuple(field.repeat_interleave(m, 0) for field in batch)
            return self._decode(self.model, many, repeated).mean.unflatten(0, (n, m))

    def swap(self, site: str, batch: Sequence[Tensor], donor: Sequence[Tensor]) -> Distribution:
        """p(x | latents) of ``batch`` with one site taken from ``donor``, all else at the guide's means.

        For CSVAE's ``w_i`` this is attribute transfer; a condition, such as CVAE's y, is no site and is changed by
        ``decode(x, y_new, z=codes)``.

        Args:
            site: A latent site.
            batch: The fields that the guide takes, n data.
            donor: The same fields, of n data or of one.

        Returns:
            A distribution of batch shape ``(n,)``.

        Raises:
            SiteError: For an unknown site.
            ArgumentError: For a batch or donor that is no tuple of tensors, or a donor of another length.
        """
        for name, fields in (("batch", batch), ("donor", donor)):
            if not isinstance(fields, (tuple, list)):
                raise ArgumentError(name, got=fields, expected="a tuple of the tensors that the guide takes")
        with self._quiet():
            batch = self._on_device(tuple(batch))
            sites = _values(self._guide_at_mean(batch))
            if site not in sites:
                raise SiteError(f"no latent site {site!r}; there are {sorted(sites)}.")
            given, own = _values(self._guide_at_mean(tuple(donor)))[site], sites[site]
            if len(given) not in (1, len(own)):
                raise ArgumentError("donor", got=f"{len(given)} data", expected=f"{len(own)}, as in batch, or one")
            sites[site] = given.expand_as(own)
            return self._decode(self.model, batch, sites)

    def log_evidence(self, *batch: Tensor, particles: int = 1000, rows: int = 10_000) -> Evidence:
        """log p(x) of each datum, given y where the model takes it, by importance sampling from the guide.

        Args:
            *batch: The fields that the guide takes, n data.
            particles: Draws for each datum.
            rows: Data times particles at a time, which bounds the memory.

        Raises:
            SiteError: For a latent without a density for each datum: a point mass, or one that all data share.
            ArgumentError: For a number below 1.

        References:
            Importance Weighted Autoencoders (Burda et al., 2016), https://arxiv.org/abs/1509.00519
        """
        from ppl_disent.evidence import log_evidence

        with self._quiet():
            return log_evidence(self.model, self.guide, self._on_device(batch), particles, rows)

    @contextmanager
    def _quiet(self) -> Iterator[None]:
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

    def _guide_at_mean(self, batch: tuple[Tensor, ...]) -> Trace:
        batch = self._on_device(batch)
        if not batch:
            raise ArgumentError("batch", got="nothing", expected="the tensors that the guide takes")
        self._shapes = self._shapes or tuple((tuple(t.shape[1:]), t.dtype) for t in batch)
        return poutine.trace(_AtMean()(self.guide)).get_trace(*batch)

    def _decode(self, model: Any, batch: tuple[Tensor, ...], sites: dict[str, Tensor]) -> Distribution:
        trace = poutine.trace(poutine.condition(model, data=sites)).get_trace(*batch)
        known = {n: s for n, s in trace.nodes.items() if s["type"] == "sample" and not site_is_subsample(s)}
        if unknown := sites.keys() - known.keys():
            raise SiteError(f"no site {sorted(unknown)} in the model; there are {sorted(known)}.")
        return known[self._observed(trace, sites)]["fn"]

    def _observed(self, trace: Trace, sites: dict[str, Tensor]) -> str:
        """The site that is decoded: ``x``, or the only one observed."""
        if "x" in trace.nodes:
            return "x"
        plain = poutine.trace(self.model).get_trace(*self._blank(1))
        observed = [n for n, s in plain.nodes.items() if s["type"] == "sample" and s["is_observed"]]
        if len(observed) != 1:
            raise SiteError(f"which site is decoded? Name it 'x'; the observed ones are {observed}.")
        return observed[0]

    def _blank(self, n: int) -> tuple[Tensor, ...]:
        if self._shapes is None:
            raise ArgumentError(
                "batch", got="nothing", expected="a batch", hint="Or make Posterior(model, guide, shapes=...)."
            )
        device = self._device()
        return tuple(torch.zeros(n, *shape, dtype=dtype, device=device) for shape, dtype in self._shapes)

    def _device(self) -> torch.device:
        tensors = (t for program in (self.model, self.guide) for t in (*program.parameters(), *program.buffers()))
        return next((t.device for t in tensors), torch.device("cpu"))

    def _on_device(self, batch: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return tuple(self._on_device_dict({f"batch[{i}]": t for i, t in enumerate(batch)}).values())

    def _on_device_dict(self, sites: dict[str, Tensor]) -> dict[str, Tensor]:
        for name, value in sites.items():
            if not isinstance(value, Tensor) or value.dim() < 1:
                raise ArgumentError(name, got=value, expected="a tensor with the batch first")
        return {name: value.to(self._device()) for name, value in sites.items()}


class _AtMean(Messenger):
    """Gives every latent site its mean instead of a draw (a draw where the mean is not known)."""

    def _pyro_sample(self, msg: Any) -> None:
        if msg["is_observed"] or msg["value"] is not None or site_is_subsample(msg):
            return
        try:
            msg["value"] = msg["fn"].mean
        except NotImplementedError:
            return
        msg["done"] = True


def _values(trace: Trace) -> dict[str, Tensor]:
    return {name: site["value"] for name, site in latents(trace).items() if not site["infer"].get("is_auxiliary")}
