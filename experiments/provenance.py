# Copyright ppl-disent contributors.
# SPDX-License-Identifier: Apache-2.0
"""By what means a run was made: what ``config.json`` says beside its options."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
from datetime import datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import pyro
import torch

from experiments.outcome import write
from ppl_disent.svi import SVI


def provenance(command: str) -> dict[str, Any]:
    """The command, versions, the machine, and the time now.

    Args:
        command: As it was typed.
    """
    began = datetime.now().astimezone().isoformat(timespec="seconds")
    return {"command": command, "versions": _versions(), "machine": _machine(), "began": began}


class Begun:
    """A callback that writes what a run is as soon as it has begun, so that also one that is stopped can be read.

    Args:
        path: The file.
        about: What it says.
    """

    observes = True

    def __init__(self, path: Path, about: Mapping[str, Any]) -> None:
        self.path, self.about = path, about

    def after_record(self, svi: SVI, row: Mapping[str, float]) -> None:
        """Writes it."""
        if self.about:
            write(self.path, self.about)
            self.about = {}


def _machine() -> dict[str, str]:
    cuda = torch.cuda.get_device_name() if torch.cuda.is_available() else "none"
    cores = f"{os.cpu_count()} cores, {torch.get_num_threads()} threads"
    return {"system": platform.platform(), "processor": f"{platform.machine()}, {cores}", "GPU": cuda}


def _versions() -> dict[str, str]:
    try:
        ours = version("ppl-disent")
    except PackageNotFoundError:
        ours = "not installed"
    python, libraries = platform.python_version(), {"torch": torch.__version__, "pyro": pyro.__version__}
    return {"ppl_disent": ours, "python": python} | {name: str(found) for name, found in libraries.items()}
