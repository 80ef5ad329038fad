# Copyright ppl-disent contributors.
# SPDX-License-Identifier: Apache-2.0
"""What is said of a finished run: figures, a table, pictures, files."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from matplotlib.figure import Figure
from torch import Tensor
from torch.distributions import Normal, kl_divergence
from tqdm.auto import tqdm

from ppl_disent import plots
from ppl_disent.data import Dataset
from ppl_disent.errors import DataError
from ppl_disent.metrics import mig, rmig
from ppl_disent.run import Run

# Scores are taken of at most so many data, the same ones for all runs, and so many at a time.
SCORED, CHUNK = 10_000, 1_000


@dataclass
class Codes:
    """What the guide and the model say of the data that are scored.

    Attributes:
        index: Their positions in the data set, ``(n,)``.
        mean: Of q(site | x), ``{site: (n, latent)}``.
        stddev: Likewise.
        kl: Mean KL divergence of each latent value from the model's prior, ``{site: (latent,)}``, nats.
        error: -log p(x | latents at their means), ``(n,)``, nats.
    """

    index: Tensor
    mean: dict[str, Tensor]
    stddev: dict[str, Tensor]
    kl: dict[str, Tensor]
    error: Tensor


def encode(run: Run, data: Dataset, *, progress: bool) -> Codes:
    """Encodes and decodes up to ``SCORED`` data, on the run's device; the codes are on the host."""
    data = data.to(next(run.model.parameters()).device)
    index = torch.arange(len(data))
    if len(data) > SCORED:
        index = torch.randperm(len(data), generator=torch.Generator().manual_seed(0))[:SCORED]
    q, parts = run.posterior, []
    for part in tqdm(index.split(CHUNK), desc="scoring", disable=not progress, leave=False):
        batch = data.batch(part)
        encoded = q.encode(*batch)
        mean = {z: latent.mean for z, latent in encoded.items()}
        error = -q.decode(*batch, **mean).log_prob(batch[0])
        stddev = {z: latent.stddev for z, latent in encoded.items()}
        prior = {z: Normal(p.mean, p.stddev) for z, p in q.prior(*batch).items()}
        kl = {z: kl_divergence(Normal(mean[z], stddev[z]), p) for z, p in prior.items()}
        parts.append((mean, stddev, kl, {"x": error}))
    mean, stddev, kl, error = (
        {z: torch.cat([part[z].cpu() for part in many]) for z in many[0]} for many in zip(*parts)
    )
    return Codes(index, mean, stddev, {z: each.mean(0) for z, each in kl.items()}, error["x"])


def score(codes: Codes, data: Dataset, history: pd.DataFrame) -> dict[str, Any]:
    """The figures of ``metrics.json``."""
    n, last = len(codes.index), history.iloc[-1]
    scales = [column.removeprefix("kl_scale.") for column in history if column.startswith("kl_scale.")]
    aims = {z: float(last[k]) for z in codes.mean for k in (f"set_point.{z}", f"capacity.{z}") if k in history}
    return {
        "reconstruction": {
            "nats_per_datum": codes.error.double().mean().item(),
            "estimator": f"-log p(x | latents at the means of q), mean over n = {n}",
        },
        "kl": {z: {"nats_per_datum": kl.sum().item(), "per_latent": kl.tolist()} for z, kl in codes.kl.items()},
        "set_point": aims,
        "beta": {
            z: {
                "first": float(history[f"kl_scale.{z}"].iloc[0]),
                "first_step": int(history.index[0]),
                "last": float(last[f"kl_scale.{z}"]),
            }
            for z in scales
        },
        **_disentanglement(codes, data),
    }


