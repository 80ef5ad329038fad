# Copyright ppl-disent contributors.
# SPDX-License-Identifier: Apache-2.0
"""What ArviZ is given, against closed forms and against the posterior's own answers; for every method."""

import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
import xarray as xr
from pyro.infer.autoguide import AutoDelta, AutoDiagonalNormal, AutoNormal
from torch import nn

import ppl_disent as pd
from tests.cases import CASES, Case
from tests.linear import SIGMA, D, Guide, Linear, Z

az = pytest.importorskip("arviz")

ROOT = Path(__file__).parent.parent
GROUPS = {"posterior", "prior", "posterior_predictive", "prior_predictive", "log_likelihood", "sample_stats"}
QUIET = {"progress": False, "device": "cpu", "log_every": 5}


def groups(found) -> set[str]:
    return set(found.children if isinstance(found, xr.DataTree) else found.groups())


def dataset(found, group: str) -> xr.Dataset:
    return found[group].to_dataset() if isinstance(found, xr.DataTree) else found[group]


def tensor(array) -> torch.Tensor:
    """One chain's values, double precision."""
    return torch.from_numpy(array.to_numpy()[0]).double()


def linear(n=7, scale=1.0, **options):
    model, x = Linear(), torch.randn(n, D)
    return pd.Posterior(model, Guide(model, scale)).to_arviz(x, **options), model, x


@pytest.mark.parametrize("case", CASES, ids=str)
def test_every_method(case: Case):
    method, batch = case.method(), case.batch(5)
    q, n = pd.Posterior(method.model, method.guide), 5
    state = torch.get_rng_state()
    found = q.to_arviz(*batch, draws=6, rows=8)
    assert torch.equal(state, torch.get_rng_state())
    assert method.model.training
    assert method.guide.training
    sites = q.encode(*batch)
    assert groups(found) == GROUPS | {"observed_data"} | ({"constant_data"} if case.fields else set())
    for group in ("posterior", "prior"):
        assert set(found[group]) == set(sites)
        for name, fn in sites.items():
            values = found[group][name]
            assert values.dims == ("chain", "draw", "datum", f"{name}_dim")
            assert values.shape == (1, 6, n, *fn.event_shape)
            assert values.dtype == np.float32
    own = ("channel", "row", "column") if len(case.shape) == 3 else ("x_dim",)
    for group in ("posterior_predictive", "prior_predictive"):
        assert found[group]["x"].dims == ("chain", "draw", "datum", *own)
        assert found[group]["x"].shape == (1, 6, n, *case.shape)
    np.testing.assert_array_equal(found["observed_data"]["x"], batch[0].numpy())
    for field in batch[1:]:
        (kept,) = dataset(found, "constant_data").data_vars.values()
        assert kept.dims == ("datum", "attribute")
        np.testing.assert_array_equal(kept, field.numpy())

    # Densities of each draw, from the distributions that other questions are answered with.
    stats, prior = found["sample_stats"], q.prior(*batch)
    for draw in range(6):
        z = {name: tensor(found["posterior"][name])[draw] for name in sites}
        near = {"rtol": 1e-4, "atol": 1e-3}  # z was rounded to float32
        log_lik = q.decode(*batch, **z).log_prob(batch[0]).detach()
        torch.testing.assert_close(tensor(found["log_likelihood"]["x"])[draw], log_lik, **near)
        torch.testing.assert_close(tensor(stats["log_lik"])[draw], log_lik, **near)
        for name, fns in (("log_prior", prior), ("log_q", sites)):
            expected = sum(fns[site].log_prob(z[site]) for site in sites).detach()
            torch.testing.assert_close(tensor(stats[name])[draw], expected, **near)
    lp = tensor(stats["log_lik"]) + tensor(stats["log_prior"])
    torch.testing.assert_close(tensor(stats["lp"]), lp)
    torch.testing.assert_close(tensor(stats["log_weight"]), lp - tensor(stats["log_q"]))


def test_closed_forms_of_the_linear_model():
    found, model, x = linear(3, draws=20_000)
    mean, covariance = model.posterior(x)
    w = model.W.detach()
    for group, centre, spread in (
        ("posterior", mean, covariance),
        ("posterior_predictive", mean @ w.T, w @ covariance @ w.T + SIGMA**2 * torch.eye(D)),
        ("prior", torch.zeros(3, Z), torch.eye(Z)),
        ("prior_predictive", torch.zeros(3, D), w @ w.T + SIGMA**2 * torch.eye(D)),
    ):
        drawn = tensor(next(iter(dataset(found, group).data_vars.values())))
        for i in range(3):
            torch.testing.assert_close(drawn[:, i].mean(0), centre[i].detach(), rtol=0, atol=0.05)
            torch.testing.assert_close(drawn[:, i].T.cov(), spread.detach(), rtol=0, atol=0.08)


