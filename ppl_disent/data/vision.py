# Copyright ppl-disent contributors.
# SPDX-License-Identifier: Apache-2.0
"""MNIST, Fashion-MNIST and SVHN, as torchvision keeps them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from ppl_disent.data.dataset import Dataset
from ppl_disent.data.images import check_size, resized
from ppl_disent.data.pixels import Pixels
from ppl_disent.errors import ArgumentError, DataError


def mnist(root: str | Path | None = None, *, part: str = "train", size: int = 28, download: bool = False) -> Dataset:
    """70,000 handwritten digits, 60,000 of them in the train part.

    Args:
        root: The folder above ``MNIST/raw``, where torchvision's ``MNIST`` keeps the four files.
        part: ``"train"``, ``"test"``, or ``"all"``, the train part first.
        size: Side of the images in pixels; published are 28. Others are made as by torchvision's ``Resize`` (bilinear).
        download: Let torchvision fetch the files into ``root`` first if they are not there (12 MB). Without it nothing
            is downloaded.

    Returns:
        Grey images of shape ``(1, size, size)``, held as bytes, likelihood ``"bernoulli"``, with the factor ``digit``.

    Raises:
        ArgumentError: For a part or size that there is not.
        DataError: For files that are missing or damaged, or that could not be fetched.

    References:
        Gradient-Based Learning Applied to Document Recognition (LeCun et al., 1998), https://yann.lecun.org/exdb/mnist/
    """
    return _idx("MNIST", "digit", root, part, size, download)


def fashion_mnist(
    root: str | Path | None = None, *, part: str = "train", size: int = 28, download: bool = False
) -> Dataset:
    """70,000 articles of clothing in the form of MNIST, 60,000 of them in the train part.

    Args:
        root: The folder above ``FashionMNIST/raw``, where torchvision's ``FashionMNIST`` keeps the four files.
        part, size, download: As for :func:`mnist`; 31 MB are fetched.

    Returns:
        Grey images of shape ``(1, size, size)``, held as bytes, likelihood ``"bernoulli"``, with the factor ``class``
        (t-shirt, trouser, pullover, dress, coat, sandal, shirt, sneaker, bag, ankle boot).

    Raises:
        ArgumentError: For a part or size that there is not.
        DataError: For files that are missing or damaged, or that could not be fetched.

    References:
        Fashion-MNIST: a Novel Image Dataset for Benchmarking Machine Learning Algorithms (Xiao et al., 2017),
        https://arxiv.org/abs/1708.07747
    """
    return _idx("FashionMNIST", "class", root, part, size, download)


def svhn(root: str | Path | None = None, *, part: str = "train", size: int = 32, download: bool = False) -> Dataset:
    """Digits of street numbers, in colour: 73,257 in the train part, 26,032 in the test part, 531,131 extra.

    Args:
        root: The folder that holds ``train_32x32.mat``, ``test_32x32.mat`` or ``extra_32x32.mat``.
        part: ``"train"``, ``"test"``, ``"extra"``, or ``"all"`` three in this order.
        size, download: As for :func:`mnist`; published are 32 x 32 pixels, the train part is 182 MB.

    Returns:
        Images of shape ``(3, size, size)``, held as bytes, likelihood ``"bernoulli"``, with the factor ``digit``.

    Raises:
        ArgumentError: For a part or size that there is not.
        DataError: For files that are missing, damaged (by their MD5), or that could not be fetched.

    References:
        Reading Digits in Natural Images with Unsupervised Feature Learning (Netzer et al., 2011),
        http://ufldl.stanford.edu/housenumbers/
    """
    from torchvision.datasets import SVHN

    folder = _folder(root, part, ("train", "test", "extra"), size, "train_32x32.mat")
    images, digits = [], []
    for each in ("train", "test", "extra") if part == "all" else (part,):
        url, file, md5 = SVHN.split_list[each]
        path = folder / file
        if not path.is_file() and not download:
            hint = "or let torchvision fetch it with download=True"
            raise DataError(f"{path}: no such file. Put {url} there, {hint}; its MD5 is {md5}.")
        try:
            held = SVHN(str(folder), split=each, download=download)
        except Exception as error:  # of the network, of torchvision, and a dozen types of scipy
            raise DataError(f"{path}: {error}. Expected {url}; its MD5 is {md5}.") from error
        images.append(held.data.transpose(0, 2, 3, 1))
        digits.append(held.labels)
    return _pixels(images, digits, "digit", size)


def _idx(name: str, factor: str, root: str | Path | None, part: str, size: int, download: bool) -> Dataset:
    """One of the data sets that come in four files of MNIST's format."""
    from torchvision import datasets

    kind = getattr(datasets, name)
    folder = _folder(root, part, ("train", "test"), size, f"{name}/raw") / name / "raw"
    missing = [(file, md5) for file, md5 in kind.resources if not (folder / Path(file).stem).is_file()]
    if missing and not download:
        file, md5 = missing[0]
        hint = "or let torchvision fetch all four with download=True"
        raise DataError(
            f"{folder / Path(file).stem}: no such file. Put {kind.mirrors[0]}{file} there, unpacked, {hint}; "
            f"the MD5 of {file} is {md5}."
        )
    images, classes = [], []
    for train in {"train": (True,), "test": (False,), "all": (True, False)}[part]:
        try:
            held = kind(str(folder.parent.parent), train=train, download=download)
        except Exception as error:  # of the network, and whatever torchvision meets in a damaged file
            raise DataError(
                f"{folder}: {type(error).__name__} {error}. Expected the files of {kind.mirrors}."
            ) from error
        images.append(held.data.numpy())
        classes.append(held.targets.numpy())
    return _pixels(images, classes, factor, size)


def _folder(root: str | Path | None, part: str, parts: tuple[str, ...], size: int, holds: str) -> Path:
    if root is None:
        raise ArgumentError("root", got=None, expected=f"the folder that holds {holds}")
    if part not in ("all", *parts):
        raise ArgumentError("part", got=part, expected=f"one of {('all', *parts)}")
    check_size(size)
    return Path(root).expanduser()


def _pixels(images: list[NDArray[Any]], classes: list[NDArray[Any]], factor: str, size: int) -> Dataset:
    x = torch.cat([resized(each, size, Image.Resampling.BILINEAR) for each in images])
    values = torch.from_numpy(np.concatenate(classes).astype(np.int64)).unsqueeze(1)
    return Pixels(x, factors=values, factor_names=(factor,), factor_sizes=(10,))
