# Copyright ppl-disent contributors.
# SPDX-License-Identifier: Apache-2.0
"""VAE, CVAE, CVAE-IF and CSVAE on one labelled data set with one protocol: leakage, transfer, diversity, several seeds.

For instance: python -m experiments.subspaces --data digits_bars --seeds 5
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import torch
import tyro

from experiments import judge
from experiments.editing import Editor, exclusive
from experiments.labelled import FIGURES, figures
from experiments.outcome import encode, write
from experiments.study import Config, complete, refusing, study, summary, trained
from experiments.tables import intervals
from experiments.train import assignments
from ppl_disent import plots
from ppl_disent.data import Dataset, load
from ppl_disent.errors import ArgumentError
from ppl_disent.run import BUILDERS, Run

TASK = "experiments.subspaces:run"
MODELS = ("vae", "cvae", "cvae_if", "csvae")
# Data that are made to be tested on, and those to be trained on; those from files have a published split.
PARTS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "digits_bars": ({"part": "train", "copies": 8, "size": 16}, {"part": "test", "copies": 4, "size": 16, "seed": 1}),
    "swiss_roll": ({"standardise": True}, {"standardise": True, "n": 4000, "seed": 1}),
    "moons": ({}, {"seed": 1}),
    "blobs": ({}, {"seed": 1}),
    "celeba": ({"part": "train"}, {"part": "test"}),
    "tfd": ({"part": "train"}, {"part": "test"}),
}
# One weight for all: the plain ELBO, and adversaries of weight 1. Gaussian x have one noise for all, in units of x.
WEIGHTS: dict[str, dict[str, Any]] = {"csvae": {"b1": 1.0, "b2": 1.0, "b3": 1.0, "b4": 1.0}}
SIGMA = 0.2


@dataclass(kw_only=True)
class Options:
    """What is run.

    Args:
        data: digits_bars, celeba, tfd, swiss_roll, moons or blobs.
        root: Folder or file of the data, where they are read from files.
        data_options: Options of the data set, such as attributes=2 size=32.
        models: Which of vae, cvae, cvae_if, csvae.
        seeds: Runs of each, with seeds 0, 1, ...
        steps: Optimisation steps of a run.
        batch_size: Data a step.
        latent_dim: Latent values of z; CSVAE has two more for each label.
        network: mlp, conv, burgess or auto, as for the methods.
        lr: Learning rate of Adam.
        workers: Runs at a time; by default as many as there are cores, one where there is a GPU.
        out: Folder to write to; by default runs/subspaces-DATA. Runs that it has already are not made again.
        progress: Show a progress bar.
    """

    data: str = "digits_bars"
    root: str | None = None
    data_options: tuple[str, ...] = ()
    models: tuple[str, ...] = MODELS
    seeds: int = 5
    steps: int = 5000
    batch_size: int = 128
    latent_dim: int = 10
    network: str = "mlp"
    lr: float = 1e-3
    workers: int | None = None
    out: Path | None = None
    progress: bool = True


def main(argv: Sequence[str] | None = None) -> None:
    """The command line."""
    options = tyro.cli(Options, prog="python -m experiments.subspaces", description=__doc__, args=argv)
    out = options.out or Path("runs", f"subspaces-{options.data}")
    with refusing():
        of_judge, configs = plan(options)
        (judged,), failed = study([of_judge], out, progress=options.progress)
        results: list[dict[str, Any] | None] = []
        if judged is not None:
            results, failed = study(configs, out, workers=options.workers, progress=options.progress)
    summary(failed)
    done = [(each, result) for each, result in zip(configs, results) if result is not None]
    if judged is not None and done:
        rows = [{"model": c.arguments["model"], "seed": c.arguments["seed"], **r["figures"]} for c, r in done]
        every = pd.DataFrame(rows).set_index(["model", "seed"])
        text = intervals(every, FIGURES)
        accuracy = ", ".join(f"{name} {value:.3f}" for name, value in judged["accuracy"].items())
        text += f"\nThe judge is right about real test data: {accuracy}. "
        text += "Mean over seeds with 95 % intervals of Student's t.\n"
        print(text)
        figures = pictures(out, [c for c, _ in done if c.arguments["seed"] == done[0][0].arguments["seed"]])
        files = {"table.csv": every, "table.md": text, **figures}
        for name, content in files.items():
            write(out / name, content)
        print(*(out / name for name in files), sep="\n")
    raise SystemExit(1 if failed else 0)


def plan(options: Options) -> tuple[Config, list[Config]]:
    """The judge's training and the models'."""
    if options.data not in PARTS:
        raise ArgumentError("data", got=options.data, expected=f"one of {sorted(PARTS)}")
    if unknown := set(options.models) - set(MODELS):
        raise ArgumentError("models", got=sorted(unknown), expected=f"some of {MODELS}")
    if options.seeds < 1:
        raise ArgumentError("seeds", got=options.seeds, expected="at least 1")
    data: dict[str, Any] = {"name": options.data, "root": options.root, "options": assignments(options.data_options)}
    parts(**data)  # what is wrong with them is said now, and once
    of_judge = Config("experiments.subspaces:run_judge", "judge", {"data": data, "steps": 1500}, 1500)
    common = {
        "data": data,
        "judge": of_judge.key,
        "steps": options.steps,
        "batch_size": options.batch_size,
    }
    method = {"latent_dim": options.latent_dim, "network": options.network, "lr": options.lr}
    methods = {model: complete(model, WEIGHTS.get(model, {}) | method) for model in options.models}
    configs = [
        Config(TASK, model, {"model": model, "seed": seed, "method": methods[model], **common}, options.steps)
        for seed in range(options.seeds)
        for model in options.models
    ]
    return of_judge, configs


def parts(name: str, root: str | None, options: Mapping[str, Any]) -> tuple[Dataset, Dataset]:
    """The data to train on and those to test on."""
    made = [load(name, root=root, **(dict(part) | dict(options))) for part in PARTS[name]]
    for data in made:
        if data.labels is None:
            raise ArgumentError("data", got=name, expected="data with labels")
    return made[0], made[1]


def run_judge(folder: Path, *, data: Mapping[str, Any], steps: int) -> dict[str, Any]:
    """The task of the judge."""
    return judge.train(folder, *parts(**data), steps=steps)


def run(
    folder: Path,
    *,
    model: str,
    seed: int,
    data: Mapping[str, Any],
    judge: str,
    steps: int,
    batch_size: int,
    method: Mapping[str, Any],
) -> dict[str, Any]:
    """The task of a model: trains it and scores it.

    Args:
        folder: For the checkpoint; the judge's is beside it.
        model: Its builder.
        seed: Of all but the data.
        data: For :func:`parts`.
        judge: Name of the judge's folder.
        steps: Optimisation steps.
        batch_size: Data a step.
        method: Arguments of the builder.
    """
    train, test = parts(**data)
    assert train.labels is not None
    own: dict[str, Any] = {"likelihood": train.likelihood}
    if model != "vae":
        own["labels"] = train.labels.shape[1]
    if model in ("cvae_if", "csvae") and exclusive(train):
        own["exclusive"] = True
    torch.manual_seed(seed)
    if train.likelihood == "gaussian":
        own["sigma"] = SIGMA
    made = BUILDERS[model](train.shape, **(dict(method) | own))
    fitted = trained(made, train, folder, steps=steps, batch_size=batch_size, seed=seed, log_every=250)
    return {"figures": figures(fitted, train, test, folder.parent / judge / "judge.pt")}


def pictures(out: Path, configs: Sequence[Config]) -> dict[str, Any]:
    """The transfer grid of all models, and of CSVAE the planes of its subspaces and its codes."""
    train, test = parts(**configs[0].arguments["data"])
    assert test.labels is not None
    found: dict[str, Any] = {}
    runs = {config.arguments["model"]: Run.load(out / config.key) for config in configs}
    images = len(test.shape) == 3
    for i, name in enumerate(test.label_names if images else ()):
        # Two data without the attribute, each at 9 points of it.
        index = (test.labels[:, i] == 0).nonzero()[:2, 0]
        batch = test.batch(index)
        edits = {model: Editor(run.posterior, train).styles(batch, i) for model, run in runs.items()}
        found[f"transfer_{name}.png"] = plots.transfer(batch[0], edits, points=[f"p{j + 1}" for j in range(9)])
    if "csvae" in runs:
        q, k = runs["csvae"].posterior, test.labels.shape[1]
        index = (test.labels.sum(1) == 0).nonzero()[:1, 0] if not exclusive(test) else torch.tensor([0])
        batch = test.batch(index)
        if images:
            for i in range(k):
                found[f"csvae_w_{i}.png"] = plots.subspace(q, *batch, site=f"w_{i}")
        if images and k == 2:
            line = torch.linspace(0, 3, 7)[:, None].repeat(1, 2)
            found["csvae_joint.png"] = plots.joint(q, *batch, paths={"w_0": line, "w_1": line})
        codes = encode(runs["csvae"], test, progress=False)
        colours = dict(zip(test.label_names, test.labels[codes.index].T))
        if test.continuous is not None:
            colours |= dict(zip(test.continuous_names, test.continuous[codes.index].T))
        found["csvae_codes.png"] = plots.scatter(codes.mean, colours)
    return found


if __name__ == "__main__":
    main()
