# Copyright ppl-disent contributors.
# SPDX-License-Identifier: Apache-2.0
"""Scores of codes against ground-truth factors, and of reconstructions against data. Nothing here knows a model."""

from ppl_disent.metrics.mig import mig
from ppl_disent.metrics.reconstruction import reconstruction_error
from ppl_disent.metrics.rmig import rmig
from ppl_disent.metrics.score import Score

__all__ = ["Score", "mig", "reconstruction_error", "rmig"]
