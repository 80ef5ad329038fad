# Copyright ppl-disent contributors.
# SPDX-License-Identifier: Apache-2.0
"""The posterior of one datum by Hamiltonian Monte Carlo on the same model, as a gold standard."""

from __future__ import annotations

import numpy as np
import torch
from pyro import poutine
from pyro.infer import MCMC, NUTS
from pyro.infer.autoguide.initialization import init_to_sample
from torch import Tensor

from ppl_disent.draws import DATA, Groups, collect
from ppl_disent.errors import ArgumentError, SiteError
from ppl_disent.pair import Pair
from ppl_disent.refine import PerDatum, frozen
from ppl_disent.sites import latents


def nuts(pair: Pair, datum: tuple[Tensor, ...], draws: int, warmup: int, chains: int, progress: bool) -> Groups:
    """As :meth:`ppl_disent.Posterior.nuts`, within ``pair.quiet(seed)``."""
    for name, number in (("draws", draws), ("warmup", warmup), ("chains", chains)):
        if isinstance(number, bool) or not isinstance(number, int) or number < 1:
            raise ArgumentError(name, got=number, expected="an integer of at least 1")
    pair.check(datum)
    if len(datum[0]) != 1:
        raise ArgumentError("datum", got=f"{len(datum[0])} data", expected="a batch of one")
    for name, site in latents(poutine.trace(pair.model).get_trace(*datum)).items():
        if site["fn"].batch_shape != (1,):
            got = tuple(site["fn"].batch_shape)
            raise SiteError(f"{name!r}: got batch shape {got} in the model, expected a latent of each datum.")
    values: dict[str, list[Tensor]] = {}
    diverging = np.zeros((chains, draws), bool)
    with frozen(pair.model), torch.enable_grad():
        for chain in range(chains):
            kernel = NUTS(pair.model, init_strategy=init_to_sample)
            mcmc = MCMC(kernel, num_samples=draws, warmup_steps=warmup, disable_progbar=not progress)
            mcmc.run(*datum)
            for name, value in mcmc.get_samples().items():
                values.setdefault(name, []).append(value.detach().flatten(0, 1))
            diverging[chain, mcmc.diagnostics()["divergences"]["chain 0"]] = True
    # Each draw is taken for a datum, at which a guide of point masses answers all that there is to say of it.
    every = tuple(field.expand(chains * draws, *field.shape[1:]) for field in datum)
    points = Pair(pair.model, PerDatum({name: torch.cat(value) for name, value in values.items()}, None, every))
    found = collect(points, every, draws=1, predictive=None, groups=None, dims={}, memory=float("inf"), rows=1000)
    for group, variables in found.items():
        for name, (dims, array) in variables.items():
            one = array[:1] if group in DATA else array.reshape(chains, draws, 1, *array.shape[3:])
            variables[name] = (dims, one)
    found["sample_stats"]["diverging"] = (["chain", "draw"], diverging)
    return found
