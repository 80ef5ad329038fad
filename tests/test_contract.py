# Copyright ppl-disent contributors.
# SPDX-License-Identifier: Apache-2.0
"""What every method must do, run for each of cases.CASES."""

import copy

import pyro
import pytest
import torch
from pyro.infer import Predictive, Trace_ELBO
from pyro.optim import PyroOptim

import ppl_disent as pd
from tests.cases import CASES, Case

pytestmark = pytest.mark.parametrize("case", CASES, ids=str)


def parameters(method: pd.Method) -> dict[str, torch.Tensor]:
    named = {f"model.{k}": v for k, v in method.model.named_parameters()}
    return named | {f"guide.{k}": v for k, v in method.guide.named_parameters()}


def same(a: pd.Method, b: pd.Method) -> bool:
    return all(torch.equal(p, q) for p, q in zip(parameters(a).values(), parameters(b).values(), strict=True))


def quiet_fit(method: pd.Method, data, **options) -> pd.Run:
    return method.fit(
        data, **({"steps": 12, "batch_size": 4, "progress": False, "log_every": 5, "device": "cpu"} | options)
    )


def test_sites_match_and_terms_are_scalars(case: Case):
    method = case.method()
    with pyro.validation_enabled(True):
        step = method.elbo.evaluate(method.model, method.guide, *case.batch())
    assert set(step.kl) == set(method.elbo.kl_scale)
    assert set(step.log_lik) == {"x"}
    assert all(value.shape == () and value.isfinite() for value in step.named().values())
    assert all(kl >= 0 for kl in step.kl.values())


def test_exactly_the_parameters_of_the_pair_get_gradients(case: Case):
    method = case.method()
    method.elbo.evaluate(method.model, method.guide, *case.batch()).loss.backward()
    assert {k for k, p in parameters(method).items() if p.grad is None or not p.grad.any()} <= {
        # A unit that no datum of this batch switches on has no gradient; a whole tensor without one is dead.
        k
        for k, p in parameters(method).items()
        if p.dim() == 1
    }


def test_loss_is_the_weighted_sum_of_its_terms(case: Case):
    method = case.method()
    step = method.elbo.evaluate(method.model, method.guide, *case.batch())
    expected = sum(method.elbo.kl_scale[s] * v for s, v in step.kl.items())
    expected = expected - sum(method.elbo.lik_scale.get(s, 1.0) * v for s, v in step.log_lik.items())
    expected = expected + sum(method.elbo.terms[n][0] * v for n, v in step.extra.items())
    torch.testing.assert_close(step.loss, expected, rtol=1e-14, atol=0)


def test_terms_do_not_depend_on_the_order_or_number_of_repeats_of_the_batch(case: Case):
    method, batch = case.method(), case.batch()
    with torch.no_grad():
        kls = [
            method.elbo.evaluate(method.model, method.guide, *b).kl
            for b in (batch, tuple(t.flip(0) for t in batch), tuple(torch.cat([t, t]) for t in batch))
        ]
    for other in kls[1:]:
        torch.testing.assert_close(other, kls[0], rtol=1e-10, atol=1e-12)


def test_beta_zero_and_negative_are_legal(case: Case):
    method = case.method()
    step = method.elbo.evaluate(method.model, method.guide, *case.batch())
    for site in method.elbo.kl_scale:
        method.elbo.kl_scale[site].fill_(0.0)
        without = method.elbo.combine(step)
        method.elbo.kl_scale[site].fill_(-1.0)
        torch.testing.assert_close(method.elbo.combine(step), without - step.kl[site])
        method.elbo.kl_scale[site].fill_(0.0)


class Dispatching(PyroOptim):
    """What a user of stock Pyro writes for a pair with a manifold: each tensor goes to the optimizer that it needs."""

    def __init__(self, method: pd.Method):
        super().__init__(torch.optim.Adam, {})
        self.euclidean, self.make, self.made = method.optim, method.manifold_optim, None

    def __call__(self, params, *args, **kwargs):
        manifold = [p for p in params if hasattr(p, "manifold")]
        self.euclidean([p for p in params if not hasattr(p, "manifold")])
        self.made = self.made or self.make(manifold)
        self.made.step()


def test_stock_pyro_svi_gives_the_same_bits(case: Case):
    if not case.stock:
        pytest.skip("stock SVI has no callbacks, which this method's objective needs")
    batch = case.batch()
    ours, stock = case.method(), case.method()
    assert same(ours, stock)
    svi = pd.SVI(ours.model, ours.guide, ours.optim, ours.elbo, manifold_optim=ours.manifold_optim)
    torch.manual_seed(5)
    for _ in range(10):
        svi.step(*batch)
    optim = stock.optim if stock.manifold_optim is None else Dispatching(stock)
    svi = pyro.infer.SVI(*pd.pyro_pair(stock.model, stock.guide), optim, stock.elbo)
    torch.manual_seed(5)
    for _ in range(10):
        svi.step(*batch)
    assert same(ours, stock)
    assert not same(ours, case.method())


