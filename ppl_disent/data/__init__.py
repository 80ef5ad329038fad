# Copyright ppl-disent contributors.
# SPDX-License-Identifier: Apache-2.0
"""Data sets, by name: ``load("dsprites")``.

To add one, write a file with a function that returns a :class:`Dataset`, and name it in ``LOADERS``. A function that
reads files takes the folder as ``root``; its other parameters are keyword-only options.
"""

from __future__ import annotations

from collections.abc import Callable
from inspect import signature
from pathlib import Path

from ppl_disent.data.cars3d import cars3d
from ppl_disent.data.celeba import celeba
from ppl_disent.data.chairs3d import chairs3d
from ppl_disent.data.dataset import Arrays, Dataset, Subset
from ppl_disent.data.digits import digits
from ppl_disent.data.digits_bars import digits_bars
from ppl_disent.data.dsprites import dsprites
from ppl_disent.data.shapes3d import shapes3d
from ppl_disent.data.smallnorb import smallnorb
from ppl_disent.data.tfd import tfd
from ppl_disent.data.toy import blobs, moons, swiss_roll
from ppl_disent.data.vision import fashion_mnist, mnist, svhn
from ppl_disent.errors import ArgumentError

__all__ = [
    "LOADERS",
    "Arrays",
    "Dataset",
    "Subset",
    "blobs",
    "cars3d",
    "celeba",
    "chairs3d",
    "digits",
    "digits_bars",
    "dsprites",
    "fashion_mnist",
    "load",
    "mnist",
    "moons",
    "shapes3d",
    "smallnorb",
    "svhn",
    "swiss_roll",
    "tfd",
]

LOADERS: dict[str, Callable[..., Dataset]] = {
    "blobs": blobs,
    "cars3d": cars3d,
    "celeba": celeba,
    "chairs3d": chairs3d,
    "digits": digits,
    "digits_bars": digits_bars,
    "dsprites": dsprites,
    "fashion_mnist": fashion_mnist,
    "mnist": mnist,
    "moons": moons,
    "shapes3d": shapes3d,
    "smallnorb": smallnorb,
    "svhn": svhn,
    "swiss_roll": swiss_roll,
    "tfd": tfd,
}


def load(name: str, root: str | Path | None = None, **options: object) -> Dataset:
    """The data set of that name.

    Args:
        name: A key of ``LOADERS``.
        root: The folder, or file, where the data are; for data sets that are read from files.
        options: The keyword arguments of the loader, see its documentation.

    Returns:
        The data set, on the CPU.

    Raises:
        ArgumentError: For a name that is not known, or an option that the loader does not have.
        DataError: For a file that is missing, damaged or not what was published.

    Example:
        >>> load("digits")
        Arrays(1797 of shape (1, 8, 8), bernoulli, factors {'digit': 10})
        >>> x, y = load("digits_bars", size=16, seed=1).batch([0, 1, 2])
        >>> x.shape, y.shape
        (torch.Size([3, 1, 16, 16]), torch.Size([3, 1]))
    """
    if name not in LOADERS:
        raise ArgumentError("name", got=name, expected=f"one of {sorted(LOADERS)}")
    loader = LOADERS[name]
    known = list(signature(loader).parameters)
    for option in options:
        if option not in known:
            raise ArgumentError("options", got=option, expected=f'options of "{name}", which are {known}')
    if root is None:
        return loader(**options)
    if "root" not in known:
        raise ArgumentError("root", got=root, expected=f'None: "{name}" is not read from files')
    return loader(root, **options)
