# Copyright ppl-disent contributors.
# SPDX-License-Identifier: Apache-2.0
"""Adversaries: their terms in closed form, whom they train, and what they refuse."""

import copy
import io
import math
import warnings

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from torch import nn
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy
from torch.utils._python_dispatch import TorchDispatchMode

import ppl_disent as pd
from guides import Gaussian


def step_at(z, y):
    """A step whose guide drew `z`, for a batch with labels `y`."""
    trace = poutine.trace(lambda: pyro.sample("z", dist.Delta(z).to_event(2))).get_trace()
    return pd.Step(1, (torch.zeros(len(z), 1), y), {}, {}, guide_trace=trace)


def linear(k, **options):
    return pd.Adversary(pd.MLP(3, k, hidden=()), k, **options)


def drawn(k, n=9, exclusive=False):
    z = torch.randn(n, 3, requires_grad=True)
    y = torch.eye(k)[torch.randint(k, (n,))] if exclusive else torch.randint(2, (n, k)).double()
    return z, y


def state(module):
    return {name: t.detach().clone() for name, t in (*module.named_parameters(), *module.named_buffers())}


def equal(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


METHODS = {
    "csvae": lambda adversary="entropy", **o: pd.csvae(
        (6,), labels=2, latent_dim=3, network="mlp", likelihood="gaussian", adversary=adversary, **o
    ),
    "cvae_if": lambda **o: pd.cvae_if((6,), labels=2, latent_dim=3, network="mlp", likelihood="gaussian", **o),
}
EACH = pytest.mark.parametrize("kind", ["entropy", "cross_entropy", "reversal"])
BATCH = torch.randn(12, 6, dtype=torch.float64), torch.arange(24).reshape(12, 2).remainder(3).clamp(max=1).double()


def svi_of(method):
    return pd.SVI(method.model, method.guide, method.optim, method.elbo)


# ---------------------------------------------------------------- terms


@pytest.mark.parametrize("k", [1, 2, 5])
def test_binary_terms_in_closed_form(k):
    z, y = drawn(k)
    adversary = linear(k)
    p = torch.sigmoid(adversary.network(z))
    negative_entropy = (p * p.log() + (1 - p) * (1 - p).log()).sum(1).mean()
    torch.testing.assert_close(adversary(step_at(z, y)), negative_entropy)
    ce = binary_cross_entropy_with_logits(adversary.network(z), y, reduction="sum") / len(z)
    torch.testing.assert_close(adversary.learn(step_at(z, y)), ce)
    for kind in ("cross_entropy", "reversal"):
        adversary.kind = kind
        torch.testing.assert_close(adversary(step_at(z, y)), -ce)
        torch.testing.assert_close(adversary.learn(step_at(z, y)), ce)


def test_exclusive_terms_in_closed_form():
    z, y = drawn(4, exclusive=True)
    adversary = linear(4, exclusive=True)
    p = adversary.network(z).softmax(1)
    torch.testing.assert_close(adversary(step_at(z, y)), (p * p.log()).sum(1).mean())
    ce = cross_entropy(adversary.network(z), y.argmax(1))
    torch.testing.assert_close(adversary.learn(step_at(z, y)), ce)
    adversary.kind = "cross_entropy"
    torch.testing.assert_close(adversary(step_at(z, y)), -ce)


@pytest.mark.parametrize("exclusive", [False, True])
def test_m2_is_the_divergence_from_uniform_but_for_a_constant(exclusive):
    z, y = drawn(3, exclusive=exclusive)
    adversary = linear(3, exclusive=exclusive)
    logits = adversary.network(z)
    if exclusive:
        q, uniform, log_k = dist.Categorical(logits=logits), dist.Categorical(logits=torch.zeros(3)), math.log(3)
    else:
        q = dist.Bernoulli(logits=logits).to_event(1)
        uniform, log_k = dist.Bernoulli(logits=torch.zeros(9, 3)).to_event(1), 3 * math.log(2)
    divergence = torch.distributions.kl_divergence(q, uniform).mean()
    torch.testing.assert_close(adversary(step_at(z, y)), divergence - log_k)


@pytest.mark.parametrize("exclusive", [False, True])
def test_marginal_target_is_the_divergence_from_the_labels_seen(exclusive):
    z, y = drawn(3, exclusive=exclusive)
    y[:3] = torch.eye(3)  # each outcome is there
    adversary = linear(3, exclusive=exclusive, target="marginal")
    family = dist.Categorical if exclusive else lambda probs: dist.Bernoulli(probs=probs).to_event(1)
    logits = adversary.network(z)
    q = family(logits.softmax(1) if exclusive else logits.sigmoid())
    expected = torch.distributions.kl_divergence(q, family(y.mean(0).expand(9, 3))).mean()
    torch.testing.assert_close(adversary(step_at(z, y)), expected)


def test_only_the_marginal_target_rests_where_the_adversary_says_the_base_rate():
    z, y = torch.zeros(10, 3, requires_grad=True), torch.zeros(10, 1)
    y[:2] = 1
    for target, rests in (("uniform", False), ("marginal", True)):
        adversary = linear(1, target=target)
        with torch.no_grad():
            adversary.network.net[0].bias.fill_(math.log(0.2 / 0.8))
        (gradient,) = torch.autograd.grad(adversary(step_at(z, y)), z)
        assert (gradient.abs().max() < 1e-15) == rests
        torch.testing.assert_close(adversary.learn(step_at(z, y)), dist.Bernoulli(torch.tensor(0.2)).entropy())


@EACH
@pytest.mark.parametrize("exclusive", [False, True])
def test_saturated_guesses_are_finite(kind, exclusive):
    z, y = drawn(2, exclusive=True)
    adversary = linear(2, kind=kind, exclusive=exclusive)
    for dtype in (torch.float64, torch.float32):
        adversary.to(dtype)
        with torch.no_grad():
            adversary.network.net[0].weight.fill_(1e6)
        adversary(step_at(z, y)).backward()
        adversary.learn(step_at(z, y)).backward()
        grads = [z.grad, *(p.grad for p in adversary.network.parameters())]
        assert all(g.isfinite().all() for g in grads)


def test_several_sites_of_any_field():
    adversary = pd.Adversary(pd.MLP(5, 1, hidden=()), 1, sites=("z", "w"), field=2)
    trace = poutine.trace(
        lambda: [pyro.sample(s, dist.Delta(torch.randn(4, d)).to_event(2)) for s, d in (("z", 3), ("w", 2))]
    ).get_trace()
    step = pd.Step(1, (torch.zeros(4, 1), torch.zeros(4, 9), torch.ones(4, 1)), {}, {}, guide_trace=trace)
    expected = -adversary.network(step["z"], step["w"]).sigmoid().log().mean()
    torch.testing.assert_close(adversary.learn(step), expected)


# ---------------------------------------------------------------- who trains whom


class Reverse(torch.autograd.Function):
    """A gradient reversal layer."""

    @staticmethod
    def forward(ctx, z):
        return z.clone()

    @staticmethod
    def backward(ctx, gradient):
        return -gradient


def test_reversal_gives_the_gradients_of_a_gradient_reversal_layer():
    """One cross-entropy through a reversal layer: CVAE-IF's gradients for both sides, at the same parameters."""
    method = METHODS["cvae_if"](adversary="reversal", gamma=1.0)
    _, adversary = method.elbo.terms["adversary"]
    torch.manual_seed(4)
    step = method.elbo.evaluate(method.model, method.guide, *BATCH)
    step.loss.backward()
    theirs = [p.grad.clone() for p in method.guide.parameters()]
    method.guide.zero_grad(), method.model.zero_grad()
    adversary.learn(step).backward()
    own = [p.grad.clone() for p in adversary.parameters()]
    adversary.zero_grad()

    torch.manual_seed(4)
    bound = pd.TermELBO().evaluate(method.model, method.guide, *BATCH)
    logits = adversary.network(Reverse.apply(bound["z"]))
    ce = binary_cross_entropy_with_logits(logits, BATCH[1], reduction="sum") / len(BATCH[0])
    (bound.loss + ce).backward()
    for ours, layer in zip(theirs + own, [*method.guide.parameters(), *adversary.parameters()], strict=True):
        torch.testing.assert_close(ours, layer.grad, rtol=1e-12, atol=1e-14)


def test_reversal_learns_from_the_same_draw_and_the_others_from_a_new_one():
    for kind, passes in (("reversal", 1), ("cross_entropy", 2), ("entropy", 2)):
        method = METHODS["cvae_if"](adversary=kind)
        seen = []
        method.guide.register_forward_hook(lambda *_, seen=seen: seen.append(1))
        svi_of(method).step(*BATCH)
        assert len(seen) == passes


@EACH
@pytest.mark.parametrize("name", list(METHODS))
def test_each_step_leaves_the_other_side_as_it_was_to_the_bit(kind, name):
    method = METHODS[name](adversary=kind)
    _, adversary = method.elbo.terms["adversary"]
    svi = svi_of(method)
    for _ in range(3):
        before = state(adversary)
        after_step, adversary.after_step = adversary.after_step, lambda *_: None
        svi.step(*BATCH)
        assert equal(before, state(adversary))
        assert all(p.grad is None for p in adversary.parameters())
        adversary.after_step = after_step
        step = method.elbo.measure(method.model, method.guide, *BATCH)
        generator = state(method.model) | {f"q.{k}": v for k, v in state(method.guide).items()}
        adversary.after_step(svi, step)
        assert equal(generator, state(method.model) | {f"q.{k}": v for k, v in state(method.guide).items()})
        assert all(p.grad is None for p in (*svi.parameters, *adversary.parameters()))
        moved = state(adversary)
        assert all(not torch.equal(before[k], moved[k]) for k in before if "net.0" in k or k == "count")


def test_adversary_learns_what_z_says():
    """With a guide that is not trained, the adversary reaches the cross-entropy of the best guess."""
    torch.manual_seed(1)
    y = torch.randint(2, (400, 1)).double()
    z = torch.where(y == 1, 1.0, -1.0) + 0.5 * torch.randn(400, 1)
    adversary = pd.Adversary(pd.MLP(1, 1, hidden=()), 1, kind="reversal", lr=0.05, steps=20)
    for _ in range(20):
        adversary.after_step(None, step_at(z, y))
    best = binary_cross_entropy_with_logits(8 * z, y)  # log p(1 | z) / p(0 | z) = 2 z / 0.5^2
    assert adversary.record()["adversary.z"].item() == pytest.approx(best.item(), abs=0.02)
    p = y.mean().item()
    entropy = -p * math.log(p) - (1 - p) * math.log(1 - p)
    assert adversary.record()["label_entropy.z"].item() == pytest.approx(entropy, rel=1e-12)


def test_warmup_trains_the_adversary_alone():
    method = METHODS["csvae"](adversary_warmup=3)
    _, adversary = method.elbo.terms["adversary"]
    plain = METHODS["csvae"](adversary="none")
    plain.model.load_state_dict(method.model.state_dict()), plain.guide.load_state_dict(method.guide.state_dict())
    before = state(adversary)
    ours, theirs = svi_of(method), svi_of(plain)
    for i in range(5):
        value = method.elbo.measure(method.model, method.guide, *BATCH).extra["adversary"].item()
        assert (value == 0.0) == (i < 3)
        for svi in (ours, theirs):
            torch.manual_seed(i)
            svi.step(*BATCH)
        assert equal(state(method.guide), state(plain.guide)) == (i < 3)
    assert not equal(before, state(adversary))


def test_steps_and_state_round_trip():
    method = METHODS["csvae"](adversary_steps=3)
    _, adversary = method.elbo.terms["adversary"]
    svi = svi_of(method)
    svi.step(*BATCH)
    assert {s["step"].item() for s in adversary.optimizer.state.values()} == {3}
    file = io.BytesIO()
    torch.save(svi.state_dict(), file)
    file.seek(0)
    other = METHODS["csvae"](adversary_steps=3)
    again = svi_of(other)
    again.load_state_dict(torch.load(file, weights_only=True))
    for each in (svi, again):
        torch.manual_seed(7)
        for _ in range(3):
            each.step(*BATCH)
    assert equal(state(adversary), state(other.elbo.terms["adversary"][1]))
    assert equal(state(method.model), state(other.model))


def test_state_is_not_shared_with_what_it_was_loaded_from():
    one, two = linear(2, kind="reversal"), linear(2, kind="reversal")
    one.after_step(None, step_at(*drawn(2)))
    two.load_state_dict(one.state_dict())
    before = copy.deepcopy(one.state_dict())
    two.after_step(None, step_at(*drawn(2)))
    torch.testing.assert_close(one.state_dict(), before, rtol=0, atol=0)


def test_a_copy_trains_apart():
    method = METHODS["csvae"]()
    other = copy.deepcopy(method)
    before = state(method.elbo.terms["adversary"][1])
    svi_of(other).step(*BATCH)
    assert equal(before, state(method.elbo.terms["adversary"][1]))
    assert not equal(before, state(other.elbo.terms["adversary"][1]))


@EACH
def test_a_step_does_not_synchronise_with_the_host(kind):
    class NoSync(TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            assert "_local_scalar_dense" not in str(function)
            return function(*args, **(kwargs or {}))

    svi = svi_of(METHODS["csvae"](adversary=kind, adversary_warmup=1))
    with pyro.validation_enabled(False):
        svi.step(*BATCH)
        with NoSync():
            step = svi.elbo.measure(svi.model, svi.guide, *BATCH)
            svi.elbo.combine(step).backward()
            svi.hooks[0].learn(step).backward()
            svi.hooks[0].record()


def test_resume_notices_another_adversary(tmp_path):
    options = {"batch_size": 4, "progress": False, "device": "cpu", "checkpoint": tmp_path / "c.pt"}
    METHODS["csvae"]().fit(BATCH, steps=2, **options)
    with pytest.raises(pd.CheckpointError, match=r"Adversary.kind was 'entropy' and is now 'reversal'"):
        METHODS["csvae"](adversary="reversal").fit(BATCH, steps=4, resume=True, **options)


# ---------------------------------------------------------------- isolation


@EACH
@pytest.mark.parametrize("name", list(METHODS))
def test_isolation_holds_and_asking_changes_nothing(kind, name):
    method = METHODS[name](adversary=kind)
    svi = svi_of(method)
    svi.step(*BATCH)
    svi.callbacks.append(open)  # what cannot be copied does not matter
    before = [state(m) for m in (method.model, method.guide, method.elbo.terms["adversary"][1])]
    optim, random = copy.deepcopy(svi.state_dict()["optim"]), torch.get_rng_state()
    pd.check_isolation(svi, *BATCH)
    after = [state(m) for m in (method.model, method.guide, method.elbo.terms["adversary"][1])]
    assert all(equal(a, b) for a, b in zip(before, after))
    torch.testing.assert_close(svi.state_dict()["optim"], optim, rtol=0, atol=0)
    assert torch.equal(random, torch.get_rng_state())
    assert svi.index == 1
    assert all(p.grad is None for p in svi.parameters)


class TrainedByTheGenerator(pd.Adversary):
    def fool(self, step):
        return -self.network(step["z"]).sigmoid().log().mean()


class TrainsTheGuide(pd.Adversary):
    def learn(self, step):
        return self.network(step["z"]).sigmoid().log().mean()


def broken(cls, network=None):
    method = METHODS["csvae"](adversary="none")
    network = network or pd.MLP(3, 2)
    method.elbo = pd.TermELBO(terms={"spy": (1.0, cls(network, 2))})
    return svi_of(method)


def test_a_leak_is_found_and_named():
    with pytest.raises(pd.ArgumentError, match=r"spy.network.net.0.weight \(gradient from the generator's step\)"):
        pd.check_isolation(broken(TrainedByTheGenerator), *BATCH)
    with pytest.raises(pd.ArgumentError, match=r"guide.z.net.0.weight \(gradient from the step of 'spy'\)"):
        pd.check_isolation(broken(TrainsTheGuide), *BATCH)
    with pytest.raises(pd.ArgumentError, match="expected an Adversary"):
        pd.check_isolation(svi_of(METHODS["csvae"](adversary="none")), *BATCH)


def test_a_network_held_by_both_is_found():
    method = METHODS["csvae"](adversary="none")
    method.guide.spy = pd.MLP(3, 2)
    method.elbo = pd.TermELBO(terms={"spy": (1.0, pd.Adversary(method.guide.spy, 2))})
    with pytest.raises(pd.ArgumentError, match=r"network.net.0.bias \(held by both\)"):
        pd.check_isolation(svi_of(method), *BATCH)
    with pytest.raises(pd.ArgumentError, match="expected no parameter that the generator trains"):
        method.fit(BATCH, steps=1, progress=False, device="cpu")


def test_buffers_of_the_adversary_belong_to_it():
    network = nn.Sequential(nn.BatchNorm1d(3), nn.Linear(3, 2))
    pd.check_isolation(broken(pd.Adversary, network), *BATCH)


# ---------------------------------------------------------------- labels


def fit(method, data):
    return method.fit(data, steps=1, batch_size=16, progress=False, device="cpu")


def labelled(p, n=200, k=2):
    y = torch.zeros(n, k)
    y[: int(p * n)] = 1
    return torch.randn(n, 6), y[torch.randperm(n)]


def test_unbalanced_labels_are_warned_about():
    with pytest.warns(UserWarning, match=r"unbalanced labels, P\(y\) = \[0.1, 0.1\].*Choose target='marginal'"):
        fit(METHODS["csvae"](), labelled(0.1))
    dataset = pd.data.Arrays(labelled(0.1)[0], likelihood="gaussian", labels=labelled(0.1)[1])
    with pytest.warns(UserWarning, match="unbalanced"):
        fit(METHODS["csvae"](), dataset)
    classes = torch.eye(3)[torch.tensor([0] * 80 + [1] * 10 + [2] * 10)]
    method = pd.csvae((6,), labels=3, exclusive=True, adversary="entropy", network="mlp", likelihood="gaussian")
    with pytest.warns(UserWarning, match=r"P\(y\) = \[0.8, 0.1, 0.1\]"):
        fit(method, (torch.randn(100, 6), classes))


def test_no_warning_where_there_is_nothing_to_choose():
    with warnings.catch_warnings(action="error"):
        fit(METHODS["csvae"](target="marginal"), labelled(0.1))
        fit(METHODS["csvae"](adversary="cross_entropy"), labelled(0.1))
        fit(METHODS["csvae"](), labelled(0.46))
        fit(METHODS["csvae"](), labelled(0.3, n=10))  # may be chance
        fit(METHODS["csvae"](), [labelled(0.1)])  # batches do not show all labels


def test_marginal_knows_the_labels_of_the_data():
    method = METHODS["csvae"](target="marginal")
    _, adversary = method.elbo.terms["adversary"]
    adversary.before_fit(svi_of(method), labelled(0.25))
    assert (adversary.seen / adversary.seen.sum(-1, keepdim=True))[:, 1].tolist() == [0.25, 0.25]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda x, y: (x, y * 2 - 1), r"labels: got values from -1 to 1, expected only 0 and 1"),
        (lambda x, y: (x, torch.cat([y, y], 1)), r"labels: got shape \(16, 4\), expected \(16, 2\)"),
        (lambda x, y: (x, y[:, 0]), r"labels: got shape \(16,\)"),
        (lambda x, y: (x,), r"labels: got a batch without any, expected \(x, y\)"),
        (lambda x, y: [(x, y + 0.5)], "expected only 0 and 1"),
        (lambda x, y: (x, torch.where(torch.arange(200)[:, None] == 199, 7.0, y)), "from 0 to 7"),
    ],
)
@pytest.mark.parametrize("name", [*METHODS, "cvae"])
def test_labels_that_cannot_be_used(change, message, name):
    method = METHODS[name]() if name in METHODS else pd.cvae((6,), labels=2, network="mlp", likelihood="gaussian")
    with pytest.raises(pd.DataError, match=message):
        fit(method, change(*labelled(0.5)))


