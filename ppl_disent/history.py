# Copyright ppl-disent contributors.
# SPDX-License-Identifier: Apache-2.0
"""The figures of a run: kept on the device, brought to the host once every so many steps."""

from __future__ import annotations

import math
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from ppl_disent.elbo import Step
from ppl_disent.errors import NonFiniteError
from ppl_disent.svi import SVI


class History:
    """A callback that keeps every step's terms, and turns each ``every`` of them into one row.

    A row has the means of loss, KLs, log likelihoods and extra terms over its steps, and the last values of the
    KL scales and of what the hooks ``record``.

    Args:
        every: Steps a row.
    """

    def __init__(self, every: int) -> None:
        self.every, self._filled = every, 0
        self._steps: list[int] = []
        self._rows: list[list[float]] = []
        self._columns: list[str] = []
        self._names: list[str] = []
        self._buffer: Tensor | None = None

    def after_step(self, svi: SVI, step: Step) -> None:
        """Keeps the step's terms."""
        named = step.named()
        assert step.loss is not None
        if self._buffer is None:
            self._names = list(named)
            self._buffer = step.loss.new_empty(self.every, len(named))
        with torch.no_grad():
            self._buffer[self._filled].copy_(torch.stack(list(named.values())))
        self._filled += 1

    def check(self, svi: SVI) -> Tensor | None:
        """The terms kept since the last row, on the host, ``(steps, terms)``.

        Raises:
            NonFiniteError: With the first step and term that is not finite.
        """
        if self._buffer is None or not self._filled:
            return None
        terms = self._buffer[: self._filled].cpu()
        bad = ~terms.isfinite()
        if bad.any():
            row = int(bad.any(1).nonzero()[0])
            # The loss is non-finite because of a term: name that one, unless only the sum overflowed.
            column = min(bad[row].nonzero().flatten().tolist(), key=lambda c: self._names[c] == "loss")
            step = svi.index - self._filled + row + 1
            hint = "Lower the learning rate, or standardise the data?"
            raise NonFiniteError(step, self._names[column], float(terms[row, column]), hint)
        return terms

    def close_row(self, svi: SVI) -> dict[str, float]:
        """Makes a row of what was kept since the last one, and returns it; empty if there is nothing."""
        terms = self.check(svi)
        if terms is None:
            return {}
        row = dict(zip(self._names, terms.double().mean(0).tolist()))
        last = {f"kl_scale.{site}": scale for site, scale in svi.elbo.kl_scale.items()}
        for hook in svi.hooks:
            if hasattr(hook, "record"):
                last |= {name: torch.as_tensor(value) for name, value in hook.record().items()}
        if last:
            row |= dict(zip(last, torch.stack([v.detach().double() for v in last.values()]).tolist()))
        self._columns = self._columns or list(row)
        self._steps.append(svi.index)
        self._rows.append([row.get(column, math.nan) for column in self._columns])
        self._filled = 0
        return row

    def frame(self) -> pd.DataFrame:
        """The rows as a table indexed by ``step``."""
        return pd.DataFrame(self._rows, columns=self._columns, index=pd.Index(self._steps, name="step"), dtype=float)

    def dump(self) -> dict[str, Any]:
        """Everything kept, as tensors and plain values."""
        return {
            "steps": self._steps,
            "rows": torch.tensor(self._rows, dtype=torch.float64),
            "columns": self._columns,
            "names": self._names,
            "open": None if self._buffer is None else self._buffer[: self._filled].clone(),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Restores ``dump()``."""
        self._steps, self._columns, self._names = list(state["steps"]), list(state["columns"]), list(state["names"])
        self._rows = state["rows"].tolist()
        self._buffer, self._filled = None, 0
        if (kept := state["open"]) is not None:
            self._buffer = kept.new_empty(self.every, len(self._names))
            self._filled = len(kept)
            self._buffer[: self._filled] = kept

    def to(self, device: torch.device) -> History:
        """Moves what is kept to a device."""
        if self._buffer is not None:
            self._buffer = self._buffer.to(device)
        return self
