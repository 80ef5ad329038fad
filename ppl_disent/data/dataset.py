# Copyright ppl-disent contributors.
# SPDX-License-Identifier: Apache-2.0
"""What a data set is: batches by index, on a device, with the factors that made them where these are known."""

from __future__ import annotations

import copy
import hashlib
import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from functools import cached_property
from itertools import accumulate, pairwise
from typing import Self

import torch
from torch import Tensor

from ppl_disent.data.checks import check_continuous, check_factors, check_labels, kind
from ppl_disent.errors import ArgumentError, DataError

Index = Tensor | Sequence[int] | slice | range


class Dataset(ABC):
    """N observations that are drawn by index; :class:`Arrays` holds any that fit in memory.

    Another kind of data set is a subclass that calls this constructor and defines ``fingerprint`` and ``_take``. Its
    tensors are plain attributes: ``to`` moves them all.

    Args:
        size: N.
        shape: The shape of one x, channel first for images.
        likelihood: ``"bernoulli"`` for x in [0, 1], ``"gaussian"`` for any real x.
        factors: The values of the factors that made x, an (N, K) int64 tensor, counted from 0.
        factor_names: Their K names.
        factor_sizes: Their K numbers of values.
        labels: Binary attributes, an (N, k) tensor of 0 and 1.
        label_names: Their k names; by default ``y0``, ``y1`` and so on.
        continuous: The values of real-valued factors that made x, an (N, m) floating tensor. They are for those who ask
            what a code knows; no batch holds them.
        continuous_names: Their m names, which say the unit where there is one.

    Attributes:
        shape, likelihood, factors, factor_names, factor_sizes, labels, label_names, continuous, continuous_names: As
            given; ``factors``, ``labels`` and ``continuous`` are None where they are not known.
        device: Where batches are made.

    Raises:
        ArgumentError: For another likelihood.
        DataError: For factors, labels or continuous factors of the wrong shape, type or range.

    Example:
        >>> data = load("dsprites", every=(1, 5, 8, 8, 8))
        >>> len(data), data.shape, data.factor_sizes
        (480, (1, 64, 64), (3, 2, 5, 4, 4))
        >>> train, test = data.split([0.75, 0.25], seed=0)
        >>> (x,) = test.batch(range(10))
    """

    def __init__(
        self,
        size: int,
        shape: Sequence[int],
        likelihood: str,
        *,
        factors: Tensor | None = None,
        factor_names: Sequence[str] = (),
        factor_sizes: Sequence[int] = (),
        labels: Tensor | None = None,
        label_names: Sequence[str] = (),
        continuous: Tensor | None = None,
        continuous_names: Sequence[str] = (),
    ) -> None:
        if likelihood not in ("bernoulli", "gaussian"):
            raise ArgumentError("likelihood", got=likelihood, expected='"bernoulli" or "gaussian"')
        check_factors(size, factors, factor_names, factor_sizes)
        check_labels(size, labels, label_names)
        check_continuous(size, continuous, continuous_names)
        self._size, self.shape, self.likelihood = size, tuple(shape), likelihood
        self.factors, self.factor_names, self.factor_sizes = factors, tuple(factor_names), tuple(factor_sizes)
        self.labels = labels
        self.label_names = tuple(label_names or (f"y{i}" for i in range(0 if labels is None else labels.shape[1])))
        self.continuous, self.continuous_names = continuous, tuple(continuous_names)
        self.device = torch.device("cpu")

    def __len__(self) -> int:
        return self._size

    @property
    @abstractmethod
    def fingerprint(self) -> str:
        """16 hexadecimal digits that say which data these are, in which order; the same on every device."""

    @abstractmethod
    def _take(self, index: Tensor) -> tuple[Tensor, ...]:
        """The batch at a 1-D int64 tensor on ``device`` that has been checked."""

    def batch(self, index: Index) -> tuple[Tensor, ...]:
        """The observations at ``index``, on the data set's device.

        Args:
            index: Positions from 0 to N - 1: a 1-D int64 tensor, a sequence of integers, a slice or a range. The
                values of a tensor that lies on a GPU are not read back to be checked, which would stall training.

        Returns:
            ``(x,)``, or ``(x, labels)`` where there are labels: tensors whose first axis follows ``index``.

        Raises:
            ArgumentError: For an index of another type, or outside 0 to N - 1.
        """
        return self._take(self._positions(index))

    def counterfactual(
        self, index: Index, attribute: int | str, *, on: bool | None = None, style: Tensor | None = None
    ) -> Tensor:
        """What the observations at ``index`` would be if one attribute were another: all else is as it was.

        Args:
            index: As for :meth:`batch`.
            attribute: The attribute's position in ``label_names``, or its name.
            on: What it is to be; by default what it is not.
            style: Its continuous style, a tensor that broadcasts to (batch, the attribute's styles); by default the
                one that was drawn with each datum, also where the attribute is off and the style does not show.

        Returns:
            A ``(batch, *shape)`` tensor.

        Raises:
            ArgumentError: For an index, attribute or style that there is not.
            DataError: Where counterfactuals are not known, as for anything that was not made by a program.
        """
        names = self.label_names
        column = names.index(attribute) if attribute in names else attribute
        if not isinstance(column, int) or not 0 <= column < len(names):
            raise ArgumentError("attribute", got=attribute, expected=f"one of {names} or its position")
        return self._switch(self._positions(index), column, on, style)

    def _switch(self, index: Tensor, column: int, on: bool | None, style: Tensor | None) -> Tensor:
        """As :meth:`counterfactual`, for arguments that have been checked but for ``style``."""
        raise DataError(f"counterfactual: got {self!r}, expected data made by a program, such as digits_bars.")

    def _positions(self, index: Index) -> Tensor:
        if isinstance(index, slice):
            index = range(*index.indices(len(self)))
        if isinstance(index, range):
            if index and not (0 <= index[0] < len(self) and 0 <= index[-1] < len(self)):
                raise self._bad(index)
            return index.start + index.step * torch.arange(len(index), device=self.device)
        try:
            at = torch.as_tensor(index)
        except (TypeError, ValueError, RuntimeError):
            raise self._bad(index) from None
        if at.dtype != torch.int64 or at.ndim != 1:
            raise self._bad(index)
        if at.device.type == "cpu" and at.numel() and not (at.min() >= 0 and at.max() < len(self)):
            raise self._bad(index)
        return at.to(self.device)

    def _bad(self, index: object) -> ArgumentError:
        expected = f"a 1-D int64 tensor, integers, a slice or a range, with values from 0 to {len(self) - 1}"
        return ArgumentError("index", got=index, expected=expected)

    def to(self, device: torch.device | str) -> Self:
        """The same data on another device. Move before you split: the parts then share one copy."""
        moved = copy.copy(self)
        for name, value in vars(self).items():
            if isinstance(value, Tensor | Dataset):
                setattr(moved, name, value.to(device))
        moved.device = torch.empty(0, device=device).device
        return moved

    def split(self, fractions: Sequence[float], seed: int) -> tuple[Dataset, ...]:
        """Disjoint random parts that together are the whole, each in random order; no x is copied.

        Args:
            fractions: The share of each part; they sum to 1.
            seed: The same seed gives the same parts, on every device.

        Returns:
            One data set for each fraction.

        Raises:
            ArgumentError: For fractions that do not sum to 1, or a part that would be empty.
        """
        if not all(f > 0 for f in fractions) or not abs(sum(fractions) - 1) <= 1e-6:
            raise ArgumentError("fractions", got=fractions, expected="positive numbers that sum to 1")
        bounds = [0, *(round(len(self) * share) for share in accumulate(fractions[:-1])), len(self)]
        if any(a >= b for a, b in pairwise(bounds)):
            raise ArgumentError("fractions", got=fractions, expected=f"no empty part: there are {len(self)} to share")
        order = torch.randperm(len(self), generator=torch.Generator().manual_seed(seed))
        return tuple(Subset(self, order[a:b]) for a, b in pairwise(bounds))

    def __repr__(self) -> str:
        factors = dict(zip(self.factor_names, self.factor_sizes))
        return f"{type(self).__name__}({len(self)} of shape {self.shape}, {self.likelihood}, factors {factors})"


