# Copyright ppl-disent contributors.
# SPDX-License-Identifier: Apache-2.0
"""A study: many runs, each in a folder and a process of its own, that goes on where it was stopped.

A run is a task, ``"module:function"``, and its arguments. Its folder is named by the hash of both; ``DONE`` is written
last. A study that is started again skips what is done, and a task that trains with ``resume=True`` goes on from its
checkpoint. A run that fails is tried again by the next start, and counted and shown by this one.
"""

from __future__ import annotations

import hashlib
import json
import re
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from inspect import Parameter, signature
from pathlib import Path
from typing import IO, Any

from tqdm.auto import tqdm

from experiments.engines import engine
from experiments.outcome import write
from ppl_disent.data import Dataset
from ppl_disent.errors import ArgumentError, CheckpointError, DataError
from ppl_disent.method import Method
from ppl_disent.run import BUILDERS, Run

_POLL = 0.2


@dataclass(frozen=True)
class Config:
    """A run, before it is made.

    Args:
        task: ``"module:function"``, a function of a folder and of ``arguments``, by name, that returns a mapping which
            JSON can hold.
        name: What the run is called in tables; a folder is called so too, with a hash added.
        arguments: Plain values; with the task they determine the run.
        steps: How many steps it reports, for the progress bar.
    """

    task: str
    name: str
    arguments: Mapping[str, Any]
    steps: int

    @property
    def key(self) -> str:
        """The name of its folder."""
        what = json.dumps([self.task, self.arguments], sort_keys=True)
        plain = re.sub(r"[^\w.=+-]+", "_", self.name)
        return f"{plain}-{hashlib.sha256(what.encode()).hexdigest()[:10]}"


def study(
    configs: Sequence[Config],
    folder: str | Path,
    *,
    workers: int | None = None,
    on: str = "processes",
    progress: bool = True,
) -> tuple[list[dict[str, Any] | None], dict[str, str]]:
    """Makes all runs that are not made yet.

    Args:
        configs: The runs, no two the same.
        folder: Where their folders are.
        workers: Runs at a time, see :func:`experiments.engines.engine`.
        on: ``"processes"`` of this machine, or ``"ray"``.
        progress: Show a bar over the steps of all runs.

    Returns:
        What each run's task returned, None for those that failed; and of these the last line that they wrote, by name.

    Raises:
        ArgumentError: For two runs that are the same, and as :func:`experiments.engines.engine`.
    """
    keys = [config.key for config in configs]
    if twice := sorted({key for key in keys if keys.count(key) > 1}):
        raise ArgumentError("configs", got=twice, expected="no run twice")
    folder = Path(folder)
    waiting = [config for config in configs if not (folder / config.key / "DONE").exists()]
    made_by = engine(on, workers)
    bar = tqdm(total=sum(c.steps for c in configs), unit="step", disable=not progress, smoothing=0.05)
    try:
        while (running := made_by.running()) or waiting:
            while waiting and made_by.free:
                made_by.start(_prepared(waiting.pop(0), folder))
            done = {config.key: config.steps for config in configs if (folder / config.key / "DONE").exists()}
            bar.set_description(f"{len(done)} of {len(configs)} runs", refresh=False)
            now = sum(done.values()) + sum(_step(each) for each in running if each.name not in done)
            bar.update(now - bar.n)
            time.sleep(_POLL)
    finally:
        made_by.stop()
        bar.close()
    results = [_result(folder / key) for key in keys]
    failed = {config.key: _last_line(folder / config.key) for config, r in zip(configs, results) if r is None}
    return results, failed


class Progress:
    """A callback that tells the study how far a run is.

    Args:
        folder: The run's folder.
    """

    def __init__(self, folder: Path) -> None:
        self._file = folder / "step"

    def after_record(self, svi: Any, row: Mapping[str, float]) -> None:
        """Writes the number of steps."""
        self.at(int(svi.index))

    def at(self, step: int) -> None:
        """Likewise, for a loop of one's own."""
        self._file.write_text(str(step))


def complete(builder: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """A builder's arguments with its defaults: what determines a run, also when a default has changed since."""
    known = {name: p.default for name, p in signature(BUILDERS[builder]).parameters.items()}
    return {name: value for name, value in known.items() if value is not Parameter.empty} | dict(given)


def trained(method: Method, data: Dataset, folder: Path, *, steps: int, **options: Any) -> Run:
    """Fits a method as a run of a study: it goes on from its checkpoint, and tells how far it is.

    Args:
        method: What is trained.
        data: On which.
        folder: The run's folder.
        steps: Optimisation steps in all.
        **options: Further arguments of ``fit``.
    """
    own = {"checkpoint": folder / "checkpoint.pt", "checkpoint_every": 1000, "resume": True, "progress": False}
    return method.fit(data, steps=steps, callbacks=[Progress(folder)], **(own | options))


@contextmanager
def refusing() -> Iterator[None]:
    """Ends a command with 2, and one line that says why, for what cannot be run."""
    try:
        yield
    except (ArgumentError, DataError, CheckpointError) as error:
        print("error:", " ".join(str(error).split()), file=sys.stderr)
        raise SystemExit(2) from None


def _prepared(config: Config, folder: Path) -> Path:
    """The folder of a run, with what determines it."""
    here = folder / config.key
    here.mkdir(parents=True, exist_ok=True)
    write(here / "config.json", {"task": config.task, "arguments": dict(config.arguments)})
    return here


def _step(here: Path) -> int:
    try:
        return int((here / "step").read_text())
    except (OSError, ValueError):  # not begun, or being written
        return 0


def _result(here: Path) -> dict[str, Any] | None:
    result: dict[str, Any] | None = None
    if (here / "DONE").exists():
        result = json.loads((here / "result.json").read_text())
    return result


def _last_line(here: Path) -> str:
    log = here / "log"
    lines = log.read_text(errors="replace").strip().splitlines() if log.exists() else []
    return lines[-1] if lines else "it ended without a word; was it killed?"


def summary(failed: Mapping[str, str], file: IO[str] | None = None) -> None:
    """Says which runs failed."""
    for key, line in failed.items():
        print(f"failed: {key}: {line}", file=file or sys.stderr)
    if failed:
        print("The same command tries them again.", file=file or sys.stderr)
