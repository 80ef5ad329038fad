# Copyright ppl-disent contributors.
# SPDX-License-Identifier: Apache-2.0
"""Write, train and understand disentangled generative models in Pyro."""

import importlib
from typing import TYPE_CHECKING

from ppl_disent.adversary import Adversary as Adversary
from ppl_disent.calibration import Calibration as Calibration
from ppl_disent.control import PI as PI
from ppl_disent.control import CyclicalAnnealing as CyclicalAnnealing
from ppl_disent.control import IncrementalPI as IncrementalPI
from ppl_disent.control import LinearAnnealing as LinearAnnealing
from ppl_disent.data import Dataset as Dataset
from ppl_disent.data import load as load
from ppl_disent.diagnosis import Diagnosis as Diagnosis
from ppl_disent.elbo import Step as Step
from ppl_disent.elbo import TermELBO as TermELBO
from ppl_disent.errors import ArgumentError as ArgumentError
from ppl_disent.errors import CheckpointError as CheckpointError
from ppl_disent.errors import DataError as DataError
from ppl_disent.errors import NonFiniteError as NonFiniteError
from ppl_disent.errors import SiteError as SiteError
from ppl_disent.evidence import Evidence as Evidence
from ppl_disent.fit import fit as fit
from ppl_disent.likelihood import Bernoulli as Bernoulli
from ppl_disent.likelihood import Gaussian as Gaussian
from ppl_disent.method import Method as Method
from ppl_disent.method import builder as builder
from ppl_disent.methods import beta_tcvae as beta_tcvae
from ppl_disent.methods import beta_vae as beta_vae
from ppl_disent.methods import capacity_vae as capacity_vae
from ppl_disent.methods import control_vae as control_vae
from ppl_disent.methods import csvae as csvae
from ppl_disent.methods import cvae as cvae
from ppl_disent.methods import cvae_if as cvae_if
from ppl_disent.methods import dip_vae as dip_vae
from ppl_disent.methods import dynamic_vae as dynamic_vae
from ppl_disent.methods import factor_vae as factor_vae
from ppl_disent.methods import st_rkm as st_rkm
from ppl_disent.methods import vae as vae
from ppl_disent.metrics import attribute_classifier as attribute_classifier
from ppl_disent.metrics import attribute_transfer as attribute_transfer
from ppl_disent.metrics import beta_vae_score as beta_vae_score
from ppl_disent.metrics import dci as dci
from ppl_disent.metrics import decoder_orthogonality as decoder_orthogonality
from ppl_disent.metrics import factor_vae_score as factor_vae_score
from ppl_disent.metrics import fid as fid
from ppl_disent.metrics import frechet_distance as frechet_distance
from ppl_disent.metrics import gaussian_total_correlation as gaussian_total_correlation
from ppl_disent.metrics import infomec as infomec
from ppl_disent.metrics import irs as irs
from ppl_disent.metrics import jemmig as jemmig
from ppl_disent.metrics import latent_leakage as latent_leakage
from ppl_disent.metrics import mean_mutual_information as mean_mutual_information
from ppl_disent.metrics import mig as mig
from ppl_disent.metrics import modularity_explicitness as modularity_explicitness
from ppl_disent.metrics import reconstruction_error as reconstruction_error
from ppl_disent.metrics import rmig as rmig
from ppl_disent.metrics import sap as sap
from ppl_disent.metrics import swd as swd
from ppl_disent.metrics import udr as udr
from ppl_disent.nn import MLP as MLP
from ppl_disent.nn import ConvDecoder as ConvDecoder
from ppl_disent.nn import ConvEncoder as ConvEncoder
from ppl_disent.nn import RKMDecoder as RKMDecoder
from ppl_disent.nn import RKMEncoder as RKMEncoder
from ppl_disent.opponent import Opponent as Opponent
from ppl_disent.opponent import check_isolation as check_isolation
from ppl_disent.optim import JointOptim as JointOptim
from ppl_disent.optim import adam as adam
from ppl_disent.posterior import Posterior as Posterior
from ppl_disent.run import Run as Run
from ppl_disent.svi import SVI as SVI
from ppl_disent.svi import pyro_pair as pyro_pair
from ppl_disent.total_correlation import TotalCorrelation as TotalCorrelation
from ppl_disent.tracking import JSONL as JSONL
from ppl_disent.tracking import TensorBoard as TensorBoard

if TYPE_CHECKING:
    from ppl_disent import manifold as manifold
else:

    def __getattr__(name: str):
        """Loads ``ppl_disent.manifold`` at first use: it imports geoopt, which takes a second."""
        if name == "manifold":
            return importlib.import_module("ppl_disent.manifold")
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
