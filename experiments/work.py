# Copyright ppl-disent contributors.
# SPDX-License-Identifier: Apache-2.0
"""One run of a study: ``python -m experiments.work FOLDER`` makes the run whose ``config.json`` is there."""

from __future__ import annotations

import fcntl
import importlib
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from experiments.outcome import write


def work(folder: Path) -> None:
    """Makes the run whose ``config.json`` is in a folder, unless another process does so at this moment or has done."""
    with _alone(folder / "lock"):
        if (folder / "DONE").exists():
            return
        config = json.loads((folder / "config.json").read_text())
        module, _, function = config["task"].partition(":")
        result = getattr(importlib.import_module(module), function)(folder, **config["arguments"])
        write(folder / "result.json", result)
        write(folder / "DONE", "")


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Waits until no other process is here. The lock goes with its process, however that ends."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


if __name__ == "__main__":
    work(Path(sys.argv[1]))
