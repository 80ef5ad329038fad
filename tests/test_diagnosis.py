# Copyright ppl-disent contributors.
# SPDX-License-Identifier: Apache-2.0
"""Every figure of a diagnosis against its closed form; a good guide is found good, and a bad one in the right words."""

import math

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from matplotlib.figure import Figure
from torch import nn

import ppl_disent as pd
from ppl_disent import plots
from ppl_disent.divergence import coordinate_kl, joint_kl, mmd2, two_samples
from tests.linear import SIGMA, D, Guide, Linear, Z

N = 400


def made(n=N):
    """The linear model and data of its own."""
    torch.manual_seed(3)
    model = Linear()
    return model, torch.randn(n, Z) @ model.W.T.detach() + SIGMA * torch.randn(n, D)


def diagnosed(scale=1.0, shift=0.0, **options):
    model, x = made()
    return pd.Posterior(model, Guide(model, scale, shift)).diagnose(x, seed=1, **options), model, x


class Ignorant(nn.Module):
    """p(z) p(x | y) with correlated z or a z that knows y; the guide is the prior."""

    def __init__(self, correlation=0.0, told=0.0):
        super().__init__()
        self.covariance = torch.tensor([[1.0, correlation], [correlation, 1.0]])
        self.told, self.none = told, nn.Parameter(torch.zeros(()))

    def latent(self, y):
        mean = self.told * y[:, None].expand(-1, 2)
        pyro.sample("z", dist.MultivariateNormal(mean, self.covariance))


class IgnorantModel(Ignorant):
    def forward(self, x, y):
        with pyro.plate("data", len(x)):
            self.latent(y)
            pyro.sample("x", dist.Normal(self.none.expand(len(x)), 1.0), obs=x)


class IgnorantGuide(Ignorant):
    def forward(self, x, y):
        with pyro.plate("data", len(x)):
            self.latent(y)


def test_the_exact_guide_has_every_figure_of_the_closed_form():
    found, model, x = diagnosed()
    assert found.ok, found.problems
    mean, covariance = (t.detach() for t in model.posterior(x))
    torch.testing.assert_close(found.evidence.value, model.evidence(x), rtol=1e-10, atol=1e-10)
    assert found.evidence.gap.abs().max() < 1e-10
    assert (found.evidence.khat == -math.inf).all()
    variance = covariance.diagonal()
    kl = 0.5 * (variance + mean.square() - 1 - variance.log()).mean(0)
    order = kl.argsort(descending=True).tolist()
    assert list(found.coordinates.index) == [f"z[{i}]" for i in order]
    np.testing.assert_allclose(found.coordinates["kl"], kl[order].numpy(), rtol=1e-10)
    np.testing.assert_allclose(found.coordinates["activity"], mean.var(0)[order].numpy(), rtol=1e-10)
    # The law of total variance: what the posterior mean varies is what the posterior does not.
    np.testing.assert_allclose(found.coordinates["activity"], 1 - variance[order].numpy(), atol=0.2)
    joint = 0.5 * (variance.sum() + mean.square().sum(1) - Z - covariance.logdet()).mean()
    row = found.sites.loc["z"]
    assert row["kl"] == pytest.approx(float(joint), rel=1e-10)
    assert (row["coordinates"], row["active"]) == (2, 2)
    # The aggregate posterior is the prior: independent coordinates, no discrepancy.
    assert row["mmd2"] < row["mmd2_null"]
    assert row["p_value"] > 0.01
    assert row["total_correlation"] < 7 * row["tc_null"]
    assert row["tc_null"] == 2 / (4 * N)


def test_a_wide_guide_has_the_gap_and_the_effective_particles_of_the_closed_form():
    s, particles = 2.0, 2000
    found, _, _ = diagnosed(scale=s, particles=particles)
    evidence, share = found.evidence, (math.sqrt(2 * s**2 - 1) / s**2) ** Z
    assert float(evidence.gap.mean()) == pytest.approx(Z * (s**2 - 1 - 2 * math.log(s)) / 2, rel=0.02)
    assert float(evidence.ess.mean()) == pytest.approx(particles * share, rel=0.02)
    assert float(evidence.error.mean()) == pytest.approx(math.sqrt((1 / share - 1) / particles), rel=0.02)
    assert len(found.problems) == 1
    assert "the guide is wider than the posterior" in found.problems[0]


