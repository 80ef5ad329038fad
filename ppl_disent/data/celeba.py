# Copyright ppl-disent contributors.
# SPDX-License-Identifier: Apache-2.0
"""CelebA: faces with 40 binary attributes, read from the published files."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from ppl_disent.data.dataset import Dataset, digest
from ppl_disent.data.pixels import Pixels
from ppl_disent.errors import ArgumentError, DataError

ATTRIBUTES = "list_attr_celeba.txt"
PARTITION = "list_eval_partition.txt"
IMAGES = "img_align_celeba"
PARTS = ("train", "valid", "test")

# Left, top, right and bottom in the published images of 178 x 218 pixels.
CROPS = {
    "proposal": (22.25, 27.25, 155.75, 190.75),
    "centre": (15.0, 35.0, 163.0, 183.0),
    "none": (0.0, 0.0, 178.0, 218.0),
}

Box = tuple[float, float, float, float]


def celeba(
    root: str | Path | None = None,
    *,
    attributes: Sequence[str | Sequence[str]] = ("Eyeglasses",),
    part: str = "all",
    balanced: float | None = None,
    size: int = 64,
    crop: str | Box = "proposal",
    cache: bool = True,
    download: bool = False,
    seed: int = 0,
) -> Dataset:
    """CelebA's aligned and cropped faces, with the attributes that are asked for.

    Read are ``list_attr_celeba.txt``, the folder ``img_align_celeba`` and, for one of the published parts,
    ``list_eval_partition.txt``, as torchvision's ``CelebA`` keeps them; nothing is written. Images are decoded once, in
    threads, and held as bytes: at 64 x 64 all 202,599 take 2.5 GB, on the GPU after ``to("cuda")``. With
    ``cache=False`` they are decoded for every batch instead, which takes no memory and stalls training.

    Which faces, and which crop, the papers took is not known. ``balanced`` makes sets of the kind that is told of:
    ``attributes=("Eyeglasses",), balanced=2`` has two faces without glasses for each with, and
    ``attributes=(("not No_Beard", "Mustache", "Goatee"),), balanced=1`` is facial hair against none.

    Args:
        root: The folder that holds these files, or the one above its ``celeba`` (where torchvision puts it).
        attributes: Names of the file's 40 attributes, each a label; ``"not NAME"`` is its opposite, a tuple of names
            is one label that is 1 where any of them is.
        part: ``"train"``, ``"valid"``, ``"test"`` as published, or ``"all"``.
        balanced: For each face with at least one of the attributes, keep so many with none; whichever of both kinds
            there are too many of is thinned out at random. None keeps all.
        size: Side of the images in pixels.
        crop: What is shown of the 178 x 218 pixels: ``"proposal"``, the inner three quarters of each side (resize to
            256 x 256, cut 32 from each edge, as alexlyzhov/latent-subspaces, results/dataset.py; here in one step);
            ``"centre"``, the middle 148 x 148, common in public VAE code; ``"none"``, all; or (left, top, right,
            bottom) in pixels. It is resized to a square, with Lanczos' filter.
        cache: Decode all images now and keep them.
        download: Let torchvision fetch the files into ``root/celeba`` first if they are not there (1.4 GB, from Google
            Drive; needs the package gdown). Without it nothing is downloaded.
        seed: Of the selection.

    Returns:
        Images of shape ``(3, size, size)``, likelihood ``"bernoulli"``, one label for each of ``attributes``.

    Raises:
        ArgumentError: For an attribute, part or crop that there is not, or a balance that leaves no faces.
        DataError: For a file that is missing or damaged; the message says which, and its checksum.

    References:
        Deep Learning Face Attributes in the Wild (Liu et al., 2015), http://mmlab.ie.cuhk.edu.hk/projects/CelebA.html
    """
    if root is None:
        raise ArgumentError("root", got=None, expected=f"the folder that holds {ATTRIBUTES} and {IMAGES}/")
    if part not in ("all", *PARTS):
        raise ArgumentError("part", got=part, expected=f'"all" or one of {PARTS}')
    if not isinstance(size, int) or size < 1:
        raise ArgumentError("size", got=size, expected="a positive integer")
    if balanced is not None and not 0 < balanced < float("inf"):
        raise ArgumentError("balanced", got=balanced, expected="a positive number of faces without for each face with")
    box = CROPS.get(crop) if isinstance(crop, str) else tuple(crop)
    if box is None or len(box) != 4 or not (0 <= box[0] < box[2] <= 178 and 0 <= box[1] < box[3] <= 218):
        expected = f"one of {sorted(CROPS)}, or (left, top, right, bottom) within (0, 0, 178, 218)"
        raise ArgumentError("crop", got=crop, expected=expected)
    root = Path(root).expanduser()
    if download:
        from torchvision.datasets import CelebA

        CelebA(str(root), split="all", download=True)
    folder = root / "celeba" if (root / "celeba").is_dir() else root
    header, names, values = _table(_find(folder, ATTRIBUTES), header=True)
    labels, label_names = _labels(attributes, header, values)
    keep = np.ones(len(names), bool)
    if part != "all":
        _, listed, parts = _table(_find(folder, PARTITION), header=False)
        if listed != names:
            raise DataError(f"{folder}: {PARTITION} does not list the images of {ATTRIBUTES} in their order.")
        keep = parts[:, 0] == PARTS.index(part)
    index = _select(keep, np.logical_or.reduce(labels, axis=1), balanced, seed)
    paths = _images(folder, [names[i] for i in index])
    chosen = torch.from_numpy(labels[index]).float()
    if not cache:
        return _Files(paths, size, box, chosen, label_names)
    return Pixels(_decode(paths, size, box), labels=chosen, label_names=label_names)


class _Files(Dataset):
    """Images that are decoded for every batch."""

    def __init__(self, paths: list[Path], size: int, box: Box, labels: Tensor, label_names: Sequence[str]) -> None:
        super().__init__(len(paths), (3, size, size), "bernoulli", labels=labels, label_names=label_names)
        self._paths, self._box = paths, box

    @cached_property
    def fingerprint(self) -> str:
        return digest("celeba", [path.name for path in self._paths], self.shape, self._box, self.labels)

    def _take(self, index: Tensor) -> tuple[Tensor, ...]:
        assert self.labels is not None
        images = _decode([self._paths[i] for i in index.tolist()], self.shape[-1], self._box)
        return images.to(self.device).float().div(255), self.labels[index]


def _decode(paths: Sequence[Path], size: int, box: Box) -> Tensor:
    """The images as an (N, 3, size, size) uint8 tensor."""
    images = torch.empty(len(paths), 3, size, size, dtype=torch.uint8)

    def decode(place: int) -> None:
        try:
            with Image.open(paths[place]) as image:
                scale = image.width / 178, image.height / 218
                part = (box[0] * scale[0], box[1] * scale[1], box[2] * scale[0], box[3] * scale[1])
                small = image.convert("RGB").resize((size, size), Image.Resampling.LANCZOS, box=part)
        except (UnidentifiedImageError, OSError) as error:
            raise DataError(f"{paths[place]}: {error}. Unpack {IMAGES}.zip again.") from error
        images[place] = torch.from_numpy(np.array(small)).permute(2, 0, 1)

    # Pillow works outside of the interpreter's lock, so threads are enough.
    with ThreadPoolExecutor(min(16, os.cpu_count() or 1)) as pool:
        for _ in pool.map(decode, range(len(paths))):
            pass
    return images


def _labels(
    attributes: Sequence[str | Sequence[str]], header: list[str], values: NDArray[np.int64]
) -> tuple[NDArray[np.bool_], list[str]]:
    """The labels asked for, (N, k), and their names."""
    if isinstance(attributes, str) or not attributes:
        raise ArgumentError("attributes", got=attributes, expected="a sequence of names, at least one")
    columns, label_names = [], []
    for attribute in attributes:
        group = [attribute] if isinstance(attribute, str) else list(attribute)
        on = np.zeros(len(values), bool)
        for name in group:
            plain = name.removeprefix("not ")
            if plain not in header:
                raise ArgumentError("attributes", got=name, expected=f"names among {header}, or 'not' before one")
            on |= (values[:, header.index(plain)] == 1) == (plain == name)
        columns.append(on)
        label_names.append(" or ".join(group))
    return np.stack(columns, axis=1), label_names


def _select(keep: NDArray[np.bool_], on: NDArray[np.bool_], balanced: float | None, seed: int) -> NDArray[np.int64]:
    """Positions in rising order, with ``balanced`` faces that are off for each that is on."""
    if balanced is None:
        index = keep.nonzero()[0]
        if not len(index):
            raise DataError(f"{PARTITION}: has no image of this part.")
        return index
    with_any, with_none = (keep & on).nonzero()[0], (keep & ~on).nonzero()[0]
    number = min(len(with_any), int(len(with_none) / balanced))
    if number == 0:
        expected = f"faces of both kinds: {len(with_any)} have one of the attributes and {len(with_none)} none"
        raise ArgumentError("balanced", got=balanced, expected=expected)
    rng = np.random.default_rng(seed)
    some = rng.choice(with_any, number, replace=False), rng.choice(with_none, round(number * balanced), replace=False)
    return np.sort(np.concatenate(some))


def _table(path: Path, *, header: bool) -> tuple[list[str], list[str], NDArray[np.int64]]:
    """Column names, image names and an (N, columns) array of one of the published text files."""
    try:
        lines = path.read_text().splitlines()
        columns = lines[1].split() if header else ["part"]
        rows = [line.split() for line in lines[2 * header :] if line.strip()]
        values = np.array([row[1:] for row in rows], np.int64)
        if values.shape != (len(rows), len(columns)) or not rows or (header and not (abs(values) == 1).all()):
            raise ValueError(f"expected {len(columns)} numbers after the name of each image")
        if header and int(lines[0]) != len(rows):
            raise ValueError(f"{len(rows)} rows where its first line says {lines[0]}")
    except (ValueError, IndexError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: {error}. Expected the file as published; {_checksum(path.name)}") from error
    return columns, [row[0] for row in rows], values


def _find(folder: Path, name: str) -> Path:
    path = folder / name
    if not path.is_file():
        raise DataError(
            f"{path}: no such file. Put {name} of http://mmlab.ie.cuhk.edu.hk/projects/CelebA.html (Anno) beside "
            f"{IMAGES}/, or let torchvision fetch all of it with download=True; {_checksum(name)}"
        )
    return path


def _images(folder: Path, names: list[str]) -> list[Path]:
    images = folder / IMAGES
    there = {entry.name for entry in os.scandir(images)} if images.is_dir() else set()
    missing = [name for name in names if name not in there]
    if missing:
        raise DataError(
            f"{images}: {len(missing)} of {len(names)} images are missing, the first is {missing[0]}. Unpack "
            f"{IMAGES}.zip of http://mmlab.ie.cuhk.edu.hk/projects/CelebA.html there; {_checksum(IMAGES + '.zip')}"
        )
    return [images / name for name in names]


def _checksum(name: str) -> str:
    """The MD5 that torchvision publishes; only looked up where a message needs it."""
    from torchvision.datasets import CelebA

    known = {file: md5 for _, md5, file in CelebA.file_list}
    return f"its MD5 is {known.get(name, 'not known')}."
