# Copyright ppl-disent contributors.
# SPDX-License-Identifier: Apache-2.0
"""The page: what is said of a run, put into the template."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

import jinja2
import torch
from markupsafe import Markup
from torch import Tensor

from experiments.outcome import Codes, encode, score
from experiments.report import pictures
from experiments.report.scores import Row, scores, stored
from experiments.report.source import Source
from ppl_disent import plots
from ppl_disent.data import Dataset
from ppl_disent.errors import ArgumentError, SiteError
from ppl_disent.run import Run
from ppl_disent.sites import takes_conditions

HERE = Path(__file__).parent
# At most so many latent values a site; data in a traversal, reconstructions and samples; points in a scatter.
SHOWN, MOVED, REBUILT, SAMPLED, POINTS = 24, 3, 12, 36, 1500
DIAGNOSED, PARTICLES = 200, 200


class Tile(NamedTuple):
    """A main figure."""

    name: str
    value: str
    note: str = ""


def render(source: Source, *, bootstrap: int, progress: bool) -> str:
    """The page of a run.

    Args:
        source: The run.
        bootstrap: Resamples for the intervals of scores.
        progress: Show a progress bar.
    """
    run, data, codes = source.run, source.data, None
    metrics = dict(source.metrics)
    rows = [stored(name, metrics[name.lower()]) for name in ("MIG", "RMIG") if "value" in metrics.get(name.lower(), {})]
    why = "" if rows else "There are no scores: they need the data."
    if run is not None and data is not None:
        codes = encode(run, data, progress=progress)
        metrics |= score(codes, data, run.history)
        rows, why = scores(codes, data, metrics, bootstrap)
    shown = {
        "source": source,
        "tiles": _tiles(source, metrics, rows),
        "charts": pictures.charts(source.history) if len(source.history) else [],
        "rows": rows,
        "why_no_scores": why,
        "figures": {
            name.removeprefix("figures."): f"{value:.4g}" if isinstance(value, float) else value
            for name, value in _flat(source.result)
        },
        "provenance": _provenance(source),
        "settings": {name: value for name, value in source.settings.items() if value is not None},
        "frames": pictures.FRAMES,
        "now": datetime.now().astimezone(),
    }
    if run is not None:
        shown |= _shown(run, data, codes, metrics, source.notes)
    return _filled(shown)


def _filled(shown: Mapping[str, Any]) -> str:
    style, script = ((HERE / name).read_text(encoding="utf-8") for name in ("page.css", "page.js"))
    # The browser runs this script and no other, and asks for nothing that is not in the page.
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{digest}'"
    loader = jinja2.FileSystemLoader(HERE)
    made = jinja2.Environment(loader=loader, autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)
    made.lstrip_blocks = True
    blank: dict[str, Any] = {"strips": {}, "about": {}, "pairs": [], "samples": [], "scatter": "", "diagnosis": None}
    template = made.get_template("page.html")
    return template.render(blank | dict(shown), style=Markup(style), script=Markup(script), policy=policy)


def _shown(
    run: Run, data: Dataset | None, codes: Codes | None, metrics: Mapping[str, Any], notes: list[str]
) -> dict[str, Any]:
    """What a fitted pair shows."""
    q, shape = run.posterior, run.shapes[0][0]
    found: dict[str, Any] = {}
    with torch.random.fork_rng({p.device for p in run.model.parameters() if p.is_cuda}):
        torch.manual_seed(0)
        if len(shape) == 3 and shape[0] in (1, 3):
            kl = _kl(run, codes, metrics)
            moved = () if data is None or codes is None else data.batch(_moved(codes))
            found["strips"] = pictures.strips(q, kl, moved, SHOWN)
            found["about"] = {site: (float(nats.sum()), len(nats)) for site, nats in kl.items()}
            if data is not None and codes is not None:
                found["pairs"] = pictures.pairs(q, data.batch(codes.index[:REBUILT]))
            if data is not None or not takes_conditions(run.model):
                index = range(min(SAMPLED, len(data))) if data is not None else ()
                conditions = data.batch(index)[1:] if data is not None else ()
                found["samples"] = pictures.samples(q, len(index) or SAMPLED, conditions)
            else:
                notes.append("There are no samples: the model takes labels, and there are no data to take them from.")
        elif data is not None and codes is not None:
            figure = plots.scatter(_first(codes), _colours(codes, data), points=POINTS)
            found["scatter"] = Markup(pictures.svg(figure, "scatter"))
        if data is not None and codes is not None:
            try:
                diagnosis = q.diagnose(*data.batch(codes.index[:DIAGNOSED]), particles=PARTICLES)
                figure = plots.diagnosis(diagnosis)
                figure.suptitle("")  # the problems stand above it in the page
                found["diagnosis"] = {"found": diagnosis, "svg": Markup(pictures.svg(figure, "diagnosis"))}
            except (SiteError, ArgumentError) as error:
                notes.append(f"There is no diagnosis: {error}")
    return found


def _kl(run: Run, codes: Codes | None, metrics: Mapping[str, Any]) -> dict[str, Tensor]:
    """The KL divergence of each latent value: of the data, of metrics.json, or NaN."""
    if codes is not None:
        return {site: nats for site, nats in codes.kl.items() if nats.dim() == 1}
    blank = [torch.zeros(1, *shape, dtype=dtype) for shape, dtype in run.shapes]
    unknown = {site: code.mean[0] * torch.nan for site, code in run.posterior.encode(*blank).items()}
    known = {site: torch.tensor(each["per_latent"]) for site, each in metrics.get("kl", {}).items()}
    return {site: known.get(site, nats) for site, nats in unknown.items() if nats.dim() == 1}


def _moved(codes: Codes) -> Tensor:
    """The datum nearest to the prior's mean, where the decoder knows its surroundings best, and others."""
    middle = codes.index[torch.cat([mean.flatten(1) for mean in codes.mean.values()], 1).norm(dim=1).argmin()]
    return torch.cat([middle[None], codes.index[codes.index != middle][: MOVED - 1]])