def test_weights_of_the_exact_posterior_are_the_evidence():
    found, model, x = linear(draws=9)
    weight = tensor(found["sample_stats"]["log_weight"])
    torch.testing.assert_close(weight, model.evidence(x).expand(9, -1), rtol=1e-12, atol=1e-12)
    z = tensor(found["posterior"]["z"])
    log_lik = dist.Normal(z @ model.W.T, SIGMA).log_prob(x).sum(-1).detach()
    torch.testing.assert_close(tensor(found["log_likelihood"]["x"]), log_lik, rtol=1e-4, atol=1e-4)


def test_weights_of_a_wide_guide_average_to_the_evidence():
    found, model, x = linear(scale=1.3, draws=4000)
    weight = tensor(found["sample_stats"]["log_weight"])
    found_evidence = weight.logsumexp(0) - torch.tensor(4000.0).log()
    torch.testing.assert_close(found_evidence, model.evidence(x), rtol=0, atol=0.08)


class Levels(nn.Module):
    """p(z) p(w | z) p(x | w), x almost w, and its sum with z; a second observed site, which x depends on."""

    def forward(self, x, y):
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(x.new_zeros(len(x)), 1.0))
            w = pyro.sample("w", dist.Normal(10 * z[:, None].expand(-1, 2), 0.1).to_event(1))
            pyro.deterministic("sum", z[:, None] + w)
            y = pyro.sample("y", dist.Normal(z, 1e-4), obs=y)
            pyro.sample("x", dist.Normal(w + 100 * y[:, None], 1e-4).to_event(1), obs=x)


class LevelsGuide(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = nn.Linear(2, 1)

    def forward(self, x, y):
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(self.net(x)[:, 0], 1.0))
            pyro.sample("w", dist.Normal(z[:, None].expand(-1, 2), 1.0).to_event(1))


@pytest.mark.parametrize("rows", [1, 4, 7, 30, 1000])
def test_draws_and_data_stay_together(rows):
    """However many are made at a time: latents, what is computed of them, and what is predicted from them."""
    x, y = torch.randn(7, 2), torch.randn(7)
    found = pd.Posterior(Levels(), LevelsGuide()).to_arviz(x, y, draws=5, predictive=3, rows=rows)
    for group in ("posterior", "prior"):
        z, w, total = (found[group][name].to_numpy()[0] for name in ("z", "w", "sum"))
        assert z.shape == (5, 7)
        np.testing.assert_allclose(total, z[..., None] + w, rtol=1e-5, atol=1e-5)
        predicted = {name: found[f"{group}_predictive"][name].to_numpy()[0] for name in ("x", "y")}
        assert predicted["x"].shape == (3, 7, 2)
        np.testing.assert_allclose(predicted["y"], z[:3], atol=1e-3)
        np.testing.assert_allclose(predicted["x"], w[:3] + 100 * z[:3, :, None], atol=0.1)
        assert np.unique(z).size == z.size
    np.testing.assert_allclose(found["prior"]["w"], 10 * found["prior"]["z"].to_numpy()[..., None] + 0 * w, atol=0.6)
    np.testing.assert_array_equal(found["observed_data"]["y"], y.numpy())
    assert "constant_data" not in groups(found)


class Mean(nn.Module):
    """m ~ N(0, 10), one for all data; x_i ~ N(m, 1)."""

    def forward(self, x):
        m = pyro.sample("m", dist.Normal(torch.zeros(()), 10.0))
        with pyro.plate("data", len(x)):
            pyro.sample("x", dist.Normal(m.expand(len(x)), 1.0), obs=x)


def test_a_latent_that_all_data_share():
    model, x = Mean(), 3 + torch.randn(20)
    run = pd.fit(model, AutoNormal(model), pd.TermELBO(), (x,), steps=300, optim=pd.adam(0.1), **QUIET, batch_size=20)
    found = run.to_arviz(x, draws=400, rows=3)
    m = found["posterior"]["m"]
    assert m.dims == ("chain", "draw")
    variance = 1 / (0.01 + 20)
    assert float(m.mean()) == pytest.approx(float(x.sum()) * variance, abs=0.1)
    assert float(m.std()) == pytest.approx(variance**0.5, rel=0.3)
    assert float(found["prior"]["m"].std()) == pytest.approx(10, rel=0.2)
    expected = dist.Normal(tensor(m)[:, None], 1.0).log_prob(x)
    torch.testing.assert_close(tensor(found["log_likelihood"]["x"]), expected, rtol=1e-4, atol=1e-4)
    assert set(found["sample_stats"]) == {"log_lik"}  # m has a density, but none for each datum
    assert np.corrcoef(found["posterior_predictive"]["x"].mean("datum")[0], m[0])[0, 1] > 0.6


