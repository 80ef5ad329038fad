# Copyright ppl-disent contributors.
# SPDX-License-Identifier: Apache-2.0
"""Pictures of a study of methods: what one figure costs in another, how runs scatter, which figures agree."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import cycle

import numpy as np
import pandas as pd

from experiments.scores import Figure as Named
from experiments.tables import interval
from ppl_disent.plots.figure import Figure
from ppl_disent.plots.training import COLOURS

MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")


def tradeoff(every: pd.DataFrame, x: Mapping[str, Named], y: Mapping[str, Named]) -> Figure:
    """One figure against others: runs as faint points, means with their bootstrap intervals as crosses.

    Args:
        every: Indexed by model and seed.
        x: The figure across, by its column.
        y: The figures up, a panel each.
    """
    ((across, named),) = x.items()
    styles, across_legend = _styles(every), 1 + len(y)
    height = 3.4 + 0.25 * -(-len(styles) // across_legend)
    figure = Figure(figsize=(1.2 + 3.4 * len(y), height), dpi=150, layout="constrained")
    panels = figure.subplots(1, len(y), squeeze=False)[0]
    for panel, (up, what) in zip(panels, y.items()):
        for model, colour, marker in styles:
            own = every.loc[model, [across, up]].astype(float).dropna()
            if own.empty:
                continue
            panel.scatter(own[across], own[up], s=14, lw=0, alpha=0.35, color=colour, marker=marker)
            middle = own.mean()
            arms = [np.abs(np.array(interval(own[c]))[:, None] - middle[c]) for c in (across, up)]
            bars = {"xerr": arms[0], "yerr": arms[1]} if len(own) > 1 else {}
            panel.errorbar(
                *middle, **bars, color=colour, marker=marker, ms=7, mec="white", mew=0.8, lw=1.3, label=model
            )
        panel.set(xlabel=named.heading, ylabel=what.heading)
        panel.spines[["top", "right"]].set_visible(False)
        panel.grid(alpha=0.3)
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=across_legend, frameon=False)
    return figure


def violins(every: pd.DataFrame, columns: Mapping[str, Named], *, across: int = 3) -> Figure:
    """A panel for each figure, in it a violin for each model, with all runs as points and their mean as a line.

    Args:
        every: Indexed by model and seed.
        columns: The figures.
        across: Panels in a row.
    """
    models = [model for model, _, _ in _styles(every)]
    down = -(-len(columns) // across)
    figure = Figure(figsize=(3.4 * across, 0.4 + (1.1 + 0.26 * len(models)) * down), dpi=150, layout="constrained")
    panels = figure.subplots(down, across, squeeze=False, sharey=True).flatten()
    for panel, (column, what) in zip(panels, columns.items()):
        for place, (model, colour, _) in enumerate(_styles(every)):
            values = every.loc[model, column].astype(float).dropna().to_numpy()
            if len(values) > 1 and np.ptp(values) > 0:
                made = panel.violinplot(values, [place], orientation="horizontal", widths=0.85, showextrema=False)
                for body in made["bodies"]:
                    body.set(facecolor=colour, alpha=0.35, linewidth=0)
            panel.scatter(values, np.full(len(values), place), s=11, lw=0, color=colour, zorder=3)
            if len(values):
                panel.plot([values.mean()] * 2, [place - 0.32, place + 0.32], color=colour, lw=1.8)
        panel.set_title(what.heading, fontsize=9)
        panel.set_yticks(range(len(models)), models, fontsize=8)
        panel.tick_params(axis="x", labelsize=7)
        panel.spines[["top", "right"]].set_visible(False)
        panel.grid(axis="x", alpha=0.3)
    panels[0].invert_yaxis()  # shared by all
    for panel in panels[len(columns) :]:
        panel.set_visible(False)
    return figure


def correlations(every: pd.DataFrame, columns: Mapping[str, Named]) -> pd.DataFrame:
    """Spearman's rank correlation of all pairs of figures over all runs, each turned so that more is better.

    Args:
        every: Indexed by model and seed.
        columns: The figures; those that have one value only are left out.
    """
    turned = pd.DataFrame({n.name: every[c].astype(float) * (n.sign or 1) for c, n in columns.items()})
    return turned.loc[:, turned.nunique() > 1].corr(method="spearman")


def heat(table: pd.DataFrame) -> Figure:
    """A table of :func:`correlations`, in colours."""
    size = 1.6 + 0.34 * len(table)
    figure = Figure(figsize=(size + 1.2, size), dpi=150, layout="constrained")
    panel = figure.subplots()
    drawn = panel.imshow(table.to_numpy(), cmap="PuOr_r", vmin=-1, vmax=1)
    for (i, j), value in np.ndenumerate(table.to_numpy()):
        if np.isfinite(value):
            shade = "white" if abs(value) > 0.7 else "black"
            panel.text(j, i, f"{value:.1f}".replace("-0.0", "0.0"), ha="center", va="center", fontsize=6, color=shade)
    panel.set_xticks(range(len(table)), table.columns, rotation=90, fontsize=7)
    panel.set_yticks(range(len(table)), table.columns, fontsize=7)
    panel.tick_params(length=0)
    panel.spines[:].set_visible(False)
    figure.colorbar(drawn, ax=panel, shrink=0.6, label="rank correlation over runs")
    return figure


def _styles(every: pd.DataFrame) -> list[tuple[str, str, str]]:
    """Models in their order, each with a colour and, where colours run out, a mark that tells it from the others."""
    models = dict.fromkeys(every.index.get_level_values(0))
    return list(zip(models, cycle((*COLOURS, "#000000")), cycle(MARKERS)))