def test_a_slightly_wide_guide_is_good():
    assert diagnosed(scale=1.2)[0].ok


def test_a_narrow_guide_is_said_to_be_narrow():
    found, _, _ = diagnosed(scale=0.4)
    assert any("k-hat is above 0.67" in p and "narrower" in p for p in found.problems)
    assert any("10 % of the particles" in p for p in found.problems)
    assert not found.ok


def test_a_shifted_guide_has_the_gap_and_the_discrepancy_of_the_closed_form():
    shift = 0.4
    found, model, x = diagnosed(shift=shift)
    precision = model.posterior(x)[1].detach().inverse()
    assert float(-found.evidence.elbo.mean() + model.evidence(x).mean()) == pytest.approx(
        0.5 * shift**2 * float(precision.sum()), rel=0.05
    )
    # N(shift, I) against N(0, I), both in units of the standard deviation of their mixture.
    row, unit = found.sites.loc["z"], 1 + shift**2 / 4
    h2 = row["bandwidth"] ** 2
    spread = 2 / unit + h2
    expected = 2 * (h2 / spread) ** (Z / 2) * (1 - math.exp(-Z * shift**2 / unit / (2 * spread)))
    assert row["mmd2"] == pytest.approx(expected, abs=0.012)
    assert expected > 0.02
    assert any("'z' is not spread like its prior" in p for p in found.problems)


def test_a_guide_that_ignores_x_is_collapsed():
    r = 0.8
    found = pd.Posterior(IgnorantModel(r), IgnorantGuide(r)).diagnose(
        torch.randn(2000), torch.zeros(2000), particles=30
    )
    row = found.sites.loc["z"]
    assert row["kl"] == pytest.approx(0, abs=1e-12)
    assert row["active"] == 0
    assert row["total_correlation"] == pytest.approx(-0.5 * math.log(1 - r**2), rel=0.1)
    assert found.problems == ("'z' is collapsed: its posterior means are the same for all data",)


def test_what_a_condition_tells_is_not_activity():
    y = torch.randint(2, (100,)).double()
    pair = IgnorantModel(told=3.0), IgnorantGuide(told=3.0)
    found = pd.Posterior(*pair).diagnose(torch.randn(100), y, particles=30)
    assert found.sites.loc["z", "active"] == 0
    assert found.sites.loc["z", "p_value"] > 0.01  # the prior too is drawn given y


def test_point_masses_are_said_and_the_rest_is_diagnosed():
    class Point(nn.Module):
        def forward(self, x):
            with pyro.plate("data", len(x)):
                pyro.sample("z", dist.Delta(x[:, :Z]).to_event(1))

    model, x = made(50)
    found = pd.Posterior(model, Point()).diagnose(x)
    assert "'z' is a point mass" in found.problems[0]
    assert found.evidence is None
    assert found.coordinates["kl"].isna().all()
    np.testing.assert_allclose(sorted(found.coordinates["activity"]), sorted(x[:, :Z].var(0).numpy()))
    assert isinstance(found.plot(), Figure)
    assert "point mass" in str(found)


def test_figures_that_are_not_finite_are_a_problem():
    class Broken(Linear):
        def forward(self, x):
            with pyro.plate("data", len(x)):
                z = pyro.sample("z", dist.Normal(torch.zeros(len(x), Z), 1.0).to_event(1))
                pyro.sample("x", dist.Normal(z @ self.W.T + math.inf, SIGMA).to_event(1), obs=x)

    model, x = made(20)
    found = pd.Posterior(Broken(), Guide(model)).diagnose(x)
    assert "log p(x) is not finite for 20 data" in found.problems
    assert isinstance(plots.diagnosis(found), Figure)


