# Copyright ppl-disent contributors.
# SPDX-License-Identifier: Apache-2.0
"""Simulation-based calibration: is the guide right about data of the model itself, where the answer is known?"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from pyro import poutine
from torch import Tensor

from ppl_disent.errors import SiteError, check_whole
from ppl_disent.pair import Pair, Unobserved
from ppl_disent.sites import common_latents, latents

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Floats = npt.NDArray[np.float64]
LEVEL = 0.01  # of the test, over all quantities together
SIMULATIONS = 4999  # of uniform ranks, for the p-values
CENTRAL = (0.5, 0.8, 0.9, 0.95)
FIT = "log p(x | latents)"


@dataclass(frozen=True, eq=False, repr=False)
class Calibration:
    """What :meth:`ppl_disent.Posterior.calibrate` found, to ``print`` or draw (:meth:`plot`).

    If the guide is the posterior, a true latent lies anywhere among draws from it: its rank is uniform. Ranks that are
    U-shaped mean too narrow a guide, hump-shaped too wide a one, slanted one that lies to a side. The same is asked of
    log p(x | latents), without which a guide that ignores x and draws from the prior would be found right.

    Attributes:
        draws: From the guide for each datum.
        ranks: ``{coordinate: (n,) integers}``, how many draws are below the truth, from 0 to ``draws``.
        table: A row for each coordinate, and for ``log p(x | latents)``. ``p_value``, of uniform ranks, by the largest
            of the pointwise deviations of their distribution function (Säilynoja et al., 2022, by simulation);
            ``bias`` and ``spread``, mean and standard deviation of the truth less the mean of the draws, in standard
            deviations of the draws: 0 and 1 if they are the posterior; and, named ``"90 %"`` and so on, the share of
            truths within the central interval of the draws that should hold so many.
        band: Between which ``(draws + 1,)`` arrays the distribution function of each quantity's ranks should stay, from
            0 to ``draws``; it does unless this is a problem.
        problems: What is wrong, in words; empty if no quantity has a p-value below 1 % over their number.

    References:
        Validating Bayesian Inference Algorithms with Simulation-Based Calibration (Talts et al., 2018),
        https://arxiv.org/abs/1804.06788

        Graphical Test for Discrete Uniformity (Säilynoja et al., 2022), https://arxiv.org/abs/2103.10522

        Simulation-Based Calibration Checking for Bayesian Computation (Modrák et al., 2023),
        https://arxiv.org/abs/2211.02383, on the log likelihood as a quantity

    Example:
        >>> x = torch.rand(50, 1, 4, 4)
        >>> q = vae((1, 4, 4), latent_dim=2).fit(x, steps=3, progress=False).posterior
        >>> found = q.calibrate(n=200, draws=19)
        >>> sorted(found.table.index)
        ['log p(x | latents)', 'z[0]', 'z[1]']
    """

    draws: int
    ranks: dict[str, npt.NDArray[np.int64]]
    table: pd.DataFrame
    band: tuple[Floats, Floats]
    problems: tuple[str, ...]

    @property
    def ok(self) -> bool:
        """Whether no problem was found."""
        return not self.problems

    def plot(self, **options: int) -> Figure:
        """Its picture, with the options of :func:`ppl_disent.plots.calibration`."""
        from ppl_disent.plots import calibration

        return calibration(self, **options)

    def __repr__(self) -> str:
        n = len(next(iter(self.ranks.values())))
        wrong = [f"- {problem}" for problem in self.problems]
        count = f"{len(wrong)} problem{'s' * (len(wrong) > 1)}" if wrong else "no problem"
        head = f"Calibration on {n} data of the model, {self.draws} draws of the guide each: {count} found."
        worst = self.table.sort_values("p_value", kind="stable").head(20)
        shown = [worst.to_string(float_format="{:.3g}".format)]
        if (more := len(self.table) - 20) > 0:
            shown.append(f"and {more} coordinates of larger p-value")
        return "\n\n".join([head, *shown, *(["\n".join(wrong)] * bool(wrong))])


def calibrate(pair: Pair, conditions: tuple[Tensor, ...], n: int, draws: int, rows: int, seed: int) -> Calibration:
    """As :meth:`ppl_disent.Posterior.calibrate`, within ``pair.quiet(seed)``."""
    check_whole(100, n=n)
    check_whole(19, draws=draws)
    check_whole(1, rows=rows)
    batch = pair.generated(n, conditions)
    many = max(1, rows // draws)
    parts = [_ranked(pair, tuple(f[i : i + many] for f in batch), draws) for i in range(0, n, many)]
    found = {name: [torch.cat(t) for t in zip(*(part[name] for part in parts))] for name in parts[0]}
    ranks = {name: rank.numpy() for name, (rank, _) in found.items()}
    counts = np.stack([np.bincount(rank, minlength=draws + 1) for rank in ranks.values()])
    null = simulated(n, draws, seed)
    p = dict(zip(ranks, p_values(counts, null)))
    rows_of = {
        name: {"p_value": p[name], "bias": float(z.mean()), "spread": float(z.std())} | _coverage(ranks[name], draws)
        for name, (_, z) in found.items()
    }
    table = pd.DataFrame.from_dict(rows_of, orient="index")
    # With more quantities than simulations can resolve, the smallest p-value there is counts.
    limit = max(LEVEL / len(table), 1 / (SIMULATIONS + 1))
    wrong = tuple(_words(str(name), row, n) for name, row in table.iterrows() if row["p_value"] <= limit)
    return Calibration(draws, ranks, table, band(n, draws, float(np.quantile(null, limit))), wrong)


def _ranked(pair: Pair, batch: tuple[Tensor, ...], draws: int) -> dict[str, tuple[Tensor, Tensor]]:
    """For each quantity of some data made by the model, rank and standardised deviation of the truth, ``(n,)`` each."""
    n = len(batch[0])
    truth = poutine.trace(Unobserved()(pair.model)).get_trace(*batch)
    made = [name for name, site in latents(truth).items() if site["infer"].get("was_observed")]
    x = truth.nodes[made[0]]["value"] if len(made) == 1 else None
    if x is None or x.numel() != batch[0].numel():
        raise SiteError(f"observed are {made}: expected one site, with the values of the first field of a batch.")
    batch = (x.reshape(batch[0].shape).to(batch[0].dtype), *batch[1:])
    many = tuple(field.repeat(draws, *[1] * (field.dim() - 1)) for field in batch)
    guide = poutine.trace(pair.guide).get_trace(*many)
    model = poutine.trace(poutine.replay(pair.model, trace=guide)).get_trace(*many)
    own, drawn = (trace.nodes[made[0]]["fn"].log_prob(trace.nodes[made[0]]["value"]) for trace in (truth, model))
    pairs = {FIT: (own, drawn)}
    for name, site in common_latents(model, guide).items():
        own, drawn = truth.nodes[name]["value"], site["value"]
        if len(own) != n or len(drawn) != draws * n:
            raise SiteError(f"{name!r}: got values of shape {tuple(own.shape)}, expected some for each datum.")
        own, drawn = own.reshape(n, -1), drawn.reshape(draws * n, -1)
        count = own.shape[1]
        pairs |= {f"{name}[{i}]" if count > 1 else name: (own[:, i], drawn[:, i]) for i in range(count)}
    return {name: _against(own, drawn.unflatten(0, (draws, n))) for name, (own, drawn) in pairs.items()}


def _against(own: Tensor, drawn: Tensor) -> tuple[Tensor, Tensor]:
    """Rank, ties broken at random, and standardised deviation of ``own``, ``(n,)``, among ``drawn``, ``(draws, n)``."""
    ties = (drawn == own).sum(0)
    rank = (drawn < own).sum(0) + (torch.rand(own.shape, device=own.device) * (ties + 1)).long()
    return rank.cpu(), ((own - drawn.mean(0)) / drawn.std(0)).cpu().double()


def simulated(n: int, draws: int, seed: int) -> Floats:
    """The statistic :func:`extreme` of n uniform ranks from 0 to ``draws``, simulated again and again."""
    uniform = np.full(draws + 1, 1 / (draws + 1))
    return extreme(np.random.default_rng(seed).multinomial(n, uniform, SIMULATIONS))


def p_values(counts: npt.NDArray[np.int64], null: Floats) -> Floats:
    """How often uniform ranks are as far from uniform as each row of counts of the ranks from 0 to ``draws``."""
    return (1 + (null <= extreme(counts)[:, None]).sum(1)) / (len(null) + 1)


def band(n: int, draws: int, level: float) -> tuple[Floats, Floats]:
    """Where the share of ranks of at most 0, 1, ... ``draws`` has a pointwise p-value above ``level``."""
    from scipy.stats import binom

    share = np.arange(1, draws + 2) / (draws + 1)
    return binom.ppf(level / 2, n, share) / n, binom.ppf(1 - level / 2, n, share) / n


def extreme(counts: npt.NDArray[np.int64]) -> Floats:
    """The smallest of the two-sided binomial p-values of all cumulative counts of each row."""
    from scipy.stats import binom

    n, below = counts[0].sum(), counts.cumsum(1)[:, :-1]
    share = np.arange(1, counts.shape[1]) / counts.shape[1]
    low, high = binom.cdf(below, n, share), binom.sf(below - 1, n, share)
    smallest: Floats = np.minimum(1.0, 2 * np.minimum(low, high)).min(1)
    return smallest


def _coverage(rank: npt.NDArray[np.int64], draws: int) -> dict[str, float]:
    """Share of truths between the k-th draw and the k-th last: it should be ``1 - 2 k / (draws + 1)``."""
    cuts = [max(1, round((1 - level) / 2 * (draws + 1))) for level in CENTRAL]
    return {f"{100 * (1 - 2 * k / (draws + 1)):.3g} %": float(((rank >= k) & (rank <= draws - k)).mean()) for k in cuts}


def _words(name: str, row: pd.Series, n: int) -> str:
    """What is wrong with one quantity."""
    bias, spread = float(row["bias"]), float(row["spread"])
    if name == FIT:
        how = "worse" if bias > 0 else "better"
        return f"the guide's draws explain x {how} than its true latents do: guide and posterior differ"
    said = []
    if not math.isfinite(spread):
        said.append("it is a point mass")
    elif abs(bias) > 3 * spread / math.sqrt(n):
        side = "below" if bias > 0 else "above"
        said.append(f"it lies {abs(bias):.2g} of its standard deviations {side} the truth (slanted ranks)")
    if math.isfinite(spread) and abs(spread - 1) > 3 * spread / math.sqrt(2 * n):
        factor, how, shape = (spread, "narrow", "U") if spread > 1 else (1 / spread, "wide", "hump")
        said.append(f"it is about {factor:.3g} times too {how} ({shape}-shaped ranks)")
    return f"{name}: the guide is not the posterior: " + (" and ".join(said) or "its ranks are not uniform")
