# Copyright ppl-disent contributors.
# SPDX-License-Identifier: Apache-2.0
"""Writes one HTML file about a run: curves, traversals to scrub, reconstructions, samples, scores, diagnosis.

For instance: python -m experiments.report runs/dynamic_vae-dsprites-s1
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import tyro

from experiments.outcome import write
from experiments.report.page import render
from experiments.report.source import opened
from experiments.study import refusing
from ppl_disent.errors import ArgumentError

PROGRAM = "python -m experiments.report"


@dataclass(kw_only=True)
class Options:
    """What can be said of a report.

    Args:
        folder: Of a run: as experiments.train or a study leaves it, or any with a checkpoint.pt.
        out: The file to write; by default report.html in the folder.
        data: Name of the data set, where the folder does not say it, or that of other data.
        root: Folder or file of these data, where they are read from files.
        data_options: Options of these data, such as size=16 attributes=2.
        bootstrap: Resamples for the intervals of scores; 0 for none, which is quicker.
        progress: Show a progress bar.
    """

    folder: tyro.conf.Positional[Path]
    out: Path | None = None
    data: str | None = None
    root: str | None = None
    data_options: tuple[str, ...] = ()
    bootstrap: int = 200
    progress: bool = True


def main(argv: Sequence[str] | None = None) -> None:
    """The command line. Exits with 2, and one line on stderr that says why, where there is no run."""
    options = tyro.cli(Options, prog=PROGRAM, description=__doc__, args=argv)
    with refusing(), warnings.catch_warnings():
        warnings.formatwarning = lambda message, *_, **__: f"warning: {message}\n"
        if options.bootstrap < 0 or options.bootstrap == 1:
            raise ArgumentError("bootstrap", got=options.bootstrap, expected="0, or at least 2 resamples")
        out = options.out or options.folder / "report.html"
        source = opened(options.folder, options.data, options.root, options.data_options)
        page = render(source, bootstrap=options.bootstrap, progress=options.progress)
        try:
            out.parent.mkdir(parents=True, exist_ok=True)
            write(out, page)
        except OSError as error:
            raise ArgumentError("out", got=str(out), expected="a file that can be written", hint=str(error)) from error
    print(out)
