# Copyright ppl-disent contributors.
# SPDX-License-Identifier: Apache-2.0
"""Ranks are uniform for the exact guide; other guides are found wrong, by how much, and in the right words."""

import dataclasses
import math

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import nn

import ppl_disent as pd
from ppl_disent import plots
from ppl_disent.calibration import FIT, band, extreme, p_values, simulated
from tests.linear import SIGMA, D, Guide, Linear, Z

SHAPES = [((D,), torch.float64)]


def calibrated(scale=1.0, shift=0.0, **options):
    model = Linear()
    q = pd.Posterior(model, Guide(model, scale, shift), shapes=SHAPES)
    return q.calibrate(**options), model.posterior(torch.zeros(1, D))[1].diagonal().sqrt().detach()


def cdf(x):
    return 0.5 * (1 + math.erf(x / math.sqrt(2)))


def test_the_exact_guide_is_calibrated():
    found, _ = calibrated()
    assert found.ok, found.problems
    assert set(found.ranks) == {"z[0]", "z[1]", FIT}
    assert all(len(rank) == 1000 and rank.min() >= 0 and rank.max() <= 199 for rank in found.ranks.values())
    for name in ("z[0]", "z[1]"):
        row = found.table.loc[name]
        assert row["bias"] == pytest.approx(0, abs=4 / math.sqrt(1000))
        assert row["spread"] == pytest.approx(1, abs=4 / math.sqrt(2000))
    for level in (0.5, 0.8, 0.9, 0.95):
        error = math.sqrt(level * (1 - level) / 1000)
        np.testing.assert_allclose(found.table[f"{100 * level:.3g} %"], level, atol=4 * error)


@pytest.mark.parametrize(("scale", "words"), [(0.5, "too narrow (U-shaped"), (2.0, "too wide (hump-shaped")])
def test_a_guide_of_the_wrong_width(scale, words):
    found, _ = calibrated(scale=scale)
    for name in ("z[0]", "z[1]"):
        row = found.table.loc[name]
        assert row["spread"] == pytest.approx(1 / scale, rel=0.12)
        assert any(p.startswith(name) and words in p and "slanted" not in p for p in found.problems)
        for level, quantile in ((0.5, 0.67449), (0.9, 1.64485)):  # of the standard normal, both tails
            expected = 2 * cdf(scale * quantile) - 1
            error = math.sqrt(expected * (1 - expected) / 1000)
            assert row[f"{100 * level:.3g} %"] == pytest.approx(expected, abs=4 * error + 0.01)
        ends = np.isin(found.ranks[name], [*range(20), *range(180, 200)]).mean()
        assert (ends > 0.4) if scale < 1 else (ends < 0.1)


@pytest.mark.parametrize("shift", [0.2, -0.2])
def test_a_guide_on_one_side(shift):
    found, sd = calibrated(shift=shift)
    for i, side in enumerate(["above" if shift > 0 else "below"] * 2):
        assert found.table.loc[f"z[{i}]", "bias"] == pytest.approx(-shift / sd[i].item(), rel=0.1)
        said = next(p for p in found.problems if p.startswith(f"z[{i}]"))
        assert f"{side} the truth (slanted ranks)" in said
        assert "too" not in said


class Prior(nn.Module):
    """A guide that does not look."""

    def __init__(self):
        super().__init__()
        self.none = nn.Parameter(torch.zeros(()))

    def forward(self, x):
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(torch.zeros(len(x), Z), 1.0).to_event(1))


def test_a_guide_that_ignores_x_is_found_by_its_fit_alone():
    found = pd.Posterior(Linear(), Prior(), shapes=SHAPES).calibrate(n=500)
    assert (found.table.drop(FIT)["p_value"] > 0.01).all()
    assert found.problems == ("the guide's draws explain x worse than its true latents do: guide and posterior differ",)


def test_a_point_mass_is_said():
    class Point(Prior):
        def forward(self, x):
            mean = Linear().posterior(x)[0]
            with pyro.plate("data", len(x)):
                pyro.sample("z", dist.Delta(mean).to_event(1))

    found = pd.Posterior(Linear(), Point(), shapes=SHAPES).calibrate(n=200, draws=19)
    assert sum("it is a point mass" in p for p in found.problems) == 2
    assert "point mass" in str(found)


def test_ties_are_broken_evenly():
    """A latent of the model with two values only, known exactly: all draws are ties."""

    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.none = nn.Parameter(torch.zeros(()))

        def forward(self, x):
            with pyro.plate("data", len(x)):
                z = pyro.sample("z", dist.Bernoulli(torch.full((len(x),), 0.5)))
                pyro.sample("x", dist.Normal(10 * z[:, None], 1.0).to_event(1), obs=x)

    class Same(Two):
        def forward(self, x):
            with pyro.plate("data", len(x)):
                pyro.sample("z", dist.Bernoulli((x[:, 0] > 5).double()))

    found = pd.Posterior(Two(), Same(), shapes=[((1,), torch.float64)]).calibrate(n=500)
    assert found.ok, found.problems


