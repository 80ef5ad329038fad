# Copyright ppl-disent contributors.
# SPDX-License-Identifier: Apache-2.0
"""A fitted pair with its history, and how to open it again."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
import pyro
import torch
from torch import Tensor, nn

from ppl_disent import checkpoint
from ppl_disent.elbo import TermELBO
from ppl_disent.errors import CheckpointError
from ppl_disent.history import History
from ppl_disent.posterior import Posterior

# What a checkpoint's recipe may name; filled by `ppl_disent.method.builder`.
BUILDERS: dict[str, Callable[..., Any]] = {}


@dataclass
class Run:
    """What ``fit`` returns.

    Attributes:
        model: The program of p, trained.
        guide: The program of q, trained.
        elbo: The objective, with its live weights.
        step: Optimisation steps taken.
        history: Indexed by ``step``, one row every ``log_every`` steps: means over these steps of ``loss``, ``kl.z``,
            ``log_lik.x``, ``extra.tc`` (nats per datum), and the last ``kl_scale.z`` and callbacks' records.
        shapes: Shape and dtype of each batch field for one datum.
        recipe: How the programs can be built again, ``{"builder": name, "arguments": {...}}``, or None.
        settings: What the run was made with.

    Example:
        >>> run = vae((1, 8, 8)).fit(load("digits"), steps=4, log_every=2, checkpoint="run.pt", progress=False)
        >>> run.history[["loss", "kl.z"]].shape
        (2, 2)
        >>> again = Run.load("run.pt")  # also in another process: the builder is known by its name
        >>> again.step, again.history.equals(run.history)
        (4, True)
    """

    model: nn.Module = field(repr=False)
    guide: nn.Module = field(repr=False)
    elbo: TermELBO = field(repr=False)
    step: int
    history: pd.DataFrame = field(repr=False)
    shapes: tuple[tuple[tuple[int, ...], torch.dtype], ...] = field(repr=False)
    recipe: Mapping[str, Any] | None = None
    settings: Mapping[str, Any] = field(default_factory=dict, repr=False)

    @property
    def posterior(self) -> Posterior:
        """The fitted pair, ready for questions."""
        return Posterior(self.model, self.guide, shapes=self.shapes)

    def to_arviz(self, *batch: Tensor, **options: Any) -> Any:
        """As :meth:`Posterior.to_arviz`, with the history, controllers' records included, as the group ``training``."""
        return self.posterior.to_arviz(*batch, history=self.history, **options)

    @classmethod
    def load(cls, path: str | Path, method: Any = None, *, device: str | torch.device = "cpu") -> Run:
        """Opens a run again.

        Args:
            path: A checkpoint, or a run folder that holds ``checkpoint.pt``.
            method: An object with ``model``, ``guide`` and ``elbo`` of the same make, for a run whose programs no
                registered builder made; they take the run's parameters.
            device: Where the programs are put.

        Raises:
            CheckpointError: If there is none, if it is damaged or foreign, or if its programs cannot be rebuilt or
                do not fit ``method``.
        """
        path = Path(path)
        path = path / "checkpoint.pt" if path.is_dir() else path
        content = checkpoint.load(path)
        recipe, state = content["recipe"], content["svi"]
        if method is None:
            if recipe is None or recipe["builder"] not in BUILDERS:
                made_by = (
                    "no registered builder" if recipe is None else f"the builder {recipe['builder']!r}, unknown here"
                )
                raise CheckpointError(f"{path}: made by {made_by}. Pass method= with the run's model, guide and elbo.")
            with torch.random.fork_rng(devices=[]):
                method = BUILDERS[recipe["builder"]](**recipe["arguments"])
        floats = [v.dtype for v in (*state["model"].values(), *state["guide"].values()) if _is_float(v)]
        for program in (method.model, method.guide):
            program.to(floats[0] if floats else None)
        if state["guide"].keys() - method.guide.state_dict().keys():
            _call_once(method.guide, content["shapes"])  # an autoguide has no parameters before
        try:
            method.model.load_state_dict(state["model"])
            method.guide.load_state_dict(state["guide"])
        except (RuntimeError, KeyError) as error:
            raise CheckpointError(f"{path}: the programs do not fit: {error}") from error
        history = History(content["settings"]["log_every"])
        history.restore(content["history"])
        method.elbo.kl_scale = {site: value.to(device) for site, value in state["kl_scale"].items()}
        shapes = tuple((tuple(shape), getattr(torch, dtype)) for shape, dtype in content["shapes"])
        model, guide = method.model.to(device), method.guide.to(device)
        return cls(model, guide, method.elbo, state["index"], history.frame(), shapes, recipe, content["settings"])


def _is_float(value: object) -> bool:
    return isinstance(value, Tensor) and value.is_floating_point()


def _call_once(guide: nn.Module, shapes: Sequence[tuple[Sequence[int], str]]) -> None:
    batch = [torch.zeros(2, *shape, dtype=getattr(torch, dtype)) for shape, dtype in shapes]
    with torch.random.fork_rng(devices=[]), torch.no_grad(), pyro.get_param_store().scope():
        guide(*batch)
