# Copyright ppl-disent contributors.
# SPDX-License-Identifier: Apache-2.0
"""Trains one method on one data set, scores it, and draws what it learned.

For instance: python -m experiments.train dynamic_vae --data dsprites --steps 5000 --target-kl 16
"""

from __future__ import annotations

import ast
import re
import shlex
import sys
import time
import typing
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field, make_dataclass
from inspect import getdoc, signature
from pathlib import Path
from typing import Annotated, Any, ClassVar

import torch
import tyro

import ppl_disent.methods
from experiments.outcome import draw, encode, score, table, write
from experiments.provenance import Begun, provenance
from ppl_disent import checkpoint
from ppl_disent.data import LOADERS, Dataset, load
from ppl_disent.errors import ArgumentError, CheckpointError, DataError, NonFiniteError, SiteError
from ppl_disent.method import Method
from ppl_disent.run import BUILDERS, Run
from ppl_disent.tracking import JSONL, TensorBoard

PROGRAM = "python -m experiments.train"
METHODS = {name: build for name, build in BUILDERS.items() if build.__module__.startswith(ppl_disent.methods.__name__)}
CHECKPOINT, CONFIG, HISTORY = "checkpoint.pt", "config.json", "history.jsonl"


@dataclass(kw_only=True)
class Options:
    """What can be said of every run.

    Args:
        data: Name of the data set.
        root: Folder or file of the data, where they are read from files.
        data_options: Options of the data set, such as size=16 attributes=2.
        steps: Optimisation steps in all, those before --resume included.
        batch_size: Data a step.
        seed: Of initial values, order of the data and noise.
        device: cpu or cuda; by default cuda where there is one.
        precision: Of the networks: float32, bfloat16, or auto (bfloat16 where the processor has instructions for it).
        out: Folder to write to; by default runs/METHOD-DATA-sSEED, with a number added if there is such a run.
        log_every: Steps a row of history.csv.
        checkpoint_every: Steps between checkpoints; by default 1000.
        resume: Go on from the checkpoint in the folder, if there is one.
        progress: Show a progress bar.
        tensorboard: Write scalars and pictures for TensorBoard too; needs the package of that name.
    """

    data: str = "dsprites"
    root: str | None = None
    data_options: tuple[str, ...] = ()
    steps: int = 5000
    batch_size: int = 64
    seed: int = 0
    device: str | None = None
    precision: str = "float32"
    out: Path | None = None
    log_every: int = 100
    checkpoint_every: int | None = None
    resume: bool = False
    progress: bool = True
    tensorboard: bool = False

    build: ClassVar[Callable[..., Method]]

    @property
    def method(self) -> str:
        """The builder's name."""
        return type(self).__name__


def main(argv: Sequence[str] | None = None) -> None:
    """The command line. Exits with 2, and one line on stderr that says why, for what cannot be run."""
    arguments = sys.argv[1:] if argv is None else list(argv)
    options: Options = tyro.extras.subcommand_cli_from_dict(
        {name: command(name) for name in METHODS}, prog=PROGRAM, description=__doc__, args=arguments
    )
    try:
        data = _data(options)
        out = _folder(options)
        with _no_empty_folder(out):
            typed = shlex.join([*PROGRAM.split(), *arguments])
            about = provenance(typed) | {"method": options.method, "options": asdict(options)}
            run, training = train(options, data, out, about)
    except (ArgumentError, SiteError, DataError, CheckpointError, NonFiniteError) as error:
        print("error:", " ".join(str(error).split()), file=sys.stderr)
        raise SystemExit(2) from None
    except KeyboardInterrupt:
        print("stopped: the same command with --resume goes on from the last checkpoint.", file=sys.stderr)
        raise SystemExit(130) from None

    codes = encode(run, data, progress=options.progress)
    named = {"method": options.method, "data": options.data, "steps": run.step}
    metrics = named | score(codes, data, run.history) | {"training": training}
    files = {
        CONFIG: about | {"settings": run.settings},
        "history.csv": run.history,
        "metrics.json": metrics,
        **draw(run, data, codes),
    }
    for name, content in files.items():
        write(out / name, content)
    print(table(metrics), "", *(out / name for name in (*files, HISTORY, CHECKPOINT)), sep="\n")


def command(name: str) -> type[Options]:
    """The options of one method's command: those of every run, then the builder's own but ``shape``."""
    build = METHODS[name]
    summary, texts = _documented(build)
    # Builders refer to the documentation of `vae` for what they share with it.
    texts |= {option: text for option, text in _documented(METHODS["vae"])[1].items() if option in texts}
    types = typing.get_type_hints(build)
    fields: list[tuple[str, Any, Any]] = []
    for option in _own(build):
        kind, default, text = types[option], signature(build).parameters[option].default, texts.get(option, "")
        if option in ("likelihood", "labels"):
            kind, default, text = kind | None, None, f"{text} By default that of the data."
        fields.append((option, Annotated[kind, tyro.conf.arg(help=text)], field(default=default)))
    made = make_dataclass(name, fields, bases=(Options,), namespace={"build": staticmethod(build)}, kw_only=True)
    made.__doc__ = summary
    return made