def test_classes_must_be_one_a_datum():
    method = pd.csvae((6,), labels=2, exclusive=True, network="mlp", likelihood="gaussian")
    with pytest.raises(pd.DataError, match="rows without a class, or with several"):
        fit(method, labelled(0.5))


def test_an_adversary_on_a_model_that_knows_no_labels():
    method = pd.vae((6,), latent_dim=3, network="mlp", likelihood="gaussian")
    assert isinstance(method.guide, Gaussian)
    method.elbo = pd.TermELBO(terms={"spy": (1.0, pd.Adversary(pd.MLP(3, 2), 2))})
    run = fit(method, labelled(0.5))
    assert {"extra.spy", "adversary.z", "label_entropy.z"} <= set(run.history.columns)
    with pytest.raises(pd.DataError, match=r"labels: got a batch of .*, expected \(batch, 2\) in field 1"):
        fit(method, labelled(0.5)[0])
    method.elbo = pd.TermELBO(terms={"spy": (1.0, pd.Adversary(pd.MLP(3, 2), 2, sites=("s",)))})
    with pytest.raises(pd.SiteError, match="Adversary: no site 's'"):
        fit(method, labelled(0.5))
    method.elbo = pd.TermELBO(terms={"spy": (1.0, pd.Adversary(pd.MLP(3, 1), 2))})
    with pytest.raises(pd.DataError, match=r"its network gives \(16, 1\), expected \(batch, 2\)"):
        fit(method, labelled(0.5))


@pytest.mark.parametrize(
    "bad",
    [
        {"kind": "none"},
        {"target": "p(y)"},
        {"target": "marginal", "kind": "cross_entropy"},
        {"steps": 0},
        {"lr": 0.0},
        {"warmup": -1},
        {"weight": 0.0},
        {"sites": "z"},
        {"sites": ()},
        {"labels": 0},
        {"labels": 1, "exclusive": True},
    ],
)
def test_arguments_out_of_range(bad):
    with pytest.raises(pd.ArgumentError, match=next(iter(bad))):
        pd.Adversary(pd.MLP(3, 1), **({"labels": 1} | bad))
