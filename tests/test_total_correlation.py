# Copyright ppl-disent contributors.
# SPDX-License-Identifier: Apache-2.0
"""The total correlation's estimate, whom its discriminator trains, and what FactorVAE makes of it."""

import copy
import math

import pyro
import pytest
import torch
from pyro import poutine
from torch import nn
from torch.nn.functional import cross_entropy

import ppl_disent as pd
from guides import Gaussian

QUIET = {"progress": False, "device": "cpu"}
BATCH = (torch.rand(12, 1, 4, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64),)


def step_at(**sites):
    trace = poutine.trace(lambda: [pyro.sample(n, pyro.distributions.Delta(z).to_event(2)) for n, z in sites.items()])
    return pd.Step(1, BATCH, {}, {}, guide_trace=trace.get_trace())


def factor_vae(**options):
    torch.manual_seed(0)
    small = {"latent_dim": 3, "network": "mlp", "discriminator_units": 16, "discriminator_layers": 2}
    return pd.factor_vae((1, 4, 4), **(small | options))


def svi_of(method):
    return pd.SVI(method.model, method.guide, method.optim, method.elbo)


def state(module):
    return {name: t.detach().clone() for name, t in (*module.named_parameters(), *module.named_buffers())}


def equal(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


def test_term_and_loss_by_their_formulas():
    """mean(D_0 - D_1), and the two cross-entropies of the algorithm; the permutation written out."""
    tc, z = pd.TotalCorrelation(pd.MLP(3, 2, hidden=(5,))), torch.randn(9, 3, requires_grad=True)
    logits = tc.network(z)
    torch.testing.assert_close(tc(step_at(z=z)), (logits[:, 0] - logits[:, 1]).mean())
    torch.manual_seed(1)
    loss = tc.learn(step_at(z=z))
    torch.manual_seed(1)
    permuted = torch.stack([column[torch.randperm(9)] for column in z.T], 1)
    zeros, ones = torch.zeros(9, dtype=torch.long), torch.ones(9, dtype=torch.long)
    expected = 0.5 * (cross_entropy(logits, zeros) + cross_entropy(tc.network(permuted), ones))
    torch.testing.assert_close(loss, expected)
    assert set(torch.autograd.grad(tc(step_at(z=z)), [z, *tc.parameters()], allow_unused=True)[1:]) == {None}
    assert torch.autograd.grad(loss, [z], allow_unused=True) == (None,)


def test_what_is_permuted_is_the_second_batch():
    """Kim & Mnih, algorithm 2: D tells the first batch from a permutation of another."""
    tc, first, second = pd.TotalCorrelation(pd.MLP(3, 2, hidden=(5,))), torch.randn(9, 3), torch.randn(7, 3) + 4
    torch.manual_seed(1)
    loss = tc.learn(step_at(z=first), step_at(z=second))
    torch.manual_seed(1)
    permuted = torch.stack([column[torch.randperm(7)] for column in second.T], 1)
    real, product = (tc.network(z).log_softmax(1) for z in (first, permuted))
    torch.testing.assert_close(loss, -0.5 * (real[:, 0].mean() + product[:, 1].mean()))


def test_gradients_are_those_of_finite_differences():
    """Of the term for the codes, and of D's loss for its weights; softplus has no corner."""
    tc = pd.TotalCorrelation(nn.Sequential(nn.Linear(2, 4), nn.Softplus(), nn.Linear(4, 2)))
    z = torch.randn(6, 2, requires_grad=True)
    assert torch.autograd.gradcheck(lambda z: tc(step_at(z=z)), z)
    weights = dict(tc.network.named_parameters())

    def loss(*values):
        torch.manual_seed(0)  # the same permutation
        return torch.func.functional_call(Learner(tc), {f"tc.network.{k}": v for k, v in zip(weights, values)}, (z,))

    assert torch.autograd.gradcheck(loss, tuple(weights.values()))


class Learner(nn.Module):
    def __init__(self, tc):
        super().__init__()
        self.tc = tc

    def forward(self, z):
        return self.tc.learn(step_at(z=z.detach()))


def test_several_sites_are_permuted_as_wholes():
    tc = pd.TotalCorrelation(nn.Linear(3, 2), sites=("s", "z"))
    s, z = torch.arange(20.0)[:, None], torch.arange(40.0).reshape(20, 2)
    torch.manual_seed(0)
    permuted = tc._permuted([s, z])
    torch.testing.assert_close(permuted[:, 2] - permuted[:, 1], torch.ones(20))
    assert not torch.equal(permuted[:, 0], permuted[:, 1] / 2)
    assert sorted(permuted[:, 0].tolist()) == s[:, 0].tolist()


@pytest.mark.parametrize("rho", [0.0, 0.8])
def test_gaussian_codes_have_the_known_total_correlation(rho):
    """-log(1 - rho^2) / 2 for two standard normals."""
    torch.manual_seed(0)
    root = torch.tensor([[1.0, 0.0], [rho, math.sqrt(1 - rho**2)]])
    tc = pd.TotalCorrelation(pd.MLP(2, 2, hidden=(32, 32)), lr=3e-3)
    for _ in range(600):
        tc.descend(tc.learn(*(step_at(z=torch.randn(500, 2) @ root.T) for _ in range(2))))
    with torch.no_grad():
        found = tc(step_at(z=torch.randn(20_000, 2) @ root.T))
    assert found.item() == pytest.approx(-0.5 * math.log(1 - rho**2), abs=0.06)


def test_neither_trains_the_other_and_asking_changes_nothing():
    method = factor_vae()
    svi, tc = svi_of(method), method.elbo.terms["tc"][1]
    svi.step(*BATCH)
    before = [state(m) for m in (method.model, method.guide, tc)]
    pd.check_isolation(svi, *BATCH)
    assert all(equal(a, state(m)) for a, m in zip(before, (method.model, method.guide, tc)))
    svi.step(*BATCH)
    assert not equal(before[2], state(tc))


def test_the_second_batch_is_another():
    """Of data of two kinds: the order of the second batches is not that of the first."""
    method, x = factor_vae(), torch.rand(40, 1, 4, 4)
    tc, seen = method.elbo.terms["tc"][1], []
    second = tc._second
    tc._second = lambda step: seen.append((step.batch[0], second(step)[0])) or (seen[-1][1],)
    method.fit((x,), steps=4, batch_size=10, **QUIET)
    for first, other in seen:
        assert first.shape == other.shape == (10, 1, 4, 4)
        assert not torch.equal(first, other)
    rows = torch.cat([other for _, other in seen]).flatten(1)
    assert len(rows.unique(dim=0)) == 40, "an epoch without repeats"
    assert tc._data is None


def test_warmup_steps_and_columns():
    method = factor_vae()
    method.elbo = pd.TermELBO(terms={"tc": (5.0, pd.TotalCorrelation(pd.MLP(3, 2), warmup=3, steps=2))})
    run = method.fit(BATCH, steps=5, log_every=1, **QUIET)
    assert (run.history["extra.tc"] == 0).tolist() == [True] * 3 + [False] * 2
    assert run.history["discriminator.z"].iloc[0] == pytest.approx(math.log(2), abs=0.5)
    other = copy.deepcopy(method)
    other.fit(BATCH, steps=2, **QUIET)
    assert equal(state(run.model), state(method.model))


def test_the_design_documents_example():
    torch.manual_seed(0)
    guide = Gaussian(s=pd.MLP((1, 4, 4), 4), z=pd.MLP((1, 4, 4), 6))

    class Shared(nn.Module):
        def __init__(self):
            super().__init__()
            self.decoder = pd.MLP(5, (1, 4, 4))

        def forward(self, x):
            normal = pyro.distributions.Normal
            with pyro.plate("data", len(x)):
                s = pyro.sample("s", normal(x.new_zeros(len(x), 2), 1.0).to_event(1))
                z = pyro.sample("z", normal(x.new_zeros(len(x), 3), 1.0).to_event(1))
                mean = self.decoder(torch.cat([s, z], -1))
                pyro.sample("x", normal(mean, 1.0).to_event(3), obs=x)

    apart = pd.TotalCorrelation(pd.MLP(5, 2), sites=("s", "z"))
    run = pd.fit(Shared(), guide, pd.TermELBO(terms={"tc": (6.0, apart)}), BATCH, steps=3, **QUIET)
    assert {"extra.tc", "discriminator.s_z"} <= set(run.history)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: pd.TotalCorrelation(nn.Linear(3, 2), sites="z"), pd.ArgumentError, "sites: got 'z'"),
        (lambda: pd.TotalCorrelation(nn.Linear(3, 2), steps=0), pd.ArgumentError, "steps: got 0"),
        (lambda: pd.TotalCorrelation(nn.Linear(3, 2), lr=0.0), pd.ArgumentError, "lr: got 0.0"),
        (lambda: pd.TotalCorrelation(nn.Linear(3, 2), warmup=-1), pd.ArgumentError, "warmup: got -1"),
        (
            lambda: pd.TotalCorrelation(nn.Linear(1, 2))(step_at(z=torch.randn(5, 1))),
            pd.DataError,
            "one site at least 2",
        ),
        (lambda: pd.TotalCorrelation(nn.Linear(3, 1))(step_at(z=torch.randn(5, 3))), pd.DataError, "its network gives"),
        (lambda: pd.TotalCorrelation(nn.Linear(3, 2), sites=("s",))(step_at(z=torch.ones(5, 3))), pd.SiteError, "'s'"),
        (lambda: factor_vae(gamma=math.nan), pd.ArgumentError, "gamma: got nan"),
        (lambda: factor_vae(latent_dim=1), pd.ArgumentError, "latent_dim: got 1"),
        (lambda: factor_vae(discriminator_layers=0), pd.ArgumentError, "discriminator_layers: got 0"),
    ],
)
def test_bad_input(call, error, message):
    with pytest.raises(error, match=message):
        call()
