# Copyright ppl-disent contributors.
# SPDX-License-Identifier: Apache-2.0
"""What happened in a run."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import cycle
from typing import TYPE_CHECKING

import torch
from matplotlib.axes import Axes
from matplotlib.ticker import LogLocator, NullFormatter

from ppl_disent.errors import ArgumentError
from ppl_disent.plots.figure import Figure

if TYPE_CHECKING:
    import pandas as pd

# Those of Okabe and Ito, which stay apart under the common kinds of colour blindness.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")


def curves(history: pd.DataFrame) -> Figure:
    """What happened while a pair was trained, in panels over the same steps.

    Loss and reconstruction; the KL divergence of each site with its set point, and beta; a controller's stability
    margin where it is known; further terms of the objective; the travel of a subspace. Sites whose KL weighs nothing
    are left out. Loss and beta have a logarithmic axis if they are positive and span more than a decade.

    Args:
        history: ``Run.history``.

    Raises:
        ArgumentError: For a history without rows, or without a loss.

    Example:
        >>> from ppl_disent import plots
        >>> run = dynamic_vae((1, 8, 8)).fit(load("digits"), steps=4, log_every=1, progress=False)
        >>> plots.curves(run.history).savefig("curves.png")
    """
    if "loss" not in history or history.empty:
        raise ArgumentError("history", got=list(history), expected="Run.history, with a loss and at least one row")
    observed, terms = ([k.removeprefix(kind) for k in history if k.startswith(kind)] for kind in ("log_lik.", "extra."))
    # What weighs nothing is not looked at: St-RKM's objective has no KL.
    sites = [
        k[3:] for k in history if k.startswith("kl.") and (history.get(f"kl_scale.{k[3:]}", history["loss"]) != 0).any()
    ]
    margins = [site for site in sites if history.get(f"margin.{site}", history["loss"] * torch.nan).notna().any()]
    rows = ["loss", *(["kl", "beta"] if sites else []), *(["margin"] if margins else []), *(["terms"] if terms else [])]
    rows += ["travel"] if "travel.U" in history else []

    figure = Figure(figsize=(7.5, 0.5 + 2.0 * len(rows)), dpi=150, layout="constrained")
    panels = dict(zip(rows, figure.subplots(len(rows), sharex=True, squeeze=False)[:, 0]))
    panels["loss"].set_ylabel("nats per datum")
    lines = {"loss": history["loss"]}
    lines |= {f"reconstruction, -log p({x} | latents)": -history[f"log_lik.{x}"] for x in observed}
    _draw(panels["loss"], lines)
    if sites:
        panels["kl"].set_ylabel("KL, nats per datum")
        _draw(panels["kl"], {f"KL of {z}": history[f"kl.{z}"] for z in sites}, log=False)
        aims = {z: history[k] for z in sites for k in (f"set_point.{z}", f"capacity.{z}") if k in history}
        for z, line in aims.items():
            panels["kl"].plot(line, color="black", ls="--", lw=1, label=f"set point of {z}")
        panels["beta"].set_ylabel("beta, weight of KL")
        _draw(panels["beta"], {f"beta of {z}": history[f"kl_scale.{z}"] for z in sites})
    if margins:
        panels["margin"].set_ylabel("stability margin")
        _draw(panels["margin"], {f"loop of {z}": history[f"margin.{z}"] for z in margins})
        panels["margin"].axhline(1, color="black", ls="--", lw=1, label="unstable from here")
    if terms:
        panels["terms"].set_ylabel("terms, unweighted")
        _draw(panels["terms"], {name: history[f"extra.{name}"] for name in terms})
    if "travel" in panels:
        panels["travel"].set_ylabel("travel of U")
        _draw(panels["travel"], {"from where it began": history["travel.U"]}, log=False)
    for panel in panels.values():
        panel.legend(frameon=False)
    figure.align_ylabels()
    panels[rows[-1]].set_xlabel("optimisation steps")
    return figure


def _draw(panel: Axes, lines: Mapping[str, pd.Series], *, log: bool = True) -> None:
    """Lines in one panel, on a logarithmic axis if that is allowed and needed."""
    for (label, line), colour in zip(lines.items(), cycle(COLOURS)):
        # A single row of history would be no line, and not be seen.
        panel.plot(line, color=colour, marker="." if line.notna().sum() == 1 else None, label=label)
    low, high = (f(f(line) for line in lines.values()) for f in (min, max))
    if log and 0 < 10 * low < high:
        panel.set_yscale("log")
        panel.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        panel.yaxis.set_major_formatter("{x:g}")
        panel.yaxis.set_minor_formatter(NullFormatter())
    panel.spines[["top", "right"]].set_visible(False)
    panel.grid(alpha=0.3)
