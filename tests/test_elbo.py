# Copyright ppl-disent contributors.
# SPDX-License-Identifier: Apache-2.0
"""TermELBO against closed forms, and against Pyro's own estimators."""

import math

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from pyro.infer import TraceMeanField_ELBO
from torch import nn

import ppl_disent as pd


class LinearModel(nn.Module):
    """z ~ N(0, I_2), x | z ~ N(W z + b, s^2 I_4)."""

    def __init__(self, s=0.7):
        super().__init__()
        generator = torch.Generator().manual_seed(3)
        self.W = nn.Parameter(torch.randn(4, 2, generator=generator))
        self.b = nn.Parameter(torch.randn(4, generator=generator))
        self.s = s

    def forward(self, x):
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.MultivariateNormal(torch.zeros(2), torch.eye(2)))
            pyro.sample("x", dist.Normal(z @ self.W.T + self.b, self.s).to_event(1), obs=x)


class ExactGuide(nn.Module):
    """The posterior of LinearModel."""

    def __init__(self, model, family=dist.MultivariateNormal):
        super().__init__()
        self.linear, self.family = model, family

    def forward(self, x):
        W, s = self.linear.W, self.linear.s
        precision = torch.eye(2) + W.T @ W / s**2
        mean = torch.linalg.solve(precision, W.T @ (x - self.linear.b).T / s**2).T
        with pyro.plate("data", len(x)):
            pyro.sample("z", self.family(mean, precision_matrix=precision))


class NoKL(dist.MultivariateNormal):
    """A distribution for which torch knows no analytic KL."""


@torch.distributions.register_kl(NoKL, dist.MultivariateNormal)
def _unknown(q, p):
    raise NotImplementedError


def evidence(model, x):
    covariance = model.W @ model.W.T + model.s**2 * torch.eye(4)
    return dist.MultivariateNormal(model.b, covariance).log_prob(x).mean()


def pair(n=6):
    model = LinearModel()
    return model, ExactGuide(model), torch.randn(n, 4)


def test_exact_guide_gives_the_log_evidence_whatever_is_drawn():
    """log p(x | z) + log p(z) - log q(z | x) is constant in z for the exact posterior."""

    model, _, x = pair()
    guide = ExactGuide(model, NoKL)
    for seed in range(20):
        torch.manual_seed(seed)
        step = pd.TermELBO().evaluate(model, guide, x)
        assert abs((step.loss + evidence(model, x)).item()) < 1e-12


def test_analytic_terms_average_to_the_log_evidence():
    model, guide, x = pair()
    elbo = pd.TermELBO(num_particles=4000)
    with torch.no_grad():
        step = elbo.evaluate(model, guide, x)
    assert (step.loss + evidence(model, x)).item() == pytest.approx(0, abs=0.05)
    # KL(q || p) in closed form, nats per datum
    precision = torch.eye(2) + model.W.T @ model.W / model.s**2
    mean = torch.linalg.solve(precision, model.W.T @ (x - model.b).T / model.s**2).T
    covariance = precision.inverse()
    kl = 0.5 * (covariance.trace() + mean.square().sum(1).mean() - 2 + precision.logdet())
    torch.testing.assert_close(step.kl["z"], kl, rtol=1e-12, atol=1e-12)


def vae():
    torch.manual_seed(1)
    return pd.vae((1, 4, 4), latent_dim=3, network="mlp")


def test_equal_to_trace_mean_field_elbo():
    method, x = vae(), torch.rand(9, 1, 4, 4)
    torch.manual_seed(2)
    ours = method.elbo.evaluate(method.model, method.guide, x).loss
    torch.manual_seed(2)
    theirs = TraceMeanField_ELBO().differentiable_loss(method.model, method.guide, x) / 9
    torch.testing.assert_close(ours, theirs, rtol=1e-14, atol=0)