def _first(codes: Codes) -> dict[str, Tensor]:
    """Six coordinates a site, enough for a picture."""
    return {site: mean[:, :6] for site, mean in codes.mean.items()}


def _colours(codes: Codes, data: Dataset) -> dict[str, Tensor]:
    named: dict[str, Tensor] = {}
    for names, values in (
        (data.label_names, data.labels),
        (data.factor_names, data.factors),
        (data.continuous_names, data.continuous),
    ):
        named |= {} if values is None else dict(zip(names, values[codes.index].T))
    return named or {"-log p(x | latents), nats": codes.error}


def _tiles(source: Source, metrics: Mapping[str, Any], rows: list[Row]) -> Iterator[Tile]:
    of = f"of {source.planned:,}" if source.planned else ""
    yield Tile("steps", f"{source.step:,}", of)
    if error := metrics.get("reconstruction"):
        yield Tile("reconstruction", _number(error["nats_per_datum"]), "nats per datum, -log p(x | latents)")
    for site, kl in metrics.get("kl", {}).items():
        aim = metrics.get("set_point", {}).get(site)
        note = "nats per datum" + (f", set point {aim:.2f}" if aim is not None else "")
        yield Tile(f"KL of {site}", _number(kl["nats_per_datum"]), note)
    for row in rows[:1]:
        note = f"95 % interval {row.interval[0]:.3f} to {row.interval[1]:.3f}" if row.interval else ""
        yield Tile(row.name, f"{row.value:.3f}", note)
    if (seconds := metrics.get("training", {}).get("seconds")) is not None:
        yield Tile("training", f"{seconds:,.0f}", "seconds, of the last command")


def _number(value: float) -> str:
    return f"{value:,.2f}" if abs(value) < 1e5 else f"{value:.3g}"


def _provenance(source: Source) -> dict[str, Any]:
    config, settings = source.config, source.settings
    task = {"task": config.get("task")} | dict(_flat(config.get("arguments") or {}, "argument "))
    options = config.get("options") or {}
    rows = {
        "command": config.get("command"),
        **task,
        "folder": source.folder,
        "data": source.named or None,
        "data options": " ".join(map(str, options.get("data_options") or ())) or None,
        "data fingerprint": settings.get("data"),
        "seed": settings.get("seed"),
        **dict(_flat(config.get("versions") or {}, "version of ")),
        **dict(_flat(config.get("machine") or {}, "machine, ")),
        "device": settings.get("device"),
        "begun": config.get("began"),
        "checkpoint written": source.written.isoformat(timespec="seconds"),
    }
    return {name: value for name, value in rows.items() if value is not None}


def _flat(values: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, Any]]:
    """Nested mappings as one, with dots between the names."""
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{before}{name}.")
        elif value is not None:
            yield f"{before}{name}", value
