# Copyright ppl-disent contributors.
# SPDX-License-Identifier: Apache-2.0
"""SmallNORB: photographs of toys, read from the published binary matrices."""

from __future__ import annotations

import gzip
import math
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ppl_disent.data.dataset import Dataset
from ppl_disent.data.images import check_size, resized
from ppl_disent.data.pixels import Pixels
from ppl_disent.errors import ArgumentError, DataError

NAMES = ("category", "elevation", "azimuth", "lighting", "instance")
SIZES = (5, 9, 18, 6, 10)
PARTS = {
    "train": "smallnorb-5x46789x9x18x6x2x96x96-training",
    "test": "smallnorb-5x01235x9x18x6x2x96x96-testing",
}
# Of the packed files.
_MD5 = {
    "train": {
        "dat": "66054832f9accfe74a0f4c36a75bc0a2",
        "cat": "23c8b86101fbf0904a000b43d3ed2fd9",
        "info": "51dee1210a742582ff607dfd94e332e3",
    },
    "test": {
        "dat": "e4ad715691ed5a3a5f138751a4ceb071",
        "cat": "5aa791cd7e6016cf957ce9bdb93b8603",
        "info": "a9454f3864d7fd4bb3ea7fc3eb84924e",
    },
}
# The first four bytes say the type, little-endian.
_TYPES = {0x1E3D4C55: "u1", 0x1E3D4C54: "<i4"}


def smallnorb(root: str | Path | None = None, *, part: str = "all", size: int = 64, camera: int = 0) -> Dataset:
    """The 48,600 images of SmallNORB: 50 toys of 5 categories at 9 elevations, 18 azimuths and 6 lightings.

    Read are ``smallnorb-...-dat.mat``, ``-cat.mat`` and ``-info.mat`` of each part, packed (``.gz``) or not; they
    are no MATLAB files. Images keep the published order, which is not sorted, the train part first. As
    disentanglement_lib (data/ground_truth/norb.py) by default both parts are read, of the first camera, at 64 x 64.

    Args:
        root: The folder that holds these files, or the one above its ``small_norb``.
        part: ``"train"`` (instances 4, 6, 7, 8, 9 of each category), ``"test"`` (0, 1, 2, 3, 5), or ``"all"``.
        size: Side of the images in pixels; published are 96. Pillow's Lanczos filter makes others, as there.
        camera: 0 or 1, which image of the stereo pair.

    Returns:
        Grey images of shape ``(1, size, size)``, held as bytes, likelihood ``"bernoulli"``. The factors are category
        (animal, human, plane, truck, car), elevation (30 to 70 degrees), azimuth (0 to 340 degrees), lighting, and
        last ``instance``, the toy within its category: it means something else in each, so metrics of disentanglement
        take ``factors[:, :4]``.

    Raises:
        ArgumentError: For a part, size or camera that there is not.
        DataError: For a file that is missing, damaged or of another form.

    References:
        Learning Methods for Generic Object Recognition with Invariance to Pose and Lighting (LeCun et al., 2004),
        https://cs.nyu.edu/~ylclab/data/norb-v1.0-small/, which also tells the format.
    """
    if root is None:
        raise ArgumentError("root", got=None, expected=f"the folder that holds {PARTS['train']}-dat.mat")
    if part not in ("all", *PARTS):
        raise ArgumentError("part", got=part, expected=f"one of {('all', *PARTS)}")
    if camera not in (0, 1):
        raise ArgumentError("camera", got=camera, expected="0 or 1")
    check_size(size)
    root = Path(root).expanduser()
    folder = root / "small_norb" if (root / "small_norb").is_dir() else root
    images, factors = [], []
    for each in PARTS if part == "all" else (part,):
        x, category, info = (_matrix(folder, each, kind) for kind in ("dat", "cat", "info"))
        shapes = x.shape, category.shape, info.shape
        if shapes != ((n := len(x), 2, 96, 96), (n,), (n, 4)) or x.dtype != np.uint8:
            expected = "bytes (N, 2, 96, 96), (N,) and (N, 4)"
            raise DataError(f"{folder}: {PARTS[each]} dat, cat and info are {x.dtype} {shapes}, expected {expected}.")
        instance, elevation, azimuth, lighting = info.T
        values = np.stack([category, elevation, azimuth // 2, lighting, instance], axis=1)
        if (azimuth % 2).any() or (values < 0).any() or (values >= SIZES).any():
            expected = f"{NAMES} from 0 to size - 1 for the sizes {SIZES}, azimuths doubled"
            raise DataError(f"{folder}: {PARTS[each]} cat and info have other values, expected {expected}.")
        images.append(resized(x[:, camera], size))
        factors.append(torch.from_numpy(values.astype(np.int64)))
    return Pixels(torch.cat(images), factors=torch.cat(factors), factor_names=NAMES, factor_sizes=SIZES)


def _matrix(folder: Path, part: str, kind: str) -> NDArray[Any]:
    """One binary matrix: type, number of axes, sizes (at least three), then the values, the last axis fastest."""
    path = folder / f"{PARTS[part]}-{kind}.mat"
    packed = path.with_name(path.name + ".gz")
    published = f"{packed.name} of https://cs.nyu.edu/~ylclab/data/norb-v1.0-small/ (its MD5 is {_MD5[part][kind]})"
    if not path.is_file() and not packed.is_file():
        raise DataError(f"{path}: no such file. Put {published} there, packed or not.")
    try:
        content = path.read_bytes() if path.is_file() else gzip.decompress(packed.read_bytes())
        magic, axes = (int(n) for n in np.frombuffer(content, "<i4", 2))
        shape = tuple(np.frombuffer(content, "<i4", axes, 8).tolist())
        values = np.frombuffer(content, _TYPES[magic], offset=8 + 4 * max(3, axes))
        if values.size != math.prod(shape):
            raise ValueError(f"{values.size} values for the shape {shape}")
    except (OSError, EOFError, zlib.error, KeyError, ValueError) as error:
        raise DataError(f"{path}: {type(error).__name__} {error}. Expected {published}.") from error
    return values.reshape(shape)
