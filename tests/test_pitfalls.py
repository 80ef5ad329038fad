# Copyright ppl-disent contributors.
# SPDX-License-Identifier: Apache-2.0
"""What users of Pyro do that once went wrong without a word."""

import types

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer.autoguide import AutoNormal
from pyro.nn import PyroModule, PyroParam
from torch import nn

import ppl_disent as pd

QUIET = {"progress": False, "device": "cpu"}
X = torch.rand(60, 1, 4, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def vae(**options):
    torch.manual_seed(0)
    return pd.vae((1, 4, 4), latent_dim=2, network="mlp", lr=1e-2, **options)


def weights(*modules):
    return [p.detach().clone() for module in modules for p in module.parameters()]


def near(a, b):
    return all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


class Mean(nn.Module):
    """m ~ N(0, 10), x_i ~ N(m, 1)."""

    def forward(self, x):
        m = pyro.sample("m", dist.Normal(torch.zeros(()), 10.0))
        with pyro.plate("data", len(x)):
            return pyro.sample("x", dist.Normal(m.expand(len(x)), 1.0), obs=x)


def mean_run(center, **options):
    model = Mean()
    guide = AutoNormal(model)
    x = center + torch.randn(50)
    return pd.fit(model, guide, pd.TermELBO(), (x,), steps=100, optim=pd.adam(0.1), **QUIET, **options), x


def test_questions_to_one_autoguide_leave_another_as_it_was():
    (a, x), (b, _) = mean_run(3.0), mean_run(-3.0)
    before = weights(a.guide), weights(b.guide)
    assert not near(*before)
    store = dict(pyro.get_param_store().items())
    assert a.posterior.encode(x)["m"].mean > 1
    assert b.posterior.encode(x)["m"].mean < -1
    assert near(weights(a.guide), before[0])
    assert near(weights(b.guide), before[1])
    assert dict(pyro.get_param_store().items()) == store


def test_an_autoguide_is_asked_for_its_sites_not_its_auxiliaries():
    run, x = mean_run(3.0)
    q = run.posterior
    assert list(q.encode(x)) == ["m"]
    torch.testing.assert_close(q.reconstruct(x), q.encode(x)["m"].mean.expand(50))


def test_a_run_with_an_autoguide_is_opened_again(tmp_path):
    run, x = mean_run(3.0, checkpoint=tmp_path / "c.pt")
    model = Mean()
    again = pd.Run.load(
        tmp_path / "c.pt", types.SimpleNamespace(model=model, guide=AutoNormal(model), elbo=pd.TermELBO())
    )
    assert near(weights(again.guide), weights(run.guide))
    torch.testing.assert_close(again.posterior.reconstruct(x), run.posterior.reconstruct(x))


def test_parameters_of_one_name_are_not_tied():
    class Model(PyroModule):
        def __init__(self):
            super().__init__()
            self.a = PyroParam(torch.zeros(()))

        def forward(self, x):
            with pyro.plate("data", len(x)):
                z = pyro.sample("z", dist.Normal(self.a, 1.0).expand([len(x)]))
                return pyro.sample("x", dist.Normal(z, 1.0), obs=x)

    class Guide(Model):
        def forward(self, x):
            with pyro.plate("data", len(x)):
                pyro.sample("z", dist.Normal(self.a, 1.0).expand([len(x)]))

    with pytest.raises(pd.ArgumentError, match="a parameter of each under the name 'a'"):
        pd.fit(Model(), Guide(), pd.TermELBO(), (torch.randn(20),), steps=2, **QUIET)
    pair = Model(), Guide()
    for module, name in zip(pair, ("model", "guide")):
        module._pyro_name = name
    pd.fit(*pair, pd.TermELBO(), (torch.randn(20),), steps=5, **QUIET)
    assert pair[0].a is not pair[1].a


@pytest.mark.parametrize("late", [False, True])
def test_parameters_without_a_gradient_do_not_hinder_resuming(tmp_path, late):
    def build():
        method = vae()
        method.model.spare = nn.Linear(3, 3)
        if late:  # a branch that joins after the first stop
            decoder, count = method.model.decoder, [0]
            spare = method.model.spare

            class Late(nn.Module):
                def forward(self, z):
                    count[0] += 1
                    return decoder(z) + (spare.weight.sum() if count[0] > 6 else 0.0)

            method.model.decoder = Late()
            method.model.inner = decoder
        return method

    made = build()
    options = {"batch_size": 20, "checkpoint": tmp_path / "c.pt"} | QUIET
    pd.fit(made.model, made.guide, made.elbo, X, steps=4, **options)
    other = build()
    run = pd.fit(other.model, other.guide, other.elbo, X, steps=12, resume=True, **options)
    assert run.step == 12


def test_resuming_with_the_same_pyro_optimizer_restores_its_state(tmp_path):
    def fit(method, optim, steps, **options):
        return pd.fit(
            method.model, method.guide, method.elbo, X, steps=steps, optim=optim, batch_size=20, **QUIET, **options
        )

    whole = vae()
    fit(whole, pyro.optim.Adam({"lr": 1e-2}), 20)
    parts, optim = vae(), pyro.optim.Adam({"lr": 1e-2})
    fit(parts, optim, 10, checkpoint=tmp_path / "c.pt")
    fit(parts, optim, 14)  # what a notebook went on to do
    fit(parts, optim, 20, checkpoint=tmp_path / "c.pt", resume=True)
    assert near(weights(parts.model, parts.guide), weights(whole.model, whole.guide))


def test_an_optimizer_of_an_earlier_pair_forgets_it(tmp_path):
    optim, path = pd.adam(1e-3), tmp_path / "c.pt"
    for options in ({}, {"checkpoint": path}):
        method = vae()
        pd.fit(method.model, method.guide, method.elbo, X, steps=4, optim=optim, **QUIET, **options)
    method = vae()
    run = pd.fit(
        method.model, method.guide, method.elbo, X, steps=8, optim=pd.adam(1e-3), checkpoint=path, resume=True, **QUIET
    )
    assert run.step == 8


def test_resuming_with_another_weight_is_refused(tmp_path):
    for weight, resume in ((4.0, False), (8.0, True)):
        method = vae()
        elbo = pd.TermELBO(kl_scale={"z": weight})
        options = {"steps": 4, "checkpoint": tmp_path / "c.pt", "resume": resume} | QUIET
        if resume:
            with pytest.raises(pd.CheckpointError, match=r"kl_scale.z was 4.0 and is now 8.0"):
                pd.fit(method.model, method.guide, elbo, X, **options)
        else:
            pd.fit(method.model, method.guide, elbo, X, **options)


def test_weights_that_callbacks_wrote_stay_in_their_run():
    elbo, method = pd.TermELBO(), vae()
    pd.fit(method.model, method.guide, elbo, X, steps=3, callbacks=[pd.IncrementalPI("z", target=3.0)], **QUIET)
    assert elbo.kl_scale["z"] > 10
    run, _ = mean_run(1.0)
    pd.fit(run.model, run.guide, elbo, (torch.randn(20),), steps=3, **QUIET)
    assert {site: float(v) for site, v in elbo.kl_scale.items()}["m"] == 1.0


def test_gradients_of_something_else_are_not_stepped():
    runs = []
    for stale in (False, True):
        method = vae()
        if stale:
            method.elbo(method.model, method.guide)(X).backward()
        method.fit(X, steps=1, **QUIET)
        runs.append(weights(method.model, method.guide))
    assert near(*runs)


def test_a_data_set_may_give_bare_tensors():
    class Data:
        def __len__(self):
            return len(X)

        def batch(self, index):
            return X[index]

    runs = []
    for data in (X, Data()):
        method = vae()
        run = method.fit(data, steps=3, batch_size=10, **QUIET)
        runs.append(weights(method.model, method.guide))
        assert run.shapes == (((1, 4, 4), torch.float64),)
    assert near(*runs)


def test_data_with_a_graph_are_data():
    w = torch.ones((), requires_grad=True)
    method, plain = vae(), vae()
    method.fit(X * w, steps=3, **QUIET)
    plain.fit(X, steps=3, **QUIET)
    assert w.grad is None
    assert near(weights(method.model), weights(plain.model))


@pytest.mark.parametrize("shape", [(60, 4, 4), (60, 16)])
def test_images_without_their_channel_are_refused(shape):
    with pytest.raises(pd.DataError, match=r"x: got shape .*, expected \(60, 1, 4, 4\)"):
        vae().fit(X.reshape(shape), steps=2, **QUIET)


def test_a_run_keeps_its_precision(tmp_path):
    method = vae()
    method.fit(X, steps=2, checkpoint=tmp_path / "c.pt", **QUIET)
    torch.set_default_dtype(torch.float32)
    run = pd.Run.load(tmp_path / "c.pt")
    assert {p.dtype for p in run.model.parameters()} == {torch.float64}
    assert near(weights(run.model), weights(method.model))
    assert run.posterior.sample(2).dtype == torch.float64


def test_two_callbacks_for_one_weight_are_refused():
    method = pd.dynamic_vae((1, 4, 4), latent_dim=2, network="mlp", target_kl=2.0)
    with pytest.raises(pd.ArgumentError, match="one that writes the weight of 'z'"):
        method.fit(X, steps=2, callbacks=[pd.LinearAnnealing("z", steps=10)], **QUIET)


def test_numpy_integers_are_coordinates_and_truth_values_are_not():
    q = vae().fit(X, steps=2, **QUIET).posterior
    values = torch.tensor([0.0, 1.0])
    torch.testing.assert_close(q.traverse("z", np.int64(1), values, X[:2]), q.traverse("z", 1, values, X[:2]))
    with pytest.raises(pd.ArgumentError, match="dim: got False"):
        q.traverse("z", False, values, X[:2])


def test_conditions_that_the_model_does_not_take_are_refused():
    q = vae().fit(X, steps=2, **QUIET).posterior
    with pytest.raises(pd.ArgumentError, match=r"conditions: got \[\(5, 2\)\], expected 0 tensors"):
        q.sample(3, torch.zeros(5, 2))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"callbacks": pd.LinearAnnealing("z", steps=10)}, "callbacks: got 'LinearAnnealing', expected a list"),
        ({"seed": None}, "seed: got None"),
        ({"seed": 2**64}, "seed: got"),
    ],
)
def test_arguments_of_the_wrong_kind(options, message):
    method = vae()
    with pytest.raises(pd.ArgumentError, match=message):
        pd.fit(method.model, method.guide, method.elbo, X, steps=2, **(QUIET | options))