class Subset(Dataset):
    """Some of the observations of another data set, in any order: a view, which holds their positions.

    Args:
        whole: The data set that is looked at.
        index: Positions in it, as for :meth:`Dataset.batch`.

    Example:
        >>> from ppl_disent.data import Subset
        >>> digits = load("digits")
        >>> Subset(digits, (digits.factors[:, 0] == 3).nonzero()[:, 0])
        Subset(183 of shape (1, 8, 8), bernoulli, factors {'digit': 10})
    """

    def __init__(self, whole: Dataset, index: Index) -> None:
        at = whole._positions(index)
        super().__init__(
            len(at),
            whole.shape,
            whole.likelihood,
            factors=None if whole.factors is None else whole.factors[at],
            factor_names=whole.factor_names,
            factor_sizes=whole.factor_sizes,
            labels=None if whole.labels is None else whole.labels[at],
            label_names=whole.label_names,
            continuous=None if whole.continuous is None else whole.continuous[at],
            continuous_names=whole.continuous_names,
        )
        self._whole, self._index, self.device = whole, at, whole.device

    @cached_property
    def fingerprint(self) -> str:
        return digest(self._whole.fingerprint, self._index)

    def _take(self, index: Tensor) -> tuple[Tensor, ...]:
        return self._whole._take(self._index[index])

    def _switch(self, index: Tensor, column: int, on: bool | None, style: Tensor | None) -> Tensor:
        return self._whole._switch(self._index[index], column, on, style)


