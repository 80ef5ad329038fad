# Copyright ppl-disent contributors.
# SPDX-License-Identifier: Apache-2.0
"""CSVAE on a swiss roll cut in two halves, with and without its adversary: does z keep the roll and lose the label?

For instance: python -m experiments.csvae_toy --seeds 5
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
import tyro
from numpy.typing import NDArray

from experiments.outcome import write
from experiments.study import Config, complete, refusing, study, summary, trained
from ppl_disent import csvae, latent_leakage, plots
from ppl_disent.data import Dataset, Subset, load
from ppl_disent.run import Run

TASK = "experiments.csvae_toy:run"
TESTED = 10_000
FIGURES = {
    "leak": "z knows of y, nats",
    "leak_of_means": "... and means of z",
    "balanced_accuracy": "balanced accuracy of y from z",
    "kl_z": "KL of z, nats",
    "t_from_z": "R2 of t from z",
    "width_from_z": "R2 of width from z",
    "y_from_w": "balanced accuracy of y from w",
    "width_from_w": "R2 of width from w, in a class",
    "kl_w": "KL of w, nats",
    "squared_error": "squared error",
}


@dataclass(kw_only=True)
class Options:
    """What is run.

    Args:
        axis: The coordinate of the roll that is cut: 1, the width; 0, a thin arc of the roll itself.
        seeds: Runs of each kind, with seeds 0, 1, ...
        steps: Optimisation steps of a run, of 256 points each.
        latent_dim: Values of z. With two the roll must be laid out in the plane, and in one run of five it ends in a
            knot, which leaks. Values that are not needed hardly leak, but their means do, below the noise.
        workers: Runs at a time; by default as many as there are cores.
        out: Folder to write to. Runs that it has already are not made again.
        progress: Show a progress bar.
    """

    axis: int = 1
    seeds: int = 5
    steps: int = 8000
    latent_dim: int = 6
    workers: int | None = None
    out: Path = Path("runs/csvae_toy")
    progress: bool = True


def main(argv: Sequence[str] | None = None) -> None:
    """The command line."""
    options = tyro.cli(Options, prog="python -m experiments.csvae_toy", description=__doc__, args=argv)
    kinds = {"CSVAE": {}, "no adversary": {"adversary": "none"}}
    with refusing():
        configs = [
            config(
                name,
                seed,
                options.steps,
                data={"axis": options.axis},
                method={"latent_dim": options.latent_dim} | changed,
            )
            for name, changed in kinds.items()
            for seed in range(options.seeds)
        ]
        results, failed = study(configs, options.out, workers=options.workers, progress=options.progress)
    summary(failed)
    done = [(each, result) for each, result in zip(configs, results) if result is not None]
    rows = [{"model": each.name, "seed": each.arguments["seed"], **result["figures"]} for each, result in done]
    files: dict[str, Any] = {}
    if rows:
        table = pd.DataFrame(rows)
        print(table.rename(columns=FIGURES).to_string(index=False, float_format="{:.3f}".format), end="\n\n")
        print(
            table.drop(columns="seed").groupby("model").mean().T.rename(FIGURES).to_string(float_format="{:.3f}".format)
        )
        files["table.csv"] = table.set_index(["model", "seed"])
    for each, _ in done:
        if each.arguments["seed"] == 0:
            files |= pictures(options.out / each.key, each)
    for name, content in files.items():
        write(options.out / name, content)
    print("", *(options.out / name for name in files), sep="\n")
    raise SystemExit(1 if failed else 0)


def config(name: str, seed: int, steps: int, *, data: Mapping[str, Any], method: Mapping[str, Any]) -> Config:
    """A run of :func:`run`."""
    whole = complete("csvae", {"likelihood": "gaussian"} | dict(method))
    arguments = {"seed": seed, "steps": steps, "data": dict(data), "method": whole}
    return Config(TASK, name, arguments, steps)


def run(folder: Path, *, seed: int, steps: int, data: Mapping[str, Any], method: Mapping[str, Any]) -> dict[str, Any]:
    """Trains CSVAE and scores it on points of their own.

    Args:
        folder: For the checkpoint.
        seed: Of all.
        steps: Optimisation steps.
        data: For :func:`points`.
        method: Arguments of ``csvae``.
    """
    train, test = points(2 * seed, **data), points(2 * seed + 1, n=TESTED, **data)
    assert train.labels is not None
    torch.manual_seed(seed)
    made = csvae(train.shape, labels=train.labels.shape[1], **method)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Adversary: unbalanced labels")  # what that does is a question of the study
        options = {"batch_size": 256, "seed": seed, "log_every": 500, "device": "cpu"}
        fitted = trained(made, train, folder, steps=steps, **options)
    return {"figures": figures(fitted, test)}


def points(
    seed: int, *, axis: int = 1, attributes: int = 1, rare: float = 1.0, alike: float = 1.0, n: int = 10_000
) -> Dataset:
    """A standardised roll, of which some points are left out.

    Args:
        seed: Of the points.
        axis: As for ``load("swiss_roll")``.
        attributes: Likewise.
        rare: The share of the points with y_0 = 1 that are kept: the label becomes rare.
        alike: The share of the points with y_0 != y_1 that are kept: the labels become alike.
        n: Points before any are left out.
    """
    whole = load("swiss_roll", standardise=True, axis=axis, attributes=attributes, n=n, seed=seed)
    assert whole.labels is not None
    keep = torch.ones(n)
    keep[whole.labels[:, 0] == 1] *= rare
    keep[whole.labels[:, 0] != whole.labels[:, -1]] *= alike
    kept = torch.rand(n, generator=torch.Generator().manual_seed(seed)) < keep
    return whole if kept.all() else Subset(whole, kept.nonzero()[:, 0])


def figures(fitted: Run, test: Dataset) -> dict[str, float]:
    """The figures of the table, on held-out points; codes are draws, unless means are named."""
    from sklearn.neighbors import KNeighborsRegressor

    assert test.continuous is not None
    batch, q = test.batch(slice(None)), fitted.posterior
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        encoded = q.encode(*batch)
        codes = {site: d.sample().double().numpy() for site, d in encoded.items()}
    labels, continuous = batch[1].numpy(), dict(zip(test.continuous_names, test.continuous.numpy().T))
    z, w = codes["z"], np.concatenate([c for site, c in codes.items() if site != "z"], 1)
    in_z, in_w = latent_leakage(z, labels), latent_leakage(w, labels)

    def r2(code: NDArray[Any], values: NDArray[Any]) -> float:
        half = len(code) // 2
        return float(KNeighborsRegressor(10).fit(code[:half], values[:half]).score(code[half:], values[half:]))

    classes = [labels[:, 0] == value for value in (0, 1)]
    kl = {name.removeprefix("kl."): value for name, value in fitted.history.iloc[-1].items() if name.startswith("kl.")}
    return {
        "leak": float(in_z),
        "leak_of_means": float(latent_leakage(encoded["z"].mean, labels)),
        "balanced_accuracy": float(in_z.detail["balanced_accuracy"].mean()),
        "kl_z": kl.pop("z"),
        "t_from_z": r2(z, continuous["t"]),
        "width_from_z": r2(z, continuous["width"]),
        "y_from_w": float(in_w.detail["balanced_accuracy"].mean()),
        "width_from_w": float(np.mean([r2(w[own], continuous["width"][own]) for own in classes])),
        "kl_w": sum(kl.values()),
        "squared_error": (q.reconstruct(*batch) - batch[0]).square().sum(1).mean().item(),
    }


def pictures(folder: Path, of: Config) -> dict[str, Any]:
    """Scatters of the codes, coloured by y, by the position t and by the width."""
    fitted, test = Run.load(folder), points(1, n=TESTED, **of.arguments["data"])
    assert test.continuous is not None
    batch = test.batch(slice(None))
    codes = {site: d.mean for site, d in fitted.posterior.encode(*batch).items()}
    colours = dict(zip(test.label_names, batch[1].T)) | dict(zip(test.continuous_names, test.continuous.T))
    name = of.name.lower().replace(" ", "_")
    return {f"{name}_codes.png": plots.scatter(codes, colours), f"{name}_curves.png": plots.curves(fitted.history)}


if __name__ == "__main__":
    main()
