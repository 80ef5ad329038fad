# Copyright ppl-disent contributors.
# SPDX-License-Identifier: Apache-2.0
"""Questions to a posterior, on a model with two levels and on bad input; the rest is in test_contract.py."""

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import nn

import ppl_disent as pd


class Model(nn.Module):
    """p(z) p(w | z) p(x | z, w)."""

    def __init__(self):
        super().__init__()
        self.decoder, self.prior = pd.MLP(4, (1, 4, 4)), nn.Linear(2, 2)

    def forward(self, x):
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(x.new_zeros(2), 1.0).to_event(1))
            w = pyro.sample("w", dist.Normal(self.prior(z), 0.5).to_event(1))
            pyro.deterministic("sum", z + w)
            logits = self.decoder(torch.cat([z, w], -1))
            pyro.sample("x", dist.Bernoulli(logits=logits, validate_args=False).to_event(3), obs=x)


class Guide(nn.Module):
    """q(z | x) q(w | x, z)."""

    def __init__(self):
        super().__init__()
        self.z, self.w = pd.MLP(16, 4), pd.MLP(18, 4)

    def forward(self, x):
        with pyro.plate("data", len(x)):
            mean, log_variance = self.z(x).chunk(2, -1)
            z = pyro.sample("z", dist.Normal(mean, (log_variance / 2).exp()).to_event(1))
            mean, log_variance = self.w(x, z).chunk(2, -1)
            pyro.sample("w", dist.Normal(mean, (log_variance / 2).exp()).to_event(1))


@pytest.fixture
def fitted():
    x = torch.rand(12, 1, 4, 4)
    run = pd.fit(Model(), Guide(), pd.TermELBO(), x, steps=5, progress=False, device="cpu", log_every=5)
    assert list(run.history.columns) == ["loss", "kl.z", "kl.w", "log_lik.x", "kl_scale.z", "kl_scale.w"]
    return run.posterior, x


def test_a_site_that_depends_on_another_is_encoded_at_its_mean(fitted):
    q, x = fitted
    codes = q.encode(x)
    mean = q.guide.z(x).chunk(2, -1)[0]
    torch.testing.assert_close(codes["z"].mean, mean)
    torch.testing.assert_close(codes["w"].mean, q.guide.w(x, mean).chunk(2, -1)[0])
    logits = q.model.decoder(torch.cat([codes["z"].mean, codes["w"].mean], -1))
    torch.testing.assert_close(q.reconstruct(x), logits.sigmoid())


def test_sites_not_given_are_drawn_from_the_prior_given_those_that_are(fitted):
    q, _ = fitted
    z = torch.tensor([[3.0, -3.0]]).repeat(4000, 1)
    with torch.no_grad():
        w = q.model.prior(z[0]) + 0.5 * torch.randn(200_000, 2)
        expected = q.model.decoder(torch.cat([z[:1].expand(len(w), 2), w], -1)).sigmoid().mean(0)
    torch.testing.assert_close(q.decode(z=z).mean.mean(0), expected, atol=0.02, rtol=0)


def test_traverse_without_data_starts_from_the_prior_mean(fitted):
    q, _ = fitted
    strip = q.traverse("z", 1, [0.0, 2.0])
    with torch.no_grad():
        w = q.model.prior(torch.zeros(1, 2))
        expected = q.model.decoder(torch.cat([torch.tensor([[0.0, 2.0]]), w], -1)).sigmoid()
    assert strip.shape == (1, 2, 1, 4, 4)
    torch.testing.assert_close(strip[0, 1:], expected)


def test_samples_are_means_or_draws(fitted):
    q, _ = fitted
    assert set(q.sample(50, noise=True).unique().tolist()) == {0.0, 1.0}
    assert 0 < q.sample(50).unique().median() < 1


def test_eval_mode_and_no_gradient_only_while_asked(fitted):
    q, x = fitted
    q.model.train(), q.guide.eval(), q.guide.w.train()
    seen = []
    q.model.decoder.register_forward_hook(lambda module, *_: seen.append((module.training, torch.is_grad_enabled())))
    q.reconstruct(x)
    assert seen == [(False, False)]
    assert (q.model.training, q.guide.training, q.guide.w.training) == (True, False, True)
    assert torch.is_grad_enabled()


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (lambda q, x: q.decode(), "batch, sites: got 'nothing'"),
        (lambda q, x: q.decode(z=torch.zeros(3, 2), w=torch.zeros(2, 2)), r"got \[2, 3\], expected .* of one length"),
        (lambda q, x: q.decode(v=torch.zeros(3, 2)), r"no site \['v'\] in the model"),
        (lambda q, x: q.decode(z=1.0), "z: got 1.0, expected a tensor"),
        (lambda q, x: q.encode(x.numpy()), r"batch\[0\]: got array"),
        (lambda q, x: q.encode(), "batch: got 'nothing'"),
        (lambda q, x: q.sample(0), "n: got 0"),
        (lambda q, x: q.traverse("v", 0, [0.0], x), "no latent site 'v'"),
        (lambda q, x: q.traverse("z", 2, [0.0], x), "dim: got 2"),
        (lambda q, x: q.traverse("z", 0, [], x), "values: got"),
        (lambda q, x: q.reconstruct(x[:, :, :3]), "expected 16 values"),
        (lambda q, x: pd.Posterior(q.model, q.guide).sample(3), r"Posterior\(model, guide, shapes=...\)"),
    ],
)
def test_bad_questions(fitted, ask, message):
    with pytest.raises(ValueError, match=message):
        ask(*fitted)


class Computes(Model):
    """x looks at what the model has computed from its latents."""

    def forward(self, x):
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(x.new_zeros(2), 1.0).to_event(1))
            w = pyro.sample("w", dist.Normal(self.prior(z), 0.5).to_event(1))
            both = pyro.deterministic("both", torch.cat([z, w], -1))
            logits = self.decoder(both)
            pyro.sample("x", dist.Bernoulli(logits=logits, validate_args=False).to_event(3), obs=x)


def test_what_a_model_computes_is_not_drawn_anew_in_samples():
    """Pyro's ``uncondition`` takes it for observed, and gives it the sizes of the plate twice."""
    q = pd.Posterior(Computes(), Guide(), shapes=[((1, 4, 4), torch.get_default_dtype())])
    assert q.sample(5).shape == (5, 1, 4, 4)
    z = torch.randn(5, 2)
    assert q.decode(z=z).mean.shape == (5, 1, 4, 4)
    assert q.calibrate(n=100, draws=19).draws == 19
