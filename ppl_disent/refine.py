# Copyright ppl-disent contributors.
# SPDX-License-Identifier: Apache-2.0
"""A guide with a Gaussian of its own for each datum, and how one is fitted: semi-amortised inference."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor, nn

from ppl_disent.elbo import TermELBO
from ppl_disent.errors import ArgumentError, NonFiniteError, SiteError
from ppl_disent.optim import adam
from ppl_disent.pair import Pair
from ppl_disent.sites import latents
from ppl_disent.svi import SVI

ROWS = 1000  # data times particles at a time, which bounds the memory


class PerDatum(nn.Module):
    """A product of diagonal Gaussians, or of point masses, for each datum of one batch, known by its place in it.

    Args:
        loc: ``{site: (n, ...) means}``.
        log_scale: Logarithms of their standard deviations; without, point masses.
        batch: The data; it takes no other.
        index: The rows of them that it is for; all of them by default.
    """

    def __init__(
        self,
        loc: Mapping[str, Tensor],
        log_scale: Mapping[str, Tensor] | None,
        batch: Sequence[Tensor],
        index: Tensor | None = None,
    ) -> None:
        super().__init__()
        self.sites, self.index, self.fields = tuple(loc), index, len(batch)
        self.loc = nn.ParameterList(loc.values())
        self.log_scale = nn.ParameterList((log_scale or {}).values())
        for i, field in enumerate(batch):
            self.register_buffer(f"field_{i}", field, persistent=False)

    @property
    def batch(self) -> tuple[Tensor, ...]:
        """The data that it is for."""
        return tuple(self.get_buffer(f"field_{i}") for i in range(self.fields))

    def at_rows(self, index: Tensor) -> PerDatum:
        """The same guide, with the same parameters, for some rows of its batch, which may be repeated."""
        index = index if self.index is None else self.index[index]
        log_scale = dict(zip(self.sites, self.log_scale)) if len(self.log_scale) else None
        return PerDatum(dict(zip(self.sites, self.loc)), log_scale, self.batch, index)

    def forward(self, *batch: Tensor) -> None:
        """Samples every site for the batch.

        Raises:
            ArgumentError: For other data.
        """
        n, known = len(batch[0]), len(self.loc[0]) if self.index is None else len(self.index)
        same = n == known and len(batch) == self.fields
        if self.index is None:
            same = same and all(a is b or torch.equal(a, b) for a, b in zip(batch, self.batch))
        if not same:
            raise ArgumentError("batch", got=f"{n} data", expected=f"the {known} data that the guide was refined for")
        with pyro.plate("data", n):
            for i, site in enumerate(self.sites):
                loc = self.loc[i] if self.index is None else self.loc[i][self.index]
                q: dist.Distribution = dist.Delta(loc)
                if len(self.log_scale):
                    log_scale = self.log_scale[i] if self.index is None else self.log_scale[i][self.index]
                    q = dist.Normal(loc, log_scale.exp())
                pyro.sample(site, q.to_event(loc.dim() - 1))


def refine(pair: Pair, batch: tuple[Tensor, ...], steps: int, lr: float, particles: int) -> PerDatum:
    """As :meth:`ppl_disent.Posterior.refine`, within ``pair.quiet(seed)``."""
    for name, value in (("steps", steps), ("particles", particles)):
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise ArgumentError(name, got=value, expected="an integer of at least 1")
    pair.check(batch)
    found: list[PerDatum] = []
    for part in torch.arange(len(batch[0]), device=pair.device).split(max(1, ROWS // particles)):
        own = tuple(field[part] for field in batch)
        guide = PerDatum(*_start(pair.at_rows(part), own), own)
        index = torch.arange(len(part), device=pair.device).repeat(particles)
        optim = adam(lr)
        with frozen(pair.model), torch.enable_grad():
            svi = SVI(pair.model, guide.at_rows(index), optim, TermELBO())
            assert optim.optimizer is not None
            schedule = torch.optim.lr_scheduler.LinearLR(optim.optimizer, 1.0, 0.0, steps)
            many = tuple(field[index] for field in own)
            for _ in range(steps):
                svi.step(*many)
                schedule.step()
        found.append(guide)
    fitted = {}
    for kind in ("loc", "log_scale"):
        joined = [torch.cat(values) for values in zip(*(getattr(guide, kind) for guide in found))]
        fitted[kind] = dict(zip(found[0].sites, joined))
        for site, joint in fitted[kind].items():
            if not joint.isfinite().all():
                raise NonFiniteError(steps, f"{kind} of {site!r}", float("nan"), "Lower lr?")
    return PerDatum(fitted["loc"], fitted["log_scale"], batch)


def _start(pair: Pair, batch: tuple[Tensor, ...]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Mean and log standard deviation of each site in the guide."""
    loc, log_scale = {}, {}
    for name, site in latents(pair.guide_at_mean(batch)).items():
        if site["infer"].get("is_auxiliary"):
            continue
        fn = base = site["fn"]
        while isinstance(base, torch.distributions.Independent):
            base = base.base_dist
        if isinstance(base, dist.Delta):
            raise SiteError(f"{name!r}: a point mass in the guide has no width, and so no ELBO to climb.")
        if not isinstance(base, dist.Normal):
            raise SiteError(f"{name!r}: got {type(base).__name__} in the guide, expected Normal, to be refined as one.")
        if fn.batch_shape != (len(batch[0]),):
            got = tuple(fn.batch_shape)
            raise SiteError(f"{name!r}: got batch shape {got} in the guide, expected one Gaussian for each datum.")
        loc[name], log_scale[name] = fn.mean.clone(), fn.stddev.log()
    return loc, log_scale


@contextmanager
def frozen(model: nn.Module) -> Iterator[None]:
    """The model's parameters take no gradient."""
    flags = [(p, p.requires_grad) for p in model.parameters()]
    try:
        model.requires_grad_(False)
        yield
    finally:
        for p, flag in flags:
            p.requires_grad_(flag)
