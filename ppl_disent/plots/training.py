# Copyright ppl-disent contributors.
# SPDX-License-Identifier: Apache-2.0
"""What happened in a run."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import cycle
from typing import TYPE_CHECKING

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter

from ppl_disent.errors import ArgumentError

if TYPE_CHECKING:
    import pandas as pd

# Those of Okabe and Ito, which stay apart under the common kinds of colour blindness.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")


def curves(history: pd.DataFrame) -> Figure:
    """What happened while a pair was trained, in panels over the same steps.

    Loss and reconstruction; the KL divergence of each site with its set point; beta; and a controller's stability
    margin where it is known. Loss and beta have a logarithmic axis if they are positive and span more than a decade.

    Args:
        history: ``Run.history``.

    Raises:
        ArgumentError: For a history without rows, or without a loss.
    """
    if "loss" not in history or history.empty:
        raise ArgumentError("history", got=list(history), expected="Run.history, with a loss and at least one row")
    observed, sites = ([k.removeprefix(kind) for k in history if k.startswith(kind)] for kind in ("log_lik.", "kl."))
    margins = [site for site in sites if history.get(f"margin.{site}", history["loss"] * torch.nan).notna().any()]

    figure = Figure(figsize=(7.5, 0.5 + 2.0 * (3 + bool(margins))), dpi=150, layout="constrained")
    panels = figure.subplots(3 + bool(margins), sharex=True)
    panels[0].set_ylabel("nats per datum")
    lines = {"loss": history["loss"]}
    lines |= {f"reconstruction, -log p({x} | latents)": -history[f"log_lik.{x}"] for x in observed}
    _draw(panels[0], lines)
    panels[1].set_ylabel("KL, nats per datum")
    _draw(panels[1], {f"KL of {z}": history[f"kl.{z}"] for z in sites}, log=False)
    aims = {z: history[k] for z in sites for k in (f"set_point.{z}", f"capacity.{z}") if k in history}
    for z, line in aims.items():
        panels[1].plot(line, color="black", ls="--", lw=1, label=f"set point of {z}")
    panels[2].set_ylabel("beta, weight of KL")
    _draw(panels[2], {f"beta of {z}": history[f"kl_scale.{z}"] for z in sites})
    if margins:
        panels[3].set_ylabel("stability margin")
        _draw(panels[3], {f"loop of {z}": history[f"margin.{z}"] for z in margins})
        panels[3].axhline(1, color="black", ls="--", lw=1, label="unstable from here")
    for panel in panels:
        panel.legend(frameon=False)
    figure.align_ylabels()
    panels[-1].set_xlabel("optimisation steps")
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
