# Copyright ppl-disent contributors.
# SPDX-License-Identifier: Apache-2.0
"""What can go wrong, said so that it can be mended: what, got, expected, what to do.

Every error is a :class:`ValueError`, so ``except ValueError`` catches them all.
"""

from __future__ import annotations


class ArgumentError(ValueError):
    """An argument has a value that cannot be used.

    Args:
        name: The argument.
        got: The value given; shown by ``repr``, shortened.
        expected: What would have been accepted, in words.
        hint: What to do about it, if that is not obvious.

    Example:
        >>> beta_vae((1, 8, 8), latent_dim=0)
        Traceback (most recent call last):
            ...
        ppl_disent.errors.ArgumentError: latent_dim: got 0, expected an integer of at least 1.
    """

    def __init__(self, name: str, *, got: object = None, expected: str = "", hint: str = "") -> None:
        if not expected:  # Pyro makes errors anew from their message when a program raises them
            super().__init__(name)
            return
        shown = repr(got)
        shown = shown if len(shown) <= 200 else shown[:197] + "..."
        super().__init__(f"{name}: got {shown}, expected {expected}." + (f" {hint}" if hint else ""))


def check_whole(least: int, **values: object) -> None:
    """Raises :class:`ArgumentError` for each named value that is no integer of at least ``least``."""
    for name, value in values.items():
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise ArgumentError(name, got=value, expected=f"an integer of at least {least}")


class SiteError(ValueError):
    """Model, guide, objective and callbacks do not agree on the sample sites.

    Example:
        >>> method = vae((1, 8, 8))
        >>> method.fit(load("digits"), steps=3, callbacks=[LinearAnnealing("w", steps=9)], progress=False)
        Traceback (most recent call last):
            ...
        ppl_disent.errors.SiteError: LinearAnnealing: no latent site 'w'; the model has ['z'].
    """


class DataError(ValueError):
    """Data of the wrong shape, type or range, or a data file that is missing or not what it should be.

    Example:
        >>> vae((1, 8, 8)).fit(255 * torch.ones(9, 1, 8, 8), steps=3, progress=False)
        Traceback (most recent call last):
            ...
        ppl_disent.errors.DataError: x: got values from 255 to 255, expected values in [0, 1] (Bernoulli).
    """


class CheckpointError(ValueError):
    """A checkpoint that is damaged, foreign, or belongs to a run with other settings.

    Example:
        >>> Run.load("run.pt")
        Traceback (most recent call last):
            ...
        ppl_disent.errors.CheckpointError: run.pt: no such checkpoint.
    """


class NonFiniteError(ValueError):
    """A term of the objective became NaN or infinite.

    Attributes:
        step: The optimisation step at which it happened first, counted from 1 (0: before training).
        term: The name of the first non-finite term, for instance ``"kl.z"``.

    Example:
        >>> method = vae((1, 8, 8))
        >>> method.elbo = TermELBO(terms={"bad": (1.0, lambda step: (step.kl["z"] * 0).log())})
        >>> method.fit(load("digits"), steps=3, progress=False)
        Traceback (most recent call last):
            ...
        ppl_disent.errors.NonFiniteError: extra.bad became -inf at step 0. ...
    """

    def __init__(self, step: int, term: str, value: float, hint: str = "") -> None:
        super().__init__(f"{term} became {value} at step {step}." + (f" {hint}" if hint else ""))
        self.step, self.term = step, term