def test_conditions_are_given():
    method = pd.cvae((6,), labels=2, latent_dim=2, likelihood="gaussian", prior="conditional")
    q = pd.Posterior(method.model, method.guide, shapes=[((6,), torch.float64), ((2,), torch.float64)])
    y = torch.randint(2, (100, 2)).double()
    found = q.calibrate(y, n=100, draws=19)
    assert list(found.table.index) == [FIT, "z[0]", "z[1]"]
    for conditions in ((), (y[:50],)):
        with pytest.raises(pd.ArgumentError, match="conditions"):
            q.calibrate(*conditions, n=100)


def test_p_values_are_uniform_if_ranks_are():
    n, draws = 200, 39
    counts = np.random.default_rng(1).multinomial(n, np.full(draws + 1, 1 / (draws + 1)), 2000)
    p = p_values(counts, simulated(n, draws, seed=0))
    for level in (0.01, 0.1, 0.5):
        assert (p <= level).mean() == pytest.approx(level, abs=5 * math.sqrt(level * (1 - level) / 2000))


def test_the_statistic_by_hand():
    """Two ranks from 0 to 1, both 0: one cumulative count, 2 of 2 at chance 1/2, whose two-sided p-value is 1/2."""
    np.testing.assert_allclose(extreme(np.array([[2, 0], [1, 1]])), [0.5, 1.0])


def test_a_problem_is_where_the_band_is_left():
    n, draws = 300, 49
    rng = np.random.default_rng(2)
    null = simulated(n, draws, seed=0)
    level = float(np.quantile(null, 0.05))
    low, high = band(n, draws, level)
    counts = rng.multinomial(n, rng.dirichlet(np.full(draws + 1, 40.0), 400)[0], 400)
    share = counts.cumsum(1) / n
    inside = ((share >= low) & (share <= high))[:, :-1].all(1)
    assert 0.02 < inside.mean() < 0.98
    assert (inside == (extreme(counts) >= level)).mean() > 0.99


def test_seeds_and_parts():
    lengths = []

    class Counting(Guide):
        def forward(self, x):
            lengths.append(len(x))
            super().forward(x)

    model = Linear()
    q = pd.Posterior(model, Counting(model), shapes=SHAPES)
    torch.manual_seed(5)
    first = q.calibrate(n=100, draws=19, rows=200, seed=2)
    after = torch.rand(1)
    torch.manual_seed(5)
    assert torch.equal(torch.rand(1), after)
    assert max(lengths) == 190
    assert str(q.calibrate(n=100, draws=19, rows=200, seed=2)) == str(first)
    assert str(q.calibrate(n=100, draws=19, rows=200, seed=3)) != str(first)


def test_bad_input_is_named():
    model = Linear()
    for options in ({"n": 99}, {"draws": 18}, {"rows": 0}, {"seed": 0.5}):
        with pytest.raises(pd.ArgumentError, match=next(iter(options))):
            calibrated(**options)
    with pytest.raises(pd.ArgumentError, match="shapes"):
        pd.Posterior(model, Guide(model)).calibrate()

    class Double(Linear):
        def forward(self, x):
            super().forward(x)
            with pyro.plate("again", len(x)):
                pyro.sample("x2", dist.Normal(torch.zeros(len(x)), 1.0), obs=x[:, 0])

    class Nothing(Prior):
        def forward(self, x):
            pass

    with pytest.raises(pd.SiteError, match=r"observed are \['x', 'x2'\]"):
        pd.Posterior(Double(), Guide(model), shapes=SHAPES).calibrate(n=100)
    with pytest.raises(pd.SiteError, match="missing in the guide"):
        pd.Posterior(model, Nothing(), shapes=SHAPES).calibrate(n=100)


def test_it_prints_and_draws_itself(tmp_path):
    found, _ = calibrated(scale=0.5, n=200, draws=50)
    assert all(words in repr(found) for words in ("3 problems found", "p_value", "spread", *found.problems))
    figure = plots.calibration(found, shown=2)
    figure.savefig(tmp_path / "found.png")
    titles = [panel.get_title() for panel in figure.axes]
    first = found.table.sort_values("p_value", kind="stable").index[0]
    assert titles[0].startswith(first)
    assert titles[-1] == "coverage"
    assert "U-shaped" in figure.get_suptitle()
    heights = figure.axes[0].patches[0].get_data().values
    groups = [len(group) / 51 for group in np.array_split(np.arange(51), 20)]
    assert float((heights * groups).sum()) == pytest.approx(1)


def test_no_frame_is_empty():
    found, _ = calibrated(n=100, draws=19)
    names, rank = [f"q{i}" for i in range(5)], next(iter(found.ranks.values()))
    table = found.table.iloc[[0] * 5].set_axis(names)
    five = dataclasses.replace(found, ranks=dict.fromkeys(names, rank), table=table)
    assert sum(panel.get_visible() for panel in five.plot().axes) == 5 + 2


def test_data_made_by_the_same_seed_are_not_correlated_with_the_draws():
    torch.manual_seed(4)
    model, z = Linear(), torch.randn(300, Z)
    x = z @ model.W.T.detach() + SIGMA * torch.randn(300, D)
    row = pd.Posterior(model, Guide(model)).diagnose(x, particles=25, seed=4).sites.loc["z"]
    assert row["mmd2"] < row["mmd2_null"]
