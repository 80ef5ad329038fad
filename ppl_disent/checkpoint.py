# Copyright ppl-disent contributors.
# SPDX-License-Identifier: Apache-2.0
"""Checkpoint files: written whole or not at all, read without executing code."""

from __future__ import annotations

import os
import pickle
import platform
import shutil
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyro
import torch
from torch.utils._pytree import tree_map

from ppl_disent.errors import ArgumentError, CheckpointError

FORMAT = "ppl-disent checkpoint 1"
_DAMAGE = (OSError, RuntimeError, EOFError, zipfile.BadZipFile, pickle.UnpicklingError)


def previous(path: Path) -> Path:
    """Where the checkpoint before the newest is kept."""
    return path.with_name(path.name + ".previous")


def check_writable(path: Path) -> None:
    """Makes the folder of ``path``; raises :class:`ArgumentError` if no file can be written there."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.is_dir():
            raise IsADirectoryError(f"{path} is a folder")
        probe = path.with_name(path.name + ".tmp")
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise ArgumentError(
            "checkpoint", got=str(path), expected="a file that can be written", hint=str(error)
        ) from error


def save(path: Path, content: Mapping[str, Any]) -> None:
    """Writes a temporary file and renames it over ``path``; what was there becomes ``previous(path)``."""
    temporary = path.with_name(path.name + ".tmp")
    versions = {"python": platform.python_version(), "torch": str(torch.__version__), "pyro": str(pyro.__version__)}
    with open(temporary, "wb") as file:
        torch.save({"format": FORMAT, "versions": versions, **plain(dict(content))}, file)
        file.flush()
        os.fsync(file.fileno())
    if path.exists():
        # A second name for the old file first: at no moment is there no checkpoint under `path`.
        link = path.with_name(path.name + ".link")
        link.unlink(missing_ok=True)
        os.link(path, link)
        os.replace(link, previous(path))
    os.replace(temporary, path)


def plain(value: Any) -> Any:
    """Numpy's numbers in nested dicts, lists and tuples as Python's: a checkpoint is read without running code."""
    return tree_map(lambda leaf: leaf.item() if isinstance(leaf, np.generic) else leaf, value)


def load(path: Path, *, repair: bool = False) -> dict[str, Any]:
    """Reads a checkpoint onto the CPU; if it is damaged, the one before it, with a warning.

    Args:
        path: The checkpoint.
        repair: Put the one before it in the place of a damaged one (kept as ``.damaged``), so that the next ``save``
            does not rotate the damage over the only good file.

    Raises:
        CheckpointError: If there is none, if it is not one of ours, or if both are damaged.
    """
    if not path.is_file():
        raise CheckpointError(f"{path}: no such checkpoint.")
    try:
        return _read(path)
    except (OSError, RuntimeError, EOFError, zipfile.BadZipFile, pickle.UnpicklingError) as error:
        reason = (
            f"{path}: damaged, or no checkpoint ({str(error).splitlines()[0] if str(error) else type(error).__name__})."
        )
        if not previous(path).is_file():
            raise CheckpointError(f"{reason} There is no earlier one beside it.") from error
    try:
        content = _read(previous(path))
    except _DAMAGE as error:
        raise CheckpointError(f"{reason} The one before it, {previous(path).name}, is damaged too.") from error
    if repair:
        copy = path.with_name(path.name + ".tmp")
        shutil.copyfile(previous(path), copy)
        shutil.copyfile(path, path.with_name(path.name + ".damaged"))
        os.replace(copy, path)
    warnings.warn(f"{reason} Using the one before it, of step {content['svi']['index']}.", stacklevel=2)
    return content


def _read(path: Path) -> dict[str, Any]:
    with zipfile.ZipFile(path) as archive:
        if broken := archive.testzip():  # torch does not verify the checksums
            raise zipfile.BadZipFile(f"bad checksum of {broken}")
    content = torch.load(path, map_location="cpu", weights_only=True)
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise CheckpointError(f"{path}: a torch file, but not a checkpoint of a ppl-disent run (format {FORMAT!r}).")
    return content


def differences(then: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """The settings that differ, in words; empty if none does."""
    keys = [k for k in dict.fromkeys([*then, *now]) if then.get(k) != now.get(k)]
    return "; ".join(f"{k} was {then.get(k)!r} and is now {now.get(k)!r}" for k in keys)
