# Copyright ppl-disent contributors.
# SPDX-License-Identifier: Apache-2.0
"""Which method disentangles, at what cost in reconstruction and generation, over how many seeds, with what certainty?

For instance: python -m experiments.compare --data digits --methods vae beta_vae:beta=8 dynamic_vae st_rkm --seeds 5
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from inspect import signature
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
import tyro

from experiments.comparison import correlations, heat, tradeoff, violins
from experiments.generation import parts
from experiments.outcome import write
from experiments.scores import FIGURES, scores
from experiments.study import Config, complete, refusing, study, summary, trained
from experiments.tables import bootstrapped, differences, grid, intervals
from experiments.train import METHODS, assignments
from ppl_disent.data import LOADERS
from ppl_disent.errors import ArgumentError
from ppl_disent.metrics import udr
from ppl_disent.run import BUILDERS

# What is drawn: against the reconstruction, and as violins.
PRICE, DRAWN = "squared_error", ("mig", "dci", "factor_vae_score")
VIOLINS = ("squared_error", "pixel_distance", "kl", "mig", "dci", "sap", "infom", "factor_vae_score", "udr")
# Codes of so many images are kept, to compare the runs of a method with each other.
KEPT = 2000


@dataclass(kw_only=True)
class Options:
    """What is run.

    Args:
        data: digits, dsprites, digits_bars, shapes3d, cars3d, or any other images with values in [0, 1].
        root: Folder or file of the data, where they are read from files.
        data_options: Options of the data set, such as size=32 every=1,1,2,2,2.
        methods: Builders, each with arguments of its own if need be: vae beta_vae:beta=8 dynamic_vae:ki=0.01,kp=0.02.
            The first is what the others are compared with.
        seeds: Runs of each, with seeds 0, 1, ...
        steps: Optimisation steps of a run.
        batch_size: Data a step.
        latent_dim: Latent values.
        network: Of all methods: mlp, rkm (both also fit St-RKM), conv, burgess, or auto: each method's own.
        lr: Learning rate of Adam, for all methods.
        target_kl: Of the methods with a controller, in nats. Their set point rises from the first step and is reached
            after half of the run; the papers' schedules are for a million steps.
        engine: processes, of this machine, or ray: the cluster that RAY_ADDRESS names.
        workers: Runs at a time; by default as many as there are cores (one where there is a GPU), on Ray as many as the
            cluster has room for.
        out: Folder to write to; by default runs/compare-DATA. Runs that it has already are not made again.
        progress: Show a progress bar.
    """

    data: str = "digits"
    root: str | None = None
    data_options: tuple[str, ...] = ()
    methods: tuple[str, ...] = (
        *("vae", "beta_vae", "factor_vae", "beta_tcvae", "dip_vae", "control_vae", "dynamic_vae", "st_rkm"),
    )
    seeds: int = 5
    steps: int = 3000
    batch_size: int = 64
    latent_dim: int = 10
    network: str = "mlp"
    lr: float = 1e-3
    target_kl: float = 12.0
    engine: str = "processes"
    workers: int | None = None
    out: Path | None = None
    progress: bool = True


# What short runs need, and a method's own defaults are not made for.
OWN: dict[str, Callable[[Options], dict[str, Any]]] = {
    "control_vae": lambda o: _ramp(o),
    "dynamic_vae": lambda o: _ramp(o) | {"ramp": 1},
    "capacity_vae": lambda o: {"capacity": o.target_kl, "capacity_steps": o.steps // 2},
}


def _ramp(options: Options) -> dict[str, Any]:
    return {"target_kl": options.target_kl, "step": (options.target_kl - 0.5) / (0.5 * options.steps), "every": 1}


def main(argv: Sequence[str] | None = None) -> None:
    """The command line."""
    options = tyro.cli(Options, prog="python -m experiments.compare", description=__doc__, args=argv)
    out = options.out or Path("runs", f"compare-{options.data}")
    with refusing():
        configs = plan(options)
        results, failed = study(configs, out, workers=options.workers, on=options.engine, progress=options.progress)
    summary(failed)
    every = collect(configs, results, out)
    if len(every.dropna(how="all")):
        text, files = report(every)
        print(text)
        for name, content in (files | {"scores.csv": every, "table.md": text}).items():
            write(out / name, content)
            print(out / name)
    raise SystemExit(1 if failed else 0)


def plan(options: Options) -> list[Config]:
    """The runs.

    Raises:
        ArgumentError: For data, methods or arguments that there are not, or a number below 1.
    """
    if options.data not in LOADERS:
        raise ArgumentError("data", got=options.data, expected=f"one of {sorted(LOADERS)}")
    for name in ("seeds", "steps", "batch_size"):
        if getattr(options, name) < 1:
            raise ArgumentError(name, got=getattr(options, name), expected="at least 1")
    if not options.methods or len(set(options.methods)) < len(options.methods):
        raise ArgumentError("methods", got=options.methods, expected="at least one, and none twice")
    data: dict[str, Any] = {"name": options.data, "root": options.root, "options": assignments(options.data_options)}
    train, _ = parts(**data)
    configs = []
    for seed in range(options.seeds):
        for text in options.methods:
            builder, method = _method(text, options, train.likelihood, train.labels)
            arguments = {"builder": builder, "seed": seed, "data": data, "method": method}
            arguments |= {"steps": options.steps, "batch_size": options.batch_size}
            configs.append(Config("experiments.compare:run", text, arguments, options.steps))
    return configs


def _method(text: str, options: Options, likelihood: str, labels: torch.Tensor | None) -> tuple[str, dict[str, Any]]:
    """A builder and all of its arguments, of a text such as ``beta_vae:beta=8``."""
    builder, _, given = text.partition(":")
    if builder not in METHODS:
        raise ArgumentError("methods", got=text, expected=f"of {sorted(METHODS)}, as in beta_vae:beta=8")
    known = signature(METHODS[builder]).parameters
    shared: dict[str, Any] = {"latent_dim": options.latent_dim, "network": options.network, "lr": options.lr}
    shared |= {"likelihood": likelihood}
    if "labels" in known:
        if labels is None:
            raise ArgumentError("methods", got=text, expected=f"data with labels, which {options.data} has not")
        shared["labels"] = labels.shape[1]
    own = assignments(given.split(",") if given else ())
    if unknown := own.keys() - known.keys() | own.keys() & {"shape"}:
        raise ArgumentError("methods", got=text, expected=f"arguments of {builder}, which has no {sorted(unknown)}")
    shared = {name: value for name, value in shared.items() if name in known}
    return builder, complete(builder, shared | OWN.get(builder, lambda _: {})(options) | own)


def run(
    folder: Path,
    *,
    builder: str,
    seed: int,
    data: Mapping[str, Any],
    method: Mapping[str, Any],
    steps: int,
    batch_size: int,
) -> dict[str, Any]:
    """Trains a method and scores it on images held out.

    Args:
        folder: For the checkpoint and ``codes.npz``, means and KL of the latents.
        builder: Of the method.
        seed: Of all but the data.
        data: For :func:`experiments.generation.parts`.
        method: Arguments of the builder.
        steps: Optimisation steps.
        batch_size: Data a step.
    """
    train, test = parts(**data)
    torch.manual_seed(seed)
    made = BUILDERS[builder](train.shape, **method)
    fitted = trained(made, train, folder, steps=steps, batch_size=batch_size, seed=seed)
    figures, codes = scores(fitted, test, conditional="labels" in method)
    mean, kl = torch.cat(list(codes.mean.values()), 1)[:KEPT], torch.cat(list(codes.kl.values()))
    np.savez(folder / "codes.npz", mean=mean.numpy(), kl=kl.numpy())
    return {"figures": figures}


def collect(configs: Sequence[Config], results: Sequence[Mapping[str, Any] | None], out: Path) -> pd.DataFrame:
    """All figures of all runs, indexed by model and seed: a row of NaN for a run that failed.

    UDR is added, which compares the runs of a method with each other.
    """
    names = labels([c.name for c in configs])
    rows = [
        {"model": names[c.name], "seed": c.arguments["seed"]} | (dict.fromkeys(FIGURES) if r is None else r["figures"])
        for c, r in zip(configs, results)
    ]
    every = pd.DataFrame(rows).set_index(["model", "seed"]).reindex(columns=list(FIGURES)).astype(float)
    for model, label in names.items():
        own = [c for c, r in zip(configs, results) if c.name == model and r is not None]
        saved = [np.load(out / c.key / "codes.npz") for c in own]
        # Without two runs that use a latent there is nothing to compare.
        used = [(c, codes) for c, codes in zip(own, saved) if (codes["kl"] > 0.01).any()]
        if len(used) > 1:
            likeness = udr([codes["mean"] for _, codes in used], kl=[codes["kl"] for _, codes in used])
            for (c, _), value in zip(used, likeness.detail["per_run"]):
                every.loc[(label, c.arguments["seed"]), "udr"] = value
    return every


def labels(methods: Sequence[str]) -> dict[str, str]:
    """What each method is called in tables: its builder, where no other method has the same."""
    builders = {text: text.partition(":")[0] for text in methods}
    return {text: name if list(builders.values()).count(name) == 1 else text for text, name in builders.items()}


def report(every: pd.DataFrame) -> tuple[str, dict[str, Any]]:
    """The tables in Markdown, and the other files by name."""
    models = list(dict.fromkeys(every.index.get_level_values(0)))
    made = every.dropna(how="all")
    heads = {column: named.heading for column, named in FIGURES.items()}
    counts = [(int((made.index.get_level_values(0) == m).sum()), len(every.loc[m])) for m in models]
    parts = [
        "Means over seeds with 95 % bootstrap intervals.",
        grid(models, {"runs": [f"{n}" if n == of else f"{n} of {of}, {of - n} failed" for n, of in counts]})
        + intervals(made, heads, bootstrapped).split("\n", 2)[2],
    ]
    if models[1:] and models[0] in made.index:
        parts += [
            f"Differences from {models[0]} with the same seed, and in how many seeds they are above zero.",
            differences(made, heads, models[0]),
        ]
    drawn = {c: FIGURES[c] for c in FIGURES if made[c].notna().any()}
    ranks = correlations(made, drawn)
    files: dict[str, Any] = {"rank_correlations.csv": ranks}
    if len(ranks) > 1:
        files["rank_correlations.png"] = heat(ranks)
    if up := {c: drawn[c] for c in DRAWN if c in drawn}:
        files["tradeoff.png"] = tradeoff(made, {PRICE: FIGURES[PRICE]}, up)
    files["violins.png"] = violins(made, {c: drawn[c] for c in VIOLINS if c in drawn})
    return "\n".join(parts), files


if __name__ == "__main__":
    main()
