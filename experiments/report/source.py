# Copyright ppl-disent contributors.
# SPDX-License-Identifier: Apache-2.0
"""What a run folder holds, and the data that its pictures are made of."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import pandas as pd

from experiments.train import CHECKPOINT, CONFIG, assignments
from ppl_disent import checkpoint
from ppl_disent.batches import fingerprint
from ppl_disent.data import Dataset, load
from ppl_disent.errors import ArgumentError, CheckpointError, DataError
from ppl_disent.history import History
from ppl_disent.run import Run


@dataclass
class Source:
    """A run, as far as it can be opened.

    Attributes:
        folder: Where it is.
        config: Its ``config.json``; empty where there is none.
        metrics: Its ``metrics.json``, of experiments.train.
        result: Its ``result.json``, of a study.
        settings: What it was made with, of its checkpoint.
        step: Optimisation steps taken.
        planned: How many there were to be, if that is known.
        written: When the checkpoint was.
        history: Its history.
        run: The fitted pair, if its programs can be built.
        data: The data, if they can be loaded.
        named: What they are called.
        notes: What could not be done, and why, in whole sentences.
    """

    folder: Path
    config: Mapping[str, Any]
    metrics: Mapping[str, Any]
    result: Mapping[str, Any]
    settings: Mapping[str, Any]
    step: int
    planned: int | None
    written: datetime
    history: pd.DataFrame
    run: Run | None = None
    data: Dataset | None = None
    named: str = ""
    notes: list[str] = field(default_factory=list)

    @property
    def method(self) -> str:
        """What the method is called."""
        return str(self.config.get("method") or self.settings.get("method") or "a pair of programs")

    @property
    def finished(self) -> bool:
        """Whether it has come to its end, as far as that is known."""
        return self.planned is None or self.step >= self.planned


def opened(folder: Path, data: str | None, root: str | None, options: Sequence[str]) -> Source:
    """Opens a run.

    Args:
        folder: As experiments.train or a study leaves it, or any with a checkpoint.
        data: Name of the data set; None for that of ``config.json``.
        root: Where these data are.
        options: Options of these data, as texts.

    Raises:
        ArgumentError: For a folder without a run, or data asked for that cannot be loaded or do not fit.
        DataError: For a damaged file.
        CheckpointError: Likewise.
    """
    path = folder / CHECKPOINT
    if not path.is_file():
        hint = "A run has none before its first checkpoint." if (folder / CONFIG).is_file() else ""
        raise ArgumentError("folder", got=str(folder), expected=f"a run, with {CHECKPOINT}", hint=hint)
    config, metrics, result = (_json(folder / name) for name in (CONFIG, "metrics.json", "result.json"))
    content = checkpoint.load(path)
    history = History(content["settings"]["log_every"])
    history.restore(content["history"])
    source = Source(
        folder,
        config,
        metrics,
        result,
        content["settings"],
        content["svi"]["index"],
        _planned(config),
        datetime.fromtimestamp(path.stat().st_mtime).astimezone(),
        history.frame(),
    )
    try:
        source.run = Run.load(folder)
    except (CheckpointError, ArgumentError, TypeError) as error:
        source.notes.append(f"The programs could not be built again, so there are no pictures: {error}")
    _find_data(source, data, root, options)
    return source


def _find_data(source: Source, data: str | None, root: str | None, options: Sequence[str]) -> None:
    if data is not None:
        source.named = data
        source.data = _fitting(source, load(data, root=root, **assignments(options)))
    elif (stored := _stored(source.config)) is None:
        source.notes.append("The folder does not say which data the run was trained on; name them with --data.")
    else:
        source.named, root, known = stored
        try:
            source.data = _fitting(source, load(source.named, root=root, **known))
        except (ValueError, TypeError, OSError) as error:
            source.notes.append(f"The data could not be loaded: {error}")
    if source.data is not None and (now := fingerprint(source.data)) != (then := source.settings.get("data")):
        seen = f"their fingerprint is {now}, that of the run's data {then}"
        source.notes.append(f"Pictures and scores are of other data than the run was trained on: {seen}.")


def _fitting(source: Source, data: Dataset) -> Dataset:
    shapes = [tuple(field.shape[1:]) for field in data.batch(range(1))]
    wanted = shapes if source.run is None else [shape for shape, _ in source.run.shapes]
    if shapes != wanted:
        raise ArgumentError("data", got=f"{source.named}, of shapes {shapes}", expected=f"{wanted}, as the run's are")
    return data


def _stored(config: Mapping[str, Any]) -> tuple[str, str | None, dict[str, Any]] | None:
    """Name, root and options of the data, of experiments.train's configuration or a study's."""
    options, arguments = config.get("options"), config.get("arguments")
    if isinstance(options, Mapping) and "data" in options:
        return str(options["data"]), options.get("root"), assignments([*map(str, options.get("data_options") or ())])
    of_study = arguments.get("data") if isinstance(arguments, Mapping) else None
    if isinstance(of_study, Mapping) and "name" in of_study:
        return str(of_study["name"]), of_study.get("root"), dict(of_study.get("options") or {})
    return None


def _planned(config: Mapping[str, Any]) -> int | None:
    for part in (config.get("options"), config.get("arguments")):
        if isinstance(part, Mapping) and isinstance(part.get("steps"), int):
            return int(part["steps"])
    return None


def _json(path: Path) -> Mapping[str, Any]:
    if not path.is_file():
        return {}
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise DataError(f"{path}: damaged, expected JSON ({error}).") from error
    if not isinstance(content, dict):
        raise DataError(f"{path}: got {type(content).__name__}, expected an object.")
    return content
