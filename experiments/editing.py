# Copyright ppl-disent contributors.
# SPDX-License-Identifier: Apache-2.0
"""One protocol of editing for models that edit in different ways."""

from __future__ import annotations

import torch
from torch import Tensor

from ppl_disent import transfer
from ppl_disent.data import Dataset
from ppl_disent.methods import CSVAE, CVAE
from ppl_disent.posterior import Posterior

# Data from which means of codes are taken.
_MEANS = 10_000


class Editor:
    """Edits as each model's paper defines them.

    VAE moves z by a difference of class means, CVAE and CVAE-IF decode with another y, CSVAE puts the mean w of data
    with the attribute, or without, in the place of w.

    Args:
        q: The posterior of any of the four.
        train: Labelled data, from which the means are taken.
    """

    def __init__(self, q: Posterior, train: Dataset) -> None:
        assert train.labels is not None
        self.q, self.exclusive = q, exclusive(train)
        batch = train.batch(torch.randperm(len(train), generator=torch.Generator().manual_seed(0))[:_MEANS])
        y = batch[1].to(next(q.guide.parameters()).device)
        codes = {site: d.mean for site, d in q.encode(*batch).items()}
        # (k, 2, dim): the mean code of data without and with each attribute.
        self.means = {
            site: torch.stack([torch.stack([c[col == v].mean(0) for v in (0, 1)]) for col in y.T])
            for site, c in codes.items()
        }

    def target(self, y: Tensor, attribute: int) -> Tensor:
        """Labels ``(n, k)`` with one attribute switched; of exclusive classes, data of others are put into this one."""
        if self.exclusive:
            return torch.zeros_like(y).index_fill_(1, torch.tensor([attribute], device=y.device), 1.0)
        target = y.clone()
        target[:, attribute] = 1 - target[:, attribute]
        return target

    def switch(self, batch: tuple[Tensor, Tensor], target: Tensor) -> Tensor:
        """The data with the labels of ``target``, ``(n, *x_shape)``."""
        (x, y), q = batch, self.q
        sites = {site: d.mean for site, d in q.encode(x, y).items()}
        y, target = (labels.to(sites["z"]) for labels in (y, target))
        if isinstance(q.model, CVAE):
            return q.decode(x, target, **sites).mean
        if isinstance(q.model, CSVAE):
            for i in range(y.shape[1]):
                means = self.means[f"w_{i}"][i]
                changed = (target[:, i] != y[:, i]).unsqueeze(1)
                sites[f"w_{i}"] = torch.where(changed, means[target[:, i].long()], sites[f"w_{i}"])
        else:
            of_z = self.means["z"]
            direction = of_z[:, 1] if self.exclusive else of_z[:, 1] - of_z[:, 0]
            sites["z"] = sites["z"] + (target - y) @ direction
        return q.decode(x, y, **sites).mean

    def styles(self, batch: tuple[Tensor, ...], attribute: int) -> Tensor:
        """Data without an attribute at nine points of it, ``(9, n, *x_shape)``.

        Of CSVAE a 3 x 3 grid over the first two coordinates of W_i, the mean of p(w_i | y_i = 1) and one standard
        deviation to either side; of the others, whose edit has one dimension, strengths from 0.5 to 1.5.
        """
        q, y = self.q, batch[1]
        strengths = torch.linspace(0.5, 1.5, 9)
        if isinstance(q.model, CVAE):
            if not self.exclusive:
                return transfer.relabel(q, batch, attribute, strengths)
            z = q.encode(*batch)["z"].mean
            return torch.stack([q.decode(batch[0], self.target(y, attribute) * s, z=z).mean for s in strengths])
        if isinstance(q.model, CSVAE):
            p = q.model.subspaces[attribute](torch.ones(1, device=self.means["z"].device))
            points = p.mean.detach().repeat(9, 1)
            step = torch.tensor([-1.0, 0.0, 1.0], device=points.device)
            grid = torch.cartesian_prod(step, step)[:, : points.shape[1]]
            points[:, : grid.shape[1]] += grid * p.stddev.detach()[:, : grid.shape[1]]
            return transfer.place(q, batch, points, site=f"w_{attribute}")
        of_z = self.means["z"][attribute]
        return transfer.shift(q, batch, of_z[1] - of_z[0], strengths)


def exclusive(data: Dataset) -> bool:
    """Whether the labels are classes, of which each datum has one."""
    return data.labels is not None and data.labels.shape[1] > 1 and bool((data.labels.sum(1) == 1).all())