def test_float32_is_near_float64(case: Case):
    wide, batch = case.method(), case.batch()
    narrow = case.method()
    narrow.model.float(), narrow.guide.float()
    torch.manual_seed(3)
    a = wide.elbo.evaluate(wide.model, wide.guide, *batch)
    b = narrow.elbo.evaluate(narrow.model, narrow.guide, *(t.float() for t in batch))
    assert b.loss.dtype == torch.float32
    for name in a.kl:
        torch.testing.assert_close(b.kl[name].double(), a.kl[name], rtol=1e-4, atol=1e-5)


def test_deepcopy_trains_apart(case: Case):
    method = case.method()
    other = copy.deepcopy(method)
    quiet_fit(other, case.batch())
    assert same(method, case.method())
    assert not same(other, method)


@pytest.mark.parametrize("stop", [1, 5, 7])
def test_resume_equals_the_uninterrupted_run(case: Case, stop: int, tmp_path):
    data = case.batch(10)
    whole = case.method()
    run = quiet_fit(whole, data, checkpoint=tmp_path / "whole.pt")
    first, second = case.method(), case.method(seed=99)
    quiet_fit(first, data, steps=stop, checkpoint=tmp_path / "parts.pt")
    torch.manual_seed(123)  # what the process did in between must not matter
    # The history closes a row at the last step of a run: only its rows before the stop are the same.
    resumed = quiet_fit(second, data, checkpoint=tmp_path / "parts.pt", resume=True)
    assert same(second, whole)
    assert second.elbo.kl_scale == whole.elbo.kl_scale
    assert resumed.step == run.step == 12
    a = torch.load(tmp_path / "whole.pt", weights_only=True)["svi"]
    b = torch.load(tmp_path / "parts.pt", weights_only=True)["svi"]
    torch.testing.assert_close(a["hooks"], b["hooks"], rtol=0, atol=0)
    torch.testing.assert_close(a["optim"]["state"], b["optim"]["state"], rtol=0, atol=0)
    assert (
        run.history.loc[12]
        .drop("loss")
        .filter(like="beta")
        .equals(resumed.history.loc[12].drop("loss").filter(like="beta"))
    )


def test_same_seed_same_numbers_other_seed_others(case: Case):
    runs = [quiet_fit(case.method(), case.batch(10), seed=seed).history for seed in (3, 3, 4)]
    assert runs[0].equals(runs[1])
    assert not runs[0].equals(runs[2])


def test_fit_leaves_the_process_as_it_was(case: Case):
    method = case.method()
    pyro.param("mine", torch.ones(2))
    before = torch.get_rng_state()
    with pyro.validation_enabled(True):
        quiet_fit(method, case.batch())
        assert pyro.infer.util.is_validation_enabled()
    assert torch.equal(before, torch.get_rng_state())
    assert set(pyro.get_param_store()) == {"mine"}


def test_a_run_opens_again(case: Case, tmp_path):
    batch = case.batch()
    run = quiet_fit(case.method(), batch, checkpoint=tmp_path / "checkpoint.pt")
    again = pd.Run.load(tmp_path)
    assert again.history.equals(run.history)
    assert torch.equal(again.posterior.reconstruct(*batch), run.posterior.reconstruct(*batch))
    assert again.elbo.kl_scale == run.elbo.kl_scale


def test_posterior_verbs(case: Case):
    method, batch = case.method(), case.batch(5)
    q = pd.Posterior(method.model, method.guide)
    state = torch.get_rng_state()
    codes = {site: fn.mean for site, fn in q.encode(*batch).items()}
    x = q.reconstruct(*batch)
    assert x.shape == batch[0].shape
    torch.testing.assert_close(q.decode(*batch, **codes).mean, x)
    for site, code in codes.items():
        assert code.shape[0] == 5
        strip = q.traverse(site, 0, [float(code[0, 0]), 2.5], *(t[:1] for t in batch))
        assert strip.shape == (1, 2, *case.shape)
        torch.testing.assert_close(strip[0, 0], x[0])
        assert not torch.allclose(strip[0, 1], x[0])
        torch.testing.assert_close(q.swap(site, batch, batch).mean, x)
        torch.testing.assert_close(q.swap(site, batch, tuple(t[:1] for t in batch)).mean[0], x[0])
    assert torch.equal(state, torch.get_rng_state()), "a question about given data draws nothing"
    assert q.sample(4, *(t[:4] for t in batch[1:])).shape == (4, *case.shape)
    assert method.model.training
    assert method.guide.training


def test_predictive_render_model_and_elbo_modules(case: Case):
    method, batch = case.method(), case.batch()
    drawn = Predictive(method.model, guide=method.guide, num_samples=3)(*batch)
    assert drawn["x"].shape == (3, *batch[0].shape)
    drawing = pyro.render_model(method.model, model_args=batch).source
    assert all(f"{site} [" in drawing for site in ("x", *method.elbo.evaluate(method.model, method.guide, *batch).kl))
    for elbo in (Trace_ELBO(), method.elbo):
        module = elbo(method.model, method.guide)
        optim = torch.optim.Adam(module.parameters(), lr=1e-3)
        first = next(name for name in method.model.state_dict() if name.startswith("decoder."))
        before = method.model.state_dict()[first].clone()
        module(*batch).backward()
        optim.step()
        assert not torch.equal(before, method.model.state_dict()[first])
