# Copyright ppl-disent contributors.
# SPDX-License-Identifier: Apache-2.0
"""Pictures of a run and of a posterior.

Every function returns a ``matplotlib.figure.Figure`` of its own: pyplot and its global state are not used, so a picture
comes out the same in a script, on a machine without a screen and in a notebook. Save it with ``figure.savefig(path)``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import cycle
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter
from torch import Tensor
from torch.distributions import Independent, Normal, kl_divergence

from ppl_disent.errors import ArgumentError, SiteError

if TYPE_CHECKING:
    import pandas as pd

    from ppl_disent.posterior import Posterior

# Those of Okabe and Ito, which stay apart under the common kinds of colour blindness.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")


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


def latent_kl(q: Posterior, *batch: Tensor, site: str = "z") -> Tensor:
    """How much of each latent value is used: the mean KL divergence of q(z_i | x) from the standard normal, in nats.

    Args:
        q: The posterior.
        *batch: The data, ``(n, ...)`` tensors.
        site: A latent site whose q is normal.

    Returns:
        A ``(latent,)`` tensor.

    Raises:
        SiteError: For an unknown site, or one whose q is not normal.
    """
    encoded = q.encode(*batch)
    marginals = encoded.get(site)
    while isinstance(marginals, Independent):
        marginals = marginals.base_dist
    if not isinstance(marginals, Normal):
        raise SiteError(f"{site!r}: got {encoded.get(site)}, expected a site with normal q, of {sorted(encoded)}.")
    return kl_divergence(Normal(marginals.loc, marginals.scale), Normal(0.0, 1.0)).mean(0)


def reconstructions(q: Posterior, *batch: Tensor, n: int = 10) -> Figure:
    """Data above their reconstructions.

    Args:
        q: The posterior.
        *batch: The data, x first: images ``(n, 1, h, w)`` in grey or ``(n, 3, h, w)`` in colour, in [0, 1].
        n: How many to show; all where there are fewer.

    Raises:
        ArgumentError: If x are no images, or ``n`` is below 1.
    """
    _check_images(batch)
    if n < 1:
        raise ArgumentError("n", got=n, expected="at least 1")
    some = tuple(field[:n] for field in batch)
    return _grid(torch.stack((some[0], q.reconstruct(*some).to(some[0]))), ["data", "reconstruction"], [])


def traversal(
    q: Posterior,
    *batch: Tensor,
    site: str = "z",
    values: Tensor | Sequence[float] | None = None,
    kl: Tensor | None = None,
) -> Figure:
    """What each latent value does to the first datum, in a row for each, those with the largest KL divergence first.

    Args:
        q: The posterior.
        *batch: The data, x first: images ``(n, 1, h, w)`` in grey or ``(n, 3, h, w)`` in colour, in [0, 1].
        site: The latent site, with values of shape ``(n, latent)``.
        values: What the latent value is set to, one column each; by default 11 values from -3 to 3.
        kl: A ``(latent,)`` tensor by which the rows are ordered; by default :func:`latent_kl` of the batch.

    Raises:
        ArgumentError: If x are no images, or ``kl`` does not fit the site.
        SiteError: For an unknown site, or one whose q is not normal.
    """
    _check_images(batch)
    columns = torch.as_tensor(torch.arange(-5, 6) * 0.6 if values is None else values)
    used = latent_kl(q, *batch, site=site)
    if kl is not None and kl.shape != used.shape:
        raise ArgumentError("kl", got=tuple(kl.shape), expected=f"the shape {tuple(used.shape)}, one number a latent")
    nats = (used if kl is None else kl).tolist()
    order = sorted(range(len(nats)), key=lambda i: -nats[i])
    first = tuple(field[:1] for field in batch)
    rows = torch.cat([q.traverse(site, i, columns, *first) for i in order])
    figure = _grid(rows, [f"{site}[{i}]  {nats[i]:.2f} nats" for i in order], [f"{v:.2g}" for v in columns.tolist()])
    figure.suptitle(
        f"one value of {site} is changed, the others are as encoded; rows by mean KL", fontsize=9, wrap=True
    )
    return figure


def _draw(panel: Axes, lines: Mapping[str, pd.Series], *, log: bool = True) -> None:
    """Lines in one panel, on a logarithmic axis if that is allowed and needed."""
    for (label, line), colour in zip(lines.items(), cycle(_COLOURS)):
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


def _grid(images: Tensor, rows: Sequence[str], columns: Sequence[str]) -> Figure:
    """One picture of ``(rows, columns, channels, h, w)`` images in [0, 1], which are clamped, with their headings."""
    height, width, (h, w) = len(images), images.shape[1], images.shape[-2:]
    gap = max(1, h // 16)
    # One picture, not one panel an image: a hundred panels take seconds to draw.
    framed = F.pad(images.detach().cpu().float().clamp(0, 1), (0, gap, 0, gap), value=0.7)
    joined = framed.permute(0, 3, 1, 4, 2).flatten(2, 3).flatten(0, 1)[:-gap, :-gap]
    figure = Figure(figsize=(1.2 + 0.6 * width, 0.6 + 0.6 * height * h / w), dpi=150, layout="constrained")
    panel = figure.subplots()
    panel.imshow(joined.expand(-1, -1, 3).numpy(), interpolation="nearest")
    panel.set_yticks([(h + gap) * i + (h - 1) / 2 for i in range(height)], rows)
    panel.set_xticks([(w + gap) * i + (w - 1) / 2 for i in range(len(columns))], columns)
    panel.tick_params(length=0, labelsize=8, labeltop=True, labelbottom=False)
    panel.spines[:].set_visible(False)
    return figure


def _check_images(batch: tuple[Tensor, ...]) -> None:
    shape = tuple(batch[0].shape) if batch else ()
    if len(shape) != 4 or shape[1] not in (1, 3) or not shape[0]:
        raise ArgumentError("x", got=shape, expected="images: (n, 1, h, w) in grey or (n, 3, h, w) in colour")
