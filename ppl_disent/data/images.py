# Copyright ppl-disent contributors.
# SPDX-License-Identifier: Apache-2.0
"""What the readers of published images share: a selection of them, and their size."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from ppl_disent.errors import ArgumentError


def check_size(size: object) -> None:
    """The side of images is a positive integer."""
    if not isinstance(size, int) or size < 1:
        raise ArgumentError("size", got=size, expected="a positive integer")


def select(count: int, limit: int | None, seed: int) -> NDArray[np.int64]:
    """``limit`` of ``count`` positions, drawn at random and in rising order; all of them for None."""
    if limit is None:
        return np.arange(count)
    if not isinstance(limit, int) or not 1 <= limit <= count:
        raise ArgumentError("limit", got=limit, expected=f"None, or 1 to {count}, the images that there are")
    return np.sort(np.random.default_rng(seed).choice(count, limit, replace=False))


def resized(images: NDArray[Any], size: int, how: Image.Resampling = Image.Resampling.LANCZOS) -> Tensor:
    """Images ``(N, height, width)`` or ``(N, height, width, 3)`` of bytes as an ``(N, channels, size, size)`` tensor.

    Pillow's filters are wide enough for what is thrown away (they do not alias), and those of most published readers.
    """
    if images.shape[1:3] != (size, size):
        small = np.empty((len(images), size, size, *images.shape[3:]), np.uint8)
        for place, image in enumerate(images):
            small[place] = np.asarray(Image.fromarray(image).resize((size, size), how))
        images = small
    images = images[:, None] if images.ndim == 3 else images.transpose(0, 3, 1, 2)
    return torch.from_numpy(np.require(images, requirements=["C", "W"]))
