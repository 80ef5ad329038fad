# Copyright ppl-disent contributors.
# SPDX-License-Identifier: Apache-2.0
"""dSprites: white squares, ellipses and hearts on black, rendered from their factors or read from the published file.

The renderer compares no real numbers while it makes an image. Positions are 32/31 pixels apart, so in units of 1/31
pixel, from the centre of the sprite, the centres of all pixels of all images lie half-way between two integers: every
image of a sprite (one of 720: shape, scale, orientation) is each 31st point of each 31st row of one lattice. A table
holds where the lattice's rows cross the outlines, found once in float64; no crossing is so near to a lattice point that
rounding could matter. An image is then integer arithmetic, the same on every device: 64 rows of one 64-bit integer.
"""

from __future__ import annotations

import zipfile
import zlib
from abc import abstractmethod
from collections.abc import Sequence
from functools import cached_property, lru_cache
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from ppl_disent.data.dataset import Dataset, digest
from ppl_disent.errors import ArgumentError, DataError

FILE = "dsprites_ndarray_co1sh3sc6or40x32y32_64x64.npz"
NAMES = ("shape", "scale", "orientation", "pos_x", "pos_y")
SIZES = (3, 6, 40, 32, 32)

# Lattice rows on either side of a sprite's centre: sprites reach 13.6 pixels, 421 rows; those beyond are empty.
_REACH = 432


def dsprites(root: str | Path | None = None, *, every: Sequence[int] = (1, 1, 1, 1, 1), size: int = 64) -> Dataset:
    """The 737,280 images of dSprites: 64 x 64, binary, one for each combination of five factors.

    The factors are shape (square, ellipse, heart), scale (0.5 to 1), orientation (0 to 2 pi), pos_x and pos_y (0 to 1),
    with 3, 6, 40, 32 and 32 values; the published sixth, colour, is constant and left out. The last varies fastest:
    image ``245760 shape + 40960 scale + 1024 orientation + 32 pos_x + pos_y``, as published.

    Without ``root`` nothing is read: images are rendered on demand, from a closed form. It was fitted to the 320 images
    that the authors show (dsprites.gif of google-deepmind/dsprites-dataset): 298 of them come out identical, and 42
    of their 1,310,720 pixels differ. For figures that are to be compared with those of others, use the file.

    Orientations 0 and 39 are the same angle and give the same images: at most 718,848 images are distinct, and no code
    of an image can tell these two orientations apart.

    Args:
        root: The published file, or the folder that holds it. Its images (of any number) and ``latents_classes`` are
            read, nothing in it is executed, and the images are held as bits.
        every: Keep each n-th value of each factor, from the first: ``(1, 5, 4, 4, 4)`` has 3 x 2 x 10 x 8 x 8 images.
            Factors count the values that are kept. Only where images are rendered.
        size: Pixels a side: 64, or 32 or 16 for trials, each pixel then the mean of the 4 or 16 that it stands for.

    Returns:
        A data set of shape ``(1, size, size)``, with the likelihood ``"bernoulli"``.

    Raises:
        ArgumentError: For an ``every`` that is not five positive integers, or that is given together with ``root``;
            for another ``size``.
        DataError: For a file that is missing, damaged or not what was published.

    References:
        dSprites: Disentanglement testing Sprites dataset (Matthey et al., 2017)
        https://github.com/google-deepmind/dsprites-dataset

    Example:
        >>> data = load("dsprites")
        >>> data.factors[578560], data.factor_names
        (tensor([2, 2, 5, 0, 0]), ('shape', 'scale', 'orientation', 'pos_x', 'pos_y'))
        >>> (x,) = data.batch([578560])
        >>> x.shape
        torch.Size([1, 1, 64, 64])
    """
    steps = tuple(every) if isinstance(every, Sequence) else ()
    if len(steps) != len(SIZES) or not all(isinstance(n, int) and n > 0 for n in steps):
        raise ArgumentError("every", got=every, expected=f"five positive integers, one for each of {NAMES}")
    if size not in (64, 32, 16):
        raise ArgumentError("size", got=size, expected="64, 32 or 16")
    if root is None:
        return _Rendered(steps, size)
    if any(n > 1 for n in steps):
        raise ArgumentError("every", got=every, expected="nothing where root is given: a file is taken whole")
    return _Packed(*_read(Path(root).expanduser()), size)