def test_a_long_history_is_not_held_before_it_is_there():
    assert vae().fit(X, steps=2, log_every=10**10, **QUIET).step == 2


def test_terms_and_records_may_be_plain_numbers_or_are_refused():
    class Recorder:
        def record(self):
            return {"answer": 42.0}

    assert vae().fit(X, steps=2, callbacks=[Recorder()], **QUIET).history["answer"].iloc[-1] == 42.0
    method = vae()
    method.elbo.terms["zero"] = (1.0, lambda step: 0.0)
    with pytest.raises(pd.ArgumentError, match=r"extra.zero: got 0.0, expected a 0-dim tensor"):
        method.fit(X, steps=2, **QUIET)
    with pytest.raises(pd.ArgumentError, match=r"terms\['t'\]: got '1'"):
        pd.TermELBO(terms={"t": ("1", lambda step: step.kl["z"])})


def test_numpys_numbers_are_numbers(tmp_path):
    """A sweep over np.linspace: what it leaves can be read, and resumed."""
    path, beta = tmp_path / "c.pt", np.linspace(1.0, 8.0, 3)[1]
    for steps in (3, 6):
        torch.manual_seed(0)
        method = pd.beta_vae((1, 4, 4), beta=beta, latent_dim=2, network="mlp")
        control = pd.LinearAnnealing("z", steps=np.int64(10), stop=np.float64(3.0))
        options = {"optim": pyro.optim.Adam({"lr": np.float64(1e-3)}), "callbacks": [control], "resume": steps > 3}
        method.fit(X, steps=steps, checkpoint=path, **options, **QUIET)
    run = pd.Run.load(path)
    assert (run.step, run.recipe["arguments"]["beta"]) == (6, 4.5)
    assert type(run.recipe["arguments"]["beta"]) is float


