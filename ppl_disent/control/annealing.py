# Copyright ppl-disent contributors.
# SPDX-License-Identifier: Apache-2.0
"""Weights that follow a schedule."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ppl_disent.control.base import KLScale, require


class LinearAnnealing(KLScale):
    """beta from ``start`` to ``stop`` in equal increments over ``steps`` steps, then constant.

    Source: Bowman et al., "Generating Sentences from a Continuous Space" (2016), https://arxiv.org/abs/1511.06349,
    section 3.1 (there a sigmoid; linear is what is commonly used). Step 1 has ``start``, step ``steps + 1`` ``stop``.

    Example:
        >>> annealing = LinearAnnealing("z", steps=4)  # in training: fit(..., callbacks=[annealing])
        >>> [float(annealing.update()) for step in range(6)]
        [0.0, 0.25, 0.5, 0.75, 1.0, 1.0]
    """

    def __init__(self, site: str, *, steps: int, start: float = 0.0, stop: float = 1.0) -> None:
        super().__init__(site, steps=steps, start=start, stop=stop)
        require("steps", steps, steps >= 1, "at least 1")
        require("start", start, math.isfinite(start), "a finite number")
        require("stop", stop, math.isfinite(stop), "a finite number")
        self.steps, self.start, self.stop = steps, start, stop

    def update(self, kl: float | Tensor = 0.0) -> Tensor:
        part = (self.count / self.steps).clamp(max=1.0)
        self.count += 1
        return self.start + (self.stop - self.start) * part


class CyclicalAnnealing(KLScale):
    """beta rises linearly from 0 to ``stop`` over the first ``ratio`` of each period, then holds until the period ends.

    Source: Fu et al., "Cyclical Annealing Schedule" (2019), https://arxiv.org/abs/1903.10145, equations 6 and 7
    (ratio 0.5, 4 cycles). After ``cycles`` periods beta stays at ``stop``.

    Args:
        site: The latent site.
        period: Steps a cycle.
        cycles: Number of cycles.
        ratio: Part of a cycle in which beta rises, in (0, 1].
        stop: beta at the end of each cycle.

    Example:
        >>> annealing = CyclicalAnnealing("z", period=4, cycles=2)
        >>> [float(annealing.update()) for step in range(9)]
        [0.0, 0.5, 1.0, 1.0, 0.0, 0.5, 1.0, 1.0, 1.0]
    """

    def __init__(self, site: str, *, period: int, cycles: int = 4, ratio: float = 0.5, stop: float = 1.0) -> None:
        super().__init__(site, period=period, cycles=cycles, ratio=ratio, stop=stop)
        require("period", period, period >= 1, "at least 1")
        require("cycles", cycles, cycles >= 1, "at least 1")
        require("ratio", ratio, 0 < ratio <= 1, "a number in (0, 1]")
        require("stop", stop, math.isfinite(stop), "a finite number")
        self.period, self.cycles, self.ratio, self.stop = period, cycles, ratio, stop

    def update(self, kl: float | Tensor = 0.0) -> Tensor:
        within = (self.count % self.period) / (self.period * self.ratio)
        part = torch.where(self.count < self.period * self.cycles, within.clamp(max=1.0), 1.0)
        self.count += 1
        return self.stop * part
