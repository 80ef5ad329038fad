# Copyright ppl-disent contributors.
# SPDX-License-Identifier: Apache-2.0
"""CVAE, CVAE-IF and CSVAE: objectives in closed form on a linear-Gaussian pair, editing, bad input."""

import math
import warnings

import pyro
import pytest
import torch
from torch.nn.functional import binary_cross_entropy_with_logits

import ppl_disent as pd
from guides import Gaussian
from ppl_disent.likelihood import Gaussian as GaussianLikelihood
from ppl_disent.methods import CSVAE, CVAE
from ppl_disent.methods.csvae import CSVAEGuide, Subspace
from ppl_disent.methods.cvae import LabelledGaussian

D, Z, SIGMA, N = 4, 2, 0.7, 10
KS = pytest.mark.parametrize("k", [1, 2])
DIMS = {1: [2], 2: [1, 3]}


def linear(inputs, outputs):
    return pd.MLP(inputs, outputs, hidden=())


def data(k, n=N):
    x = torch.randn(n, D)
    return x, torch.stack([torch.arange(n) // 2**i % 2 for i in range(k)], 1).double()


def csvae_pair(k, **options):
    dims = DIMS[k]
    model = CSVAE(linear(Z + sum(dims), D), Z, [Subspace(d) for d in dims], GaussianLikelihood(SIGMA))
    z_sees_y = options.get("z_sees_y", False)
    guide = CSVAEGuide(linear(D + k * z_sees_y, 2 * Z), linear(D + k, 2 * sum(dims)), dims, **options)
    return model, guide


def gaussian_kl(m, s, mean, scale):
    """KL of N(m, s^2) from N(mean, scale^2), summed over coordinates, by hand: (batch,)."""
    return (math.log(scale) - s.log() + (s**2 + (m - mean) ** 2) / (2 * scale**2) - 0.5).sum(1)


def expected_log_lik(x, decoder, m, s, rest=None):
    """E of log N(x; W h + b, sigma^2) for h ~ N(m, s^2), in closed form: (batch,)."""
    W, b = decoder.net[0].weight, decoder.net[0].bias
    h = m if rest is None else torch.cat([m, rest], 1)
    spread = (s**2) @ (W[:, : m.shape[1]] ** 2).sum(0)
    square = (x - h @ W.T - b).square().sum(1) + spread
    return -0.5 * square / SIGMA**2 - D / 2 * math.log(2 * math.pi * SIGMA**2)


def encoded(network, *inputs):
    out = torch.cat(inputs, 1) @ network.net[0].weight.T + network.net[0].bias
    mean, log_variance = out.chunk(2, 1)
    return mean, (log_variance / 2).exp()


def averaged(model, guide, batch, draws=3000):
    with torch.no_grad():
        return pd.TermELBO(num_particles=draws).evaluate(model, guide, *batch)


# ---------------------------------------------------------------- objectives


@KS
@pytest.mark.parametrize("prior", ["standard", "conditional"])
def test_cvae_in_closed_form(k, prior):
    x, y = data(k)
    model = CVAE(linear(Z + k, D), Z, k, GaussianLikelihood(SIGMA), linear(k, 2 * Z) if prior != "standard" else None)
    guide = LabelledGaussian(linear(D + k, 2 * Z), k)
    step = averaged(model, guide, (x, y))
    m, s = encoded(guide.networks["z"], x, y)
    if prior == "standard":
        kl = gaussian_kl(m, s, 0.0, 1.0)
    else:
        mean, scale = encoded(model.prior, y)
        kl = (scale.log() - s.log() + (s**2 + (m - mean) ** 2) / (2 * scale**2) - 0.5).sum(1)
    torch.testing.assert_close(step.kl["z"], kl.mean(), rtol=1e-12, atol=1e-12)
    expected = expected_log_lik(x, model.decoder, m, s, y).mean()
    torch.testing.assert_close(step.log_lik["x"], expected, rtol=0.03, atol=0.0)


@KS
def test_cvae_if_in_closed_form(k):
    x, y = data(k)
    model = CVAE(linear(Z + k, D), Z, k, GaussianLikelihood(SIGMA))
    guide, adversary = Gaussian(z=linear(D, 2 * Z)), pd.Adversary(linear(Z, k), k, kind="cross_entropy")
    torch.manual_seed(2)
    step = pd.TermELBO(terms={"adversary": (0.7, adversary)}).evaluate(model, guide, x, y)
    torch.manual_seed(2)
    m, s = encoded(guide.networks["z"], x)
    z = m + s * torch.randn(N, Z)
    ce = binary_cross_entropy_with_logits(adversary.network(z), y, reduction="sum") / N
    log_lik = torch.distributions.Normal(model.decoder(torch.cat([z, y], 1)), SIGMA).log_prob(x).sum(1).mean()
    kl = gaussian_kl(m, s, 0.0, 1.0).mean()
    torch.testing.assert_close(step.loss, -log_lik + kl - 0.7 * ce, rtol=1e-12, atol=0)
    expected = expected_log_lik(x, model.decoder, m, s, y).mean()
    torch.testing.assert_close(averaged(model, guide, (x, y)).log_lik["x"], expected, rtol=0.03, atol=0.0)


@KS
@pytest.mark.parametrize("z_sees_y", [False, True])
def test_csvae_in_closed_form(k, z_sees_y):
    """Every term, against the formulas, for each label's value: off N(0, 0.1^2), on N(3, 1)."""
    x, y = data(k)
    model, guide = csvae_pair(k, z_sees_y=z_sees_y)
    adversary = pd.Adversary(linear(Z, k), k)
    b1, b2, b3, b4 = 20.0, 1.0, 0.2, 10.0
    weights = {"z": b3} | {f"w_{i}": b2 for i in range(k)}
    elbo = pd.TermELBO(kl_scale=weights, lik_scale={"x": b1}, terms={"adversary": (b4, adversary)})
    torch.manual_seed(2)
    step = elbo.evaluate(model, guide, x, y)
    mz, sz = encoded(guide.z, x, y) if z_sees_y else encoded(guide.z, x)
    mw, sw = encoded(guide.w, x, y)
    torch.manual_seed(2)
    z = mz + sz * torch.randn(N, Z)
    parts = [m + s * torch.randn_like(m) for m, s in zip(mw.split(DIMS[k], 1), sw.split(DIMS[k], 1))]
    h = torch.cat([z, *parts], 1)
    log_lik = torch.distributions.Normal(model.decoder(h), SIGMA).log_prob(x).sum(1).mean()
    torch.testing.assert_close(step.log_lik["x"], log_lik, rtol=1e-12, atol=0)
    torch.testing.assert_close(step.kl["z"], gaussian_kl(mz, sz, 0.0, 1.0).mean(), rtol=1e-12, atol=0)
    for i, (m, s) in enumerate(zip(mw.split(DIMS[k], 1), sw.split(DIMS[k], 1))):
        off, on = gaussian_kl(m, s, 0.0, 0.1), gaussian_kl(m, s, 3.0, 1.0)
        torch.testing.assert_close(step.kl[f"w_{i}"], torch.where(y[:, i] == 1, on, off).mean(), rtol=1e-12, atol=0)
        for value, expected in ((0, off), (1, on)):
            only = y[:, i] == value
            some = pd.TermELBO().evaluate(model, guide, x[only], y[only]).kl[f"w_{i}"]
            torch.testing.assert_close(some, expected[only].mean(), rtol=1e-12, atol=0)
    p = adversary.network(z).sigmoid()
    m2 = (p * p.log() + (1 - p) * (1 - p).log()).sum(1).mean()
    torch.testing.assert_close(step.extra["adversary"], m2, rtol=1e-12, atol=0)
    loss = -b1 * log_lik + b2 * sum(step.kl[f"w_{i}"] for i in range(k)) + b3 * step.kl["z"] + b4 * m2
    torch.testing.assert_close(step.loss, loss, rtol=1e-12, atol=0)
    expected = expected_log_lik(x, model.decoder, torch.cat([mz, mw], 1), torch.cat([sz, sw], 1)).mean()
    torch.testing.assert_close(averaged(model, guide, (x, y)).log_lik["x"], expected, rtol=0.03, atol=0.0)


def test_builders_make_these_objectives():
    method = pd.csvae((6,), labels=2, w_dim=(1, 3), b1=2.0, b2=3.0, b3=4.0, b4=5.0, b5=6.0, likelihood="gaussian")
    weight, adversary = method.elbo.terms["adversary"]
    assert {s: float(v) for s, v in method.elbo.kl_scale.items()} == {"z": 4.0, "w_0": 3.0, "w_1": 3.0}
    assert (method.elbo.lik_scale, weight, adversary.weight, adversary.kind) == ({"x": 2.0}, 5.0, 6.0, "cross_entropy")
    sites = method.elbo.evaluate(method.model, method.guide, torch.randn(5, 6), torch.ones(5, 2))
    assert [sites[s].shape for s in ("z", "w_0", "w_1")] == [(5, 10), (5, 1), (5, 3)]
    assert pd.cvae_if((6,), labels=1, gamma=0.3).elbo.terms["adversary"][0] == 0.3
    for name in ("csvae", "cvae_if"):
        assert getattr(pd, name)((6,), labels=1, adversary="none").elbo.terms == {}
    assert pd.cvae((6,), labels=1).model.prior is None


@KS
def test_gradients_reach_exactly_whom_they_should(k):
    x, y = data(k)
    model, guide = csvae_pair(k)
    adversary = pd.Adversary(linear(Z, k), k)
    step = pd.TermELBO(terms={"a": (1.0, adversary)}).evaluate(model, guide, x, y)

    def reached(value):
        parts = {"decoder": model.decoder, "z": guide.z, "w": guide.w, "adversary": adversary.network}
        named = [(name, p) for name, module in parts.items() for p in module.parameters()]
        grads = torch.autograd.grad(value, [p for _, p in named], retain_graph=True, allow_unused=True)
        return {name for (name, _), g in zip(named, grads) if g is not None and g.any()}

    assert reached(step.extra["a"]) == {"z"}
    assert reached(step.kl["z"]) == {"z"}
    assert reached(sum(v for s, v in step.kl.items() if s != "z")) == {"w"}
    assert reached(step.log_lik["x"]) == {"decoder", "z", "w"}
    assert reached(adversary.learn(step)) == {"adversary"}


def test_learned_priors_start_where_the_fixed_ones_are_and_move():
    options = {"labels": 2, "network": "mlp", "likelihood": "gaussian", "adversary": "none"}
    method = pd.csvae((D,), learn_prior=True, prior_off=(-1.0, 0.5), prior_on=(2.0, 0.8), **options)
    for i, y in enumerate(torch.eye(2)):
        p = method.model.subspaces[0](y[:1])
        torch.testing.assert_close(p.mean, torch.full((1, 2), [2.0, -1.0][i]))
        torch.testing.assert_close(p.stddev, torch.full((1, 2), [0.8, 0.5][i]))
    before = method.model.subspaces[1].mean.clone()
    method.fit(data(2), steps=3, progress=False, device="cpu")
    assert not torch.equal(before, method.model.subspaces[1].mean)
    assert not list(pd.csvae((D,), **options).model.subspaces.parameters())


def test_z_does_not_see_labels_and_w_does():
    x, y = data(2)
    method = pd.csvae((D,), labels=2, likelihood="gaussian")
    q = pd.Posterior(method.model, method.guide)
    one, other = q.encode(x, y), q.encode(x, 1 - y)
    assert torch.equal(one["z"].mean, other["z"].mean)
    assert not torch.allclose(one["w_0"].mean, other["w_0"].mean)
    method = pd.cvae_if((D,), labels=2, likelihood="gaussian")
    assert pd.Posterior(method.model, method.guide).encode(x)["z"].mean.shape == (N, 10)


# ---------------------------------------------------------------- networks


@pytest.mark.parametrize("network", ["conv", "burgess"])
@pytest.mark.parametrize("name", ["cvae", "cvae_if", "csvae"])
def test_image_networks_take_labels(name, network):
    method = getattr(pd, name)((1, 16, 16), labels=2, network=network)
    x, y = torch.rand(4, 1, 16, 16), data(2, 4)[1]
    with pyro.validation_enabled(True):
        step = method.elbo.evaluate(method.model, method.guide, x, y)
    assert step.loss.isfinite()


def test_fields_enter_after_the_convolutions():
    encoder = pd.ConvEncoder((1, 8, 8), 5, fields=3)
    x, a, b = torch.rand(2, 1, 8, 8), torch.rand(2, 2), torch.rand(2, 1)
    flat = encoder.net[:3](x)
    torch.testing.assert_close(encoder(x, a, b), encoder.net[3:](torch.cat([flat, a, b], 1)))
    for fields in ((), (a,), (a, a)):
        with pytest.raises(pd.DataError, match=r"fields: got \d values a datum beside the image, expected 3"):
            encoder(x, *fields)


# ---------------------------------------------------------------- editing


@pytest.fixture(scope="module")
def fitted():
    torch.set_default_dtype(torch.float64)
    torch.manual_seed(0)
    method = pd.csvae((D,), labels=2, latent_dim=Z, likelihood="gaussian")
    batch = data(2, 40)
    return method.fit(batch, steps=30, batch_size=20, progress=False, device="cpu", log_every=10).posterior, batch


def test_swap_takes_one_site_from_the_donor(fitted):
    q, (x, y) = fitted
    donor = (x.flip(0), y.flip(0))
    at, there = ({s: d.mean for s, d in q.encode(*b).items()} for b in ((x, y), donor))
    for site in ("z", "w_0", "w_1"):
        by_hand = q.decode(x, y, **(at | {site: there[site]})).mean
        torch.testing.assert_close(q.swap(site, (x, y), donor).mean, by_hand)
        torch.testing.assert_close(q.swap(site, (x, y), (x, y)).mean, q.reconstruct(x, y))
        assert not torch.allclose(by_hand, q.reconstruct(x, y))
    single = q.swap("w_0", (x, y), (x[:1], y[:1]))
    torch.testing.assert_close(single.mean, q.decode(x, y, **(at | {"w_0": at["w_0"][:1].repeat(len(x), 1)})).mean)
    assert single.batch_shape == (len(x),)


def test_swap_refuses(fitted):
    q, (x, y) = fitted
    with pytest.raises(pd.SiteError, match=r"no latent site 'w'; there are \['w_0', 'w_1', 'z'\]"):
        q.swap("w", (x, y), (x, y))
    with pytest.raises(pd.ArgumentError, match=r"donor: got '3 data', expected 40, as in batch, or one"):
        q.swap("w_0", (x, y), (x[:3], y[:3]))
    with pytest.raises(pd.ArgumentError, match="batch: got tensor"):
        q.swap("w_0", x, (x, y))


@pytest.mark.parametrize("name", ["cvae", "cvae_if"])
def test_changed_labels_are_decoded(name):
    method = getattr(pd, name)((D,), labels=2, likelihood="gaussian")
    x, y = data(2)
    q = pd.Posterior(method.model, method.guide)
    z = q.encode(x, y)["z"].mean
    for other in (1 - y, 2.5 * y):  # a label may be scaled for more of it
        expected = method.model.decoder(torch.cat([z, other], 1)).detach()
        torch.testing.assert_close(q.decode(x, other, z=z).mean, expected)
    assert q.sample(7, y[:7]).shape == (7, D)
    torch.manual_seed(1)
    ones = q.sample(6, torch.ones(6, 2))
    torch.manual_seed(1)
    expected = method.model.decoder(torch.cat([torch.randn(6, 10), torch.ones(6, 2)], 1)).detach()
    torch.testing.assert_close(ones, expected)


def test_a_controller_holds_a_subspace():
    torch.set_default_dtype(torch.float32)
    torch.manual_seed(0)
    roll = pd.load("swiss_roll", n=2000, standardise=True)
    options = {"latent_dim": 2, "likelihood": "gaussian", "sigma": 0.2, "b1": 1.0, "b3": 1.0, "b4": 1.0}
    method = pd.csvae(roll.shape, labels=1, **options)
    control = pd.IncrementalPI("w_0", target=3.0, start=3.0, kp=0.1, ki=0.05, beta_init=1.0, beta_min=1e-3)
    with warnings.catch_warnings(action="ignore"):
        run = method.fit(roll, steps=600, callbacks=[control], progress=False, device="cpu")
    assert run.history["kl.w_0"].iloc[-1] == pytest.approx(3.0, abs=0.4)
    assert run.history["kl_scale.z"].nunique() == 1
    assert run.history["beta.w_0"].iloc[-1] != 1.0


# ---------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("name", "bad", "message"),
    [
        ("csvae", {"w_dim": (2, 2, 2)}, r"w_dim: got \(2, 2, 2\), expected one size, or one for each of the 2 labels"),
        ("csvae", {"w_dim": 0}, "w_dim: got 0"),
        ("csvae", {"b4": math.nan}, "weight of the adversary: got nan"),
        ("csvae", {"b1": math.inf}, "lik_scale"),
        ("csvae", {"prior_off": (0.0, 0.0)}, "prior_off: got .* a positive standard deviation"),
        ("csvae", {"prior_on": (0.0,)}, "prior_on"),
        ("csvae", {"adversary": "gan"}, "adversary: got 'gan', expected 'entropy'"),
        ("csvae", {"target": "even"}, "target: got 'even'"),
        ("csvae", {"labels": 0}, "labels: got 0"),
        ("cvae_if", {"gamma": math.inf}, "weight of the adversary"),
        ("cvae_if", {"target": "marginal"}, "only an entropy has a target"),
        ("cvae", {"prior": "learned"}, "prior: got 'learned', expected 'standard' or 'conditional'"),
        ("cvae", {"latent_dim": 0}, "latent_dim: got 0"),
    ],
)
def test_arguments_out_of_range(name, bad, message):
    with pytest.raises(pd.ArgumentError, match=message):
        getattr(pd, name)((6,), **({"labels": 2} | bad))


# ---------------------------------------------------------------- learning


@pytest.mark.slow
def test_swiss_roll_is_split():
    """Loose bounds for a short run (12 s); measured: z 0.57, w 1.00, R^2 0.95, KL(z) 3.7 nats."""
    from sklearn.metrics import balanced_accuracy_score
    from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor

    torch.set_default_dtype(torch.float32)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        method = pd.csvae((3,), labels=1, latent_dim=2, b3=0.5, likelihood="gaussian")
        train = pd.load("swiss_roll", standardise=True)
        run = method.fit(train, steps=2000, batch_size=256, progress=False, device="cpu")
    finally:
        torch.set_num_threads(threads)
    test = pd.load("swiss_roll", standardise=True, n=4000, seed=1)
    x, y = test.batch(range(4000))
    q = run.posterior.encode(x, y)
    z, w, y, t = q["z"].sample().numpy(), q["w_0"].sample().numpy(), y[:, 0].numpy(), test.continuous[:, 0].numpy()
    accuracy = {
        site: balanced_accuracy_score(y[2000:], KNeighborsClassifier(25).fit(c[:2000], y[:2000]).predict(c[2000:]))
        for site, c in (("z", z), ("w", w))
    }
    assert accuracy["w"] > 0.99
    assert accuracy["z"] < 0.68
    assert KNeighborsRegressor(10).fit(z[:2000], t[:2000]).score(z[2000:], t[2000:]) > 0.8
    assert run.history["kl.z"].iloc[-1] > 1
