# Copyright ppl-disent contributors.
# SPDX-License-Identifier: Apache-2.0
"""A run is watched while it is trained: callbacks that write its history where other tools read it.

They observe only: the numbers of a run are the same with and without them, and it may be resumed with either.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from ppl_disent.errors import ArgumentError
from ppl_disent.history import History
from ppl_disent.posterior import Posterior
from ppl_disent.run import Run
from ppl_disent.svi import SVI

# What a traversal sets a latent value to, in standard deviations of its prior.
_COLUMNS = torch.arange(-5, 6) * 0.6


class JSONL:
    """Writes the history, a line of JSON a row with its ``step``, each as soon as it is known.

    A run that is killed leaves the rows until then; when it is resumed, those that its checkpoint does not know are
    gone, for they come again. Figures that are not finite are ``null``. Read it with
    ``pandas.read_json(path, lines=True)``.

    Args:
        path: The file. What it held before is replaced by the run's own history, rows before a resume included.

    Example:
        >>> import pandas
        >>> track = JSONL("history.jsonl")
        >>> run = vae((1, 8, 8)).fit(load("digits"), steps=4, log_every=2, callbacks=[track], progress=False)
        >>> pandas.read_json("history.jsonl", lines=True)["step"].tolist()
        [2, 4]
    """

    observes = True

    def __init__(self, path: str | Path) -> None:
        self.path, self._begun = Path(path), False

    def before_fit(self, svi: SVI, data: object) -> None:
        """Another run begins."""
        self._begun = False

    def after_record(self, svi: SVI, row: Mapping[str, float]) -> None:
        """Appends the row; the first one with the whole history before it."""
        if not self._begun:
            self._write(_history(svi))
            return
        with self.path.open("a") as file:
            file.write(_line(svi.index, row))

    def after_fit(self, run: Run, data: object) -> None:
        """Writes the history of a run that had no steps left."""
        if not self._begun:
            self._write(run.history)

    def _write(self, history: pd.DataFrame) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        temporary = self.path.with_name(f".{self.path.name}.tmp")
        lines = (_line(int(step), row) for step, row in zip(history.index, history.to_dict("records")))
        temporary.write_text("".join(lines))
        os.replace(temporary, self.path)
        self._begun = True


class TensorBoard:
    """Writes the history for TensorBoard, and pictures of some data: ``tensorboard --logdir FOLDER``.

    Needs ``pip install 'ppl-disent[tensorboard]'``. Each column of the history is a scalar. Pictures are data above
    their reconstructions, and of each site what its latent values do to the first datum, a row for each, from -3 to 3
    standard deviations of the prior. Where a run was killed and is resumed, TensorBoard leaves out what its checkpoint
    does not know. St-RKM's features are not centred until training has ended: its pictures before are off.

    Args:
        folder: Where the event files go.
        batch: The data that are drawn, fields as the guide takes them, x first: images ``(n, 1, h, w)`` in grey or
            ``(n, 3, h, w)`` in colour, in [0, 1]; None for scalars only.
        every: Rows of the history from one set of pictures to the next; there is always one at the end.

    Raises:
        ArgumentError: Where the package is not installed, for x that are no images, or ``every`` below 1.

    Example:
        >>> data = load("digits")
        >>> track = TensorBoard("runs/a", batch=data.batch(range(8)))
        >>> run = vae(data.shape, latent_dim=2).fit(data, steps=3, callbacks=[track], progress=False)
    """

    observes = True

    def __init__(self, folder: str | Path, *, batch: Sequence[Tensor] | None = None, every: int = 10) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            hint = "pip install 'ppl-disent[tensorboard]'"
            raise ArgumentError(
                "tensorboard", got="no such package", expected="it to be installed", hint=hint
            ) from None
        if not isinstance(every, int) or isinstance(every, bool) or every < 1:
            raise ArgumentError("every", got=every, expected="an integer of at least 1")
        shape = None if batch is None else [tuple(field.shape) for field in batch]
        if shape is not None and not (shape and len(shape[0]) == 4 and shape[0][0] and shape[0][1] in (1, 3)):
            expected = "a tuple of tensors, x first: images (n, 1, h, w) in grey or (n, 3, h, w) in colour"
            raise ArgumentError("batch", got=shape, expected=expected)
        self.folder, self.batch, self.every = Path(folder), batch, every
        self._make, self._writer, self._rows = SummaryWriter, None, 0

    _writer: Any

    def before_fit(self, svi: SVI, data: object) -> None:
        """Another run begins."""
        self._close()

    def after_record(self, svi: SVI, row: Mapping[str, float]) -> None:
        """Writes the row, and now and then pictures."""
        if self._writer is None:
            known = _history(svi).index[:-1]
            # TensorBoard then leaves out what an earlier file has from this step on.
            self._writer = self._make(str(self.folder), purge_step=int(known[-1]) + 1 if len(known) else 0)
        for name, value in row.items():
            # TensorBoard groups by what is before a slash.
            self._writer.add_scalar(name.replace(".", "/", 1), value, svi.index)
        self._rows += 1
        if self._rows % self.every == 0:
            self._draw(Posterior(svi.model, svi.guide), svi.index)
        self._writer.flush()

    def after_fit(self, run: Run, data: object) -> None:
        """Draws what came out, and closes the file."""
        if self._writer is not None:
            self._draw(run.posterior, run.step)
        self._close()

    def _close(self) -> None:
        if self._writer is not None:
            self._writer.close()
        self._writer, self._rows = None, 0

    def _draw(self, q: Posterior, step: int) -> None:
        if self.batch is None:
            return
        from torchvision.utils import make_grid

        # A guide whose mean is not known draws: the run must not notice.
        with torch.random.fork_rng({p.device for p in q.model.parameters() if p.is_cuda}):
            pictures = {"reconstructions": torch.cat([self.batch[0].cpu(), q.reconstruct(*self.batch).cpu()])}
            first, columns = tuple(field[:1] for field in self.batch), len(self.batch[0])
            for site, code in q.encode(*first).items():
                if len(code.mean.shape) == 2:
                    rows = [q.traverse(site, i, _COLUMNS, *first, units="sd")[0] for i in range(code.mean.shape[1])]
                    pictures[f"traversal/{site}"] = torch.cat(rows).cpu()
        for name, images in pictures.items():
            across = columns if name == "reconstructions" else len(_COLUMNS)
            grid = make_grid(images.float().clamp(0, 1), nrow=across, padding=1, pad_value=0.7)
            self._writer.add_image(name, grid, step)


def _history(svi: SVI) -> pd.DataFrame:
    """The rows until now, those of a checkpoint included."""
    return next(hook for hook in svi.hooks if isinstance(hook, History)).frame()


def _line(step: int, row: Mapping[str, float]) -> str:
    return json.dumps({"step": step} | {k: v if math.isfinite(v) else None for k, v in row.items()}) + "\n"
