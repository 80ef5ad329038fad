# Copyright ppl-disent contributors.
# SPDX-License-Identifier: Apache-2.0
"""How fast random batches of the rendered dSprites are: ``python -m benchmarks.dsprites``."""

from __future__ import annotations

from statistics import median
from time import perf_counter

import torch

from ppl_disent.data import Dataset, load

REPEATS, BATCHES = 9, 100


def seconds(data: Dataset, batch_size: int, generator: torch.Generator) -> float:
    """The time of ``BATCHES`` random batches."""
    indices = torch.randint(len(data), (BATCHES, batch_size), generator=generator, device=data.device)
    if data.device.type == "cuda":
        torch.cuda.synchronize()
    start = perf_counter()
    for index in indices:
        data.batch(index)
    if data.device.type == "cuda":
        torch.cuda.synchronize()
    return perf_counter() - start


def main() -> None:
    start = perf_counter()
    data = load("dsprites")
    print(f"once: {perf_counter() - start:.2f} s")
    held = {name: value.nbytes for name, value in vars(data).items() if isinstance(value, torch.Tensor)}
    print(f"held: {sum(held.values()):,} bytes {held}")
    for device in ["cpu"] + ["cuda"] * torch.cuda.is_available():
        data = data.to(device)
        generator = torch.Generator(device).manual_seed(0)
        for batch_size in (64, 128, 512):
            seconds(data, batch_size, generator)
            rates = [BATCHES * batch_size / seconds(data, batch_size, generator) for _ in range(REPEATS)]
            print(
                f"{device}, batches of {batch_size}: {median(rates):,.0f} images/s, "
                f"median of {REPEATS} ({min(rates):,.0f} to {max(rates):,.0f})"
            )


if __name__ == "__main__":
    main()
