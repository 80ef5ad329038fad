# Copyright ppl-disent contributors.
# SPDX-License-Identifier: Apache-2.0
"""The figures of a run on labelled data: what z knows of the labels, and what edits are worth."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from experiments import judge
from experiments.editing import Editor
from experiments.outcome import encode
from ppl_disent import attribute_transfer, latent_leakage
from ppl_disent.data import Dataset
from ppl_disent.errors import DataError
from ppl_disent.run import Run

TESTED = 2000
FIGURES = {
    "transfer": "transfer accuracy",
    "kept": "other attribute kept",
    "target_changed": "squared distance to the counterfactual",
    "target_changed_best": "least of 9 points",
    "original_changed": "squared distance to the original",
    "diversity": "diversity over 9 points",
    "leak": "z knows of y, nats",
    "balanced_accuracy": "balanced accuracy of y from z",
    "kl_z": "KL of z, nats",
    "kl_w": "KL of w, nats",
    "reconstruction": "-log p(x given latents), nats",
    "squared_error": "squared error of reconstructions",
}


def figures(fitted: Run, train: Dataset, test: Dataset, path: Path) -> dict[str, float | None]:
    """The figures of the table, on test data."""
    q, judged = fitted.posterior, judge.load(path, test)
    codes = encode(fitted, test, progress=False)
    assert test.labels is not None
    noise = torch.randn(codes.mean["z"].shape, generator=torch.Generator().manual_seed(0))
    z, labels = codes.mean["z"] + codes.stddev["z"] * noise, test.labels[codes.index].cpu()
    leak = latent_leakage(z, labels, label_names=test.label_names)
    index = codes.index[:TESTED]
    x, y = (field.cpu() for field in test.batch(index))
    editor = Editor(q, train)
    accuracy, kept, near, far = [], [], [], []
    best, diverse = [], []
    for i in range(y.shape[1]):
        target = editor.target(y, i)
        edited = editor.switch((x, y), target).cpu()
        true = counterfactual(test, index, i)
        score = attribute_transfer(
            x, edited, y, target, classifier=lambda a: judge.decisions(judged, a), counterfactual=true
        )
        names = [name for name, value in score.detail["kept"].items() if value is not None]
        accuracy.append(float(score) if not editor.exclusive else score.per_factor[f"y{i}"])
        kept += [score.detail["kept"][name] for name in names]
        near.append(score.detail["target_changed"])
        far.append(score.detail["original_changed"])
        off = y[:, i] == 0
        some = (x[off][:500], y[off][:500])
        points = editor.styles(some, i).cpu()
        on = editor.target(some[1], i)
        truth = None if true is None else true[off][:500]
        style = attribute_transfer(
            some[0], points, some[1], on, classifier=lambda a: judge.decisions(judged, a), counterfactual=truth
        )
        best.append(style.detail["target_changed_best"])
        diverse.append(style.detail["diversity"])
    return {
        "transfer": _mean(accuracy),
        "kept": _mean(kept),
        "target_changed": _mean(near),
        "target_changed_best": _mean(best),
        "original_changed": _mean(far),
        "diversity": _mean(diverse),
        "leak": float(leak),
        "balanced_accuracy": float(leak.detail["balanced_accuracy"].mean()),
        "kl_z": codes.kl["z"].sum().item(),
        "kl_w": sum(kl.sum().item() for site, kl in codes.kl.items() if site != "z") if len(codes.kl) > 1 else None,
        "reconstruction": codes.error.double().mean().item(),
        "squared_error": (q.reconstruct(x, y).cpu() - x).square().flatten(1).sum(1).mean().item(),
    }


def counterfactual(data: Dataset, index: Tensor, attribute: int) -> Tensor | None:
    """The true edits where they are known."""
    try:
        return data.counterfactual(index, attribute).cpu()
    except DataError:
        return None


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None
