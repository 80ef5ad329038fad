# Copyright ppl-disent contributors.
# SPDX-License-Identifier: Apache-2.0
"""beta-TCVAE's three parts against sums written out, an exact total correlation, and what it refuses."""

import math

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from torch.utils.data import DataLoader

import ppl_disent as pd
from ppl_disent.methods.beta_tcvae import Decomposition

QUIET = {"progress": False, "device": "cpu"}


def step_at(loc, scale, z=None):
    def guide():
        return pyro.sample("z", dist.Normal(loc, scale).to_event(1))

    def model():
        return pyro.sample("z", dist.Normal(torch.zeros_like(loc), 1.0).to_event(1))

    guide_trace = poutine.trace(guide).get_trace()
    if z is not None:
        guide_trace.nodes["z"]["value"] = z
    model_trace = poutine.trace(poutine.replay(model, trace=guide_trace)).get_trace()
    return pd.Step(1, (loc,), {}, {}, guide_trace=guide_trace, model_trace=model_trace)


@pytest.mark.parametrize("estimator", ["mws", "mss"])
def test_parts_are_the_sums_of_the_paper(estimator):
    """Each density written as a loop over the batch, for N = 50 data and a batch of 4."""
    n, size, d = 4, 50, 2
    loc, scale, z = torch.randn(n, d), torch.rand(n, d) + 0.3, torch.randn(n, d)
    found = Decomposition(estimator=estimator, size=size).parts(step_at(loc, scale, z))

    def density(i, j, k):
        return math.exp(-0.5 * ((z[i, k] - loc[j, k]) / scale[j, k]) ** 2) / (scale[j, k] * math.sqrt(2 * math.pi))

    def weight(i, j):
        if estimator == "mws":
            return 1 / (n * size)
        return 1 / size if j == i else (size - n + 1) / (size * (n - 1)) if j == (i + 1) % n else 1 / (n - 1)

    mi = tc = dwkl = 0.0
    for i in range(n):
        joint = sum(weight(i, j) * density(i, j, 0) * density(i, j, 1) for j in range(n))
        product = math.prod(sum(weight(i, j) * density(i, j, k) for j in range(n)) for k in range(d))
        given = density(i, i, 0) * density(i, i, 1)
        prior = math.prod(math.exp(-0.5 * z[i, k] ** 2) / math.sqrt(2 * math.pi) for k in range(d))
        mi += math.log(given / joint) / n
        tc += math.log(joint / product) / n
        dwkl += math.log(product / prior) / n
    for name, expected in (("mi", mi), ("tc", tc), ("dwkl", dwkl)):
        assert found[name].item() == pytest.approx(expected, rel=1e-10)


def test_stratified_sampling_finds_the_known_parts():
    """z | x ~ N(x, s^2) and x ~ N(0, S) give q(z) = N(0, S + s^2 I)."""
    torch.manual_seed(0)
    n, s, root = 3000, 0.5, torch.tensor([[1.0, 0.0], [0.8, 0.6]])
    x = torch.randn(n, 2) @ root.T
    found = Decomposition(estimator="mss", size=n).parts(step_at(x, torch.full_like(x, s)))
    covariance = root @ root.T + s**2 * torch.eye(2)
    variances = covariance.diagonal()
    total_correlation = 0.5 * (variances.log().sum() - covariance.logdet())
    information = 0.5 * covariance.logdet() - 0.5 * 2 * math.log(s**2)
    dimension_wise = 0.5 * (variances - 1 - variances.log()).sum()
    assert found["tc"].item() == pytest.approx(total_correlation.item(), abs=0.05)
    assert found["mi"].item() == pytest.approx(information.item(), abs=0.08)
    assert found["dwkl"].item() == pytest.approx(dimension_wise.item(), abs=0.08)


@pytest.mark.parametrize("estimator", ["mws", "mss"])
def test_the_parts_sum_to_the_kl_of_the_draws(estimator):
    loc, scale = torch.randn(6, 3), torch.rand(6, 3) + 0.3
    step = step_at(loc, scale)
    parts = Decomposition(estimator=estimator, size=100).parts(step)
    z = step["z"]
    expected = (dist.Normal(loc, scale).log_prob(z) - dist.Normal(0.0, 1.0).log_prob(z)).sum(1).mean()
    torch.testing.assert_close(sum(parts.values()), expected)


