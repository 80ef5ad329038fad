# Copyright ppl-disent contributors.
# SPDX-License-Identifier: Apache-2.0
"""Images to train and to test on, and the figures of a run on them: reconstruction, generation, latent directions."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from experiments.outcome import Codes, encode, factors_of
from ppl_disent import dci, decoder_orthogonality, fid, mig, swd
from ppl_disent.data import Dataset, load
from ppl_disent.errors import ArgumentError, DataError
from ppl_disent.methods import StRKM
from ppl_disent.methods.principal import principal
from ppl_disent.run import Run

# Of the data, so many are scored and so many codes looked at for directions.
SCORED, LOOKED_AT, ROTATIONS = 2000, 100, 10
FIGURES = {
    "squared_error": "squared error of reconstructions",
    "pixel_distance": "Fréchet distance of pixels",
    "fid": "FID, with the weights given",
    "swd": "sliced Wasserstein distance, x 1000",
    "mig": "MIG",
    "dci": "DCI disentanglement, Lasso",
    "off_diagonal": "share of J'J off its diagonal",
    "off_diagonal_trained": "... for U as trained",
    "off_diagonal_rotated": "... for random rotations",
    "covariance": "largest covariance of codes, training data",
    "covariance_held_out": "... held-out data",
    "angle": "angle of span(U) and top directions, rad",
    "travel": "travel of U",
    "seconds": "seconds for 1000 steps",
}


def parts(name: str, root: str | None, options: Mapping[str, Any]) -> tuple[Dataset, Dataset]:
    """Images to train on, and a fifth of them, at most 10,000, to test on."""
    whole = load(name, root=root, **options)
    if len(whole.shape) != 3 or whole.likelihood != "bernoulli":
        raise ArgumentError("data", got=name, expected="images with values in [0, 1]")
    held_out = min(0.2, 10_000 / len(whole))
    train, test = whole.split((1 - held_out, held_out), seed=0)
    return train, test


def figures(fitted: Run, train: Dataset, test: Dataset, inception: str | None) -> dict[str, float | None]:
    """The figures of the table, on held-out data."""
    q, codes = fitted.posterior, encode(fitted, test, progress=False)
    index = codes.index[:SCORED]
    x = test.batch(index)[0].cpu()
    torch.manual_seed(0)
    made = q.sample(len(x)).cpu().clamp(0, 1)
    (site,) = codes.mean
    decode, h = decoder(fitted), codes.mean[site][:LOOKED_AT].to(next(fitted.model.parameters()).device)
    score = decoder_orthogonality(decode, h, rotations=ROTATIONS)
    found: dict[str, float | None] = {
        "squared_error": (q.reconstruct(*test.batch(index)).cpu() - x).square().flatten(1).sum(1).mean().item(),
        "pixel_distance": float(fid(x, made, features=pixels)),
        "fid": None if inception is None else float(fid(x, made, features=inception)),
        "swd": float(swd(x, made)) if min(x.shape[2:]) >= 16 else None,
        **_disentanglement(codes, test),
        "off_diagonal": float(score),
        "off_diagonal_rotated": sum(score.detail["rotated"]) / ROTATIONS,
        "covariance": _covariance(encode(fitted, train, progress=False).mean[site]),
        "covariance_held_out": _covariance(codes.mean[site]),
    }
    model: Any = fitted.model
    guide: Any = fitted.guide
    if isinstance(model, StRKM):
        guide.eval()
        turn = model.span.basis.mT @ model.span.U.detach()  # from coordinates along U to those along the basis
        trained = decoder_orthogonality(lambda c: decode(c @ turn.mT), h @ turn)
        at = principal(guide.encoder, model.span.U, train, device=h.device)
        last = fitted.history.iloc[-1]
        found |= {"off_diagonal_trained": float(trained), "angle": at.angle, "travel": float(last["travel.U"])}
    return found


def decoder(fitted: Run) -> Callable[[Tensor], Tensor]:
    """From codes to means of x, differentiable."""
    model: Any = fitted.model.eval()
    if isinstance(model, StRKM):
        found: Callable[[Tensor], Tensor] = model.decode
        return found
    return lambda z: model.likelihood(model.decoder(z)).mean


def pixels(x: Tensor) -> Tensor:
    """Features of images that need no network: the pixels, of larger images averaged to 16 x 16."""
    return torch.nn.functional.adaptive_avg_pool2d(x, min(16, x.shape[2])).flatten(1)


def _covariance(h: Tensor) -> float:
    """The largest covariance of two codes, relative to the largest variance."""
    c = torch.cov(h.double().T)
    return float((c - c.diagonal().diag()).abs().max() / c.max())


def _disentanglement(codes: Codes, data: Dataset) -> dict[str, float | None]:
    """MIG, and DCI where there are at least two factors."""
    try:
        factors, names = factors_of(codes, data)
    except DataError:
        return {"mig": None, "dci": None}
    mean = torch.cat(list(codes.mean.values()), 1)
    return {
        "mig": float(mig(mean, factors)),
        "dci": float(dci(mean, factors, estimator="lasso")) if names[1:] else None,
    }