class Arrays(Dataset):
    """Observations held in memory, with their factors and binary labels where there are any.

    Args:
        x: The observations, an ``(N, *shape)`` floating tensor, kept in its type (networks expect float32).
        likelihood: As for :class:`Dataset`, and so the rest; the labels of a batch have the type of x.

    Raises:
        ArgumentError: For another likelihood.
        DataError: For shapes that disagree, or values of the wrong type or range.

    Example:
        >>> from ppl_disent.data import Arrays
        >>> x, y = torch.rand(100, 1, 8, 8), torch.randint(2, (100, 1))
        >>> data = Arrays(x, likelihood="bernoulli", labels=y, label_names=["glasses"])
        >>> run = cvae(data.shape, labels=1).fit(data, steps=3, progress=False)
    """

    def __init__(
        self,
        x: Tensor,
        *,
        likelihood: str,
        factors: Tensor | None = None,
        factor_names: Sequence[str] = (),
        factor_sizes: Sequence[int] = (),
        labels: Tensor | None = None,
        label_names: Sequence[str] = (),
        continuous: Tensor | None = None,
        continuous_names: Sequence[str] = (),
    ) -> None:
        if not isinstance(x, Tensor) or not x.is_floating_point() or x.ndim < 2 or not x.numel():
            raise DataError(f"x: got {kind(x)}, expected a floating tensor of shape (N, ...) that is not empty.")
        super().__init__(
            len(x),
            x.shape[1:],
            likelihood,
            factors=factors,
            factor_names=factor_names,
            factor_sizes=factor_sizes,
            labels=labels,
            label_names=label_names,
            continuous=continuous,
            continuous_names=continuous_names,
        )
        low, high = (float(v) for v in x.aminmax())
        if not math.isfinite(low + high) or (likelihood == "bernoulli" and not 0 <= low <= high <= 1):
            expected = "in [0, 1]" if likelihood == "bernoulli" else "that are finite"
            raise DataError(f'x: got values from {low} to {high}, expected values {expected} for "{likelihood}".')
        self._x, self.device = x, x.device
        self.factors = None if factors is None else factors.to(x.device)
        self.labels = None if labels is None else labels.to(x)
        self.continuous = None if continuous is None else continuous.to(x.device)

    @cached_property
    def fingerprint(self) -> str:
        return digest(self.likelihood, self._x, self.factors, self.labels)

    def _take(self, index: Tensor) -> tuple[Tensor, ...]:
        return (self._x[index],) if self.labels is None else (self._x[index], self.labels[index])


def digest(*parts: object) -> str:
    """16 hexadecimal digits of the SHA-256 of ``parts``: tensors by type, shape and bytes, all else by ``repr``."""
    sha = hashlib.sha256()
    for part in parts:
        if isinstance(part, Tensor):
            sha.update(kind(part).encode())
            sha.update(part.cpu().contiguous().view(torch.uint8).numpy().data)
        else:
            sha.update(repr(part).encode())
    return sha.hexdigest()[:16]