class _Sprites(Dataset):
    """Images of 512 bytes, one bit a pixel, that subclasses find or make."""

    def __init__(self, factors: Tensor, sizes: Sequence[int], size: int) -> None:
        super().__init__(
            len(factors), (1, size, size), "bernoulli", factors=factors, factor_names=NAMES, factor_sizes=sizes
        )
        # A part of the fingerprint only where images are not as published: checkpoints of others keep theirs.
        self._reduced = (size,) if size < 64 else ()
        self._pixels = (torch.arange(256)[:, None] >> torch.arange(8) & 1).float()

    @abstractmethod
    def _packed(self, index: Tensor) -> Tensor:
        """The images at ``index`` as a (batch, 512) uint8 tensor, pixel 8 i + j in bit j of byte i."""

    def _take(self, index: Tensor) -> tuple[Tensor, ...]:
        # Not uint8: torch would take it for a mask.
        x = self._pixels[self._packed(index).int()].view(-1, 1, 64, 64)
        return (x if self.shape[1] == 64 else F.avg_pool2d(x, 64 // self.shape[1]),)


class _Packed(_Sprites):
    def __init__(self, images: Tensor, factors: Tensor, size: int) -> None:
        super().__init__(factors, SIZES, size)
        self._images = images

    @cached_property
    def fingerprint(self) -> str:
        return digest("dsprites", self._images, self.factors, *self._reduced)

    def _packed(self, index: Tensor) -> Tensor:
        return self._images[index]


class _Rendered(_Sprites):
    def __init__(self, every: tuple[int, ...], size: int) -> None:
        sizes = tuple(len(range(0, size, n)) for size, n in zip(SIZES, every))
        super().__init__(torch.cartesian_prod(*map(torch.arange, sizes)), sizes, size)
        self._every, self._crossings = every, _crossings()

    @property
    def fingerprint(self) -> str:
        return digest("dsprites rendered", self._every, *self._reduced)

    def _packed(self, index: Tensor) -> Tensor:
        digits = []
        for size, n in zip(self.factor_sizes[::-1], self._every[::-1]):
            digits.append(index % size * n)
            index = index // size
        pos_y, pos_x, orientation, scale, shape = digits
        sprite = (shape * 6 + scale) * 40 + orientation
        # Pixel (r, c) is the lattice point (31 r - 481 - 32 pos_y, 31 c - 481 - 32 pos_x), so the number of columns
        # left of a crossing e, those with 31 c - 481 - 32 pos_x < e, is (e + 481 + 32 pos_x) / 31, rounded up.
        row = 31 * torch.arange(64, device=index.device) - 481 - 32 * pos_y[:, None]
        row = (row + _REACH).clamp(0, 2 * _REACH - 1)
        left = (self._crossings[sprite[:, None], row] + (481 + 32 * pos_x[:, None, None]) + 30) // 31
        # Even and odd: a pixel is white if an odd number of crossings lies to its right.
        a, b, c, d = ((1 << left) - 1).unbind(-1)
        return (a ^ b ^ c ^ d).view(torch.uint8)


@lru_cache(maxsize=1)
def _crossings() -> Tensor:
    """Where the lattice's rows cross the 720 outlines, a (720, 2 _REACH, 4) int16 tensor of columns in any order.

    Lattice point i is at (i + 1/2) / 31 pixels; e stands for the first point that is not left of the crossing. Rows
    are counted from -_REACH. Rows with fewer than four crossings are filled with pairs of zeros, which cancel.
    """
    y = (np.arange(-_REACH, _REACH) + 0.5) / 31
    t = np.linspace(0, 2 * np.pi, 128, endpoint=False)
    square = 9.6 * np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]])
    heart = np.stack(
        [
            0.6 * 16 * np.sin(t) ** 3,
            -0.662 * (13 * np.cos(t) - 5 * np.cos(2 * t) - 2 * np.cos(3 * t) - np.cos(4 * t)) - 1.44,
        ],
        axis=-1,
    )
    turns = [(scale, angle) for scale in np.linspace(0.5, 1, 6) for angle in np.linspace(0, 2 * np.pi, 40)]
    x = np.stack(
        [_polygon(square, *turn, y) for turn in turns]
        + [_ellipse(12.77, 7.21, *turn, y) for turn in turns]
        + [_polygon(heart, *turn, y) for turn in turns]
    )
    return torch.from_numpy(np.where(np.isnan(x), 0, np.ceil(31 * x - 0.5)).astype(np.int16))


