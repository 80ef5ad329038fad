# Copyright ppl-disent contributors.
# SPDX-License-Identifier: Apache-2.0
"""Do the latent directions change the decoded image in ways that are orthogonal to each other?"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.autograd.functional import jvp

from ppl_disent.errors import ArgumentError
from ppl_disent.metrics.score import Score

# Values of the Jacobians held at a time.
_CHUNK = 2**25


def decoder_orthogonality(
    decode: Callable[[Tensor], Tensor], codes: Tensor, *, rotations: int = 0, seed: int = 0
) -> Score:
    """The share of the decoder's metric off its diagonal: 0 where latent directions do different things to x.

    With J the decoder's Jacobian at a code and G = J'J, ``(m, m)``, the share is ``1 - sum_i G_ii^2 / sum_ij G_ij^2``;
    its mean over the codes is the score. A method whose objective cannot tell one rotation of latent space from another
    has no reason to have it low: random rotations of the same codes (``rotations``) are what to compare with.

    Args:
        decode: From ``(n, m)`` codes to ``(n, *x_shape)`` means of x; differentiable.
        codes: ``(n, m)``, where to look.
        rotations: Random rotations of latent space for comparison.
        seed: Of them.

    Returns:
        The mean share. ``detail`` has ``cosine``, the mean of ``|cos|`` between the images of two directions, leaving
        out directions that do nothing; ``gain``, the ``(m,)`` mean of ``G_ii``, by which an image changes; and, with
        rotations, ``rotated``, their mean shares as a list.

    Raises:
        ArgumentError: Unless codes are an ``(n, m)`` floating tensor and rotations at least 0.

    Example:
        >>> import torch
        >>> weight = torch.tensor([[1.0, 1.0], [0.0, 1.0]])
        >>> f"{decoder_orthogonality(lambda z: z @ weight, torch.zeros(1, 2)):.3f}"  # 2 / 7
        '0.286'
    """
    if not isinstance(codes, Tensor) or not codes.is_floating_point() or codes.ndim != 2 or not codes.numel():
        raise ArgumentError("codes", got=getattr(codes, "shape", codes), expected="an (n, m) floating tensor")
    if not isinstance(rotations, int) or rotations < 0:
        raise ArgumentError("rotations", got=rotations, expected="an integer of at least 0")
    codes = codes.detach()
    m = codes.shape[1]
    with torch.no_grad():
        pixels = decode(codes[:1]).numel()
    metric = torch.cat([_metric(decode, part) for part in codes.split(max(1, _CHUNK // (pixels * m)))])
    diagonal = metric.diagonal(dim1=1, dim2=2)
    size = diagonal.sqrt()
    cosine = metric.abs() / (size[:, :, None] * size[:, None])
    pairs = ~torch.eye(m, dtype=torch.bool, device=codes.device).expand_as(metric) & cosine.isfinite()
    detail = {"cosine": float(cosine[pairs].mean()) if pairs.any() else 0.0, "gain": diagonal.mean(0).cpu().numpy()}
    generator = torch.Generator().manual_seed(seed)
    if rotations:
        turned = [
            torch.linalg.qr(torch.randn(m, m, generator=generator, dtype=torch.float64)).Q for _ in range(rotations)
        ]
        detail["rotated"] = [_share(R.T.to(metric) @ metric @ R.to(metric)) for R in turned]
    return Score(_share(metric), {}, detail, f"share of J'J off its diagonal, n = {len(codes)} codes")


def _metric(decode: Callable[[Tensor], Tensor], codes: Tensor) -> Tensor:
    """J'J of each code, ``(n, m, m)``: a code decodes by itself, so one product serves all codes."""
    columns = [
        jvp(decode, codes, along.expand_as(codes))[1].flatten(1) for along in torch.eye(codes.shape[1]).to(codes)
    ]
    j = torch.stack(columns, 2).double()
    return j.mT @ j


def _share(metric: Tensor) -> float:
    """The mean share off the diagonal of ``(n, m, m)``; a decoder that does nothing has none."""
    every, own = metric.square().sum((1, 2)), metric.diagonal(dim1=1, dim2=2).square().sum(1)
    return float(torch.where(every > 0, 1 - own / every, 0.0).mean())