def factors_of(codes: Codes, data: Dataset) -> tuple[Tensor, list[str]]:
    """The factors of the data that were encoded, ``(n, K)``, and their names, without those that have one value only.

    Raises:
        DataError: If there is none.
    """
    if data.factors is None:
        raise DataError("the factors of the data are not known")
    factors = data.factors[codes.index.to(data.factors.device)].cpu()
    varying = [k for k in range(factors.shape[1]) if len(factors[:, k].unique()) > 1]
    if not varying:
        raise DataError("every factor has one value only")
    return factors[:, varying], [data.factor_names[k] for k in varying]


def _disentanglement(codes: Codes, data: Dataset) -> dict[str, Any]:
    """MIG and RMIG with all sites' latents side by side, or why there is none."""
    try:
        factors, names = factors_of(codes, data)
    except DataError as why:
        return {name: {"skipped": str(why)} for name in ("mig", "rmig")}
    constant = [name for name in data.factor_names if name not in names]
    mean, stddev = (torch.cat(list(each.values()), 1) for each in (codes.mean, codes.stddev))
    scores = {
        "mig": mig(mean, factors, factor_names=names),
        "rmig": rmig((mean, stddev), factors, factor_names=names),
    }
    return {
        name: {"value": each.value, "per_factor": dict(each.per_factor), "estimator": each.estimator}
        | ({"constant_factors_left_out": constant} if constant else {})
        for name, each in scores.items()
    }


def draw(run: Run, data: Dataset, codes: Codes) -> dict[str, Figure]:
    """The pictures by file name; without those of images where the data are none."""
    figures: dict[str, Figure] = {"curves.png": plots.curves(run.history)}
    if len(data.shape) == 3 and data.shape[0] in (1, 3):
        q, kl = run.posterior, codes.kl
        site = max(kl, key=lambda z: float(kl[z].sum()))
        # The datum nearest to the prior's mean: where the decoder knows its surroundings best.
        middle = codes.index[torch.cat(list(codes.mean.values()), 1).norm(dim=1).argmin()]
        figures["reconstructions.png"] = plots.reconstructions(q, *data.batch(codes.index[:10]))
        figures["traversal.png"] = plots.traversal(q, *data.batch(middle[None]), site=site, kl=kl[site])
    return figures


def write(path: Path, content: Mapping[str, Any] | pd.DataFrame | Figure | str) -> None:
    """Writes a file whole or not at all."""
    temporary = path.with_name(f".{path.name}.tmp")
    if isinstance(content, Figure):
        content.savefig(temporary, format=path.suffix[1:])
    elif isinstance(content, pd.DataFrame):
        content.to_csv(temporary)
    elif isinstance(content, str):
        temporary.write_text(content, encoding="utf-8")
    else:
        temporary.write_text(json.dumps(content, indent=2, default=str) + "\n")
    os.replace(temporary, path)


def table(metrics: Mapping[str, Any]) -> str:
    """The main figures, one a line."""
    training = metrics["training"]
    rows = {"method": metrics["method"], "data": metrics["data"], "steps": f"{metrics['steps']:,}"}
    rows["reconstruction"] = f"{metrics['reconstruction']['nats_per_datum']:.2f} nats"
    for z, kl in metrics["kl"].items():
        aim = f", set point {metrics['set_point'][z]:.2f}" if z in metrics["set_point"] else ""
        rows[f"KL of {z}"] = f"{kl['nats_per_datum']:.2f} nats{aim}"
    for z, beta in metrics["beta"].items():
        rows[f"beta of {z}"] = f"{beta['first']:.4g} at step {beta['first_step']:,}, {beta['last']:.4g} at the end"
    for name in ("mig", "rmig"):
        each = metrics[name]
        parts = ", ".join(f"{factor} {value:.3f}" for factor, value in each.get("per_factor", {}).items())
        rows[name.upper()] = f"{each['value']:.3f}  ({parts})" if parts else f"skipped: {each['skipped']}"
    speed = f", {training['steps_per_second']:.1f} steps a second" if training["steps"] else ""
    rows["training"] = f"{training['seconds']:.1f} seconds{speed}"
    return "\n".join(f"{name:<16}{value}" for name, value in rows.items())
