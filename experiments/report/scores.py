# Copyright ppl-disent contributors.
# SPDX-License-Identifier: Apache-2.0
"""The scores of a report, with their intervals where these are cheap."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch

from experiments.outcome import Codes, factors_of
from ppl_disent.data import Dataset
from ppl_disent.errors import DataError
from ppl_disent.metrics import mig, modularity_explicitness, sap
from ppl_disent.metrics.score import Score

# Those whose bootstrap takes seconds for ten thousand points; RMIG's takes minutes.
METRICS: dict[str, Callable[..., Score]] = {"MIG": mig, "SAP": sap, "modularity": modularity_explicitness}


@dataclass
class Row:
    """A score.

    Attributes:
        name: Of the metric.
        value: The score.
        interval: Of 95 %, for the points that were drawn.
        parts: Of each factor.
        estimator: What made it.
    """

    name: str
    value: float
    interval: tuple[float, float] | None = None
    parts: Mapping[str, float] = field(default_factory=dict)
    estimator: str = ""


def scores(codes: Codes, data: Dataset, metrics: Mapping[str, Any], bootstrap: int) -> tuple[list[Row], str]:
    """A row for each metric, and a sentence where there is none."""
    try:
        factors, names = factors_of(codes, data)
    except DataError as error:
        return [], f"There are no scores of disentanglement: {error}."
    mean = torch.cat(list(codes.mean.values()), 1)
    rows = []
    for name, metric in METRICS.items():
        if metric is modularity_explicitness and len(names) < 2:
            continue  # there is nothing to tell apart
        score = metric(mean, factors, factor_names=names, bootstrap=bootstrap)
        rows.append(Row(name, score.value, score.detail.get("interval"), score.per_factor, score.estimator))
    rows.insert(1, stored("RMIG", metrics["rmig"]))
    return rows, ""


def stored(name: str, score: Mapping[str, Any]) -> Row:
    """A score as it is in metrics.json."""
    return Row(name, score["value"], None, score.get("per_factor", {}), score.get("estimator", ""))
