# Copyright ppl-disent contributors.
# SPDX-License-Identifier: Apache-2.0
"""The pictures of a report: small charts that take the page's colours, and images as data URIs."""

from __future__ import annotations

import base64
import io
import re
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from matplotlib import rc_context
from matplotlib.figure import Figure
from torch import Tensor

from ppl_disent import plots
from ppl_disent.explore import View, png
from ppl_disent.posterior import Posterior

# An image is enlarged to at least so many pixels, so that the gap between two is narrow beside it.
FRAMES, GAP, SIDE = 25, 2, 48
_STYLE: Any = {"svg.fonttype": "none", "font.size": 8.5, "axes.linewidth": 0.6}


class Picture(NamedTuple):
    """An image in the page. The size is in its own pixels."""

    uri: str
    width: int
    height: int
    alt: str


class Chart(NamedTuple):
    """A panel of the curves, with the legend ``(label, colour, dashed)`` beside it."""

    title: str
    legend: list[tuple[str, str, bool]]
    svg: str


@dataclass
class Strip:
    """What one latent value does: all its frames in one picture, from the top.

    Attributes:
        name: Of the latent value.
        kl: Its mean KL divergence, nats, if that is known.
        picture: ``FRAMES`` frames, each of the data side by side.
        low: The latent value in the first frame.
        high: In the last.
        unit: Of these two.
        start: The frame that is shown first.
    """

    name: str
    kl: float | None
    picture: Picture
    low: float
    high: float
    unit: str
    start: int

    def at(self, frame: int) -> str:
        """The latent value of a frame, as it is shown."""
        return f"{self.low + (self.high - self.low) * frame / (FRAMES - 1):.2f}{self.unit}"


def picture(image: Tensor, alt: str) -> Picture:
    """An image ``(1 or 3, h, w)`` in [0, 1]."""
    height, width = image.shape[-2:]
    return Picture("data:image/png;base64," + base64.b64encode(png(image)).decode(), width, height, alt)


def charts(history: pd.DataFrame) -> list[Chart]:
    """The panels of :func:`ppl_disent.plots.curves`, each small enough to be read on a telephone."""
    found: list[Chart] = []
    for panel in plots.curves(history).axes:
        with rc_context(_STYLE):
            figure = Figure(figsize=(4.6, 2.3), layout="constrained")
            axes = figure.subplots()
            for line in panel.lines:
                x, y = map(np.asarray, line.get_data())
                style: Any = {"color": line.get_color(), "ls": line.get_linestyle(), "marker": line.get_marker()}
                if line.get_transform() == panel.get_yaxis_transform():
                    axes.axhline(y[0], lw=1.4, **style)
                else:
                    axes.plot(x, y, lw=1.4, **style)
            axes.set_yscale(panel.get_yscale())
            if panel.get_yscale() == "log":
                axes.yaxis.set_major_locator(panel.yaxis.get_major_locator())
                axes.yaxis.set_major_formatter("{x:g}")
                axes.yaxis.set_minor_formatter("")
            axes.xaxis.set_major_formatter("{x:,.0f}")
            axes.spines[["top", "right"]].set_visible(False)
            axes.grid(alpha=0.3)
            axes.set_xlabel("optimisation steps")
            legend = [(str(k.get_label()), _ink(k.get_color()), k.get_linestyle() == "--") for k in panel.lines]
            found.append(Chart(panel.get_ylabel(), legend, svg(figure, f"curve{len(found)}")))
    return found


def svg(figure: Figure, salt: str) -> str:
    """A figure to stand in the page: without size and background, what is black in the colour of the text.

    Args:
        figure: The figure.
        salt: One for each figure of the page, which keeps their names apart.
    """
    for panel in figure.axes:
        for points in panel.collections:
            points.set_rasterized(True)
    file = io.StringIO()
    with rc_context(_STYLE | {"svg.hashsalt": salt}):
        figure.savefig(file, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    text = file.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r' id="[A-Za-z]+[\w.]*_\d+"', "", text)
    text = re.sub(r' (?:width|height)="[\d.]+pt"', "", text, count=2)
    text = re.sub(r"(stroke|fill): ?#000000", r"\1: currentColor", text)
    return text.replace("<svg", '<svg aria-hidden="true"', 1)


def _ink(colour: Any) -> str:
    return "currentColor" if colour == "black" else str(colour)


def strips(q: Posterior, kl: dict[str, Tensor], batch: tuple[Tensor, ...], shown: int) -> dict[str, list[Strip]]:
    """Traversals of each site, those of the largest KL first.

    Args:
        q: The posterior.
        kl: Of each latent value, ``{site: (latent,)}``, nats.
        batch: Some images that are changed; none for one at the prior's mean.
        shown: At most so many latent values a site.
    """
    view = View(q, batch) if batch else None
    found: dict[str, list[Strip]] = {}
    for site, nats in kl.items():
        found[site] = []
        for i in nats.argsort(descending=True, stable=True).tolist()[:shown]:
            if view is None:
                low, high, units, unit, start = -3.0, 3.0, "sd", " sd", FRAMES // 2
            else:
                low, high, units, unit = float(view.low[site][i]), float(view.high[site][i]), "latent", ""
                start = round((float(view.codes[site][0, i]) - low) / (high - low) * (FRAMES - 1))
            frames = q.traverse(site, i, torch.linspace(low, high, FRAMES), *batch, units=units)
            name = f"{site}[{i}]"
            image = picture(_side_by_side(frames), f"Images decoded while {name} goes from {low:.2f} to {high:.2f}")
            known = float(nats[i]) if nats[i].isfinite() else None
            found[site].append(Strip(name, known, image, low, high, unit, start))
    return found


def _side_by_side(frames: Tensor) -> Tensor:
    """``(data, frames, channels, h, w)`` as one image: frames from the top, in each the data from the left."""
    gaps = torch.nn.functional.pad(_enlarged(frames.cpu()), (0, GAP), value=0.5)
    return gaps.permute(2, 1, 3, 0, 4).flatten(3).flatten(1, 2)[..., :-GAP]


def _enlarged(images: Tensor) -> Tensor:
    times = -(-SIDE // max(images.shape[-2:]))
    return images.repeat_interleave(times, -1).repeat_interleave(times, -2)


def pairs(q: Posterior, batch: tuple[Tensor, ...]) -> list[Picture]:
    """Each datum above its reconstruction."""
    x, rebuilt = _enlarged(batch[0].cpu()), _enlarged(q.reconstruct(*batch).cpu())
    gap = x.new_full((*x.shape[1:2], GAP, x.shape[3]), 0.5)
    both = [torch.cat([one, gap, other], 1) for one, other in zip(x, rebuilt)]
    return [picture(image, f"Datum {i + 1} above its reconstruction") for i, image in enumerate(both)]


def samples(q: Posterior, n: int, conditions: tuple[Tensor, ...]) -> list[Picture]:
    """Images of the model."""
    with torch.random.fork_rng({p.device for p in q.model.parameters() if p.is_cuda}):
        torch.manual_seed(0)
        return [picture(image, f"Sample {i + 1}") for i, image in enumerate(q.sample(n, *conditions))]
