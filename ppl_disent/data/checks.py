# Copyright ppl-disent contributors.
# SPDX-License-Identifier: Apache-2.0
"""Refuses factors, labels and continuous factors that do not describe N observations."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ppl_disent.errors import DataError


def kind(value: object) -> str:
    """What a value is, in words: its type, or a tensor's dtype and shape."""
    if not isinstance(value, Tensor):
        return f"a {type(value).__name__}"
    return f"a {str(value.dtype).removeprefix('torch.')} tensor of shape {tuple(value.shape)}"


def check_factors(size: int, factors: Tensor | None, names: Sequence[str], sizes: Sequence[int]) -> None:
    """Factors are an (N, K) int64 tensor of values from 0 to size - 1, with K names and K sizes."""
    if factors is None:
        if names or sizes:
            raise DataError(f"factors: got None, expected a tensor, since factor_names are {tuple(names)}.")
        return
    fits = isinstance(factors, Tensor) and factors.dtype == torch.int64 and factors.shape == (size, len(names))
    if not fits or len(sizes) != len(names):
        raise DataError(
            f"factors: got {kind(factors)} with {len(names)} names and {len(sizes)} sizes, "
            f"expected an int64 tensor of shape ({size}, K) with K names and K sizes."
        )
    if not ((factors >= 0) & (factors < factors.new_tensor(sizes))).all():
        low, high = (v.tolist() for v in factors.aminmax(dim=0))
        raise DataError(f"factors: got values from {low} to {high}, expected 0 to size - 1 for the sizes {sizes}.")


def check_labels(size: int, labels: Tensor | None, names: Sequence[str]) -> None:
    """Labels are an (N, k) tensor of 0 and 1, with k different names or none."""
    if labels is None:
        if names:
            raise DataError(f"labels: got None, expected a tensor, since label_names are {tuple(names)}.")
        return
    if not isinstance(labels, Tensor) or labels.ndim != 2 or len(labels) != size:
        raise DataError(f"labels: got {kind(labels)}, expected a tensor of shape ({size}, k).")
    if not ((labels == 0) | (labels == 1)).all():
        raise DataError(f"labels: got values from {labels.min()} to {labels.max()}, expected only 0 and 1.")
    if names and (len(names) != labels.shape[1] or len(set(names)) != len(names)):
        raise DataError(f"label_names: got {tuple(names)}, expected {labels.shape[1]} different names.")


def check_continuous(size: int, continuous: Tensor | None, names: Sequence[str]) -> None:
    """Continuous factors are an (N, m) floating tensor of finite values, with m names."""
    if continuous is None and not names:
        return
    fits = isinstance(continuous, Tensor) and continuous.is_floating_point() and continuous.shape == (size, len(names))
    if not fits:
        expected = f"a floating tensor of shape ({size}, m) with m names"
        raise DataError(f"continuous: got {kind(continuous)} with {len(names)} names, expected {expected}.")
    if continuous is not None and not continuous.isfinite().all():
        raise DataError("continuous: got NaN or infinite values, expected finite ones.")