@pytest.mark.parametrize(("auto", "has_density"), [(AutoNormal, True), (AutoDiagonalNormal, False), (AutoDelta, False)])
def test_autoguides_over_the_data(auto, has_density):
    model, x = Linear(), torch.randn(9, D)
    guide = auto(model)
    run = pd.fit(model, guide, pd.TermELBO(), (x,), steps=3, **QUIET, batch_size=9)
    found = run.to_arviz(x, draws=4, rows=2)
    assert found["posterior"]["z"].shape == (1, 4, 9, Z)
    assert set(found["posterior"]) == {"z"}
    assert ("log_q" in found["sample_stats"]) == has_density
    if has_density:
        q = dist.Normal(guide.locs.z, guide.scales.z).to_event(1)
        expected = q.log_prob(tensor(found["posterior"]["z"])).detach()
        torch.testing.assert_close(tensor(found["sample_stats"]["log_q"]), expected, rtol=1e-4, atol=1e-4)


@pytest.fixture
def run():
    method = pd.cvae((1, 4, 4), labels=2, latent_dim=3, network="mlp")
    batch = torch.rand(8, 1, 4, 4), torch.ones(8, 2)
    return method.fit(batch, steps=15, **QUIET), batch


def test_netcdf_there_and_back(run, tmp_path):
    run, batch = run
    factors = np.arange(24).reshape(8, 3)
    found = run.to_arviz(
        *batch,
        draws=6,
        constants={"factors": factors, "weight": torch.arange(8.0)},
        dims={"factors": ["factor"], "y": ["label"]},
        coords={"factor": ["shape", "size", "angle"], "label": ["smile", "hat"]},
    )
    found.to_netcdf(str(tmp_path / "found.nc"))
    again = az.from_netcdf(str(tmp_path / "found.nc"))
    assert groups(again) == groups(found) == GROUPS | {"observed_data", "constant_data", "training"}
    for group in groups(found):
        xr.testing.assert_identical(dataset(again, group).load(), dataset(found, group))
    constant = dataset(found, "constant_data")
    np.testing.assert_array_equal(constant["factors"].sel(factor="size"), factors[:, 1])
    assert constant["y"].dims == ("datum", "label")
    assert constant["weight"].dims == ("datum",)


def test_the_history_is_a_group(run):
    run, batch = run
    training = run.to_arviz(*batch, draws=2, groups=["posterior"])["training"]
    assert training["loss"].dims == ("step",)
    assert training["step"].to_numpy().tolist() == run.history.index.tolist() == [5, 10, 15]
    for name in run.history:
        np.testing.assert_array_equal(training[name], run.history[name])


def test_arviz_reads_it(run):
    run, batch = run
    found = run.to_arviz(*(t[:2] for t in batch), draws=50)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of few draws, one chain, and figures of its own
        table = az.summary(found, var_names=["z"])
        assert len(table) == 6
        drawn = dataset(found, "posterior")["z"].mean(("chain", "draw")).to_numpy().ravel()
        np.testing.assert_allclose(table["mean"].astype(float), drawn, atol=0.006)
        az.plot_forest(found, var_names=["z"])
        loo = az.loo(found, pointwise=True)
    assert getattr(loo, "loo_i", getattr(loo, "elpd_i", None)).dims == ("datum",)


def test_a_seed_is_a_seed():
    model, x = Linear(), torch.randn(7, D)
    q = pd.Posterior(model, Guide(model))
    a, b, c = (q.to_arviz(x, draws=3, seed=seed) for seed in (1, 1, 2))
    for group in groups(a):
        xr.testing.assert_identical(dataset(a, group), dataset(b, group))
    for group in GROUPS - {"sample_stats"}:
        assert not dataset(a, group).equals(dataset(c, group)), group


def test_predictions_take_the_memory_that_there_is():
    method = pd.vae((1, 8, 8), latent_dim=2, network="mlp")
    q, x = pd.Posterior(method.model, method.guide), torch.rand(5, 1, 8, 8)
    one = 2 * 5 * 64 * 4  # bytes of a draw of both predictive groups
    rest = 20 * 5 * (2 * 2 * 4 + 6 * 8) + 5 * 64 * 8
    for memory, predictive in ((rest + 3 * one, 3), (rest + 4 * one - 1, 3), (rest + one, 1), (rest + 100 * one, 20)):
        found = q.to_arviz(x, draws=20, memory=memory)
        assert found["posterior"].sizes["draw"] == 20
        assert found["posterior_predictive"].sizes["draw"] == predictive
        assert sum(dataset(found, g)[v].nbytes for g in groups(found) for v in dataset(found, g).data_vars) <= memory
    with pytest.raises(pd.ArgumentError, match=rf"memory: got {rest}, expected the {rest + one} bytes"):
        q.to_arviz(x, draws=20, memory=rest)
    with pytest.raises(pd.ArgumentError, match=r"memory: got .* fewer data, draws=, predictive= draws"):
        q.to_arviz(x, draws=20, predictive=20, memory=rest + 3 * one)
    assert groups(q.to_arviz(x, draws=20, groups=["posterior"], memory=800)) == {"posterior"}


