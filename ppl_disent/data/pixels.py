# Copyright ppl-disent contributors.
# SPDX-License-Identifier: Apache-2.0
"""Images held as bytes, a quarter of the memory of the floats that batches are made of."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import torch
from torch import Tensor

from ppl_disent.data.checks import kind
from ppl_disent.data.dataset import Dataset, digest
from ppl_disent.errors import DataError


class Pixels(Dataset):
    """Images as bytes, with what is known of them; likelihood ``"bernoulli"``.

    Args:
        images: An (N, channels, height, width) uint8 tensor; 255 becomes 1.
        factors: As for :class:`Dataset`, and so the rest; labels come out as float32.

    Raises:
        DataError: For images of another type or shape, or what :class:`Dataset` refuses.
    """

    def __init__(
        self,
        images: Tensor,
        *,
        factors: Tensor | None = None,
        factor_names: Sequence[str] = (),
        factor_sizes: Sequence[int] = (),
        labels: Tensor | None = None,
        label_names: Sequence[str] = (),
    ) -> None:
        if images.dtype != torch.uint8 or images.ndim != 4 or not images.numel():
            raise DataError(f"images: got {kind(images)}, expected a uint8 tensor (N, channels, height, width).")
        super().__init__(
            len(images),
            images.shape[1:],
            "bernoulli",
            factors=factors,
            factor_names=factor_names,
            factor_sizes=factor_sizes,
            labels=None if labels is None else labels.float(),
            label_names=label_names,
        )
        self._images, self.device = images, images.device

    @cached_property
    def fingerprint(self) -> str:
        return digest("pixels", self._images, self.factors, self.labels)

    def _take(self, index: Tensor) -> tuple[Tensor, ...]:
        x = self._images[index].float().div(255)
        return (x,) if self.labels is None else (x, self.labels[index])
