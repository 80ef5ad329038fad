# Copyright ppl-disent contributors.
# SPDX-License-Identifier: Apache-2.0
"""Principal directions of features within a subspace: what St-RKM computes when it has been trained."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ppl_disent.batches import Data, in_order
from ppl_disent.errors import ArgumentError, DataError


@dataclass(frozen=True)
class Principal:
    """Where the features of some data lie.

    Attributes:
        mean: Of the features, ``(l,)``.
        basis: Orthonormal directions, ``(l, m)``, those of most variance first; the entry of each that is largest in
            size is positive.
        variance: Of the features along them, ``(m,)``, descending.
        angle: The largest principal angle between their span and the ``m`` directions of most variance of all, radians.
    """

    mean: Tensor
    basis: Tensor
    variance: Tensor
    angle: float


@torch.no_grad()
def principal(
    features: Callable[[Tensor], Tensor],
    U: Tensor,
    data: Data,
    *,
    rotation: str = "in_span",
    batch_size: int = 1000,
    device: torch.device | str = "cpu",
) -> Principal:
    """Mean and principal directions of features, in one pass over the data, in float64; features are not held.

    The spread is that of EigenPandey/Stiefel_Restricted_Kernel_Machine, stiefel_rkm_model.py, ``final_compute``: by n,
    not n - 1.

    Args:
        features: From a batch of x to ``(batch, l)`` features.
        U: ``(l, m)`` with orthonormal columns.
        data: As for ``fit``; an iterable must be one that can be started again.
        rotation: ``"in_span"``, the principal directions within the span of U: a decoder that is fed P phi notices
            nothing; ``"official"``, those of most variance in all of feature space, as the authors' code has it, which
            are in the span of U only where training has converged.
        batch_size: Data at a time.
        device: Where batches are made.

    Raises:
        ArgumentError: For an unknown rotation.
        DataError: For fewer than two data.
    """
    if rotation not in ("in_span", "official"):
        raise ArgumentError("rotation", got=rotation, expected="'in_span' or 'official'")
    n, mean, scatter = 0, torch.zeros(0), torch.zeros(0)
    for batch in in_order(data, batch_size, torch.device(device)):
        phi = features(batch[0]).double()
        if not n:
            mean, scatter = phi.new_zeros(phi.shape[1]), phi.new_zeros(phi.shape[1], phi.shape[1])
        # Chan's update: the mean is taken off before anything is squared.
        away, centred = phi.mean(0) - mean, phi - phi.mean(0)
        scatter += centred.mT @ centred + torch.outer(away, away) * (n * len(phi) / (n + len(phi)))
        n += len(phi)
        mean = mean + away * (len(phi) / n)
    if n < 2:
        raise DataError(f"data: got {n} datum, expected at least two, which have a spread.")
    covariance, u = scatter / n, U.detach().double()
    top = torch.linalg.eigh(covariance).eigenvectors[:, -u.shape[1] :].flip(1)
    angle = torch.linalg.svdvals(top - u @ (u.mT @ top)).max().clamp(max=1).asin()
    basis = top
    if rotation == "in_span":
        basis = u @ torch.linalg.eigh(u.mT @ covariance @ u).eigenvectors.flip(1)
    largest = basis.gather(0, basis.abs().argmax(0, keepdim=True))
    basis = basis * torch.where(largest < 0, -1.0, 1.0)
    variance = ((covariance @ basis) * basis).sum(0).clamp(min=0)
    return Principal(mean, basis, variance, float(angle))
