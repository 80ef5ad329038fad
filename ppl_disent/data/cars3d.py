# Copyright ppl-disent contributors.
# SPDX-License-Identifier: Apache-2.0
"""Cars3D: rendered cars seen from 96 directions, read from the published mat files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ppl_disent.data.dataset import Dataset
from ppl_disent.data.images import check_size, resized
from ppl_disent.data.pixels import Pixels
from ppl_disent.errors import ArgumentError, DataError

NAMES = ("elevation", "azimuth", "object")
# Height, width, colour, azimuth, elevation.
_FORM = (128, 128, 3, 24, 4)
_PUBLISHED = (
    "data/cars of http://www.scottreed.info/files/nips2015-analogy-data.tar.gz "
    "(its MD5 is 4e866a7919c1beedf53964e6f7a23686)"
)


def cars3d(root: str | Path | None = None, *, size: int = 64) -> Dataset:
    """The 17,568 images of Cars3D: 183 cars at 4 elevations and 24 azimuths.

    Each file ``car_***_mesh.mat`` has one car in ``im``, with the axes height, width, colour, azimuth, elevation. The
    data set's order is that of disentanglement_lib (data/ground_truth/cars3d.py): image
    ``(24 elevation + azimuth) cars + object``. Cars are counted in the order of ``list.txt``, or by name where it is
    missing; there, in the order in which the file system lists them.

    Args:
        root: The folder with the mat files, as published ``cars``, or the one above it, or the one above ``data``.
        size: Side of the images in pixels; published are 128. Pillow's Lanczos filter makes others, as there.

    Returns:
        Images of shape ``(3, size, size)``, held as bytes, likelihood ``"bernoulli"``, the factors elevation (4),
        azimuth (24) and object (as many as there are files).

    Raises:
        ArgumentError: For a size that cannot be.
        DataError: For a file that is missing, damaged or of another form.

    References:
        Deep Visual Analogy-Making (Reed et al., 2015),
        https://papers.nips.cc/paper/5845-deep-visual-analogy-making
    """
    if root is None:
        raise ArgumentError("root", got=None, expected="the folder that holds car_***_mesh.mat")
    check_size(size)
    root = Path(root).expanduser()
    folder = next((each for each in (root / "cars", root / "data" / "cars") if each.is_dir()), root)
    listed = folder / "list.txt"
    if listed.is_file():
        paths = [folder / f"{name}.mat" for name in listed.read_text().split()]
    else:
        paths = sorted(folder.glob("car_*_mesh.mat"))
    if not paths:
        raise DataError(f"{folder}: has no car_***_mesh.mat. Unpack {_PUBLISHED} there.")
    images = torch.empty(4, 24, len(paths), 3, size, size, dtype=torch.uint8)
    for car, path in enumerate(paths):
        views = _read(path).transpose(4, 3, 0, 1, 2).reshape(96, 128, 128, 3)
        images[:, :, car] = resized(views, size).view(4, 24, 3, size, size)
    return Pixels(
        images.view(-1, 3, size, size),
        factors=torch.cartesian_prod(torch.arange(4), torch.arange(24), torch.arange(len(paths))),
        factor_names=NAMES,
        factor_sizes=(4, 24, len(paths)),
    )


def _read(path: Path) -> NDArray[Any]:
    if not path.is_file():
        raise DataError(f"{path}: no such file, though list.txt names it. Unpack {_PUBLISHED} there.")
    from scipy.io import loadmat

    try:
        with path.open("rb") as stream:
            image = loadmat(stream, variable_names=["im"])["im"]
    except Exception as error:  # scipy raises a dozen types for damaged files, some of them plain Exception
        raise DataError(f"{path}: {error}. Expected a MATLAB file with im, as in {_PUBLISHED}.") from error
    if image.shape != _FORM or image.dtype != np.uint8:
        raise DataError(f"{path}: im is {image.dtype} {image.shape}, expected uint8 {_FORM}.")
    return image
