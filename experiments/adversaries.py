# Copyright ppl-disent contributors.
# SPDX-License-Identifier: Apache-2.0
"""What CSVAE's adversary is worth, and which one: swiss rolls on which a label can leak, by kinds of adversary.

For instance: python -m experiments.adversaries --seeds 3
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import tyro

from experiments.csvae_toy import FIGURES, config
from experiments.outcome import write
from experiments.study import Config, refusing, study, summary
from ppl_disent.errors import ArgumentError

# By name: options of the points, and of the method.
SETTINGS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "width cut": ({}, {}),
    "width cut, z of 6": ({}, {"latent_dim": 6}),
    "width cut, b3 = 1": ({}, {"b3": 1.0}),
    "width cut, P(y) = 0.1": ({"rare": 0.12}, {}),
    "thin arc (axis 0)": ({"axis": 0}, {}),
    "k = 2, correlated": ({"attributes": 2, "alike": 0.25}, {}),
}
ADVERSARIES: dict[str, dict[str, Any]] = {
    "none": {"adversary": "none"},
    "entropy, 1": {"adversary": "entropy", "b4": 1.0},
    "entropy, 10": {"adversary": "entropy", "b4": 10.0},
    "entropy to p(y), 10": {"adversary": "entropy", "target": "marginal", "b4": 10.0},
    "cross-entropy, 1": {"adversary": "cross_entropy", "b4": 1.0},
    "cross-entropy, 3": {"adversary": "cross_entropy", "b4": 3.0},
    "reversal, 1": {"adversary": "reversal", "b4": 1.0},
    "reversal, 10": {"adversary": "reversal", "b4": 10.0},
}
# Where labels are balanced the target p(y) is the uniform one.
BALANCED = {"width cut", "width cut, z of 6", "width cut, b3 = 1", "k = 2, correlated"}


@dataclass(kw_only=True)
class Options:
    """What is run.

    Args:
        seeds: Runs of each cell, with seeds 0, 1, ...
        steps: Optimisation steps of a run, of 256 points each.
        settings: Which of them; by default all.
        workers: Runs at a time; by default as many as there are cores.
        out: Folder to write to. Runs that it has already are not made again.
        progress: Show a progress bar.
    """

    seeds: int = 3
    steps: int = 5000
    settings: tuple[str, ...] = tuple(SETTINGS)
    workers: int | None = None
    out: Path = Path("runs/adversaries")
    progress: bool = True


def main(argv: Sequence[str] | None = None) -> None:
    """The command line."""
    options = tyro.cli(Options, prog="python -m experiments.adversaries", description=__doc__, args=argv)
    with refusing():
        cells = configs(options)
        results, failed = study(list(cells.values()), options.out, workers=options.workers, progress=options.progress)
    summary(failed)
    rows = [
        {"setting": setting, "adversary": adversary, "seed": seed, **result["figures"]}
        for (setting, adversary, seed), result in zip(cells, results)
        if result is not None
    ]
    if rows:
        every = pd.DataFrame(rows).set_index(["setting", "adversary", "seed"])
        write(options.out / "table.csv", every)
        write(options.out / "table.md", table(every))
        print(table(every), options.out / "table.csv", options.out / "table.md", sep="\n")
    raise SystemExit(1 if failed else 0)


def configs(options: Options) -> Mapping[tuple[str, str, int], Config]:
    """The runs by setting, adversary and seed."""
    if unknown := set(options.settings) - SETTINGS.keys():
        raise ArgumentError("settings", got=sorted(unknown), expected=f"some of {list(SETTINGS)}")
    return {
        (setting, adversary, seed): config(
            "csvae",
            seed,
            options.steps,
            data=SETTINGS[setting][0],
            method={"latent_dim": 2} | SETTINGS[setting][1] | how,
        )
        for seed in range(options.seeds)
        for setting in options.settings
        for adversary, how in ADVERSARIES.items()
        if not (setting in BALANCED and how.get("target") == "marginal")
    }


def table(every: pd.DataFrame) -> str:
    """Mean of each cell in Markdown, with the least and the largest of leakage and accuracy."""
    lines = ["| setting | adversary | " + " | ".join(FIGURES.values()) + " |", "|---" * (2 + len(FIGURES)) + "|"]
    for (setting, adversary), cell in every.groupby(["setting", "adversary"], sort=False):
        shown = [f"{cell[name].mean():.3f} ({cell[name].min():.3f} to {cell[name].max():.3f})" for name in FIGURES]
        lines.append("| " + " | ".join([setting, adversary, *shown]) + " |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