def _polygon(corners: NDArray, scale: float, angle: float, y: NDArray) -> NDArray:
    """Where the lines at the heights ``y`` cross a polygon that is scaled and turned counter-clockwise: (rows, 4)."""
    cos, sin = scale * np.cos(angle), scale * np.sin(angle)
    start = corners @ np.array([[cos, -sin], [sin, cos]])
    end = np.roll(start, -1, axis=0)
    crossed = (start[:, 1] <= y[:, None]) != (end[:, 1] <= y[:, None])
    row, edge = crossed.nonzero()
    (x0, y0), (x1, y1) = start[edge].T, end[edge].T
    x = np.full((len(y), 4), np.nan)
    x[row, crossed.cumsum(axis=1)[row, edge] - 1] = x0 + (y[row] - y0) / (y1 - y0) * (x1 - x0)
    return x


def _ellipse(a: float, b: float, scale: float, angle: float, y: NDArray) -> NDArray:
    """As :func:`_polygon`, for the ellipse with these half-axes: the roots of p x^2 + 2 q x y + r y^2 = scale^2."""
    cos, sin = np.cos(angle), np.sin(angle)
    p, q, r = (cos / a) ** 2 + (sin / b) ** 2, cos * sin * (b**-2 - a**-2), (sin / a) ** 2 + (cos / b) ** 2
    inside = (q * y) ** 2 - p * (r * y**2 - scale**2)
    half = np.sqrt(np.where(inside > 0, inside, np.nan))
    x = np.full((len(y), 4), np.nan)
    x[:, 0], x[:, 1] = (-q * y - half) / p, (-q * y + half) / p
    return x


def _read(path: Path) -> tuple[Tensor, Tensor]:
    """The images of the published file, packed, and their factors; a few megabytes of it are unpacked at a time."""
    path = path if path.suffix == ".npz" else path / FILE
    if not path.is_file():
        raise DataError(
            f"{path}: no such file. Put {FILE} of the GitHub project google-deepmind/dsprites-dataset there, "
            "or leave out root: the images are then rendered."
        )
    try:
        with zipfile.ZipFile(path) as archive:
            with archive.open("latents_classes.npy") as stream:
                classes = np.lib.format.read_array(stream, allow_pickle=False)
            if classes.shape[1:] != (6,) or classes.dtype.kind not in "iu":
                raise ValueError(f"latents_classes are {classes.dtype} {classes.shape}, expected integers (N, 6)")
            if (classes < 0).any() or (classes >= (1, *SIZES)).any():
                raise ValueError(f"latents_classes are not all from 0 to size - 1, sizes {(1, *SIZES)}")
            with archive.open("imgs.npy") as stream:
                np.lib.format.read_magic(stream)
                shape, fortran, dtype = np.lib.format.read_array_header_1_0(stream)
                if shape != (len(classes), 64, 64) or fortran or dtype != np.uint8:
                    raise ValueError(f"imgs are {dtype} of shape {shape}, expected uint8 ({len(classes)}, 64, 64)")
                images = np.empty((len(classes), 512), np.uint8)
                for part in np.split(images, range(4096, len(images), 4096)):
                    pixels = np.frombuffer(stream.read(4096 * len(part)), np.uint8).reshape(len(part), 4096)
                    if pixels.max() > 1:
                        raise ValueError(f"imgs have values up to {pixels.max()}, expected 0 and 1")
                    part[:] = np.packbits(pixels, axis=1, bitorder="little")
    except (zipfile.BadZipFile, zlib.error, EOFError, KeyError, ValueError) as error:
        raise DataError(f"{path}: {error}. Expected {FILE} as published.") from error
    return torch.from_numpy(images), torch.from_numpy(classes[:, 1:].astype(np.int64))
