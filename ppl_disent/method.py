# Copyright ppl-disent contributors.
# SPDX-License-Identifier: Apache-2.0
"""A published method: a pair with its objective, callbacks and optimizers, as a builder makes it."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ParamSpec

from pyro.optim import PyroOptim
from torch import nn

from ppl_disent.batches import Data
from ppl_disent.checkpoint import plain
from ppl_disent.elbo import TermELBO
from ppl_disent.fit import fit
from ppl_disent.run import BUILDERS, Run
from ppl_disent.svi import ManifoldOptim

P = ParamSpec("P")


@dataclass
class Method:
    """What a builder such as :func:`ppl_disent.dynamic_vae` returns.

    Attributes:
        name: The method's name.
        model: The program of p.
        guide: The program of q.
        elbo: The objective.
        callbacks: What runs between two steps.
        optim: Optimizer of the Euclidean parameters, with the paper's settings.
        manifold_optim: Optimizer of the parameters on a manifold.
        recipe: The builder and its arguments, kept with each run; see ``Run.load``.

    Example:
        >>> method = dynamic_vae((1, 8, 8), target_kl=5.0)
        >>> run = method.fit(load("digits"), steps=3, batch_size=16, progress=False)
        >>> run.recipe["builder"], run.step
        ('dynamic_vae', 3)
    """

    name: str
    model: nn.Module
    guide: nn.Module
    elbo: TermELBO
    callbacks: Sequence[Any] = ()
    optim: PyroOptim | None = None
    manifold_optim: ManifoldOptim | None = None
    recipe: Mapping[str, Any] | None = field(default=None, repr=False)

    def fit(self, data: Data, *, steps: int, callbacks: Sequence[Any] = (), **options: Any) -> Run:
        """Trains the method.

        Args:
            data: As for :func:`ppl_disent.fit`.
            steps: Optimisation steps in all.
            callbacks: Further callbacks, after the method's own.
            **options: Any other argument of :func:`ppl_disent.fit`; ``optim`` and ``manifold_optim`` replace the
                method's.

        Returns:
            The fitted pair with its history.
        """
        own: dict[str, Any] = {"optim": self.optim, "manifold_optim": self.manifold_optim, "recipe": self.recipe}
        every = [*self.callbacks, *callbacks]
        return fit(self.model, self.guide, self.elbo, data, steps=steps, callbacks=every, **(own | options))


def builder(build: Callable[P, Method]) -> Callable[P, Method]:
    """Registers a function that builds a :class:`Method`, so that ``Run.load`` can build its programs again.

    Its arguments must be plain values (numbers, strings, tuples of them) for that. A registered name is replaced.

    Example:
        >>> @builder
        ... def annealed_vae(shape, *, latent_dim: int = 10, steps: int = 1000) -> Method:
        ...     method = vae(shape, latent_dim=latent_dim)
        ...     method.name, method.callbacks = "annealed_vae", [LinearAnnealing("z", steps=steps)]
        ...     return method
        >>> annealed_vae((1, 8, 8)).recipe
        {'builder': 'annealed_vae', 'arguments': {'shape': (1, 8, 8), 'latent_dim': 10, 'steps': 1000}}
    """

    @functools.wraps(build)
    def built(*args: P.args, **kwargs: P.kwargs) -> Method:
        bound = inspect.signature(build).bind(*args, **kwargs)
        bound.apply_defaults()
        method = build(*args, **kwargs)
        arguments = {k: tuple(v) if isinstance(v, (list, tuple)) else v for k, v in plain(bound.arguments).items()}
        known = all(isinstance(v, (int, float, str, bool, tuple, type(None))) for v in arguments.values())
        # Not that of a builder which this one calls.
        method.recipe = {"builder": build.__name__, "arguments": arguments} if known else None
        return method

    BUILDERS[build.__name__] = built
    return built
