# Copyright ppl-disent contributors.
# SPDX-License-Identifier: Apache-2.0
"""A judge of attributes: a network trained on real data, which knows nothing of the models that it judges."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

from experiments.study import Progress
from ppl_disent.data import Dataset
from ppl_disent.methods.cvae import encoder


def network(data: Dataset) -> nn.Module:
    """From x to logits of the labels: convolutional for images of which the methods' networks can be so too."""
    assert data.labels is not None
    return encoder(data.shape, data.labels.shape[1], "auto")


def train(folder: Path, train: Dataset, test: Dataset, *, steps: int, seed: int = 0) -> dict[str, Any]:
    """Trains a judge and keeps it in ``folder/judge.pt``.

    Returns:
        Its accuracy on ``test``, by label.
    """
    assert test.labels is not None
    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.manual_seed(seed)
    judge = network(train).to(device)
    optim = torch.optim.Adam(judge.parameters(), lr=1e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optim, 3e-3, steps)
    tell = Progress(folder)
    for step in range(1, steps + 1):
        x, y = (field.to(device) for field in train.batch(torch.randint(len(train), (128,))))
        optim.zero_grad()
        binary_cross_entropy_with_logits(judge(x), y).backward()
        optim.step()
        schedule.step()
        if step % 100 == 0:
            tell.at(step)
    torch.save(judge.cpu().state_dict(), folder / "judge.pt")
    decided = decisions(judge, test.batch(slice(None))[0])
    accuracy = (decided == test.labels.cpu()).double().mean(0)
    return {"accuracy": dict(zip(test.label_names, accuracy.tolist()))}


def load(path: Path, data: Dataset) -> nn.Module:
    """The judge that :func:`train` kept."""
    judge = network(data)
    judge.load_state_dict(torch.load(path, weights_only=True))
    return judge


@torch.no_grad()
def decisions(judge: nn.Module, x: Tensor) -> Tensor:
    """``(n, k)`` of 0 and 1."""
    return torch.cat([judge(part) > 0 for part in x.cpu().split(1000)]).double()
