# Copyright ppl-disent contributors.
# SPDX-License-Identifier: Apache-2.0
"""The published methods, one file each: a program, what is special to it, and a builder."""

from ppl_disent.methods.beta_tcvae import beta_tcvae as beta_tcvae
from ppl_disent.methods.beta_vae import beta_vae as beta_vae
from ppl_disent.methods.capacity_vae import Capacity as Capacity
from ppl_disent.methods.capacity_vae import capacity_vae as capacity_vae
from ppl_disent.methods.control_vae import control_vae as control_vae
from ppl_disent.methods.csvae import CSVAE as CSVAE
from ppl_disent.methods.csvae import csvae as csvae
from ppl_disent.methods.cvae import CVAE as CVAE
from ppl_disent.methods.cvae import cvae as cvae
from ppl_disent.methods.cvae_if import cvae_if as cvae_if
from ppl_disent.methods.dip_vae import CovariancePenalty as CovariancePenalty
from ppl_disent.methods.dip_vae import dip_vae as dip_vae
from ppl_disent.methods.dynamic_vae import dynamic_vae as dynamic_vae
from ppl_disent.methods.factor_vae import factor_vae as factor_vae
from ppl_disent.methods.st_rkm import StRKM as StRKM
from ppl_disent.methods.st_rkm import Subspace as Subspace
from ppl_disent.methods.st_rkm import pca_residual as pca_residual
from ppl_disent.methods.st_rkm import st_rkm as st_rkm
from ppl_disent.methods.vae import VAE as VAE
from ppl_disent.methods.vae import vae as vae
