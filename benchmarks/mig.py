# Copyright ppl-disent contributors.
# SPDX-License-Identifier: Apache-2.0
"""MIG against the plain loop over scikit-learn, side by side in one process; RMIG over a growing number of points.

Run with ``python -m benchmarks.mig``. Only the ratios mean something: the seconds belong to the machine.
"""

from __future__ import annotations

import resource
import statistics
import time
from collections.abc import Callable

import numpy as np
from sklearn.metrics import mutual_info_score

from ppl_disent.metrics import mig, rmig

SIZES = (3, 6, 40, 32, 32)


def plain_mig(codes: np.ndarray, factors: np.ndarray) -> float:
    """MIG as disentanglement_lib defines it (evaluation/metrics/mig.py): one contingency table at a time."""
    binned = [np.digitize(z, np.histogram(z, 20)[1][:-1]) for z in codes.T]
    information = np.array([[mutual_info_score(v, z) for v in factors.T] for z in binned])
    entropy = np.array([mutual_info_score(v, v) for v in factors.T])
    ordered = np.sort(information, axis=0)[::-1]
    return float(((ordered[0] - ordered[1]) / entropy).mean())


def seconds(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def draw(points: int, latents: int = 10) -> tuple[np.ndarray, np.ndarray]:
    """Sampled dSprites factors, and codes of which the first five are the factors with noise, the others noise."""
    rng = np.random.default_rng(0)
    factors = rng.integers(SIZES, size=(points, len(SIZES)))
    codes = rng.normal(scale=0.1, size=(points, latents))
    codes[:, : len(SIZES)] += factors / np.array(SIZES) * 3 - 1.5
    return codes, factors


def main() -> None:
    codes, factors = draw(10_000)
    # Taken in turns, so that a busy machine slows both.
    turns = [(seconds(lambda: mig(codes, factors)), seconds(lambda: plain_mig(codes, factors))) for _ in range(7)]
    ours, plain = (statistics.median(column) for column in zip(*turns))
    difference = abs(float(mig(codes, factors)) - plain_mig(codes, factors))
    print(f"mig, 10,000 points, 10 latents, 5 factors: {ours * 1e3:.1f} ms; scikit-learn loop {plain * 1e3:.1f} ms;")
    print(f"  {plain / ours:.1f} times faster; values differ by {difference:.1e}")
    for points in (11_520, 46_080, 184_320, 737_280):
        codes, factors = draw(points)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        taken = seconds(lambda: rmig((codes, np.full_like(codes, 0.1)), factors))  # noqa: B023
        grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
        print(
            f"rmig, {points:>7,} points, 10 latents, 5 factors, 100 bins: {taken:.2f} s, "
            f"{taken / points * 1e6:.2f} us a point, peak memory +{grown:.0f} MiB"
        )


if __name__ == "__main__":
    main()
