# Copyright ppl-disent contributors.
# SPDX-License-Identifier: Apache-2.0
"""3D Shapes: rooms with one solid, read from the published file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from ppl_disent.data.dataset import Dataset
from ppl_disent.data.images import check_size, resized, select
from ppl_disent.data.pixels import Pixels
from ppl_disent.errors import ArgumentError, DataError

FILE = "3dshapes.h5"
NAMES = ("floor_hue", "wall_hue", "object_hue", "scale", "shape", "orientation")
SIZES = (10, 10, 10, 8, 4, 15)
_FORM = "images (N, 64, 64, 3) of bytes and labels (N, 6)"
_PUBLISHED = (
    "3dshapes.h5 of https://console.cloud.google.com/storage/browser/3d-shapes "
    "(its MD5 is 099a2078d58cec4daad0702c55d06868)"
)
# Images in memory at their full size: 50 MB.
_BLOCK = 4096


def shapes3d(root: str | Path | None = None, *, size: int = 64, limit: int | None = None, seed: int = 0) -> Dataset:
    """The 480,000 images of 3D Shapes: one for each combination of six factors.

    The factors are the hues of floor, wall and object, and the object's scale, shape and orientation, with 10, 10, 10,
    8, 4 and 15 values. The last varies fastest in the published order, which is kept. The file (of any number of
    images) is read in blocks: what is held at the end are the images of ``limit``, at ``size``. All of them take
    5.9 GB at 64 x 64 and 1.1 GB at 28 x 28.

    Args:
        root: The published file, or the folder that holds it. It is read with h5py, ``pip install 'ppl-disent[data]'``.
        size: Side of the images in pixels; published are 64. Pillow's Lanczos filter makes others.
        limit: Keep so many images, drawn at random, in the published order. None keeps all.
        seed: Of the selection.

    Returns:
        Images of shape ``(3, size, size)``, held as bytes, likelihood ``"bernoulli"``. Factors count the values of
        ``labels`` in rising order.

    Raises:
        ArgumentError: For a size or limit that cannot be.
        DataError: For a file that is missing, damaged or of another form, or where h5py is not installed.

    References:
        3D Shapes Dataset (Burgess & Kim, 2018), https://github.com/google-deepmind/3d-shapes
    """
    if root is None:
        raise ArgumentError("root", got=None, expected=f"{FILE} or the folder that holds it")
    check_size(size)
    path = Path(root).expanduser()
    path = path if path.suffix == ".h5" else path / FILE
    if not path.is_file():
        raise DataError(f"{path}: no such file. Put {_PUBLISHED} there, or name it as root.")
    try:
        import h5py
    except ImportError:
        raise DataError(f"{path}: h5py, which reads it, is not installed: pip install 'ppl-disent[data]'.") from None
    try:
        with h5py.File(path, "r") as file:
            images, labels = file["images"], file["labels"][:]
            if images.shape[1:] != (64, 64, 3) or images.dtype != np.uint8 or labels.shape != (len(images), 6):
                got = f"{images.dtype} images {images.shape} and labels {labels.shape}"
                raise DataError(f"{path}: has {got}, expected {_FORM}.")
            index = select(len(images), limit, seed)
            x = torch.empty(len(index), 3, size, size, dtype=torch.uint8)
            for start in range(0, len(images), _BLOCK):
                first, last = np.searchsorted(index, (start, start + _BLOCK))
                if first < last:
                    x[first:last] = resized(images[start : start + _BLOCK][index[first:last] - start], size)
    except (OSError, KeyError, TypeError) as error:
        raise DataError(f"{path}: {error}. Expected {_FORM}, as in {_PUBLISHED}.") from error
    values, classes = zip(*(np.unique(column, return_inverse=True) for column in labels.T))
    if (found := tuple(map(len, values))) != SIZES:
        raise DataError(f"{path}: labels have {found} different values, expected {SIZES} for {NAMES}.")
    factors = torch.from_numpy(np.stack(classes, axis=1)[index].astype(np.int64))
    return Pixels(x, factors=factors, factor_names=NAMES, factor_sizes=SIZES)
