# Copyright ppl-disent contributors.
# SPDX-License-Identifier: Apache-2.0
"""Scores of codes against factors and labels, of reconstructions, edits and samples. Nothing here knows a model."""

from ppl_disent.metrics import bench as bench
from ppl_disent.metrics.beta_vae import beta_vae_score
from ppl_disent.metrics.classifier import AttributeClassifier, attribute_classifier
from ppl_disent.metrics.dci import dci
from ppl_disent.metrics.directions import decoder_orthogonality as decoder_orthogonality
from ppl_disent.metrics.factor_vae import factor_vae_score
from ppl_disent.metrics.fid import fid, frechet_distance
from ppl_disent.metrics.infomec import infomec
from ppl_disent.metrics.irs import irs
from ppl_disent.metrics.jemmig import jemmig
from ppl_disent.metrics.leakage import latent_leakage
from ppl_disent.metrics.mig import mig
from ppl_disent.metrics.modularity import modularity_explicitness
from ppl_disent.metrics.reconstruction import reconstruction_error
from ppl_disent.metrics.rmig import rmig
from ppl_disent.metrics.sap import sap
from ppl_disent.metrics.score import Score
from ppl_disent.metrics.swd import swd
from ppl_disent.metrics.transfer import attribute_transfer
from ppl_disent.metrics.udr import udr
from ppl_disent.metrics.unsupervised import gaussian_total_correlation, mean_mutual_information

__all__ = [
    "AttributeClassifier",
    "Score",
    "attribute_classifier",
    "attribute_transfer",
    "bench",
    "beta_vae_score",
    "dci",
    "decoder_orthogonality",
    "factor_vae_score",
    "fid",
    "frechet_distance",
    "gaussian_total_correlation",
    "infomec",
    "irs",
    "jemmig",
    "latent_leakage",
    "mean_mutual_information",
    "mig",
    "modularity_explicitness",
    "reconstruction_error",
    "rmig",
    "sap",
    "swd",
    "udr",
]
