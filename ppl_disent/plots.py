# Copyright ppl-disent contributors.
# SPDX-License-Identifier: Apache-2.0
"""Pictures of a run and of a posterior.

Every function returns a ``matplotlib.figure.Figure`` that belongs to nobody else: pyplot and its global state are not
used, so pictures are made the same way in a script, on a machine without a screen and in a notebook.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor
from torch.distributions import Distribution, Independent, Normal, kl_divergence

from ppl_disent.errors import ArgumentError, SiteError

if TYPE_CHECKING:
    import pandas as pd

    from ppl_disent.posterior import Posterior

# The palette of Okabe and Ito, which stays apart under all common kinds of colour blindness.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
_INCHES_PER_IMAGE = 0.62


def curves(history: pd.DataFrame) -> Figure:
    """What happened while a run was trained, in panels over the same steps.

    Loss and reconstruction error; KL divergence of each site and its set point; beta; and how near a controller's loop
    is to instability, where that is known. Axes are logarithmic where their values span more than a decade.

    Args:
        history: ``Run.history``.

    Raises:
        ArgumentError: For a history without rows or without a loss.
    """
    if "loss" not in history or not len(history):
        raise ArgumentError("history", got=list(history.columns), expected="Run.history, with at least one row")
    sites = [name.removeprefix("kl.") for name in history if name.startswith("kl.")]
    margins = [f"margin.{site}" for site in sites if history.get(f"margin.{site}", history["loss"] * np.nan).notna().any()]
    count = 4 if margins else 3
    figure = Figure(figsize=(8, 0.6 + 2.1 * count), dpi=120, layout="constrained")
    panels = list(figure.subplots(count, 1, sharex=True))

    lines = {"loss": history["loss"]}
    lines |= {f"-log p({k[8:]} | latents)": -history[k] for k in history if k.startswith("log_lik.")}
    _panel(panels[0], lines, "nats per datum")
    targets = {site: k for site in sites for k in (f"set_point.{site}", f"capacity.{site}") if k in history}
    _panel(panels[1], {f"KL of {site}": history[f"kl.{site}"] for site in sites}, "nats per datum")
    for i, site in enumerate(sites):
        if site in targets:
            panels[1].plot(history[targets[site]], "--", color="black" if len(sites) == 1 else _COLOURS[i], label=f"set point of {site}")
    _panel(panels[2], {f"beta of {site}": history[f"kl_scale.{site}"] for site in sites}, "weight of the KL")
    if margins:
        _panel(panels[3], {f"margin of {k[7:]}": history[k] for k in margins}, "stability margin")
        panels[3].axhline(1, color="black", ls="--", lw=1, label="unstable from here")
    for i, panel in enumerate(panels):
        if i in (0, 2):
            _log_if_wide(panel)
        panel.legend(loc="best", frameon=False)
    panels[-1].set_xlabel("steps")
    return figure
