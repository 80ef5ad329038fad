# Copyright ppl-disent contributors.
# SPDX-License-Identifier: Apache-2.0
"""Refinement and Hamiltonian Monte Carlo against closed forms; what both leave as it was."""

import copy

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer.autoguide import AutoNormal
from torch import nn
from torch.distributions import MultivariateNormal, kl_divergence

import ppl_disent as pd
from tests.cases import CASES, Case
from tests.linear import D, Guide, Linear, Z

N = 5


class Off(nn.Module):
    """One wrong Gaussian for all data."""

    def __init__(self, fn):
        super().__init__()
        self.fn = fn

    def forward(self, x):
        with pyro.plate("data", len(x)):
            pyro.sample("z", self.fn(len(x)))


def off(n):
    return dist.Normal(torch.full((n, Z), 0.5), 0.8).to_event(1)


def gap(model, x, q) -> torch.Tensor:
    """KL(q || p(z | x)) in closed form."""
    mean, covariance = (t.detach() for t in model.posterior(x))
    return kl_divergence(MultivariateNormal(q.mean, q.variance.diag_embed()), MultivariateNormal(mean, covariance))


@pytest.mark.parametrize("diagonal", [True, False])
def test_a_bad_guide_is_refined_to_the_best_gaussian(diagonal):
    model, x = Linear(), torch.randn(N, D)
    if diagonal:
        model.W.data = torch.linalg.qr(model.W.data).Q * torch.tensor([1.0, 0.7])
    q = pd.Posterior(model, Off(off))
    before, evidence = q.log_evidence(x, particles=5000), model.evidence(x)
    torch.testing.assert_close(evidence - before.elbo, gap(model, x, q.encode(x)["z"]), rtol=0.05, atol=0.05)

    refined = q.refine(x, steps=1000, particles=64)
    mean, covariance = (t.detach() for t in model.posterior(x))
    code = refined.encode(x)["z"]
    torch.testing.assert_close(code.mean, mean, rtol=0, atol=0.01)
    best = (1 / covariance.inverse().diagonal()).expand(N, Z)
    torch.testing.assert_close(code.variance, best, rtol=0.1, atol=0)
    after = refined.log_evidence(x, particles=5000)
    left = gap(model, x, dist.Normal(mean, best.sqrt()))
    assert (left < 1e-12).all() == diagonal
    torch.testing.assert_close(evidence - after.elbo, left, rtol=0, atol=0.01)
    torch.testing.assert_close(after.value, evidence, rtol=0, atol=0.01)
    assert (after.elbo > before.elbo).all()


def test_a_refined_posterior_answers_the_other_questions():
    model, x = Linear(), torch.randn(N, D)
    refined = pd.Posterior(model, Off(off)).refine(x, steps=200, lr=0.05)
    code = refined.encode(x)["z"]
    torch.testing.assert_close(refined.reconstruct(x), refined.decode(x, z=code.mean).mean)
    assert refined.decode(z=code.mean).mean.shape == (N, D)
    assert refined.sample(3).shape == (3, D)
    assert refined.traverse("z", 0, [0.0, 1.0], x).shape == (N, 2, D)
    torch.testing.assert_close(refined.swap("z", (x,), (x,)).mean, refined.reconstruct(x))
    # Parts of the data, and draws of them, find their own Gaussians.
    for rows in (1, 3, 1000):
        evidence = refined.log_evidence(x, particles=50, rows=rows)
        torch.testing.assert_close(evidence.value, model.evidence(x), rtol=0, atol=0.4)
    again = refined.refine(x, steps=100).encode(x)["z"]
    torch.testing.assert_close(again.mean, code.mean, rtol=0, atol=0.1)


def test_draws_of_a_refined_posterior_for_arviz():
    pytest.importorskip("arviz")
    model, x = Linear(), torch.randn(N, D)
    refined = pd.Posterior(model, Off(off)).refine(x, steps=20)
    code = refined.encode(x)["z"]
    z = torch.from_numpy(refined.to_arviz(x, draws=400, rows=32)["posterior"]["z"].to_numpy()[0]).double()
    torch.testing.assert_close(z.mean(0), code.mean, rtol=0, atol=0.15)
    torch.testing.assert_close(z.std(0), code.stddev, rtol=0.2, atol=0)