def test_a_builder_that_calls_another_has_not_its_recipe():
    @pd.builder
    def mine(shape, *, network_of_mine):
        return pd.vae(shape)

    assert mine((3,), network_of_mine=nn.Identity()).recipe is None
    assert mine((3,), network_of_mine=2).recipe["builder"] == "mine"


def test_one_outlier_does_not_hide_a_leak():
    rng = np.random.default_rng(0)
    y = rng.integers(0, 2, 4000)
    z = np.stack([4 * y + rng.normal(size=4000), rng.normal(size=4000)], 1)
    clean = float(pd.latent_leakage(z, y))
    z[0, 0] = 1e5
    assert float(pd.latent_leakage(z, y)) == pytest.approx(clean, abs=0.02)


def test_programs_without_a_plate_are_refused():
    class Model(nn.Module):
        def forward(self, x):
            z = pyro.sample("z", dist.Normal(torch.zeros_like(x), 1.0).to_event(2))
            return pyro.sample("x", dist.Normal(z, 1.0).to_event(2), obs=x)

    class Guide(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = nn.Linear(2, 2)

        def forward(self, x):
            pyro.sample("z", dist.Normal(self.net(x), 1.0).to_event(2))

    with pytest.raises(pd.SiteError, match="no observed site is in a plate"):
        pd.fit(Model(), Guide(), pd.TermELBO(), torch.randn(20, 2), steps=2, **QUIET)


def test_an_autoguides_kl_is_one_number_a_site():
    """Of a scale with a log-normal q against its gamma prior: log q - log p in the constrained space."""

    class Model(nn.Module):
        def forward(self, x):
            s = pyro.sample("s", dist.Gamma(torch.tensor(2.0), torch.tensor(1.0)))
            with pyro.plate("data", len(x)):
                pyro.sample("x", dist.Normal(torch.zeros(len(x)), s), obs=x)

    model, x = Model(), torch.randn(20)
    guide = AutoNormal(model)
    run = pd.fit(model, guide, pd.TermELBO(kl_scale={"s": 0.5}), (x,), steps=5, **QUIET)
    assert {c for c in run.history if c.startswith("kl.")} == {"kl.s"}
    torch.manual_seed(0)
    step = run.elbo.measure(model, guide, x)
    s, q = step["s"], dist.LogNormal(guide.locs.s, guide.scales.s)
    expected = (q.log_prob(s) - dist.Gamma(2.0, 1.0).log_prob(s)) / 20
    torch.testing.assert_close(step.kl["s"], expected)


def test_conditions_may_stand_without_x():
    torch.manual_seed(0)
    method = pd.cvae((6,), labels=2, latent_dim=3, likelihood="gaussian")
    x, y = torch.randn(20, 6), torch.ones(20, 2)
    q = method.fit((x, y), steps=2, **QUIET).posterior
    z = torch.randn(4, 3)
    torch.testing.assert_close(q.decode(y[:4], z=z).mean, q.decode(x[:4], y[:4], z=z).mean)
    for bad in (lambda: q.sample(4, y[:3]), lambda: q.sample(4), lambda: q.decode(z=z)):
        with pytest.raises(pd.ArgumentError, match=r"(conditions|batch): got"):
            bad()


def test_counts_must_be_counts():
    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.rate = nn.Parameter(torch.zeros(()))

        def forward(self, x):
            with pyro.plate("data", len(x)):
                z = pyro.sample("z", dist.Normal(torch.zeros(len(x)), 1.0))
                pyro.sample("x", dist.Poisson((self.rate + z).exp()), obs=x)

    class Guide(nn.Module):
        def __init__(self):
            super().__init__()
            self.loc = nn.Parameter(torch.zeros(()))

        def forward(self, x):
            with pyro.plate("data", len(x)):
                pyro.sample("z", dist.Normal(self.loc.expand(len(x)), 1.0))

    with pytest.raises(pd.DataError, match=r"x: got values from -1 to 3, expected values in IntegerGreaterThan"):
        pd.fit(Model(), Guide(), pd.TermELBO(), (torch.tensor([-1.0, 3.0]),), steps=2, **QUIET)


def test_labels_that_a_model_does_not_look_at_are_no_conditions():
    method = vae()
    q = method.fit((X, torch.ones(60, 2)), steps=2, **QUIET).posterior
    assert q.sample(3).shape == (3, 1, 4, 4)
    z = torch.randn(5, 2)
    torch.testing.assert_close(q.decode(z=z).mean, q.decode(X[:5], torch.ones(5, 2), z=z).mean)
