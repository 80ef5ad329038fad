# Copyright ppl-disent contributors.
# SPDX-License-Identifier: Apache-2.0
"""Endless minibatches, drawn by index on the device, in an order that a checkpoint can hold."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sized
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from ppl_disent.errors import ArgumentError, DataError


@runtime_checkable
class Indexed(Protocol):
    """A data set whose rows can be had by index, such as ``ppl_disent.data.Dataset``."""

    def __len__(self) -> int: ...

    def batch(self, index: Tensor, /) -> tuple[Tensor, ...]: ...


Data = Indexed | Tensor | tuple[Tensor, ...] | Iterable[Any]


class Batches:
    """Minibatches without end.

    Data that can be indexed is visited in a new random order each epoch, by a generator of its own; the rows left at
    an epoch's end that make no whole batch are skipped. Any other iterable gives its own batches in its own order,
    and is started again when it ends.

    Args:
        data: A data set with ``len`` and ``batch(index)``, a tensor or tuple of tensors with equal first sizes, or an
            iterable of batches.
        batch_size: Rows a batch; all of them if there are fewer.
        seed: Seed of the order.
        device: Where batches are made.

    Attributes:
        first: A batch like the first, to look at; drawing it does not advance the order.

    Raises:
        DataError: For data without rows, tensors of different lengths, or an iterable of something else than tensors.
    """

    def __init__(self, data: Data, batch_size: int, seed: int, device: torch.device) -> None:
        self._device, self._position = device, 0
        if isinstance(data, Tensor):
            data = (data,)
        self.tensors: tuple[Tensor, ...] | None = None
        self._rows: Callable[[Tensor], tuple[Tensor, ...]] | None = None
        if isinstance(data, tuple) and data and all(isinstance(t, Tensor) for t in data):
            self.tensors = tuple(t.detach().to(device) for t in data)
            lengths = [len(t) if t.dim() else 0 for t in self.tensors]
            if len(set(lengths)) > 1:
                raise DataError(f"data: got tensors of lengths {lengths}, expected equal lengths.")
            self._length = lengths[0]
            self._rows = lambda index: tuple(t[index] for t in self.tensors or ())
        elif isinstance(data, Indexed):
            data = data.to(device) if hasattr(data, "to") else data
            rows = data.batch
            self._length, self._rows = len(data), lambda index: self._fields(rows(index))
        elif isinstance(data, Iterable) and not isinstance(data, (str, bytes)):
            self._loader = data
            self._iterator: Iterator[Any] = iter(data)
            try:
                self.first = self._fields(next(self._iterator))
            except StopIteration:
                raise DataError("data: got an iterable without a batch.") from None
            self._waiting: tuple[Tensor, ...] | None = self.first
            return
        else:
            expected = "a Dataset, a tensor or tuple of tensors, or an iterable of batches"
            raise ArgumentError("data", got=type(data).__name__, expected=expected)
        if self._length < 1:
            raise DataError("data: got no rows.")
        self._batch_size = min(batch_size, self._length)
        self._generator = torch.Generator(device).manual_seed(seed)
        self._new_epoch()
        assert self._rows is not None
        self.first = self._rows(self._order[: self._batch_size])

    def __next__(self) -> tuple[Tensor, ...]:
        if self._rows is None:
            return self._next_of_loader()
        if self._position + self._batch_size > self._length:
            self._new_epoch()
        index = self._order[self._position : self._position + self._batch_size]
        self._position += self._batch_size
        return self._rows(index)

    def _new_epoch(self) -> None:
        self._epoch_state = self._generator.get_state()
        self._order = torch.randperm(self._length, generator=self._generator, device=self._device)
        self._position = 0

    def _next_of_loader(self) -> tuple[Tensor, ...]:
        if self._waiting is not None:
            batch, self._waiting = self._waiting, None
            return batch
        try:
            return self._fields(next(self._iterator))
        except StopIteration:
            self._iterator = iter(self._loader)
        try:
            return self._fields(next(self._iterator))
        except StopIteration:
            raise DataError(
                "data: the iterable ended and cannot be started again; pass a list or a DataLoader."
            ) from None

    def _fields(self, batch: Any) -> tuple[Tensor, ...]:
        fields = (batch,) if isinstance(batch, Tensor) else tuple(batch) if isinstance(batch, (tuple, list)) else ()
        if not fields or not all(isinstance(t, Tensor) for t in fields):
            raise DataError(f"data: got batches of {type(batch).__name__}, expected tensors or tuples of tensors.")
        return tuple(t.detach().to(self._device, non_blocking=True) for t in fields)

    def state_dict(self) -> dict[str, Any]:
        """Where in which order the next batch lies; empty for an iterable, which owns its order."""
        return {} if self._rows is None else {"epoch": self._epoch_state, "position": self._position}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restores ``state_dict()`` of the same data."""
        if state:
            self._generator.set_state(state["epoch"])
            self._new_epoch()
            self._position = state["position"]


def in_order(data: Data, batch_size: int, device: torch.device) -> Iterator[tuple[Tensor, ...]]:
    """All data once, in their own order, ``batch_size`` rows at a time; an iterable gives its own batches."""
    batches = Batches(data, batch_size, 0, device)
    if batches._rows is None:
        yield from map(batches._fields, batches._loader)
    else:
        for rows in torch.arange(batches._length, device=device).split(batch_size):
            yield batches._rows(rows)


def fingerprint(data: Data) -> str:
    """Identifies data, to notice that a resumed run was given another: what it says of itself, or a hash of tensors."""
    if isinstance(own := getattr(data, "fingerprint", None), str):
        return own
    tensors = (data,) if isinstance(data, Tensor) else data
    if isinstance(tensors, tuple) and all(isinstance(t, Tensor) for t in tensors):
        digest = hashlib.sha256()
        for t in tensors:
            digest.update(f"{t.dtype}{tuple(t.shape)}".encode())
            digest.update(t.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
        return digest.hexdigest()[:16]
    return f"{type(data).__name__} of {len(data)}" if isinstance(data, Sized) else type(data).__name__
