# Copyright ppl-disent contributors.
# SPDX-License-Identifier: Apache-2.0
"""St-RKM's three variants beside a VAE and a beta-VAE with the same networks: reconstruction, generation, directions.

For instance: python -m experiments.st_rkm --data digits --seeds 2
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import torch
import tyro

from experiments.generation import FIGURES, figures, parts
from experiments.outcome import encode, write
from experiments.study import Config, complete, refusing, study, summary, trained
from experiments.tables import intervals
from experiments.train import assignments
from ppl_disent import plots
from ppl_disent.data import LOADERS
from ppl_disent.errors import ArgumentError
from ppl_disent.run import BUILDERS, Run

MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    "St-RKM": ("st_rkm", {"variant": "deterministic"}),
    "St-RKM, noisy": ("st_rkm", {"variant": "noisy"}),
    "St-RKM, split": ("st_rkm", {"variant": "split"}),
    "VAE": ("vae", {}),
    "beta-VAE": ("beta_vae", {}),
}


@dataclass(kw_only=True)
class Options:
    """What is run.

    Args:
        data: digits, mnist, fashion_mnist, svhn, dsprites, shapes3d, cars3d, or any other images.
        root: Folder or file of the data, where they are read from files.
        data_options: Options of the data set, such as size=32.
        models: Which of the models; by default all five.
        seeds: Runs of each, with seeds 0, 1, ...
        steps: Optimisation steps of a run.
        batch_size: Data a step.
        latent_dim: Latent values.
        feature_dim: Features of St-RKM.
        noise: Noise of St-RKM's noisy variants, in units of h.
        beta: Of the beta-VAE.
        network: rkm, mlp, or auto: rkm where the images have at least 16 pixels a side.
        lr: Learning rate of Adam.
        manifold_optim: cayley_adam, cayley or riemannian_adam.
        manifold_lr: Its learning rate. At the official 1e-4 U hardly moves in a short run.
        rotation: in_span or official.
        inception: A file of weights for FID; without it FID is left out.
        workers: Runs at a time; by default as many as there are cores, one where there is a GPU.
        out: Folder to write to; by default runs/st_rkm-DATA. Runs that it has already are not made again.
        progress: Show a progress bar.
    """

    data: str = "digits"
    root: str | None = None
    data_options: tuple[str, ...] = ()
    models: tuple[str, ...] = tuple(MODELS)
    seeds: int = 2
    steps: int = 3000
    batch_size: int = 128
    latent_dim: int = 10
    feature_dim: int = 50
    noise: float = 0.1
    beta: float = 3.0
    network: str = "auto"
    lr: float = 1e-3
    manifold_optim: str = "cayley_adam"
    manifold_lr: float = 1e-2
    rotation: str = "in_span"
    inception: Path | None = None
    workers: int | None = None
    out: Path | None = None
    progress: bool = True


def main(argv: Sequence[str] | None = None) -> None:
    """The command line."""
    options = tyro.cli(Options, prog="python -m experiments.st_rkm", description=__doc__, args=argv)
    out = options.out or Path("runs", f"st_rkm-{options.data}")
    with refusing():
        configs = plan(options)
        results, failed = study(configs, out, workers=options.workers, progress=options.progress)
    summary(failed)
    done = [(each, result) for each, result in zip(configs, results) if result is not None]
    if done:
        rows = [{"model": c.name, "seed": c.arguments["seed"], **r["figures"]} for c, r in done]
        every = pd.DataFrame(rows).set_index(["model", "seed"])
        text = intervals(every, FIGURES) + "\nMean over seeds with 95 % intervals of Student's t.\n"
        print(text)
        first = [config for config, _ in done if config.arguments["seed"] == done[0][0].arguments["seed"]]
        files: dict[str, Any] = {"table.csv": every, "table.md": text}
        for config in first:
            files |= pictures(out / config.key, config)
        for name, content in files.items():
            write(out / name, content)
        print(*(out / name for name in files), sep="\n")
    raise SystemExit(1 if failed else 0)


def plan(options: Options) -> list[Config]:
    """The runs."""
    if options.data not in LOADERS:
        raise ArgumentError("data", got=options.data, expected=f"one of {sorted(LOADERS)}")
    if unknown := set(options.models) - MODELS.keys():
        raise ArgumentError("models", got=sorted(unknown), expected=f"some of {list(MODELS)}")
    if options.seeds < 1:
        raise ArgumentError("seeds", got=options.seeds, expected="at least 1")
    data: dict[str, Any] = {
        "name": options.data,
        "root": options.root,
        "options": assignments(options.data_options),
    }
    shape = parts(**data)[0].shape
    network = options.network
    if network == "auto":
        network = "rkm" if shape[1] == shape[2] >= 16 else "mlp"
    own = {
        name: getattr(options, name) for name in ("feature_dim", "noise", "manifold_optim", "manifold_lr", "rotation")
    }
    configs = []
    for seed in range(options.seeds):
        for name in options.models:
            builder, method = MODELS[name]
            method = method | {"latent_dim": options.latent_dim, "network": network, "lr": options.lr}
            method |= own if builder == "st_rkm" else {"beta": options.beta} if builder == "beta_vae" else {}
            arguments = {
                "builder": builder,
                "seed": seed,
                "data": data,
                "method": complete(builder, method),
                "steps": options.steps,
                "batch_size": options.batch_size,
                "inception": None if options.inception is None else str(options.inception),
            }
            configs.append(Config("experiments.st_rkm:run", name, arguments, options.steps))
    return configs


def run(
    folder: Path,
    *,
    builder: str,
    seed: int,
    data: Mapping[str, Any],
    method: Mapping[str, Any],
    steps: int,
    batch_size: int,
    inception: str | None,
) -> dict[str, Any]:
    """Trains a model and scores it.

    Args:
        folder: For the checkpoint.
        builder: Of the method.
        seed: Of all but the data.
        data: For :func:`experiments.generation.parts`.
        method: Arguments of the builder.
        steps: Optimisation steps.
        batch_size: Data a step.
        inception: A file of weights for FID, or None.
    """
    train, test = parts(**data)
    torch.manual_seed(seed)
    made = BUILDERS[builder](train.shape, **method)
    began = time.perf_counter()
    fitted = trained(made, train, folder, steps=steps, batch_size=batch_size, seed=seed)
    seconds = (time.perf_counter() - began) / steps * 1000
    return {"figures": figures(fitted, train, test, inception) | {"seconds": seconds}}


def pictures(folder: Path, config: Config) -> dict[str, Any]:
    """Reconstructions, samples, traversals, codes and spectrum of one run."""
    fitted, (_, test) = Run.load(folder), parts(**config.arguments["data"])
    q, codes = fitted.posterior, encode(fitted, test, progress=False)
    (site,) = codes.mean
    batch = test.batch(codes.index[:10])
    middle = codes.index[(codes.mean[site] / q.prior(*batch)[site].stddev[0].cpu()).norm(dim=1).argmin()]
    torch.manual_seed(0)
    name = config.name.lower().replace(" ", "_").replace(",", "")
    return {
        f"{name}_reconstructions.png": plots.reconstructions(q, *batch),
        f"{name}_samples.png": plots.samples(q, 40),
        f"{name}_traversal.png": plots.traversal(q, *test.batch(middle[None]), site=site, kl=codes.kl[site]),
        f"{name}_curves.png": plots.curves(fitted.history),
        f"{name}_codes.png": plots.marginals(codes.mean[site], name=site),
    }


if __name__ == "__main__":
    main()
