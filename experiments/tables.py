# Copyright ppl-disent contributors.
# SPDX-License-Identifier: Apache-2.0
"""Tables of a study in Markdown."""

from __future__ import annotations

import math
from collections.abc import Mapping

import pandas as pd


def intervals(every: pd.DataFrame, columns: Mapping[str, str]) -> str:
    """A row for each figure, a column for each model: the mean over seeds with its 95 % interval of Student's t.

    Args:
        every: Indexed by model and seed.
        columns: What each figure is called.
    """
    from scipy.stats import t

    models = list(dict.fromkeys(every.index.get_level_values(0)))
    lines = ["| | " + " | ".join(models) + " |", "|---" * (1 + len(models)) + "|"]
    for column, name in columns.items():
        cells = []
        for model in models:
            values = every.loc[model, column].astype(float).dropna()
            n = len(values)
            half = values.sem() * t.ppf(0.975, n - 1) if n > 1 else math.nan
            cells.append("-" if not n else f"{values.mean():.3f}" + (f" ± {half:.3f}" if n > 1 else ""))
        if any(cell != "-" for cell in cells):
            lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"