def test_many_data_are_refined_in_parts(monkeypatch):
    model, x = Linear(), torch.randn(N, D)
    monkeypatch.setattr("ppl_disent.refine.ROWS", 16)
    code = pd.Posterior(model, Off(off)).refine(x, steps=300, lr=0.05).encode(x)["z"]
    torch.testing.assert_close(code.mean, model.posterior(x)[0].detach(), rtol=0, atol=0.05)


def test_other_data_are_refused():
    model, x = Linear(), torch.randn(N, D)
    refined = pd.Posterior(model, Off(off)).refine(x, steps=1)
    refined.encode(x.clone())
    for other in (x[:3], x.flip(0), torch.cat([x, x])):
        with pytest.raises(pd.ArgumentError, match=f"batch: got '{len(other)} data', expected the 5 data"):
            refined.encode(other)
    with pytest.raises(pd.ArgumentError, match="expected the 5 data"):
        refined.swap("z", (x,), (x[:1],))


@pytest.mark.parametrize("case", CASES, ids=str)
def test_every_method_is_refined_and_left_as_it_was(case: Case):
    method, batch = case.method(), case.batch(4)
    q = pd.Posterior(method.model, method.guide)
    for p in method.model.parameters():
        p.grad = torch.ones_like(p)
    next(iter(method.model.parameters())).requires_grad_(False)
    before = copy.deepcopy((method.model, method.guide))
    state, store = torch.get_rng_state(), dict(pyro.get_param_store().items())
    refined = q.refine(*batch, steps=3, lr=1e-4)
    assert torch.equal(state, torch.get_rng_state())
    assert dict(pyro.get_param_store().items()) == store
    for now, then in zip((method.model, method.guide), before):
        assert now.training
        for (name, a), (_, b) in zip(now.state_dict().items(), then.state_dict().items(), strict=True):
            assert torch.equal(a, b), name
        for a, b in zip(now.parameters(), then.parameters(), strict=True):
            assert a.requires_grad == b.requires_grad
    assert all((p.grad == 1).all() for p in method.model.parameters())
    codes, own = q.encode(*batch), refined.encode(*batch)
    assert set(codes) == set(own)
    for site in codes:
        torch.testing.assert_close(own[site].mean, codes[site].mean, rtol=0, atol=4e-4)
        assert not torch.equal(own[site].mean, codes[site].mean)
    again = q.refine(*batch, steps=3, lr=1e-4).encode(*batch)
    assert all(torch.equal(again[site].mean, own[site].mean) for site in own)


def test_a_gap_of_a_network_is_closed():
    torch.manual_seed(0)
    method = pd.vae((6,), latent_dim=2, likelihood="gaussian", sigma=0.3, network="mlp")
    x = torch.randn(20, 6)
    q = method.fit(x, steps=30, progress=False, device="cpu").posterior
    refined = q.refine(x, steps=200)
    assert (refined.log_evidence(x, particles=500).elbo > q.log_evidence(x, particles=500).elbo - 0.05).all()


def nuts(q, *datum, **options):
    found = q.nuts(*datum, **({"draws": 250, "warmup": 150} | options))
    return found, {name: torch.from_numpy(v.to_numpy()).double() for name, v in found["posterior"].data_vars.items()}


def test_nuts_finds_the_exact_posterior():
    pytest.importorskip("arviz")
    model, x = Linear(), torch.randn(1, D)
    model.W.grad = torch.ones_like(model.W)
    q = pd.Posterior(model, Off(off))
    pyro.param("mine", torch.ones(2))
    state = torch.get_rng_state()
    found, drawn = nuts(q, x)
    assert torch.equal(state, torch.get_rng_state())
    assert set(pyro.get_param_store()) == {"mine"}
    assert (model.W.grad == 1).all()
    assert model.W.requires_grad
    assert model.training

    z = drawn["z"]
    assert z.shape == (2, 250, 1, Z)
    assert found["posterior"]["z"].dims == ("chain", "draw", "datum", "z_dim")
    mean, covariance = (t.detach() for t in model.posterior(x))
    flat = z.flatten(0, 2)
    torch.testing.assert_close(flat.mean(0), mean[0], rtol=0, atol=0.08)
    torch.testing.assert_close(flat.T.cov(), covariance, rtol=0, atol=0.04)
    assert (z[0] != z[1]).all()

    # log p(x, z) = log p(x) + log p(z | x) at every draw.
    exact = model.evidence(x) + MultivariateNormal(mean[0], covariance).log_prob(z)
    lp = torch.from_numpy(found["sample_stats"]["lp"].to_numpy())
    torch.testing.assert_close(lp, exact, rtol=1e-4, atol=1e-4)
    assert not found["sample_stats"]["diverging"].to_numpy().any()
    assert found["sample_stats"]["diverging"].shape == (2, 250)
    assert "log_q" not in found["sample_stats"]
    assert found["posterior_predictive"]["x"].shape == (2, 250, 1, D)
    assert found["observed_data"]["x"].shape == (1, D)