def _own(build: Callable[..., Method]) -> list[str]:
    return [option for option in signature(build).parameters if option != "shape"]


def _documented(function: Callable[..., Any]) -> tuple[str, dict[str, str]]:
    """What a Google docstring says before its sections, and of each argument, without markup."""
    text = re.sub(r"(?::\w+:)?`+([^`]*)`+", r"\1", getdoc(function) or "")
    summary, _, sections = text.partition("\n\nArgs:\n")
    found = re.findall(r"^    (\w+): (.*(?:\n {8}.*)*)", sections.partition("\n\n")[0], re.MULTILINE)
    return summary, {name: " ".join(what.split()) for name, what in found}


def train(options: Options, data: Dataset, out: Path, about: Mapping[str, Any]) -> tuple[Run, dict[str, float | None]]:
    """Builds the method and fits it; the run, and how long that took.

    Args:
        options: Of the command.
        data: What it is trained on.
        out: The run's folder, where its files appear as it is trained.
        about: What ``config.json`` says of it.

    Raises:
        ArgumentError, SiteError, DataError, CheckpointError, NonFiniteError: As ``fit`` does.
    """
    own = {option: getattr(options, option) for option in _own(options.build)}
    if own.get("likelihood", "") is None:
        own["likelihood"] = data.likelihood
    if own.get("labels", 0) is None:
        if data.labels is None:
            hint = "Data sets with labels are, for instance, digits_bars, swiss_roll and celeba."
            raise ArgumentError("data", got=options.data, expected=f"data with labels, for {options.method}", hint=hint)
        own["labels"] = data.labels.shape[1]
    if not 0 <= options.seed < 2**63:
        raise ArgumentError("seed", got=options.seed, expected="an integer from 0 to 2^63 - 1")
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(options.seed)
        method = options.build(data.shape, **own)
    path = out / CHECKPOINT
    try:
        checkpoint.check_writable(path)
    except ArgumentError as error:
        hint = str(error.__cause__)
        raise ArgumentError("out", got=str(out), expected="a folder that can be written to", hint=hint) from error
    watching = [Begun(out / CONFIG, about), JSONL(out / HISTORY)]
    if options.tensorboard:
        images = len(data.shape) == 3 and data.shape[0] in (1, 3)
        shown = data.batch(range(min(10, len(data)))) if images else None
        watching.append(TensorBoard(out / "tensorboard", batch=shown))
    before = 0
    if path.exists():
        with warnings.catch_warnings(action="ignore"):  # `fit` will read it again, and say what there is to say
            before = checkpoint.load(path)["svi"]["index"]
    started = time.perf_counter()
    run = method.fit(
        data,
        steps=options.steps,
        batch_size=options.batch_size,
        device=options.device,
        precision=options.precision,
        seed=options.seed,
        log_every=options.log_every,
        checkpoint=path,
        checkpoint_every=options.checkpoint_every,
        resume=options.resume,
        progress=options.progress,
        callbacks=watching,
    )
    seconds, steps = time.perf_counter() - started, run.step - before
    return run, {"seconds": seconds, "steps": steps, "steps_per_second": steps / seconds if steps else None}


def _data(options: Options) -> Dataset:
    if options.data not in LOADERS:
        raise ArgumentError("data", got=options.data, expected=f"one of {sorted(LOADERS)}")
    return load(options.data, root=options.root, **assignments(options.data_options))


def assignments(given: Sequence[str]) -> dict[str, Any]:
    """Names and values, of texts such as ``size=16``."""
    return {name: _value(text) for name, _, text in (option.partition("=") for option in given)}


def _value(text: str) -> Any:
    """A number, a truth value or a tuple where the text is one, else the text."""
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def _folder(options: Options) -> Path:
    """Where a run goes: what was asked for, else the first free folder; with ``resume`` the last that is not free."""
    if options.out is not None:
        if (options.out / CHECKPOINT).exists() and not options.resume:
            hint = "Pass --resume to go on from it, or another --out."
            raise ArgumentError("out", got=str(options.out), expected="a folder without a checkpoint", hint=hint)
        return options.out
    base = folder = last = Path("runs", f"{options.method}-{options.data}-s{options.seed}")
    number = 1
    while (folder / CHECKPOINT).exists():
        number, last = number + 1, folder
        folder = base.with_name(f"{base.name}-{number}")
    return last if options.resume else folder


@contextmanager
def _no_empty_folder(folder: Path) -> Iterator[None]:
    """Removes the folders that were made for a run that never began."""
    new = [each for each in (folder, *folder.parents) if not each.exists()]
    try:
        yield
    except BaseException:
        for each in new:
            with suppress(OSError):  # not empty, or not made
                each.rmdir()
        raise


if __name__ == "__main__":
    # A warning in one line, and not in the middle of a progress bar.
    warnings.formatwarning = lambda message, *_, **__: f"\nwarning: {message}\n"
    main()
