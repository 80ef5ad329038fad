# Copyright ppl-disent contributors.
# SPDX-License-Identifier: Apache-2.0
"""What the metrics that sample share: data at chosen factor values, and their codes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.distributions import Distribution

from ppl_disent.errors import ArgumentError
from ppl_disent.metrics.information import Array, Factors, Indices, as_codes, as_factors

Encode = Callable[[Tensor], Tensor | npt.ArrayLike | Distribution]


class Factored(Protocol):
    """What is asked of a data set: a ``ppl_disent.data.Dataset`` with factors does it."""

    @property
    def factors(self) -> Tensor | None:
        """The values of the factors that made x, (N, K) integers; None where they are not known."""

    @property
    def factor_names(self) -> Sequence[str]:
        """Their K names; there may be none."""

    def batch(self, index: Tensor, /) -> tuple[Any, ...]:
        """The observations at these positions; the first of the tuple is encoded."""


class Rows:
    """Draws positions by the value of a factor, in constant time each.

    Factors are drawn with the frequencies that they have in the data, given the one that is fixed: on a full grid that
    is uniformly and independently, as the published metrics ask.

    Args:
        dataset: Where the factors are read; those with one value only are left out.

    Attributes:
        factors: The K factors that vary.
        points: N.
    """

    def __init__(self, dataset: Factored) -> None:
        if getattr(dataset, "factors", None) is None:
            raise ArgumentError("dataset", got=dataset, expected="a data set with known factors")
        values = np.asarray(torch.as_tensor(dataset.factors).cpu())
        varying = [k for k, v in enumerate(values.T) if (v != v[0]).any()] if values.size else []
        if len(varying) < 2:
            raise ArgumentError("dataset", got=dataset, expected="at least two factors that vary")
        names = [dataset.factor_names[k] for k in varying] if len(dataset.factor_names) else None
        self.factors: Factors = as_factors(values[:, varying], names, len(values))
        self.points = len(values)
        # Positions sorted by the value of each factor, and where every value begins.
        self._order = np.argsort(self.factors.classes, axis=0, kind="stable")
        self._counts = [np.bincount(v) for v in self.factors.classes.T]
        self._starts = [np.cumsum(count) - count for count in self._counts]

    def like(self, given: Indices, fixed: Indices, size: int, rng: np.random.Generator) -> Indices:
        """For every ``given`` position, ``size`` positions that share the value of its ``fixed`` factor.

        Args:
            given: An ``(n,)`` array of positions.
            fixed: An ``(n,)`` array, the factor of each, from 0 to K - 1.
            size: How many.
            rng: The source of chance.

        Returns:
            An ``(n, size)`` array.
        """
        found = np.empty((len(given), size), np.int64)
        for k in range(len(self._counts)):
            rows = (fixed == k).nonzero()[0]
            value = self.factors.classes[given[rows], k][:, None]
            offset = rng.integers(self._counts[k][value], size=(len(rows), size))
            found[rows] = self._order[self._starts[k][value] + offset, k]
        return found


def encode_drawn(encode: Encode, dataset: Factored, drawn: Sequence[Indices], batch_size: int) -> list[Array]:
    """The codes of all drawn positions; each datum is encoded once, however often it was drawn.

    Args:
        encode: From a batch of n images to their codes, as for :func:`factor_vae_score`.
        dataset: Where the images are.
        drawn: Arrays of positions, of any shape.
        batch_size: Images encoded at once.

    Returns:
        For each array of positions the array ``(*shape, L)`` of float64.
    """
    needed, where = np.unique(np.concatenate([d.ravel() for d in drawn]), return_inverse=True)
    parts: list[npt.NDArray[np.floating]] = []
    with torch.no_grad():
        for index in torch.from_numpy(needed).split(batch_size):
            codes = as_codes("encode(images)", encode(dataset.batch(index)[0]))
            if len(codes) != len(index) or (parts and codes.shape[1] != parts[0].shape[1]):
                expected = f"codes of shape ({len(index)}, latents), as many for every batch"
                raise ArgumentError("encode", got=codes.shape, expected=expected)
            parts.append(codes)
    table = np.concatenate(parts).astype(np.float64)
    at = np.split(where.ravel(), np.cumsum([d.size for d in drawn])[:-1])
    return [table[a].reshape(*d.shape, -1) for a, d in zip(at, drawn)]


def check_counts(**counts: int) -> None:
    """Raises unless every count is an integer of at least 2."""
    for name, count in counts.items():
        if not isinstance(count, int) or count < 2:
            raise ArgumentError(name, got=count, expected="an integer of at least 2")
