# Copyright ppl-disent contributors.
# SPDX-License-Identifier: Apache-2.0
"""Whether a posterior can be trusted, in pictures."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING

import numpy as np

from ppl_disent.plots.figure import Figure
from ppl_disent.plots.training import COLOURS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes
    from matplotlib.figure import SubFigure

    from ppl_disent.calibration import Calibration
    from ppl_disent.diagnosis import Diagnosis
    from ppl_disent.evidence import Evidence

GREY, GOOD, BAD = "0.6", COLOURS[0], COLOURS[1]


def diagnosis(found: Diagnosis, *, shown: int = 24) -> Figure:
    """A :class:`ppl_disent.Diagnosis`: a point for each datum above, latents and sites below, problems as the heading.

    Args:
        found: Of ``q.diagnose(*batch)``.
        shown: At most so many latent coordinates, those of largest KL.

    Example:
        >>> from ppl_disent import plots
        >>> x = torch.rand(50, 1, 4, 4)
        >>> q = vae((1, 4, 4), latent_dim=2).fit(x, steps=3, progress=False).posterior
        >>> plots.diagnosis(q.diagnose(x, particles=100)).savefig("diagnosis.png")
    """
    coordinates, sites = found.coordinates[:shown], found.sites
    rows = 2 if found.evidence is not None else 1
    heading = _heading(found.problems, f"{found.data} data: no problem found")
    figure = Figure(figsize=(9, 2.9 * rows + 0.17 * len(heading.splitlines())), dpi=150, layout="constrained")
    figure.suptitle(heading, fontsize=8, x=0.01, ha="left")
    parts = figure.subfigures(rows, 1, squeeze=False)[:, 0]
    if found.evidence is not None:
        _evidence(parts[0], found.evidence)
    kl, spread = parts[-1].subplots(1, 2, width_ratios=(2.5, 1))
    colours = [GOOD if active else GREY for active in coordinates["active"]]
    kl.bar(range(len(coordinates)), coordinates["kl"].to_numpy(), color=colours)
    kl.set_xticks(range(len(coordinates)), coordinates.index, rotation=60 if len(coordinates) > 8 else 0, fontsize=7)
    kl.set_ylabel("KL from the prior, nats")
    count = f"{found.coordinates['active'].sum()} of {len(found.coordinates)} active (grey: not)"
    left = f", {shown} shown" if len(found.coordinates) > shown else ""
    kl.set_title(f"latents: {count}{left}", fontsize=9)
    kl.set_xlim(-0.7, max(len(coordinates), 6) - 0.3)
    where = np.arange(len(sites))
    spread.bar(where, sites["mmd2"].to_numpy(), color=GOOD, width=0.6)
    spread.hlines(sites["mmd2_null"].to_numpy(), where - 0.42, where + 0.42, color=BAD, ls="--")
    spread.axhline(0, color="black", lw=0.6)
    spread.set_xticks(where, sites.index, fontsize=7)
    spread.set_xlim(-0.8, max(len(sites), 3) - 0.2)
    spread.set_ylabel("squared MMD from the prior")
    spread.set_title("spread over the data\n(dashed: the most by chance)", fontsize=9)
    _tidy(kl, spread)
    return figure


def _evidence(part: Figure | SubFigure, evidence: Evidence) -> None:
    """A point for each datum: its weights, and what the ELBO lacks."""
    weights, gaps = part.subplots(1, 2)
    known = (evidence.value.isfinite() & evidence.gap.isfinite()).numpy()
    khat, value, gap, ess = (t.numpy()[known] for t in (evidence.khat, evidence.value, evidence.gap, evidence.ess))
    bad, khat, ess = khat > evidence.limit, khat.clip(-1, 2), ess / evidence.particles
    for own, colour, marker in ((~bad, GOOD, "o"), (bad, BAD, "^")):
        style = {"s": 9, "lw": 0, "alpha": 0.6, "color": colour, "marker": marker}
        weights.scatter(khat[own], ess[own], **style)
        gaps.scatter(value[own], gap[own], **style)
    weights.axvline(evidence.limit, color="black", ls="--", lw=1)
    weights.axhline(0.1, color="black", ls=":", lw=1)
    weights.set(xlim=(khat.min(initial=0) - 0.1, khat.max(initial=1) + 0.1), yscale="log")
    weights.set_ylim(0.7 / evidence.particles, 1.5)
    weights.set(xlabel="k-hat, within -1 and 2", ylabel=f"effective share of {evidence.particles} particles")
    weights.set_title(f"weights: k-hat good left of {evidence.limit:.2f}, particles above 0.1", fontsize=9)
    gaps.set(xlabel="log p(x), nats", ylabel="log p(x) - ELBO, nats")
    gaps.set_title(f"gap: {float(evidence.gap.mean()):.3g} nats on average", fontsize=9)
    gaps.set_ylim(1.05 * gap.min(initial=-0.01), 1.05 * gap.max(initial=0.1))
    _tidy(weights, gaps)


def calibration(found: Calibration, *, shown: int = 8, bins: int = 20) -> Figure:
    """A :class:`ppl_disent.Calibration`: ranks, those least uniform first, their distribution, and coverage.

    Args:
        found: Of ``q.calibrate()``.
        shown: At most so many quantities.
        bins: Of the histograms of ranks.

    Example:
        >>> from ppl_disent import plots
        >>> x = torch.rand(50, 1, 4, 4)
        >>> q = vae((1, 4, 4), latent_dim=2).fit(x, steps=3, progress=False).posterior
        >>> plots.calibration(q.calibrate(n=200, draws=19)).savefig("calibration.png")
    """
    from scipy.stats import binom

    worst = found.table.sort_values("p_value", kind="stable")[:shown]
    n, draws = len(found.ranks[worst.index[0]]), found.draws
    columns, deep = min(4, len(worst)), -(-len(worst) // 4)
    heading = _heading(found.problems, f"{n} data of the model: no problem found")
    height = 1.7 * deep + 2.9 + 0.17 * len(heading.splitlines())
    figure = Figure(figsize=(9, height), dpi=150, layout="constrained")
    figure.suptitle(heading, fontsize=8, x=0.01, ha="left")
    top, bottom = figure.subfigures(2, 1, squeeze=False, height_ratios=(1.7 * deep, 2.9))[:, 0]
    panels = iter(top.subplots(deep, columns, sharex=True, sharey=True, squeeze=False).flat)
    groups = np.array_split(np.arange(draws + 1), min(bins, draws + 1))
    edges = np.array([group[0] for group in groups] + [draws + 1])
    expected = n * np.diff(edges) / (draws + 1)
    low, high = (binom.ppf(p, n, expected / n) / expected for p in (0.005, 0.995))
    # In this order: it is `panels` that must not be asked once more at the end.
    for (name, row), panel in zip(worst.iterrows(), panels):
        counts = np.histogram(found.ranks[str(name)], edges)[0]
        panel.stairs(counts / expected, edges, fill=True, color=GOOD, alpha=0.8)
        panel.stairs(high, edges, baseline=low, fill=True, color="black", alpha=0.2)
        panel.set_title(f"{name}, p = {row['p_value']:.2g}", fontsize=8)
    for panel in panels:
        panel.set_visible(False)
    top.axes[0].set_ylim(0, max(2, top.axes[0].get_ylim()[1]))
    top.supxlabel("rank of the truth among the draws (grey: 99 % of uniform ranks)", fontsize=8)
    top.supylabel("count over expected", fontsize=8)
    apart, coverage = bottom.subplots(1, 2)
    share = np.arange(1, draws + 2) / (draws + 1)
    apart.fill_between(share, found.band[0] - share, found.band[1] - share, color="black", alpha=0.15, lw=0)
    levels = [c for c in found.table if c.endswith("%")]
    nominal = np.array([float(level[:-1]) / 100 for level in levels])
    for i, (name, row) in enumerate(worst.iterrows()):
        ours = np.bincount(found.ranks[str(name)], minlength=draws + 1).cumsum() / n
        style = {"color": COLOURS[i % len(COLOURS)], "ls": ("-", "--")[i // len(COLOURS) % 2], "lw": 1.2}
        apart.plot(share, ours - share, label=str(name), **style)
        coverage.plot(nominal, row[levels].to_numpy(float), marker=".", **style)
    apart.set(xlabel="rank, as a share", ylabel="distribution less uniform")
    apart.set_title("grey: where uniform ranks stay", fontsize=9)
    error = 2.576 * np.sqrt(nominal * (1 - nominal) / n)
    coverage.fill_between(nominal, nominal - error, nominal + error, color="black", alpha=0.15, lw=0)
    coverage.plot(nominal, nominal, color="black", lw=0.8)
    coverage.set(xlabel="a central interval should hold", ylabel="it holds")
    coverage.set_xticks(nominal, levels, rotation=45)
    coverage.set_title("coverage", fontsize=9)
    apart.legend(frameon=False, fontsize=7, loc="center left", bbox_to_anchor=(1, 0.5))
    _tidy(*top.axes, apart, coverage)
    return figure


def _heading(problems: Sequence[str], none: str) -> str:
    lines = [f"-  {textwrap.fill(problem, 150, subsequent_indent='   ')}" for problem in problems[:6]]
    return "\n".join([*lines, *([f"and {len(problems) - 6} more"] if len(problems) > 6 else [])]) or none


def _tidy(*panels: Axes) -> None:
    for panel in panels:
        panel.spines[["top", "right"]].set_visible(False)
        panel.tick_params(labelsize=7)
        panel.xaxis.label.set_fontsize(8)
        panel.yaxis.label.set_fontsize(8)
