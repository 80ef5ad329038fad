# Copyright ppl-disent contributors.
# SPDX-License-Identifier: Apache-2.0
"""Tasks for the tests of studies; they run in processes of their own."""

import time
from pathlib import Path


def square(folder: Path, *, x: int) -> dict[str, int]:
    (folder / "step").write_text("1")
    return {"square": x * x}


def fails_once(folder: Path, *, x: int) -> dict[str, int]:
    if not (folder / "tried").exists():
        (folder / "tried").touch()
        raise ValueError("not today")
    return {"x": x}


def slow(folder: Path, *, x: int, seconds: float) -> dict[str, int]:
    """Says when it began and when it ended, in a file that all share."""
    for word in ("began", "ended"):
        with (folder.parent / "diary").open("a") as diary:
            diary.write(f"{word} {x}\n")
        if word == "began":
            time.sleep(seconds)
    return {"x": x}