def test_vae_terms_equal_plain_torch():
    method, x = vae(), torch.rand(9, 1, 4, 4)
    torch.manual_seed(2)
    step = method.elbo.evaluate(method.model, method.guide, x)
    torch.manual_seed(2)
    mean, log_variance = method.guide.networks["z"](x).chunk(2, 1)
    z = mean + (log_variance / 2).exp() * torch.randn(9, 3)
    torch.testing.assert_close(step["z"], z)
    reconstruction = nn.functional.binary_cross_entropy_with_logits(method.model.decoder(z), x, reduction="sum") / 9
    kl = -0.5 * (1 + log_variance - mean**2 - log_variance.exp()).sum() / 9
    torch.testing.assert_close(-step.log_lik["x"], reconstruction)
    torch.testing.assert_close(step.kl["z"], kl)


def test_50_steps_of_stock_svi_with_mean_field_elbo_scaled_by_one_over_the_batch():
    x = torch.rand(16, 1, 4, 4)
    ours, stock = vae(), vae()
    optim = {"lr": 1e-3}
    svi = pd.SVI(ours.model, ours.guide, pyro.optim.Adam(optim), ours.elbo)
    torch.manual_seed(0)
    for _ in range(50):
        svi.step(x)
    model, guide = pd.pyro_pair(stock.model, stock.guide)
    scaled = [poutine.scale(p, scale=1 / 16) for p in (model, guide)]
    svi = pyro.infer.SVI(*scaled, pyro.optim.Adam(optim), TraceMeanField_ELBO())
    torch.manual_seed(0)
    for _ in range(50):
        svi.step(x)
    for a, b in ((ours.model, stock.model), (ours.guide, stock.guide)):
        for p, q in zip(a.parameters(), b.parameters(), strict=True):
            torch.testing.assert_close(p, q, rtol=0, atol=1e-5)


def test_num_particles_averages():
    method, x = vae(), torch.rand(5, 1, 4, 4)
    torch.manual_seed(4)
    many = pd.TermELBO(num_particles=3).evaluate(method.model, method.guide, x)
    torch.manual_seed(4)
    single = [pd.TermELBO().evaluate(method.model, method.guide, x) for _ in range(3)]
    torch.testing.assert_close(many.loss, sum(s.loss for s in single) / 3)


@pytest.mark.parametrize("full", [6, 30])
def test_nats_per_datum_under_a_subsampling_plate(full):
    class Model(LinearModel):
        def forward(self, x):
            with pyro.plate("data", full, subsample_size=6):
                z = pyro.sample("z", dist.Normal(x.new_zeros(2), 1.0).to_event(1))
                pyro.sample("x", dist.Normal(z @ self.W.T + self.b, self.s).to_event(1), obs=x)

    class Guide(nn.Module):
        def __init__(self):
            super().__init__()
            self.mean = nn.Parameter(torch.zeros(2))

        def forward(self, x):
            with pyro.plate("data", full, subsample_size=6):
                pyro.sample("z", dist.Normal(self.mean + 0.1, 0.5).to_event(1))

    step = pd.TermELBO().evaluate(Model(), Guide(), torch.randn(6, 4))
    kl = 2 * (math.log(2) + 0.5 * (0.25 + 0.01) - 0.5)
    assert step.kl["z"].item() == pytest.approx(kl, rel=1e-12)


def test_masked_sites_and_matching_scales():
    class Half(LinearModel):
        def forward(self, x):
            with poutine.scale(scale=2.0), poutine.mask(mask=torch.arange(len(x)) < 3):
                super().forward(x)

    class Guide(ExactGuide):
        def forward(self, x):
            with poutine.scale(scale=2.0), poutine.mask(mask=torch.arange(len(x)) < 3):
                super().forward(x)

    model = Half()
    x = torch.randn(6, 4)
    with pyro.validation_enabled(True):
        step = pd.TermELBO().evaluate(model, Guide(model), x)
    plain = LinearModel()
    half = pd.TermELBO().evaluate(plain, ExactGuide(plain), x[:3])
    torch.testing.assert_close(step.kl["z"], half.kl["z"])  # 2 * 3 / 6 = 1