def test_nuts_is_given_conditions_and_a_seed():
    pytest.importorskip("arviz")
    method = pd.csvae((3,), labels=2, latent_dim=2, likelihood="gaussian")
    x, y = torch.randn(1, 3), torch.tensor([[1.0, 0.0]])
    q = pd.Posterior(method.model, method.guide)
    few = {"draws": 4, "warmup": 3}
    (found, a), (_, b), (_, c) = (nuts(q, x, y, **few, seed=seed) for seed in (1, 1, 2))
    assert set(a) == set(q.encode(x, y))
    assert all(torch.equal(a[site], b[site]) for site in a)
    assert not any(torch.equal(a[site], c[site]) for site in a)
    assert found["constant_data"]["y"].to_numpy().tolist() == y.tolist()


class Shared(nn.Module):
    def forward(self, x):
        m = pyro.sample("m", dist.Normal(torch.zeros(()), 1.0))
        with pyro.plate("data", len(x)):
            pyro.sample("x", dist.Normal(m.expand(len(x)), 1.0), obs=x)


class SharedGuide(nn.Module):
    def forward(self, x):
        pyro.sample("m", dist.Normal(torch.zeros(()), 1.0))


def test_what_cannot_be_refined_is_refused():
    model, x = Linear(), torch.randn(N, D)
    for fn, message in (
        (lambda n: dist.Delta(torch.zeros(n, Z)).to_event(1), "'z': a point mass"),
        (lambda n: dist.Laplace(torch.zeros(n, Z), 1.0).to_event(1), "'z': got Laplace"),
        (lambda n: dist.LogNormal(torch.zeros(n, Z), 1.0).to_event(1), "'z': got LogNormal"),
    ):
        with pytest.raises(pd.SiteError, match=message):
            pd.Posterior(model, Off(fn)).refine(x, steps=1)
    with pytest.raises(pd.SiteError, match="'z': got MultivariateNormal"):
        pd.Posterior(model, Guide(model)).refine(x, steps=1)
    with pytest.raises(pd.SiteError, match="'m': got batch shape"):
        pd.Posterior(Shared(), SharedGuide()).refine(x[:, 0], steps=1)
    guide = AutoNormal(model)
    guide(x)
    with pytest.raises(pd.SiteError, match="'z': a point mass"):
        pd.Posterior(model, guide).refine(x, steps=1)
    q = pd.Posterior(model, Off(off))
    for bad in ({"steps": 0}, {"particles": 1.5}, {"lr": -1.0}, {"seed": -1}):
        with pytest.raises(pd.ArgumentError, match=f"{next(iter(bad))}: got"):
            q.refine(x, **({"steps": 1} | bad))
    with pytest.raises(pd.ArgumentError, match="batch: got 'nothing'"):
        q.refine()
    with pytest.raises(pd.NonFiniteError, match="loc of 'z' became nan at step 3"):
        q.refine(x / 0, steps=3)


def test_what_nuts_does_not_take_is_refused():
    model, x = Linear(), torch.randn(N, D)
    q = pd.Posterior(model, Off(off))
    with pytest.raises(pd.ArgumentError, match="datum: got '5 data', expected a batch of one"):
        q.nuts(x)
    with pytest.raises(pd.SiteError, match="'m': got batch shape"):
        pd.Posterior(Shared(), SharedGuide()).nuts(x[:1, 0])
    for bad in ({"draws": 0}, {"warmup": 0}, {"chains": True}, {"seed": 0.5}):
        with pytest.raises(pd.ArgumentError, match=f"{next(iter(bad))}: got"):
            q.nuts(x[:1], **bad)