def test_every_site_of_csvae_and_of_st_rkm():
    x, y = torch.randn(60, 6), torch.randint(2, (60, 2)).double()
    method = pd.csvae((6,), labels=2, latent_dim=3, w_dim=(1, 2), likelihood="gaussian")
    found = pd.Posterior(method.model, method.guide).diagnose(x, y, particles=50)
    assert found.sites["coordinates"].to_dict() == {"z": 3, "w_0": 1, "w_1": 2}
    assert set(found.coordinates.index) == {"z[0]", "z[1]", "z[2]", "w_0", "w_1[0]", "w_1[1]"}
    terms = method.elbo.evaluate(method.model, method.guide, x, y).kl
    np.testing.assert_allclose(found.sites["kl"], [terms[site].item() for site in found.sites.index])
    method = pd.st_rkm((6,), latent_dim=2, feature_dim=3)
    assert list(pd.Posterior(method.model, method.guide).diagnose(x, particles=50).sites.index) == ["h"]


def test_kl_of_every_kind_of_distribution():
    def normal(mean, sd):
        return dist.Normal(torch.tensor([mean]), torch.tensor([sd])).to_event(1)

    q, p = normal([0.3, -1.0], [0.5, 2.0]), normal([0.0, 0.0], [1.0, 1.5])
    by_hand = torch.tensor([[math.log(2) + (0.25 + 0.09) / 2 - 0.5, math.log(0.75) + 5 / 4.5 - 0.5]])
    torch.testing.assert_close(coordinate_kl("z", q, p), by_hand)
    torch.testing.assert_close(joint_kl(q, p, torch.zeros(1, 2)), by_hand.sum(1))
    # KL is the same after a map of the coordinates, here exp.
    logs = [dist.LogNormal(d.base_dist.loc, d.base_dist.scale).to_event(1) for d in (q, p)]
    torch.testing.assert_close(coordinate_kl("z", *logs), by_hand)
    # Of a correlated normal: the marginals' divergence and its total correlation.
    both = dist.MultivariateNormal(torch.tensor([[0.3, -1.0]]), torch.tensor([[0.25, 0.6], [0.6, 4.0]]))
    torch.testing.assert_close(coordinate_kl("z", both, p), by_hand)
    torch.testing.assert_close(joint_kl(both, p, torch.zeros(1, 2)), by_hand.sum(1) - 0.5 * math.log(1 - 0.36))
    cauchy = dist.Cauchy(torch.zeros(1, 2), 1.0).to_event(1)
    at = torch.tensor([[0.2, 1.0]])
    torch.testing.assert_close(joint_kl(q, cauchy, at), q.log_prob(at) - cauchy.log_prob(at))
    with pytest.raises(pd.SiteError, match="'z': got Normal and Cauchy"):
        coordinate_kl("z", q, cauchy)


@pytest.mark.parametrize("apart", [0.0, 0.7])
def test_mmd_is_unbiased(apart):
    """Against the closed form for N(0, I) and N(apart, 2.25 I), over many samples."""
    m, d, h, v = 20, 3, 1.5, 1.0 if apart == 0 else 2.25

    def mean_kernel(variance, distance2):
        return (h**2 / (h**2 + variance)) ** (d / 2) * math.exp(-0.5 * distance2 / (h**2 + variance))

    expected = mean_kernel(2.0, 0) + mean_kernel(2 * v, 0) - 2 * mean_kernel(1 + v, d * apart**2)
    found = torch.tensor([mmd2(torch.randn(m, d), apart + v**0.5 * torch.randn(m, d), h) for _ in range(1000)])
    assert abs(float(found.mean()) - expected) < 4 * float(found.std()) / math.sqrt(1000)


def test_mmd_test_is_right_about_one_law_and_about_two():
    p = [two_samples(torch.randn(30, 2), torch.randn(30, 2), seed=i, permutations=99).p_value for i in range(300)]
    for level in (0.1, 0.5):
        assert abs(np.mean(np.array(p) <= level) - level) < 4 * math.sqrt(level * (1 - level) / 300)
    # Correlation alone, and coordinates of different scale.
    z = torch.randn(500, 2)
    found = two_samples(
        torch.stack([z[:, 0], 1e-3 * (z[:, 0] + 0.5 * z[:, 1])], 1), z * torch.tensor([1, 1e-3]), seed=0
    )
    assert found.p_value == 1 / 500
    assert found.mmd2 > found.threshold


