# Copyright ppl-disent contributors.
# SPDX-License-Identifier: Apache-2.0
"""Scores of codes against factors and labels, of reconstructions, edits and samples. Nothing here knows a model."""

from ppl_disent.metrics.classifier import AttributeClassifier, attribute_classifier
from ppl_disent.metrics.directions import decoder_orthogonality as decoder_orthogonality
from ppl_disent.metrics.fid import fid, frechet_distance
from ppl_disent.metrics.leakage import latent_leakage
from ppl_disent.metrics.mig import mig
from ppl_disent.metrics.reconstruction import reconstruction_error
from ppl_disent.metrics.rmig import rmig
from ppl_disent.metrics.score import Score
from ppl_disent.metrics.swd import swd
from ppl_disent.metrics.transfer import attribute_transfer

__all__ = [
    "AttributeClassifier",
    "Score",
    "attribute_classifier",
    "attribute_transfer",
    "fid",
    "frechet_distance",
    "latent_leakage",
    "mig",
    "reconstruction_error",
    "rmig",
    "swd",
]
