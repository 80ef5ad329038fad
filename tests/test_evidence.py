# Copyright ppl-disent contributors.
# SPDX-License-Identifier: Apache-2.0
"""The log evidence against closed forms, and a warning where it is not to be believed."""

import math

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import nn

import ppl_disent as pd
from ppl_disent.evidence import pareto_khat
from tests.linear import D, Guide, Linear, Z

N = 7


def found(scale=1.0, shift=0.0, particles=2000, **options):
    torch.manual_seed(1)
    model, x = Linear(), torch.randn(N, D)
    return pd.Posterior(model, Guide(model, scale, shift)).log_evidence(x, particles=particles, **options), model, x


@pytest.mark.parametrize("particles", [1, 3, 100])
def test_the_exact_guide_needs_one_particle(particles):
    evidence, model, x = found(particles=particles)
    torch.testing.assert_close(evidence.value, model.evidence(x), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(evidence.elbo, evidence.value, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(evidence.ess, torch.full((N,), float(particles)))


def test_a_wide_guide_finds_the_evidence_within_its_error():
    evidence, model, x = found(scale=1.3)
    assert ((evidence.value - model.evidence(x)).abs() < 4 * evidence.error).all()
    assert (evidence.error < 0.03).all()
    assert (evidence.khat < 0.5).all()
    # KL(N(m, 1.69 C) || N(m, C)) in two dimensions, by hand.
    gap = 0.5 * (2 * 1.69 - 2 - 2 * math.log(1.69))
    torch.testing.assert_close((model.evidence(x) - evidence.elbo).mean().item(), gap, rtol=0.1, atol=0.0)


def test_a_narrow_or_shifted_guide_is_flagged():
    """A normal guide s times too narrow has weights with a Pareto tail of shape 1 - s^2."""
    narrow, _, _ = found(scale=0.4)
    assert narrow.khat.mean().item() == pytest.approx(1 - 0.4**2, abs=0.15)
    for options in ({"scale": 0.3}, {"shift": 3.0}):
        evidence, _, _ = found(**options)
        assert (evidence.khat > 0.7).double().mean() > 0.8
        assert "k-hat above 0.7 for" in repr(evidence)


def test_parts_are_put_together_again():
    """More rows than data, fewer, and particles that do not divide: the same law, all particles."""
    for rows in (1, 3, 10, 1000):
        evidence, model, x = found(scale=1.2, particles=301, rows=rows)
        assert ((evidence.value - model.evidence(x)).abs() < 5 * evidence.error).all()
        assert (evidence.ess <= 301).all()


def test_khat_is_arvizs():
    """Where tails of both versions are of one length: older ones round it up, as the paper, newer ones down."""
    az = pytest.importorskip("arviz")
    if hasattr(az, "psislw"):
        theirs = az.psislw
    else:
        array_stats = pytest.importorskip("arviz_stats.base").array_stats

        def theirs(log_w):
            return array_stats.psislw(-log_w)  # it takes log likelihoods

    rng = np.random.default_rng(0)
    for particles in (40, 200, 400, 2500):
        log_w = rng.standard_t(3, size=(6, particles)) * np.array([0.1, 0.5, 1, 2, 4, 8])[:, None]
        np.testing.assert_allclose(pareto_khat(log_w), theirs(log_w)[1], rtol=1e-10)


def test_khat_of_pareto_weights_is_their_shape():
    u = np.random.default_rng(0).random((4, 100_000))
    for k in (0.3, 0.7):
        np.testing.assert_allclose(pareto_khat(-k * np.log(u)), k, atol=0.1)


def test_khat_of_a_narrow_normal_guide_is_one_less_its_variance():
    """N(0, s^2) against N(0, 1): P(w > t) is t^(-1 / (1 - s^2)) up to a logarithm, which is a tail of shape 1 - s^2."""
    z = np.random.default_rng(0).standard_normal((20, 50_000))
    for s in (0.3, 0.6, 0.9):
        found = pareto_khat(np.log(s) + 0.5 * z**2 * (1 - s**2))
        assert found.mean() == pytest.approx(1 - s**2, abs=0.1)


def test_weights_of_one_value_or_too_few_have_no_tail():
    assert pareto_khat(np.zeros((1, 100))) == -np.inf
    assert pareto_khat(1e-14 * np.random.default_rng(0).random((1, 100))) == -np.inf
    assert pareto_khat(np.arange(20.0)[None]) == np.inf
    assert pareto_khat(np.full((1, 100), -np.inf)) == np.inf


def test_conditions_are_given():
    method = pd.csvae((D,), labels=2, latent_dim=2, likelihood="gaussian")
    x, y = torch.randn(5, D), torch.ones(5, 2)
    q = pd.Posterior(method.model, method.guide)
    evidence = q.log_evidence(x, y, particles=50)
    # Two of log p(x | y) for other labels are other numbers.
    assert not torch.allclose(evidence.value, q.log_evidence(x, 1 - y, particles=50).value)
    step = pd.TermELBO(num_particles=300).evaluate(method.model, method.guide, x, y)
    elbo = step.log_lik["x"] - sum(step.kl.values())
    many = q.log_evidence(x, y, particles=3000)
    torch.testing.assert_close(many.elbo.mean(), elbo.detach(), rtol=0.05, atol=0.0)


def test_st_rkm_has_an_evidence_after_training():
    torch.manual_seed(0)
    x = torch.randn(200, D) @ torch.randn(D, D)
    made = pd.st_rkm((D,), latent_dim=2, feature_dim=3, noise=0.3, lr=1e-2)
    run = made.fit(x, steps=100, progress=False, device="cpu")
    evidence = run.posterior.log_evidence(x[:20], particles=500)
    assert evidence.value.isfinite().all()
    assert (evidence.value >= evidence.elbo).all()


def test_what_has_no_evidence_is_refused():
    class Point(nn.Module):
        def forward(self, x):
            with pyro.plate("data", len(x)):
                pyro.sample("z", dist.Delta(torch.zeros(len(x), Z)).to_event(1))

    class Shared(nn.Module):
        def forward(self, x):
            m = pyro.sample("m", dist.Normal(torch.zeros(()), 1.0))
            with pyro.plate("data", len(x)):
                pyro.sample("x", dist.Normal(m.expand(len(x)), 1.0), obs=x)

    class SharedGuide(nn.Module):
        def forward(self, x):
            pyro.sample("m", dist.Normal(torch.zeros(()), 1.0))

    with pytest.raises(pd.SiteError, match="'z': a point mass"):
        pd.Posterior(Linear(), Point()).log_evidence(torch.randn(3, D))
    with pytest.raises(pd.SiteError, match="'m': got a log density of shape"):
        pd.Posterior(Shared(), SharedGuide()).log_evidence(torch.randn(3))
    for bad in ({"particles": 0}, {"rows": 0}, {"particles": 2.5}):
        with pytest.raises(pd.ArgumentError, match=next(iter(bad))):
            found(**({"particles": 5} | bad))
