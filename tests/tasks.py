# Copyright ppl-disent contributors.
# SPDX-License-Identifier: Apache-2.0
"""Tasks for the tests of studies; they run in processes of their own."""

from pathlib import Path

import torch

from experiments.study import trained
from ppl_disent import Run, load, vae


def square(folder: Path, *, x: int) -> dict[str, int]:
    (folder / "step").write_text("1")
    return {"square": x * x}


def fails_once(folder: Path, *, x: int) -> dict[str, int]:
    if not (folder / "tried").exists():
        (folder / "tried").touch()
        raise ValueError("not today")
    return {"x": x}


def small(folder: Path, *, seed: int) -> dict[str, float]:
    """A run that is trained, and says in a file that all share when it began and when it ended."""
    data = load("digits")
    with (folder.parent / "diary").open("a") as diary:
        diary.write(f"began {seed}\n")
    torch.manual_seed(seed)
    method = vae(data.shape, latent_dim=2, network="mlp", lr=1e-3)
    run = trained(method, data, folder, steps=1500, batch_size=32, seed=seed, checkpoint_every=100, log_every=100)
    with (folder.parent / "diary").open("a") as diary:
        diary.write(f"ended {seed}\n")
    return {"loss": float(run.history["loss"].iloc[-1]), "weights": float(parameters(run).sum())}


def parameters(run: Run) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in run.model.parameters()]).double()
