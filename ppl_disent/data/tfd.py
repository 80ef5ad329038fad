# Copyright ppl-disent contributors.
# SPDX-License-Identifier: Apache-2.0
"""The Toronto Face Database, read from the published mat file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ppl_disent.data.dataset import Dataset
from ppl_disent.data.pixels import Pixels
from ppl_disent.errors import ArgumentError, DataError

EXPRESSIONS = ("anger", "disgust", "fear", "happy", "sad", "surprise", "neutral")
# The values of ``folds``.
PARTS = ("unlabelled", "train", "valid", "test")


def tfd(
    root: str | Path | None = None,
    *,
    expressions: Sequence[str] = EXPRESSIONS,
    part: str = "labelled",
    fold: int = 0,
    size: int = 48,
) -> Dataset:
    """Grey faces with one of seven expressions: the labelled part of the Toronto Face Database, or all of it.

    The file is ``TFD_48x48.mat``, or ``TFD_96x96.mat``. It was not at hand here: that it holds ``images`` (N, 48, 48),
    ``labs_ex`` (expressions, 1 to 7, -1 where there is none), ``labs_id`` (identities, likewise) and ``folds``
    ((N, 5): 0 unlabelled, 1 train, 2 valid, 3 test) is what public loaders read (lisa-lab/pylearn2 datasets/tfd.py,
    mila-iqia/fuel converters, and others that agree), and files of that form are what the tests read. The *names* of
    the expressions, in this order, are inferred from the order that one of them uses (lisa_emotiw); look at some faces
    before you rely on them. The larger set of faces labelled by a classifier, of which papers tell, is not published.

    Args:
        root: The file, or the folder that holds it.
        expressions: Which become labels, in this order. All seven are exclusive, one of them is 1.
        part: ``"labelled"`` (all with an expression), ``"train"``, ``"valid"`` or ``"test"`` of one fold, or
            ``"unlabelled"``, then without labels and factors.
        fold: Which of the five published splits of the labelled faces, 0 to 4.
        size: 48 or 96, the file.

    Returns:
        Images of shape ``(1, size, size)``, held as bytes, likelihood ``"bernoulli"``, one label for each of
        ``expressions``, the factors ``expression`` (7 values) and ``identity`` (counted anew; 0 is an unknown one).

    Raises:
        ArgumentError: For an expression, part, fold or size that there is not.
        DataError: For a file that is missing, damaged, or of another form.

    References:
        The Toronto Face Database (Susskind et al., 2010), University of Toronto, UTML TR 2010-001.
    """
    if root is None:
        raise ArgumentError("root", got=None, expected="TFD_48x48.mat or the folder that holds it")
    if isinstance(expressions, str) or not expressions or not set(expressions) <= set(EXPRESSIONS):
        raise ArgumentError("expressions", got=expressions, expected=f"a sequence of names among {EXPRESSIONS}")
    if part not in ("labelled", *PARTS):
        raise ArgumentError("part", got=part, expected=f"one of {('labelled', *PARTS)}")
    if fold not in range(5):
        raise ArgumentError("fold", got=fold, expected="0 to 4")
    if size not in (48, 96):
        raise ArgumentError("size", got=size, expected="48 or 96")
    path = Path(root).expanduser()
    path = path if path.suffix == ".mat" else path / f"TFD_{size}x{size}.mat"
    images, expression, identity, folds = _read(path, size)
    keep = expression >= 1 if part == "labelled" else folds[:, fold] == PARTS.index(part)
    if not keep.any():
        raise DataError(f"{path}: has no {part} faces in fold {fold}.")
    pixels = torch.from_numpy(images[keep]).unsqueeze(1)
    if part == "unlabelled":
        return Pixels(pixels)
    if (expression[keep] < 1).any():
        raise DataError(f"{path}: some {part} faces of fold {fold} have no expression in labs_ex.")
    # A -1 in front, so that it is 0 in every part and known identities count from 1.
    known, person = np.unique(np.concatenate([[-1], identity[keep]]), return_inverse=True)
    chosen = np.array([EXPRESSIONS.index(name) + 1 for name in expressions])
    return Pixels(
        pixels,
        factors=torch.from_numpy(np.stack([expression[keep] - 1, person[1:]], axis=1)).long(),
        factor_names=("expression", "identity"),
        factor_sizes=(7, len(known)),
        labels=torch.from_numpy(expression[keep][:, None] == chosen),
        label_names=tuple(expressions),
    )


def _read(path: Path, size: int) -> tuple[NDArray[Any], ...]:
    """Images (N, size, size) as bytes, expressions (N,), identities (N,), folds (N, 5)."""
    if not path.is_file():
        raise DataError(
            f"{path}: no such file. {path.name} is given out on request only: its makers (J. Susskind, University of "
            "Toronto) ask for the licences of the collections that it is made of. Put it there, or name it as root."
        )
    from scipy.io import loadmat

    names = ("images", "labs_ex", "labs_id", "folds")
    try:
        with path.open("rb") as stream:
            held = loadmat(stream, variable_names=names)
    except Exception as error:  # scipy raises a dozen types for damaged files, some of them plain Exception
        raise DataError(f"{path}: {error}. Expected a MATLAB file with {names}.") from error
    if missing := [name for name in names if name not in held]:
        raise DataError(f"{path}: has no {missing}. Expected a MATLAB file with {names}.")
    images = held["images"]
    n = len(images)
    expression, identity, folds = (np.asarray(held[name], np.float64) for name in names[1:])
    shapes = (images.shape, expression.size, identity.size, folds.shape)
    if shapes != ((n, size, size), n, n, (n, 5)):
        raise DataError(f"{path}: {names} have shapes {shapes}, expected (N, {size}, {size}), N, N and (N, 5).")
    if not n or images.min() < 0 or images.max() > 255 or (images.dtype.kind == "f" and images.max() <= 1):
        raise DataError(f"{path}: images are {images.dtype}, expected grey levels from 0 to 255.")
    if not np.isin(expression, (-1, 0, *range(1, 8))).all() or not np.isin(folds, range(4)).all():
        raise DataError(f"{path}: labs_ex or folds have values that are not 1 to 7 (-1 for none), and 0 to 3.")
    return images.astype(np.uint8), expression.ravel().astype(np.int64), identity.ravel().astype(np.int64), folds
