# Copyright ppl-disent contributors.
# SPDX-License-Identifier: Apache-2.0
"""Pictures of a run and of a posterior.

Every function returns a ``matplotlib.figure.Figure`` of its own: pyplot and its global state are not used, so a picture
comes out the same in a script, on a machine without a screen and in a notebook. Save it with ``figure.savefig(path)``.
"""

from ppl_disent.plots.codes import latent_kl as latent_kl
from ppl_disent.plots.codes import marginals as marginals
from ppl_disent.plots.codes import scatter as scatter
from ppl_disent.plots.diagnosis import calibration as calibration
from ppl_disent.plots.diagnosis import diagnosis as diagnosis
from ppl_disent.plots.images import joint as joint
from ppl_disent.plots.images import reconstructions as reconstructions
from ppl_disent.plots.images import samples as samples
from ppl_disent.plots.images import subspace as subspace
from ppl_disent.plots.images import transfer as transfer
from ppl_disent.plots.images import traversal as traversal
from ppl_disent.plots.training import curves as curves
