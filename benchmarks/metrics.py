# Copyright ppl-disent contributors.
# SPDX-License-Identifier: Apache-2.0
"""Each metric against its published algorithm written out plainly, in turns in one process, on the same inputs.

Run with ``python -m benchmarks.metrics [name ...]``: a table over N at 10 latents, then over the number of latents at
2,000 points. Times are of the processor, and belong to the machine: ratios mean something. ``growth`` is our time over
that of the line above, over which N (or the number of latents) grew fourfold; ``MiB`` the most that our call held
beyond its inputs. Boosting on binned codes is not the same algorithm as ordinary boosting: see ``dci`` for how scores
differ.
"""

from __future__ import annotations

import math
import statistics
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.exceptions import ConvergenceWarning

from benchmarks import plain_metrics as plainly
from benchmarks.plain_metrics import SIZES, VOTES, draw, images, network, three_runs
from ppl_disent.data import Arrays
from ppl_disent.metrics import (
    beta_vae_score,
    dci,
    factor_vae_score,
    gaussian_total_correlation,
    infomec,
    irs,
    jemmig,
    mean_mutual_information,
    mig,
    modularity_explicitness,
    rmig,
    sap,
    udr,
)

TURNS = 3


def sampled(metric: Callable[..., Any], codes: np.ndarray, **options: int) -> float:
    """A metric that samples, on the grid of all factors."""
    grid = np.stack(np.unravel_index(np.arange(math.prod(SIZES)), SIZES), axis=1)
    data = Arrays(
        images(grid),
        likelihood="gaussian",
        factors=torch.from_numpy(grid),
        factor_names="abcd",
        factor_sizes=SIZES,
    )
    return float(metric(network(codes.shape[1]), data, **options))


def noisy(codes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return codes, np.full_like(codes, 0.2)


PAIRS: dict[str, tuple[Callable[..., Any], Callable[..., Any]]] = {
    "mig": (mig, plainly.mig),
    "rmig": (lambda z, v: rmig(noisy(z), v), plainly.rmig),
    "jemmig": (lambda z, v: jemmig(noisy(z), v), plainly.jemmig),
    "dci (lasso)": (lambda z, v: dci(z, v, estimator="lasso"), plainly.lasso_dci),
    "dci (hist boosting)": (lambda z, v: dci(z, v, estimator="hist_gradient_boosting"), plainly.boosted_dci),
    "sap (correlation)": (lambda z, v: sap(z, v, continuous=True), plainly.sap),
    "sap (machines)": (sap, plainly.sap_svm),
    "factor_vae_score": (
        lambda z, v: sampled(factor_vae_score, z, votes=VOTES, eval_votes=VOTES, variance_points=2000, threshold=0),
        plainly.factor_vae,
    ),
    "beta_vae_score": (lambda z, v: sampled(beta_vae_score, z, points=VOTES, eval_points=VOTES), plainly.beta_vae),
    "modularity_explicitness": (modularity_explicitness, plainly.modularity),
    "irs": (irs, plainly.irs),
    "infomec (knn)": (infomec, plainly.infom),
    "total_correlation": (lambda z, v: gaussian_total_correlation(z), plainly.total_correlation),
    "mean_mutual_information": (lambda z, v: mean_mutual_information(z), plainly.mean_information),
    "udr (three runs)": (lambda z, v: udr(three_runs(z)), plainly.udr),
}
# Seconds for each turn of the plain one, and its time does not depend on N.
LENGTHY, FIXED = {"dci (hist boosting)"}, {"factor_vae_score", "beta_vae_score"}


def timed(call: Callable[..., Any], *arguments: np.ndarray) -> tuple[float, float]:
    """The seconds of processor time that a call took, whatever else runs here, and the score that it gave."""
    start = time.process_time()
    value = call(*arguments)
    return time.process_time() - start, float(value)


def held(call: Callable[[], object]) -> float:
    """MiB of memory that a call held at most beyond what was held before; NaN but on Linux."""

    def resident(which: str) -> float:
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(float(line.split()[1]) for line in lines if line.startswith(which)) / 1024

    try:
        Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
        before = resident("VmRSS")
        call()
        return resident("VmHWM") - before
    except OSError:
        return math.nan


def compare(name: str, points: int, latents: int, above: float) -> float:
    """Prints a line: least times, the median ratio of turns and their range, values; returns our time."""
    codes, factors = draw(points, latents)
    ours, plain = PAIRS[name]
    turns = [
        (timed(ours, codes, factors), timed(plain, codes, factors)) for _ in range(1 if name in LENGTHY else TURNS)
    ]
    ratios = [b / a for (a, _), (b, _) in turns]
    mine, theirs = (min(column)[0] * 1e3 for column in zip(*turns))
    values = [value for _, value in turns[-1]]
    memory = held(lambda: ours(codes, factors))
    print(
        f"{name:>24} {points:>7,} {latents:>4} {mine:>9.1f} {theirs:>10.1f}  x{statistics.median(ratios):<6.1f}"
        f"{f'({min(ratios):.1f} to {max(ratios):.1f})':<18} {mine / above:>7.1f} {memory:>7.1f}  "
        f"{values[0]:.6f} {abs(values[0] - values[1]):>8.1e}",
        flush=True,
    )
    return mine


def main() -> None:
    warnings.simplefilter("ignore", ConvergenceWarning)  # of plain classifiers, which stop where the published ones do
    chosen = [name for name in PAIRS if not sys.argv[1:] or any(word in name for word in sys.argv[1:])]
    head = f"{'metric':>24} {'N':>7} {'L':>4} {'ours, ms':>9} {'plain, ms':>10}  ratio, range"
    print(f"{head:<84} {'growth':>7} {'MiB':>7}  {'value':<8} {'differs':>8}")
    for name in chosen:
        above = math.nan
        for points in (2_000,) if name in FIXED else (1_000, 4_000) if name in LENGTHY else (1_000, 4_000, 16_000):
            above = compare(name, points, 10, above)
        above = math.nan
        for latents in (5, 20):
            above = compare(name, 1_000 if name in LENGTHY else 2_000, latents, above)


if __name__ == "__main__":
    main()
