# Copyright ppl-disent contributors.
# SPDX-License-Identifier: Apache-2.0
"""Where the runs of a study are made: in processes on this machine, or on a Ray cluster."""

from __future__ import annotations

import os
import subprocess
import sys
import traceback
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import torch

from experiments.work import work
from ppl_disent.errors import ArgumentError

ENGINES = ("processes", "ray")


class Engine(Protocol):
    """Makes runs, each from the folder that holds its ``config.json``."""

    def start(self, folder: Path) -> None:
        """Begins a run; called only where ``free``."""

    @property
    def free(self) -> bool:
        """Whether another run may begin."""

    def running(self) -> list[Path]:
        """The folders of the runs that have not ended, well or not."""

    def stop(self) -> None:
        """Ends what still runs."""


def engine(name: str, workers: int | None) -> Engine:
    """The engine of that name.

    Args:
        name: ``"processes"`` or ``"ray"``.
        workers: Runs at a time. By default as many processes as there are cores, but one where there is a GPU; and on
            Ray as many as the cluster has room for.

    Raises:
        ArgumentError: For another name, a number below 1, or Ray where it is not installed.
    """
    if name not in ENGINES:
        raise ArgumentError("engine", got=name, expected=f"one of {ENGINES}")
    if workers is not None and workers < 1:
        raise ArgumentError("workers", got=workers, expected="at least 1")
    return Processes(workers) if name == "processes" else Ray(workers)


class Processes:
    """A process for each run, with the cores shared among them.

    Args:
        workers: As for :func:`engine`.
    """

    def __init__(self, workers: int | None) -> None:
        cores = os.cpu_count() or 1
        self._workers = workers if workers is not None else (1 if torch.cuda.is_available() else cores)
        threads = str(max(1, cores // self._workers))
        self._environment = os.environ | {"OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads}
        self._processes: dict[Path, subprocess.Popen[bytes]] = {}

    @property
    def free(self) -> bool:
        """Whether another run may begin."""
        return len(self._processes) < self._workers

    def start(self, folder: Path) -> None:
        """Begins a run."""
        with (folder / "log").open("ab") as log:
            command = [sys.executable, "-m", "experiments.work", str(folder)]
            streams: dict[str, Any] = {"stdin": subprocess.DEVNULL, "stdout": log, "stderr": log}
            self._processes[folder] = subprocess.Popen(command, env=self._environment, **streams)

    def running(self) -> list[Path]:
        """The folders of the runs that have not ended."""
        self._processes = {folder: process for folder, process in self._processes.items() if process.poll() is None}
        return list(self._processes)

    def stop(self) -> None:
        """Ends what still runs."""
        for process in self._processes.values():
            process.terminate()
        for process in self._processes.values():
            process.wait()


class Ray:
    """Tasks on the Ray cluster that ``RAY_ADDRESS`` names, or else on one that is begun on this machine.

    A run whose worker or node dies is begun again on another, and goes on from its checkpoint. All nodes must see the
    study's folder and this code under the same paths, as on a shared file system.

    Args:
        workers: Runs at a time; by default as many as the cluster has room for, at one core each, or one GPU each where
            there are GPUs.
    """

    def __init__(self, workers: int | None) -> None:
        try:
            import ray
        except ImportError as error:
            hint = "pip install 'ppl-disent[study]'."
            raise ArgumentError("engine", got="ray", expected="Ray to be installed", hint=hint) from error
        self._ray: Any = ray
        self._workers, self._owned = workers, False
        self._tasks: dict[Any, Path] = {}

    @cached_property
    def _work(self) -> Callable[[str], Any]:
        """Sends a run to the cluster; the first time it is looked for, or begun."""
        if not self._ray.is_initialized():
            here = str(Path(__file__).parent.parent)
            path = os.pathsep.join(filter(None, [here, os.environ.get("PYTHONPATH")]))
            quiet = {"log_to_driver": False, "include_dashboard": False, "configure_logging": False}
            self._ray.init(runtime_env={"env_vars": {"PYTHONPATH": path}}, **quiet)
            self._owned = True
        gpus = self._ray.cluster_resources().get("GPU", 0)
        # A process of its own for each run, as many new ones as it takes.
        options = {"max_calls": 1, "max_retries": -1, "num_cpus": 1, "num_gpus": 1 if gpus else 0}
        send: Callable[[str], Any] = self._ray.remote(**options)(_work_on_node).remote
        return send

    @property
    def free(self) -> bool:
        """Whether another run may begin."""
        return self._workers is None or len(self._tasks) < self._workers

    def start(self, folder: Path) -> None:
        """Begins a run."""
        self._tasks[self._work(str(folder.resolve()))] = folder

    def running(self) -> list[Path]:
        """The folders of the runs that have not ended."""
        ended, _ = (
            self._ray.wait(list(self._tasks), num_returns=len(self._tasks), timeout=0) if self._tasks else ([], [])
        )
        for task in ended:
            del self._tasks[task]
        return list(self._tasks.values())

    def stop(self) -> None:
        """Ends what still runs."""
        for task in self._tasks:
            self._ray.cancel(task, force=True)
        if self._owned:
            self._ray.shutdown()


def _work_on_node(folder: str) -> None:
    """A run, on a node of a cluster. What goes wrong is written where a process of this machine would write it."""
    try:
        work(Path(folder))
    except Exception:
        with (Path(folder) / "log").open("a") as log:
            traceback.print_exc(file=log)