@pytest.mark.slow
@pytest.mark.parametrize(("side", "draws"), [(8, 100), (64, 3)])
def test_ten_thousand_data_stay_below_two_gigabytes(side, draws):
    """As many images of 64 x 64 as are promised; their number of draws adds little to the peak, only time."""
    code = f"""
import resource, torch, ppl_disent as pd
method = pd.vae((1, {side}, {side}), latent_dim=10, network="mlp")
x = torch.rand(10_000, 1, {side}, {side})
found = pd.Posterior(method.model, method.guide).to_arviz(x, draws={draws})
assert found["posterior"]["z"].shape == (1, {draws}, 10_000, 10)
assert found["posterior_predictive"]["x"].shape[1] >= 1
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20)
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) < 2, f"{done.stdout} GiB"


def test_the_daily_warning_of_arviz_is_not_raised(tmp_path):
    code = """
import torch, ppl_disent as pd
method = pd.vae((6,), latent_dim=2)
pd.Posterior(method.model, method.guide).to_arviz(torch.rand(3, 6), draws=2)
"""
    command = [sys.executable, "-W", "error::FutureWarning", "-c", code]
    home = {"XDG_CACHE_HOME": str(tmp_path), "HOME": str(tmp_path)}
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=home)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (lambda q, x, y: q.to_arviz(), "batch: got 'nothing'"),
        (
            lambda q, x, y: pd.Posterior(Levels(), LevelsGuide()).to_arviz(y),
            r"batch: got '1 fields', expected what Levels takes: \(x, y\)",
        ),
        (lambda q, x, y: q.to_arviz(x[:, :, :3], y), r"batch\[0\]: got \(8, 1, 3, 4\), expected \(n, 1, 4, 4\)"),
        (lambda q, x, y: q.to_arviz(x, y[:3]), r"batch: got \[8, 3\], .* of one length"),
        (lambda q, x, y: q.to_arviz(x[:0], y[:0]), r"batch: got \[0, 0\]"),
        (lambda q, x, y: q.to_arviz(x.numpy(), y), r"batch\[0\]: got array"),
        (lambda q, x, y: q.to_arviz(x, y, draws=0), "draws: got 0"),
        (lambda q, x, y: q.to_arviz(x, y, draws=2.0), "draws: got 2.0"),
        (lambda q, x, y: q.to_arviz(x, y, rows=True), "rows: got True"),
        (lambda q, x, y: q.to_arviz(x, y, predictive=0), "predictive: got 0"),
        (lambda q, x, y: q.to_arviz(x, y, draws=5, predictive=6), "predictive: got 6, expected at most draws = 5"),
        (lambda q, x, y: q.to_arviz(x, y, seed=-1), "seed: got -1"),
        (lambda q, x, y: q.to_arviz(x, y, groups=["posteriors"]), r"groups: got \['posteriors'\], expected some of"),
        (lambda q, x, y: q.to_arviz(x, y, groups=[]), r"groups: got \[\]"),
        (lambda q, x, y: q.to_arviz(x, y, dims={"v": ["a"]}), r"dims: got \['v'\], expected some of"),
        (lambda q, x, y: q.to_arviz(x, y, dims={"z": ["a", "b"]}), r"dims\['z'\]: got \['a', 'b'\], expected 1 names"),
        (lambda q, x, y: q.to_arviz(x, y, constants={"f": y[:3]}), r"constants\['f'\]: got \(3, 2\), expected \(8"),
        (
            lambda q, x, y: q.to_arviz(x, y, constants={"f": y[:, :1]}, dims={"f": ["attribute"]}),
            "dims: got .*conflict",
        ),
        (lambda q, x, y: q.to_arviz(x, y, coords={"z_dim": [1]}), r"coords\['z_dim'\]: got \[1\]"),
        (lambda q, x, y: q.to_arviz(x, y, coords={"v": [1]}), r"coords\['v'\]: got \[1\]"),
    ],
)
def test_bad_questions(run, ask, message):
    run, batch = run
    with pytest.raises(pd.ArgumentError, match=message):
        ask(run.posterior, *batch)
