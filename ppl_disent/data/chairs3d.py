# Copyright ppl-disent contributors.
# SPDX-License-Identifier: Apache-2.0
"""3D Chairs: rendered chairs seen from 62 directions, read from the published images."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from ppl_disent.data.dataset import Dataset
from ppl_disent.data.images import check_size, select
from ppl_disent.data.pixels import Pixels
from ppl_disent.errors import ArgumentError, DataError

FOLDER = "rendered_chairs"
NAMES = ("model", "elevation", "azimuth")
# image_052_p030_t232_r096.png: a number, elevation and azimuth in degrees, distance.
_NAME = re.compile(r"image_\d+_p(\d+)_t(\d+)_r\d+\.png")
_PUBLISHED = "https://www.di.ens.fr/willow/research/seeing3Dchairs/data/rendered_chairs.tar"


def chairs3d(
    root: str | Path | None = None,
    *,
    size: int = 64,
    crop: int = 600,
    grey: bool = False,
    limit: int | None = None,
    seed: int = 0,
) -> Dataset:
    """The 86,366 images of 3D Chairs: 1,393 chairs on white, at 2 elevations and 31 azimuths.

    Read are ``rendered_chairs/MODEL/renders/image_***_pEEE_tAAA_r***.png``, whose names say elevation and azimuth in
    degrees. Images are decoded once, in threads, and held as bytes (1.1 GB at 64 x 64). They come by model, by the name
    of its folder, then elevation, then azimuth. That there are 62 views of each model is what the authors tell; it is
    not required.

    Args:
        root: The folder ``rendered_chairs``, or the one above it.
        size: Side of the images in pixels.
        crop: Side of the central square that is shown, of the 600 x 600 pixels; it is resized with Lanczos' filter. All
            is what public code shows, also where it means to cut out the inner 400 (YannDubs/disentangling-vae,
            utils/datasets.py, drops what its crop returns).
        grey: One channel instead of three.
        limit: Keep so many images, drawn at random. None keeps all.
        seed: Of the selection.

    Returns:
        Images of shape ``(3, size, size)`` or ``(1, size, size)``, likelihood ``"bernoulli"``. The factors model,
        elevation and azimuth count the folders and angles that there are, in rising order; 360 degrees is 0.

    Raises:
        ArgumentError: For a size, crop or limit that cannot be.
        DataError: For images that are missing or damaged.

    References:
        Seeing 3D Chairs: Exemplar Part-based 2D-3D Alignment using a Large Dataset of CAD Models (Aubry et al., 2014),
        https://www.di.ens.fr/willow/research/seeing3Dchairs/
    """
    if root is None:
        raise ArgumentError("root", got=None, expected=f"the folder {FOLDER}, or the one above it")
    check_size(size)
    if not isinstance(crop, int) or not 1 <= crop <= 600:
        raise ArgumentError("crop", got=crop, expected="1 to 600, the side of the images")
    root = Path(root).expanduser()
    folder = root / FOLDER if (root / FOLDER).is_dir() else root
    found = []
    for path in folder.glob("*/renders/*.png"):
        if match := _NAME.fullmatch(path.name):
            found.append((path.parts[-3], int(match[1]), int(match[2]) % 360, path))
    if not found:
        raise DataError(f"{folder}: has no MODEL/renders/image_***_p***_t***_r***.png. Unpack {_PUBLISHED} there.")
    found = sorted(found)
    columns = [np.unique([row[k] for row in found], return_inverse=True) for k in range(3)]
    index = select(len(found), limit, seed)
    factors = np.stack([classes for _, classes in columns], axis=1)[index]
    return Pixels(
        _decode([found[i][3] for i in index], size, crop, "L" if grey else "RGB"),
        factors=torch.from_numpy(factors.astype(np.int64)),
        factor_names=NAMES,
        factor_sizes=tuple(len(values) for values, _ in columns),
    )


def _decode(paths: Sequence[Path], size: int, crop: int, mode: str) -> Tensor:
    """The images as an (N, channels, size, size) uint8 tensor."""
    images = torch.empty(len(paths), len(mode), size, size, dtype=torch.uint8)

    def decode(place: int) -> None:
        try:
            with Image.open(paths[place]) as image:
                if image.size != (600, 600):
                    raise DataError(f"{paths[place]}: has {image.size} pixels, expected (600, 600).")
                low, high = 300 - crop / 2, 300 + crop / 2
                shown = image.convert(mode)
                small = shown.resize((size, size), Image.Resampling.LANCZOS, box=(low, low, high, high))
        except (UnidentifiedImageError, OSError) as error:
            raise DataError(f"{paths[place]}: {error}. Unpack {_PUBLISHED} again.") from error
        images[place] = torch.from_numpy(np.array(small)).view(size, size, len(mode)).permute(2, 0, 1)

    # Pillow works outside of the interpreter's lock, so threads are enough.
    with ThreadPoolExecutor(min(16, os.cpu_count() or 1)) as pool:
        for _ in pool.map(decode, range(len(paths))):
            pass
    return images