def test_rows_of_the_weights_sum_to_one():
    from ppl_disent.methods.beta_tcvae import _stratified

    for n, size in ((2, 2), (4, 50), (7, 7), (1, 9)):
        torch.testing.assert_close(_stratified(n, size).sum(1), torch.ones(n))


def test_stratified_weights_are_those_of_appendix_c():
    """The own datum weighs 1 / N, one other (N - M) / (N M), the rest 1 / M each, M = n - 1.

    rtqichen/beta-tcvae, vae_quant.py, writes them into a flat view at steps of n rather than n + 1: the own datum's
    weight lands in column 0 of each row, the other one's in column 1, whichever datum the row is of.
    """
    from ppl_disent.methods.beta_tcvae import _stratified

    n, size = 4, 50
    m = n - 1
    weights = torch.full((n, n), 1 / m)
    for i in range(n):
        weights[i, i] = 1 / size
        weights[i, (i + 1) % n] = (size - m) / (size * m)
    torch.testing.assert_close(_stratified(n, size), weights)
    theirs = torch.full((n, n), 1 / m)
    theirs.view(-1)[:: m + 1] = 1 / size
    theirs.view(-1)[1 :: m + 1] = (size - m) / (size * m)
    theirs[m - 1, 0] = (size - m) / (size * m)
    assert (theirs[:, 0] == 1 / size).tolist() == [True, True, False, True]
    assert not torch.allclose(theirs.diagonal()[1:], weights.diagonal()[1:])


@pytest.mark.parametrize("estimator", ["mws", "mss"])
def test_gradients_are_those_of_finite_differences(estimator):
    loc, scale = torch.randn(4, 2, requires_grad=True), (torch.rand(4, 2) + 0.3).requires_grad_()
    noise, weights = torch.randn(4, 2), (0.3, 2.0, -0.7)

    def value(loc, scale):
        parts = Decomposition(estimator=estimator, size=50).parts(step_at(loc, scale, loc + scale * noise))
        return sum(w * parts[name] for w, name in zip(weights, ("mi", "tc", "dwkl")))

    assert torch.autograd.gradcheck(value, (loc, scale))


def test_the_loss_has_the_weights_of_the_paper():
    torch.manual_seed(0)
    x = torch.rand(8, 1, 4, 4)
    method = pd.beta_tcvae((1, 4, 4), alpha=2.0, beta=5.0, gamma=0.5, latent_dim=2, network="mlp", data_size=30)
    step = method.elbo.evaluate(method.model, method.guide, x)
    extra = step.extra
    expected = -step.log_lik["x"] + step.kl["z"] + extra["mi"] + 4 * extra["tc"] - 0.5 * extra["dwkl"]
    torch.testing.assert_close(step.loss, expected)


def test_the_number_of_data_is_that_of_the_data():
    x = torch.rand(30, 1, 4, 4)
    for data, expected in ((x, 30), ((x,), 30), (DataLoader(list(x), 10), 30), (pd.load("digits"), 1797)):
        method = pd.beta_tcvae((1, 8, 8) if expected == 1797 else (1, 4, 4), latent_dim=2, network="mlp")
        torch.set_default_dtype(torch.float64)
        if expected == 1797:
            method.model.float(), method.guide.float()
        method.fit(data, steps=1, batch_size=10, **QUIET)
        assert method.elbo.terms["tc"][1].whole.size == expected
    with pytest.raises(pd.ArgumentError, match="expected data that tell their number"):
        pd.beta_tcvae((1, 4, 4), latent_dim=2, network="mlp").fit([x, x], steps=1, **QUIET)
    pd.beta_tcvae((1, 4, 4), latent_dim=2, network="mlp", data_size=60).fit([x, x], steps=1, **QUIET)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"beta": math.inf}, "beta: got inf"),
        ({"alpha": math.nan}, "alpha: got nan"),
        ({"estimator": "exact"}, "estimator: got 'exact'"),
        ({"data_size": 0}, "data_size: got 0"),
    ],
)
def test_arguments_out_of_range(options, message):
    with pytest.raises(pd.ArgumentError, match=message):
        pd.beta_tcvae((1, 4, 4), **options)
