# Copyright ppl-disent contributors.
# SPDX-License-Identifier: Apache-2.0
"""Callbacks that set the weight of a KL divergence while a pair trains: annealing, PI, incremental PI.

Each works on any latent site, by itself (``beta = controller.update(kl)``, one call an optimisation step) or inside
``fit(..., callbacks=[controller])``, where it sets beta for the very batch whose KL it has just seen, as the papers'
codes do. All state is float64 and lives on the device in buffers, so that a step needs no host synchronisation and
``state_dict`` holds everything.
"""

from ppl_disent.control.annealing import CyclicalAnnealing as CyclicalAnnealing
from ppl_disent.control.annealing import LinearAnnealing as LinearAnnealing
from ppl_disent.control.base import KLScale as KLScale
from ppl_disent.control.pi import PI as PI
from ppl_disent.control.pi import IncrementalPI as IncrementalPI
