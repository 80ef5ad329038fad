# Copyright ppl-disent contributors.
# SPDX-License-Identifier: Apache-2.0
"""Can a posterior be trusted? Every figure that speaks for or against it, and what they mean in words."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import pandas as pd
import torch
from pyro import poutine
from pyro.distributions import Delta
from torch import Tensor

from ppl_disent.divergence import base_of, coordinate_kl, joint_kl, two_samples
from ppl_disent.errors import ArgumentError, SiteError, check_whole
from ppl_disent.evidence import Evidence, log_evidence
from ppl_disent.metrics import gaussian_total_correlation
from ppl_disent.pair import Pair, values_of
from ppl_disent.sites import common_latents

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SHARE = 0.05  # of the data that may be bad before it is said: k-hat is itself an estimate, and now and then too large
ACTIVE = 0.01  # variance of a posterior mean, in variances of the prior
EFFECTIVE = 0.1  # effective particles, of all
ERROR = 0.1  # of log p(x), nats
GAP = 0.1  # of the KL divergence of all sites


@dataclass(frozen=True, eq=False, repr=False)
class Diagnosis:
    """What :meth:`ppl_disent.Posterior.diagnose` found: ``print`` it, or draw it (:meth:`plot`).

    What counts as a problem, where the first two must be so for more than 5 % of the data:

    - k-hat above ``min(1 - 1 / log10(particles), 0.7)`` (Vehtari et al., 2024, equation 13).
    - Fewer effective particles than a tenth of all, where bayesplot's ``mcmc_neff`` too says that they are few. Else, a
      standard error of log p(x) above 0.1 nats, a tenth of p(x).
    - A log p(x) that is not finite.
    - A mean gap of more than a tenth of what q tells, its KL divergence from the prior, and 0.1 nats; our own limit.
    - A site without an active coordinate (Burda et al., 2016): posterior collapse. That some are not active is none:
      a model may have more of them than its data need.
    - An aggregate posterior that is told from the prior by a test with 499 permutations, at the level 0.2 %. With many
      data almost every trained model fails it, and ``mmd2`` says by how much.
    - A site that is a point mass: then there is no log p(x), and no KL divergence of this site.

    Attributes:
        data: How many.
        evidence: log p(x), its error, k-hat, effective particles and ELBO of each; None if a site is a point mass.
        sites: A row for each latent site. ``kl``, mean KL divergence from the prior, nats; ``active`` of
            ``coordinates``; ``mmd2``, the squared maximum mean discrepancy of its draws over the data from the prior's,
            with the largest by chance ``mmd2_null``, its ``p_value``, and ``bandwidth`` of the
            Gaussian kernel, in standard deviations of a coordinate (see :func:`ppl_disent.divergence.two_samples`);
            ``total_correlation`` of these draws as if normal, nats, and its expectation ``tc_null`` for independent
            ones of this number.
        coordinates: A row for each latent coordinate, largest KL first. ``site``; ``kl``, that of its marginal, nats;
            ``activity``, the variance over the data of the posterior mean, as a deviation from the prior's mean
            and in its standard deviations, which are Burda's for a standard normal prior; ``active``. NaN where a
            distribution does not tell.
        problems: What is wrong, in words; empty for a good posterior.

    References:
        Pareto Smoothed Importance Sampling (Vehtari et al., 2024), https://arxiv.org/abs/1507.02646

        Importance Weighted Autoencoders (Burda et al., 2016), https://arxiv.org/abs/1509.00519

        Inference Suboptimality in Variational Autoencoders (Cremer et al., 2018), https://arxiv.org/abs/1801.03558

        ELBO surgery (Hoffman & Johnson, 2016), on the aggregate posterior

    Example:
        >>> x = torch.rand(50, 1, 4, 4)
        >>> q = vae((1, 4, 4), latent_dim=2).fit(x, steps=3, progress=False).posterior
        >>> found = q.diagnose(x, particles=100)
        >>> found.data, list(found.coordinates.columns)
        (50, ['site', 'kl', 'activity', 'active'])
    """

    data: int
    evidence: Evidence | None
    sites: pd.DataFrame
    coordinates: pd.DataFrame
    problems: tuple[str, ...]

    @property
    def ok(self) -> bool:
        """Whether no problem was found."""
        return not self.problems

    def plot(self, **options: int) -> Figure:
        """Its picture, with the options of :func:`ppl_disent.plots.diagnosis`."""
        from ppl_disent.plots import diagnosis

        return diagnosis(self, **options)

    @property
    def per_datum(self) -> pd.DataFrame:
        """Figures of all data as their mean, median and worst; without rows if there is no evidence."""
        rows: dict[str, tuple[float, float, float]] = {}
        if (e := self.evidence) is not None:
            khat, ess = f"k-hat, good to {e.limit:.2f}", f"effective particles of {e.particles}"
            named = {"log p(x), nats": e.value, "ELBO, nats": e.elbo, "gap, nats": e.gap, "error, nats": e.error}
            for name, values in (named | {khat: e.khat, ess: e.ess}).items():
                worst = values.min() if name in ("log p(x), nats", "ELBO, nats", ess) else values.max()
                mean = math.nan if name == khat else float(values.mean())
                rows[name] = (mean, float(values.median()), float(worst))
        return pd.DataFrame.from_dict(rows, orient="index", columns=["mean", "median", "worst"])

    def __repr__(self) -> str:
        tables = [t.head(20) for t in (self.per_datum, self.sites, self.coordinates) if len(t)]
        shown = [t.to_string(float_format="{:.4g}".format, na_rep="") for t in tables]
        if (more := len(self.coordinates) - 20) > 0:
            shown.append(f"and {more} coordinates of less KL")
        wrong = [f"- {problem}" for problem in self.problems]
        count = f"{len(wrong)} problem{'s' * (len(wrong) > 1)}" if wrong else "no problem"
        return "\n\n".join(
            [f"Diagnosis on {self.data} data: {count} found.", *shown, *(["\n".join(wrong)] * bool(wrong))]
        )


class Site(NamedTuple):
    """A latent site over data: ``(n, coordinates)`` float64 tensors on the host, but for ``joint_kl``, ``(n,)``."""

    kl: Tensor
    joint_kl: Tensor
    mean: Tensor
    draw: Tensor
    prior: Tensor
    point: Tensor


def diagnose(pair: Pair, batch: tuple[Tensor, ...], particles: int, rows: int, seed: int) -> Diagnosis:
    """As :meth:`ppl_disent.Posterior.diagnose`, within ``pair.quiet(seed)``."""
    check_whole(25, particles=particles)  # k-hat is not defined with fewer
    check_whole(1, rows=rows)
    if (n := len(batch[0])) < 2:
        raise ArgumentError("batch", got=f"{n} data", expected="at least 2")
    index = torch.arange(n, device=pair.device).split(rows)
    parts = [_sites(pair.at_rows(some), tuple(field[some] for field in batch)) for some in index]
    found = {name: Site(*(torch.cat(t) for t in zip(*(part[name] for part in parts)))) for name in parts[0]}
    points = [name for name, site in found.items() if site.point.any()]
    evidence = None if points else log_evidence(pair, batch, particles, rows)
    rows_of = {name: _row(site, seed) for name, site in found.items()}
    sites = pd.DataFrame.from_dict(rows_of, orient="index")
    coordinates = pd.concat([_coordinates(name, site) for name, site in found.items()])
    coordinates = coordinates.sort_values("kl", ascending=False, kind="stable", na_position="last")
    return Diagnosis(n, evidence, sites, coordinates, (*_of_evidence(evidence, sites), *_of_sites(sites, points)))


def _sites(pair: Pair, batch: tuple[Tensor, ...]) -> dict[str, Site]:
    """What is known of each latent site for some data."""
    n = len(batch[0])
    guide = poutine.trace(pair.guide).get_trace(*batch)
    model = poutine.trace(poutine.replay(pair.model, trace=guide)).get_trace(*batch)
    prior = poutine.trace(pair.model).get_trace(*batch)
    at_mean = pair.guide_at_mean(batch)
    given = poutine.trace(poutine.condition(pair.model, data=values_of(at_mean))).get_trace(*batch)
    found = {}
    for name, site in common_latents(prior, guide).items():
        q, p, value = site["fn"], model.nodes[name]["fn"], site["value"]
        if tuple(q.batch_shape) != (n,):
            got = tuple(q.batch_shape)
            raise SiteError(f"{name!r}: got a log density of shape {got}, expected one number for each datum.")
        draws = [v.reshape(n, -1) for v in (value, prior.nodes[name]["value"])]
        nothing, point = torch.full_like(draws[0], math.nan), isinstance(base_of(q), Delta)
        try:
            kl = nothing if point else coordinate_kl(name, q, p)
        except SiteError:
            kl = nothing
        mean = _deviation(at_mean.nodes[name]["fn"], given.nodes[name]["fn"])
        mean = nothing if mean is None else mean.reshape(n, -1)
        parts = (kl, nothing[:, 0] if point else joint_kl(q, p, value), mean, *draws, torch.tensor([point]))
        found[name] = Site(*(part.cpu().double() for part in parts))
    return found


def _deviation(q: Any, p: Any) -> Tensor | None:
    """How far the mean of q is from that of p, in standard deviations of p; None if a distribution does not tell."""
    try:
        deviation: Tensor = (q.mean - p.mean) / p.stddev
    except NotImplementedError:
        return None
    return deviation


def _row(site: Site, seed: int) -> dict[str, float]:
    """The row of ``Diagnosis.sites``."""
    n, count = site.draw.shape
    test = two_samples(site.draw, site.prior, seed=seed)
    return {
        "coordinates": count,
        "active": int((site.mean.var(0) > ACTIVE).sum()),
        "kl": float(site.joint_kl.mean()),
        "mmd2": test.mmd2,
        "mmd2_null": test.threshold,
        "p_value": test.p_value,
        "bandwidth": test.bandwidth,
        "total_correlation": float(gaussian_total_correlation(site.draw)),
        # 2 n times it is asymptotically chi-squared, with a degree of freedom a pair.
        "tc_null": count * (count - 1) / (4 * n),
    }


def _coordinates(name: str, site: Site) -> pd.DataFrame:
    """The rows of ``Diagnosis.coordinates``."""
    activity, count = site.mean.var(0).numpy(), site.draw.shape[1]
    index = [f"{name}[{i}]" for i in range(count)] if count > 1 else [name]
    columns = {"site": name, "kl": site.kl.mean(0).numpy(), "activity": activity, "active": activity > ACTIVE}
    return pd.DataFrame(columns, index=index)


def _of_evidence(evidence: Evidence | None, sites: pd.DataFrame) -> list[str]:
    """What is wrong with the weights."""
    if evidence is None:
        return []
    wrong = []

    def share(bad: Tensor) -> str:
        found = float(bad.double().mean())
        return f"{100 * found:.0f} % of the data" if found > SHARE else ""

    if bad := int((~evidence.value.isfinite()).sum()):
        wrong.append(f"log p(x) is not finite for {bad} data")
    if of := share(evidence.khat > evidence.limit):
        wrong.append(
            f"k-hat is above {evidence.limit:.2f} for {of}: the guide is narrower than the posterior, or elsewhere, "
            "and their log p(x) is not to be trusted"
        )
    if of := share(evidence.ess < EFFECTIVE * evidence.particles):
        wrong.append(
            f"fewer than {100 * EFFECTIVE:.0f} % of the particles count for {of}: guide and posterior hardly overlap"
        )
    elif of := share(evidence.error > ERROR):
        wrong.append(f"the standard error of log p(x) is above {ERROR} nats for {of}: take more particles")
    gap, kl = float(evidence.gap.mean()), float(sites["kl"].sum())
    if gap > GAP * max(kl, 1.0):
        # Bounded weights: it leaves nothing out.
        how = "is wider than" if float(evidence.khat.median()) < 0 else "differs from"
        wrong.append(
            f"the ELBO is {gap:.2f} nats below log p(x), much beside a KL divergence of {kl:.2f} nats from the prior: "
            f"the guide {how} the posterior"
        )
    return wrong


def _of_sites(sites: pd.DataFrame, points: list[str]) -> list[str]:
    """What is wrong with the latents."""
    wrong = [
        f"{name!r} is a point mass in the guide, which cannot say how sure it is: there are no weights, so no log p(x)"
        for name in points
    ]
    for name, row in sites.iterrows():
        if row["active"] == 0:
            wrong.append(f"{name!r} is collapsed: its posterior means are the same for all data")
        if row["mmd2"] > row["mmd2_null"]:
            wrong.append(
                f"over the data {name!r} is not spread like its prior (squared MMD {row['mmd2']:.2g}, p = "
                f"{row['p_value']:.2g}): what the model samples is not what it reconstructs"
            )
    return wrong