def test_step_lookup():
    model, _, x = pair()

    class Returning(ExactGuide):
        def forward(self, x):
            super().forward(x)
            return {"features": x * 2}

    step = pd.TermELBO().evaluate(model, Returning(model), x)
    assert step["z"].shape == (6, 2)
    assert torch.equal(step["x"], x)
    assert torch.equal(step["features"], x * 2)
    with pytest.raises(KeyError, match="no site 'nope'"):
        step["nope"]
    assert list(step.named()) == ["loss", "kl.z", "log_lik.x"]


def test_terms_weights_and_lik_scale():
    model, guide, x = pair()
    elbo = pd.TermELBO(
        kl_scale={"z": 3.0}, lik_scale={"x": 0.5}, terms={"norm": (2.0, lambda s: s["z"].square().mean())}
    )
    torch.manual_seed(0)
    step = elbo.evaluate(model, guide, x)
    expected = 3 * step.kl["z"] - 0.5 * step.log_lik["x"] + 2 * step["z"].square().mean()
    torch.testing.assert_close(step.loss, expected)


# ---------------------------------------------------------------- bad pairs


class Guide(nn.Module):
    def __init__(self, *sites, shape=2, scale=None, fn=None):
        super().__init__()
        self.loc, self.sites, self.shape, self.scale = nn.Parameter(torch.zeros(())), sites, shape, scale
        self.fn = fn or (lambda loc: dist.Normal(loc.expand(self.shape), 1.0).to_event(1))

    def forward(self, x):
        with pyro.plate("data", len(x)), poutine.scale(scale=self.scale or 1.0):
            for site in self.sites:
                pyro.sample(site, self.fn(self.loc))


@pytest.mark.parametrize(
    ("guide", "message"),
    [
        (lambda: Guide(), "latent 'z' of the model is missing in the guide"),
        (lambda: Guide("z", "s"), "site 's' of the guide is not in the model"),
        (lambda: Guide("z", "x"), "site 'x' of the guide is observed in the model"),
        (lambda: Guide("z", shape=3), r"site 'z' has shape \(6, 2\) in the model and \(6, 3\) in the guide"),
        (lambda: Guide("z", scale=4.0), "poutine.scale 1.0 in the model and 4.0 in the guide"),
        (lambda: Guide("z", fn=lambda loc: dist.Poisson(loc.exp().expand(2)).to_event(1)), "no reparametrised sample"),
    ],
)
def test_pairs_that_do_not_match(guide, message):
    with pyro.validation_enabled(True), pytest.raises(pd.SiteError, match=message):
        pd.TermELBO().evaluate(LinearModel(), guide(), torch.randn(6, 4))


def test_unknown_sites_in_scales():
    model, guide, x = pair()
    with pytest.raises(pd.SiteError, match=r"kl_scale: no latent site \['w'\]; the model has \['z'\]"):
        pd.TermELBO(kl_scale={"w": 1.0}).evaluate(model, guide, x)
    with pytest.raises(pd.SiteError, match=r"lik_scale: no observed site \['z'\]"):
        pd.TermELBO(lik_scale={"z": 1.0}).evaluate(model, guide, x)


@pytest.mark.parametrize("bad", ["1", None, float("nan"), {"z": "high"}, True])
def test_scales_must_be_numbers(bad):
    with pytest.raises(pd.ArgumentError, match="kl_scale"):
        pd.TermELBO(kl_scale=bad)


def test_two_plates_need_a_name():
    class Model(nn.Module):
        def __init__(self, name):
            super().__init__()
            self.p, self.name = nn.Parameter(torch.zeros(())), name

        def forward(self, x):
            with pyro.plate(self.name, 4, dim=-2), pyro.plate("pixels", 4, dim=-1):
                pyro.sample("x", dist.Normal(self.p, 1.0), obs=x)

    class Empty(nn.Module):
        def forward(self, x):
            return {}

    x = torch.randn(4, 4)
    step = pd.TermELBO().evaluate(Model("data"), Empty(), x)
    torch.testing.assert_close(step.log_lik["x"], dist.Normal(0.0, 1.0).log_prob(x).sum() / 4)
    with pytest.raises(pd.SiteError, match="Name it 'data'"):
        pd.TermELBO().evaluate(Model("rows"), Empty(), x)
