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
    """Model, guide, objective and callbacks do not agree on the sample sites."""


class DataError(ValueError):
    """Data of the wrong shape, type or range, or a data file that is missing or not what it should be."""


class CheckpointError(ValueError):
    """A checkpoint that is damaged, foreign, or belongs to a run with other settings."""


class NonFiniteError(ValueError):
    """A term of the objective became NaN or infinite.

    Attributes:
        step: The optimisation step at which it happened first, counted from 1 (0: before training).
        term: The name of the first non-finite term, for instance ``"kl.z"``.
    """

    def __init__(self, step: int, term: str, value: float, hint: str = "") -> None:
        super().__init__(f"{term} became {value} at step {step}." + (f" {hint}" if hint else ""))
        self.step, self.term = step, term