def test_the_limit_of_khat_grows_with_the_particles():
    for particles, limit in ((100, 0.5), (320, 0.6), (1000, 2 / 3), (2200, 0.7), (100_000, 0.7)):
        x = torch.zeros(1)
        assert pd.Evidence(x, x, x, x, x, particles).limit == pytest.approx(limit, abs=2e-3)


def test_rounding_in_float32_is_no_tail():
    model, x = made(100)
    q = pd.Posterior(model.float(), Guide(model))
    torch.set_default_dtype(torch.float32)
    found = q.diagnose(x.float())
    assert found.ok, found.problems


def test_seeds_and_parts():
    model, x = made(50)
    lengths = []

    class Counting(Guide):
        def forward(self, x):
            lengths.append(len(x))
            super().forward(x)

    q = pd.Posterior(model, Counting(model, 1.3))
    torch.manual_seed(5)
    first = q.diagnose(x, particles=60, rows=40, seed=2)
    after = torch.rand(1)
    torch.manual_seed(5)
    assert torch.equal(torch.rand(1), after)  # the generator was left as it was
    assert max(lengths) <= 40
    assert str(q.diagnose(x, particles=60, rows=40, seed=2)) == str(first)
    assert str(q.diagnose(x, particles=60, rows=40, seed=3)) != str(first)


def test_bad_input_is_named():
    model, x = made(5)
    q = pd.Posterior(model, Guide(model))
    for batch, options, name in (
        ((x,), {"particles": 24}, "particles: got 24, expected an integer of at least 25"),
        ((x,), {"rows": 0}, "rows"),
        ((x,), {"seed": -1}, "seed"),
        ((), {}, "batch: got 'nothing'"),
        ((x[:1],), {}, "batch: got '1 data', expected at least 2"),
        ((x, x[:2]), {}, "of one length"),
        (([1.0],), {}, r"batch\[0\]"),
    ):
        with pytest.raises(pd.ArgumentError, match=name):
            q.diagnose(*batch, **options)

    class Nothing(nn.Module):
        def forward(self, x):
            pass

    class Shared(nn.Module):
        def forward(self, x):
            pyro.sample("z", dist.Normal(torch.zeros(Z), 1.0).to_event(1))

    for guide, words in (
        (Nothing(), r"\['z'\] of the model are missing"),
        (Shared(), "'z': got a log density of shape"),
    ):
        with pytest.raises(pd.SiteError, match=words):
            pd.Posterior(model, guide).diagnose(x)
    with pytest.raises(pd.SiteError, match="missing in the guide"):
        pd.Posterior(model, Nothing()).log_evidence(x)


def test_it_prints_and_draws_itself(tmp_path):
    found, _, _ = diagnosed(scale=0.4)
    for words in ("3 problems found", "k-hat, good to 0.67", "log p(x), nats", "z[0]", "mmd2", *found.problems):
        assert words in repr(found)
    figure = plots.diagnosis(found)
    figure.savefig(tmp_path / "found.png")
    weights, gaps, kl, spread = figure.axes
    assert sum(len(c.get_offsets()) for c in weights.collections) == sum(len(c.get_offsets()) for c in gaps.collections)
    assert [t.get_text() for t in kl.get_xticklabels()] == list(found.coordinates.index)
    assert [bar.get_height() for bar in kl.patches] == found.coordinates["kl"].tolist()
    assert [bar.get_height() for bar in spread.patches] == found.sites["mmd2"].tolist()
    assert "k-hat is above" in figure.get_suptitle()
    assert (
        "1 of 2 active (grey: not), 1 shown"
        in plots.diagnosis(
            type(found)(N, found.evidence, found.sites, found.coordinates.assign(active=[True, False]), ()), shown=1
        )
        .axes[2]
        .get_title()
    )
