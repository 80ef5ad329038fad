# Copyright ppl-disent contributors.
# SPDX-License-Identifier: Apache-2.0
"""The sliced Wasserstein distance of image patches, at every scale of a Laplacian pyramid."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from ppl_disent.errors import ArgumentError
from ppl_disent.metrics.images import Images, batches
from ppl_disent.metrics.score import Score

# Patches are squares of this side, and the last level of a pyramid is the last that is at least _SMALLEST wide.
_PATCH = 7
_SMALLEST = 16
# Projections sorted at a time.
_CHUNK = 2**25


def swd(
    real: Images,
    generated: Images,
    *,
    patches: int = 128,
    projections: int = 512,
    seed: int = 0,
    batch_size: int = 256,
) -> Score:
    """The sliced Wasserstein distance of two sets of images, times 1,000: do patches look alike, at every scale?

    Each image becomes a Laplacian pyramid, halved while at least 16 pixels are left. At each level patches of 7 x 7
    pixels are cut out at random, each channel of all of a set's patches is brought to mean 0 and variance 1, and the
    patches are projected on random directions; the distance is the mean difference of the sorted projections. As
    tkarras/progressive_growing_of_gans, metrics/sliced_wasserstein.py, with its numbers (128 patches, 4 x 128
    directions), for any number of channels. TensorFlow-GAN's function of this name (64 patches, 147 directions) brings
    every patch by itself to mean 0 and variance 1, and is another figure.

    Pitfalls:
        *The distance depends on n*: two samples of one law are apart, the less the larger n is, so compare at one n
        (papers: 8,192). Other patches of the same real images give a floor (``detail["floor"]``); another sample of
        their law lies higher still, most of all at coarse levels. As each set is brought to mean 0 and variance 1 by
        itself, a change of brightness or contrast of a whole set is not seen.

    Memory: the pyramids, 4/3 of both sets, and the patches of one level, ``588 n channels patches`` bytes in float32
    (8,192 images in colour: 1.8 GB).

    Args:
        real: An ``(n, channels, height, width)`` floating tensor with values in [0, 1], or an iterable of batches of
            them, or of tuples whose first item is one. At least 7 x 7 pixels.
        generated: As many images of the same shape.
        patches: Patches for each image and level. Where they are cut out follows from what the image shows, so that
            neither order nor batches matter, and a set has distance 0 to itself.
        projections: The number of random directions.
        seed: Of patches and directions.
        batch_size: Of the batches that tensors are cut into.

    Returns:
        The mean over levels, times 1,000. ``detail`` has ``per_level`` and ``floor``, two dicts from a level's height
        in pixels to its distance, between real and generated and between other patches of the real images.

    Raises:
        ArgumentError: For images of another type, shape, range or number, or counts that are not positive.

    Example:
        >>> import torch
        >>> x = torch.rand(20, 1, 16, 16, generator=torch.Generator().manual_seed(0))
        >>> f"{swd(x, x):.1f}"
        '0.0'

    References:
        Progressive Growing of GANs for Improved Quality, Stability, and Variation (Karras et al., 2018), section 5,
        https://arxiv.org/abs/1710.10196
    """
    for name, count in (("patches", patches), ("projections", projections)):
        if not isinstance(count, int) or count < 1:
            raise ArgumentError(name, got=count, expected="a positive integer")
    with torch.no_grad():
        (a, keys_a), (b, keys_b) = (
            _pyramids(batches(name, x, batch_size)) for name, x in (("real", real), ("generated", generated))
        )
        if a[0].shape != b[0].shape:
            got = (tuple(a[0].shape), tuple(b[0].shape))
            raise ArgumentError("real, generated", got=got, expected="as many images, of one shape")
        per_level, floor = {}, {}
        for level, (x, y) in enumerate(zip(a, b)):
            height, y = x.shape[2], y.to(x)
            one = _descriptors(x, keys_a, patches, (seed, level))
            other = _descriptors(y, keys_b, patches, (seed, level))
            per_level[height] = 1e3 * sliced_wasserstein(one, other, projections=projections, seed=seed)
            other = _descriptors(x, keys_a, patches, (seed, level, 1))
            floor[height] = 1e3 * sliced_wasserstein(one, other, projections=projections, seed=seed)
    levels = ", ".join(f"{height}: {value:.4g}" for height, value in per_level.items())
    estimator = f"times 1000, {patches} patches of {_PATCH} x {_PATCH}, {projections} directions, n = {len(a[0])}"
    detail = {"per_level": per_level, "floor": floor}
    return Score(float(np.mean(list(per_level.values()))), {}, detail, f"{levels} pixels; {estimator}")


def sliced_wasserstein(a: Tensor, b: Tensor, *, projections: int, seed: int = 0) -> float:
    """The mean 1-Wasserstein distance of two sets of points, projected on random directions.

    Args:
        a, b: Two ``(n, d)`` tensors.
        projections: The number of directions, uniform on the sphere.
        seed: Of the directions, which are the same on every device.

    Returns:
        The distance, in the units of the points.
    """
    directions = torch.randn(
        projections, a.shape[1], generator=torch.Generator().manual_seed(seed), dtype=torch.float64
    )
    directions = F.normalize(directions, dim=1).to(a)
    total = 0.0
    for some in directions.split(max(1, _CHUNK // len(a))):
        one, other = ((some @ points.T).sort(dim=1).values for points in (a, b))
        total += (one - other).abs().mean(1, dtype=torch.float64).sum().item()
    return total / projections


def laplacian_pyramid(images: Tensor, levels: int) -> list[Tensor]:
    """What each halving of images loses, from fine to coarse, and last what is left.

    Halving and doubling are OpenCV's ``pyrDown`` and ``pyrUp``. Level i plus the doubled level i + 1, from coarse to
    fine, is the images again.

    Args:
        images: An ``(n, channels, height, width)`` tensor.
        levels: How many.
    """
    pyramid = [images]
    for _ in range(levels - 1):
        small = _blur(pyramid[-1])[..., ::2, ::2]
        pyramid[-1] = pyramid[-1] - double(small, pyramid[-1].shape[2:])
        pyramid.append(small)
    return pyramid


def double(images: Tensor, size: Iterable[int]) -> Tensor:
    """Images at twice their height and width, or one less, as ``size`` says."""
    large = images.new_zeros(*images.shape[:2], *size)
    large[..., ::2, ::2] = images
    return 4 * _blur(large)


def _blur(images: Tensor) -> Tensor:
    """Each channel under the 5 x 5 binomial filter, mirrored at the borders."""
    n, channels, height, width = images.shape
    row = images.new_tensor([1, 4, 6, 4, 1]) / 16
    flat = F.pad(images.reshape(n * channels, 1, height, width), (2, 2, 2, 2), mode="reflect")
    return F.conv2d(F.conv2d(flat, row.view(1, 1, 1, 5)), row.view(1, 1, 5, 1)).view(n, channels, height, width)


def _pyramids(images: Iterable[Tensor]) -> tuple[list[Tensor], list[tuple[int, int]]]:
    """The levels of all images, and for each image a key that tells it from all others."""
    levels, keys, seen = [], [], Counter[int]()
    for x in images:
        side = min(x.shape[2:])
        if side < _PATCH:
            raise ArgumentError("real, generated", got=tuple(x.shape), expected=f"at least {_PATCH} x {_PATCH} pixels")
        count = 1
        while side // 2**count >= _SMALLEST:
            count += 1
        levels.append(laplacian_pyramid(x, count))
        for image in x.float().cpu().numpy():
            name = int.from_bytes(hashlib.blake2b(image.tobytes(), digest_size=8).digest())
            # Copies of one image are cut at different places, as others are.
            keys.append((name, seen[name]))
            seen[name] += 1
    return [torch.cat(level) for level in zip(*levels)], keys


def _descriptors(level: Tensor, keys: list[tuple[int, int]], patches: int, salt: tuple[int, ...]) -> Tensor:
    """Random patches of one level, brought to mean 0 and variance 1 channel by channel: (n patches, 49 channels)."""
    n, _, height, width = level.shape
    corners = np.stack(
        [
            np.random.default_rng((*salt, *key)).integers((height - _PATCH + 1, width - _PATCH + 1), size=(patches, 2))
            for key in keys
        ]
    )
    y, x = torch.from_numpy(corners).to(level.device).unbind(-1)
    window = torch.arange(_PATCH, device=level.device)
    rows, columns = (y[..., None] + window)[..., None], (x[..., None] + window)[..., None, :]
    image = torch.arange(n, device=level.device)[:, None, None, None]
    # (n, patches, 7, 7, channels)
    cut = level.permute(0, 2, 3, 1)[image, rows, columns]
    mean, std = cut.mean((0, 1, 2, 3)), cut.std((0, 1, 2, 3), correction=0)
    return ((cut - mean) / torch.where(std > 0, std, 1)).flatten(2).flatten(0, 1)
