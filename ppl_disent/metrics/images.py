# Copyright ppl-disent contributors.
# SPDX-License-Identifier: Apache-2.0
"""Reads images, one batch at a time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from torch import Tensor

from ppl_disent.errors import ArgumentError

Images = Tensor | Iterable[Tensor | tuple[Tensor, ...] | list[Tensor]]


def batches(name: str, images: Images, batch_size: int) -> Iterator[Tensor]:
    """The images in batches, detached, each checked when its turn comes.

    Args:
        name: The argument, for the error message.
        images: An ``(n, channels, height, width)`` floating tensor with values in [0, 1]; or an iterable of such
            batches, or of tuples whose first item is one (what a data set or a DataLoader gives).
        batch_size: Of the batches that a tensor is cut into.

    Raises:
        ArgumentError: If it is something else, if there are no images, or if their shapes differ.
    """
    expected = "images (n, channels, height, width) in [0, 1], or an iterable of batches of them"
    if not isinstance(images, Iterable):
        raise ArgumentError(name, got=images, expected=expected, hint="Of a data set, pass batches: see fid.")
    if not isinstance(batch_size, int) or batch_size < 1:
        raise ArgumentError("batch_size", got=batch_size, expected="a positive integer")
    if isinstance(images, Tensor):
        images = images.split(batch_size) if images.ndim else [images]
    shape = None
    for batch in images:
        x = batch[0] if isinstance(batch, tuple | list) and batch else batch
        if not isinstance(x, Tensor) or not x.is_floating_point() or x.ndim != 4 or not x.numel():
            got = f"a {x.dtype} tensor of shape {tuple(x.shape)}" if isinstance(x, Tensor) else x
            raise ArgumentError(name, got=got, expected=expected)
        if shape not in (None, x.shape[1:]):
            raise ArgumentError(name, got=f"shapes {tuple(shape)} and {tuple(x.shape[1:])}", expected="one shape")
        shape = x.shape[1:]
        low, high = (v.item() for v in x.aminmax())
        if not 0 <= low <= high <= 1:
            raise ArgumentError(name, got=f"values from {low:g} to {high:g}", expected="values in [0, 1]")
        yield x.detach()
    if shape is None:
        raise ArgumentError(name, got=images, expected="at least one image")
