# Copyright ppl-disent contributors.
# SPDX-License-Identifier: Apache-2.0
"""Controllers against the published update equations, written plainly, and against closed loops with known answers."""

import math
import warnings
from collections import deque

import numpy as np
import pytest
import torch

import ppl_disent as pd
from ppl_disent.control import PI, CyclicalAnnealing, IncrementalPI, LinearAnnealing

EXACT = {"rtol": 0, "atol": 1e-12}


def recorded_kls(n=4000, seed=0):
    """A KL sequence such as a run gives: rising, noisy, with a jump."""
    rng = np.random.default_rng(seed)
    kl = 20 * (1 - np.exp(-(np.arange(n) - 400).clip(0) / 800)) + rng.normal(0, 0.2, n)
    kl[n // 2 :] += 6.0
    return kl.clip(0).tolist()


def published_incremental(kls, *, target, start, step, every, ramp, kp, ki, window, init, low, seen=None):
    """DynamicVAE, 2D-sprites/solver_dynamic.py and I_PID.py, from the equations of the fact sheet (sections 2.2, 3)."""
    C, w, last, queue = start, init, 0.0, deque([0.0] * (window - 1))
    for i, kl in enumerate(kls, start=1):
        if i >= every and i % every < ramp:
            C += step / ramp
        C = min(C, target)
        queue.append(kl)
        error = C - np.mean(queue)
        queue.popleft()
        dP = kp * (1 / (1 + math.exp(error)) - 1 / (1 + math.exp(last)))
        dI = 0.0 if w < low else -ki * error
        w, last = w + (dP + dI), error
        if seen is not None:
            seen.append(C)
        yield max(w, low)


def published_positional(kls, *, target, start, step, every, kp, ki):
    """ControlVAE, Disentangling/solver_light.py and P_PID.py (section 2.1)."""
    C, integral, w = start, 0.0, 1.0
    for i, kl in enumerate(kls, start=1):
        if i % every == 0:
            C += step
        C = min(C, target)
        error = C - kl
        integral = integral if w < 1 else integral - ki * error
        w = kp / (1 + math.exp(error)) + 1 + integral
        yield max(w, 1.0)


@pytest.mark.parametrize("window", [1, 5, 7])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_exact_incremental_law_is_the_published_one(window, dtype):
    torch.set_default_dtype(dtype)
    law = {
        "target": 18.0,
        "start": 0.5,
        "step": 1.5,
        "every": 300,
        "ramp": 100,
        "kp": 0.01,
        "ki": 0.005,
        "window": window,
    }
    points: list[float] = []
    expected = list(published_incremental(recorded_kls(), **law, init=0.5, low=0.1, seen=points))
    controller = IncrementalPI("z", **law, beta_init=0.5, beta_min=0.1, exact=True)
    betas, set_points = [], []
    for kl in recorded_kls():
        betas.append(controller.update(kl).item())
        set_points.append(controller.set_point.item())
    torch.testing.assert_close(set_points, points, rtol=0, atol=0)
    torch.testing.assert_close(betas, expected, **EXACT)
    assert min(betas) == 0.1
    assert max(betas) > 5


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_exact_positional_law_is_the_published_one(dtype):
    torch.set_default_dtype(dtype)
    law = {"target": 18.0, "start": 0.5, "step": 1.5, "every": 300, "kp": 0.01, "ki": 0.001}
    controller = PI("z", **law, exact=True)
    betas = [controller.update(kl).item() for kl in recorded_kls()]
    torch.testing.assert_close(betas, list(published_positional(recorded_kls(), **law)), **EXACT)
    assert betas[0] > 1


def test_published_set_point_schedule():
    """Section 3 of the fact sheet: C(5999) = 0.5, C(6000) = 0.50015, C(6999) = C(11999) = 0.65, C(12000) = 0.65015."""
    controller = IncrementalPI("z", target=20.0)
    at = {}
    for i in range(1, 12001):
        controller.update(1.0)
        if i in (1, 5999, 6000, 6999, 11999, 12000):
            at[i] = controller.set_point.item()
    expected = {1: 0.5, 5999: 0.5, 6000: 0.50015, 6999: 0.65, 11999: 0.65, 12000: 0.65015}
    assert at == pytest.approx(expected, abs=1e-9)


def test_update_takes_numbers_and_tensors_and_one_call_is_one_step():
    a, b = IncrementalPI("z", target=3.0), IncrementalPI("z", target=3.0)
    for kl in (1.0, 2.0, 4.0):
        assert torch.equal(a.update(kl), b.update(torch.tensor(kl, dtype=torch.float32)))
    assert a.count == 3
    assert a.update(1.0).shape == ()


# ---------------------------------------------------------------- latch-ups (fact sheet, section 2.5)


@pytest.mark.parametrize(("exact", "end"), [(True, 0.1), (False, 220.1)])
def test_latch_of_the_incremental_law(exact, end):
    """C = 18, T = 1, w_0 = 0.1249, ten batches at KL 14, then KL = 40 for 2,000 batches."""
    controller = IncrementalPI("z", target=18.0, start=18.0, window=1, beta_init=0.1249, exact=exact)
    for kl in [14.0] * 10 + [40.0] * 2000:
        beta = controller.update(kl)
    assert beta.item() == pytest.approx(end, abs=0.05)


@pytest.mark.parametrize("exact", [True, False])
def test_latch_of_the_positional_law(exact):
    """One early step with an error above 10 nats pushes the integral below -kp: the authors' beta stays at 1."""
    controller = PI("z", target=18.0, start=18.0, exact=exact)
    for kl in [0.0] + [40.0] * 1000:
        beta = controller.update(kl)
    assert (beta.item() == 1.0) is exact


@pytest.mark.parametrize("kind", [PI, IncrementalPI])
def test_upper_limit_does_not_wind_up(kind):
    options = {"beta_init": 2.0} if kind is IncrementalPI else {}
    controller = kind("z", target=5.0, start=5.0, beta_min=1.0, beta_max=3.0, ki=0.01, **options)
    for _ in range(3000):
        top = controller.update(50.0)
    assert top == 3.0
    for _ in range(150):
        beta = controller.update(2.0)
    assert beta < 1.2


def test_large_errors_do_not_overflow():
    controller = IncrementalPI("z", target=5000.0, start=5000.0, exact=True)
    assert controller.update(0.0).isfinite()
    assert controller.update(10000.0).isfinite()


def test_moving_average_starts_without_bias():
    controller = IncrementalPI("z", target=3.0, window=5)
    for kl, mean in ((2.0, 2.0), (4.0, 3.0), (6.0, 4.0), (0.0, 3.0), (3.0, 3.0), (2.0, 3.0)):
        controller.update(kl)
        assert controller.kl.item() == pytest.approx(mean)


# ---------------------------------------------------------------- closed loops


def plant(beta, g=None):
    """KL that a model settles at under a constant beta: falls like -d ln(beta), floored at 0."""
    return max(0.0, 12 - 4 * math.log(beta)) if g is None else 20 - g * beta


@pytest.mark.parametrize("kind", [PI, IncrementalPI])
def test_kl_settles_at_the_set_point(kind):
    controller = kind("z", target=8.0, start=8.0, ki=0.01)
    beta = 1.0
    for _ in range(20000):
        beta = controller.update(plant(beta)).item()
    assert plant(beta) == pytest.approx(8.0, abs=1e-3)


@pytest.mark.parametrize(("g", "stable"), [(190.0, True), (210.0, False)])
def test_stability_limit_of_the_linearised_loop(g, stable):
    """Section 5: stable iff g (kp / 2 + ki) < 2; with kp 0.01, ki 0.005 that is g < 200."""
    controller = IncrementalPI("z", target=10.0, start=10.0, window=1, beta_init=0.51, beta_min=1e-6)
    beta = (20 - 10.0) / g + 1e-5
    controller.beta.fill_(beta), controller.last.fill_(beta)
    first = None
    for _ in range(4000):
        kl = 20 - g * beta
        beta = controller.update(kl).item()
        first = abs(kl - 10.0) if first is None else first
    last = abs(20 - g * beta - 10.0)
    assert (last < first) is stable


def test_margin_is_the_closed_form_on_a_linear_plant():
    """The loop's own estimate of g, from its history, against the g of the plant."""
    controller = IncrementalPI(
        "z", target=15.0, start=5.0, step=0.5, every=100, ramp=100, window=1, beta_init=3.75, kp=0.0, ki=0.01
    )
    beta = 3.75
    assert controller.margin().isnan()
    for _ in range(2000):
        beta = controller.update(20 - 4.0 * beta).item()
    assert controller.margin().item() == pytest.approx(4.0 * 0.01 / 2, rel=1e-6)


def drive(controller, plant, steps, log_every=100):
    """The loop of `fit`, without a model."""
    beta = controller.beta.item()
    for i in range(1, steps + 1):
        beta = controller.update(plant(beta)).item()
        if i % log_every == 0:
            controller.after_record(None, {k: v.item() for k, v in controller.record().items()})


def test_warns_of_a_set_point_out_of_reach():
    with pytest.warns(UserWarning, match="beta_min=0.1.*above what the KL reaches.*Lower the target or beta_min"):
        drive(IncrementalPI("z", target=50.0, start=50.0, beta_init=1.0, patience=500), lambda b: plant(b), 2000)
    with pytest.warns(UserWarning, match="beta_max=2.*below what the KL can be pressed to"):
        drive(IncrementalPI("z", target=1.0, beta_init=1.0, beta_max=2.0, patience=500), lambda b: plant(b), 2000)


def test_warns_near_the_stability_limit_and_only_once():
    controller = IncrementalPI("z", target=10.0, start=10.0, window=1, beta_init=0.2, beta_min=0.01)
    with pytest.warns(UserWarning, match="stability margin") as caught:
        drive(controller, lambda beta: 20 - 150 * beta, 3000)
    assert len(caught) == 1


def test_a_healthy_loop_does_not_warn():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        controller = IncrementalPI("z", target=8.0, start=1.0, every=100, ramp=50, step=0.5, beta_init=10.0)
        drive(controller, plant, 8000)
        controller.after_fit(None, None)
    assert plant(controller.beta.item()) == pytest.approx(8.0, abs=0.1)


# ---------------------------------------------------------------- annealing


def test_linear_annealing():
    schedule = LinearAnnealing("z", steps=4, start=1.0, stop=3.0)
    assert [schedule.update().item() for _ in range(7)] == [1.0, 1.5, 2.0, 2.5, 3.0, 3.0, 3.0]


def test_cyclical_annealing():
    schedule = CyclicalAnnealing("z", period=4, cycles=2, ratio=0.5, stop=2.0)
    assert [schedule.update().item() for _ in range(10)] == [0.0, 1.0, 2.0, 2.0, 0.0, 1.0, 2.0, 2.0, 2.0, 2.0]


# ---------------------------------------------------------------- state, and bad input

KINDS = [
    lambda: IncrementalPI("z", target=9.0, every=5, ramp=2),
    lambda: PI("z", target=9.0, every=5),
    lambda: LinearAnnealing("z", steps=50),
    lambda: CyclicalAnnealing("z", period=7),
]


@pytest.mark.parametrize("make", KINDS)
def test_state_dict_holds_everything(make):
    kls = recorded_kls(60)
    whole, first, second = make(), make(), make()
    expected = [whole.update(kl) for kl in kls]
    for kl in kls[:30]:
        first.update(kl)
    second.load_state_dict(first.state_dict())
    assert torch.equal(torch.stack([second.update(kl) for kl in kls[30:]]), torch.stack(expected[30:]))


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (lambda: IncrementalPI("z", target=-1.0), "target"),
        (lambda: IncrementalPI("z", target=math.inf), "target"),
        (lambda: IncrementalPI("z", target=3.0, ramp=7000), "ramp"),
        (lambda: IncrementalPI("z", target=3.0, every=0), "every"),
        (lambda: IncrementalPI("z", target=3.0, ki=-0.005), "ki"),
        (lambda: IncrementalPI("z", target=3.0, kp=-0.005), "kp"),
        (lambda: IncrementalPI("z", target=3.0, beta_min=0.0), "beta_min"),
        (lambda: IncrementalPI("z", target=3.0, beta_init=0.01), "beta_init"),
        (lambda: IncrementalPI("z", target=3.0, beta_max=0.05), "beta_max"),
        (lambda: IncrementalPI("z", target=3.0, window=0), "window"),
        (lambda: PI("z", target=0.0), "target"),
        (lambda: PI("z", target=3.0, beta_min=-1.0), "beta_min"),
        (lambda: LinearAnnealing("z", steps=0), "steps"),
        (lambda: CyclicalAnnealing("z", period=10, ratio=0.0), "ratio"),
    ],
)
def test_bad_arguments(make, name):
    with pytest.raises(pd.ArgumentError, match=f"^{name}: got"):
        make()


# ---------------------------------------------------------------- on a real pair


def digits():
    from sklearn.datasets import load_digits

    return torch.tensor(load_digits().data / 16, dtype=torch.float32).reshape(-1, 1, 8, 8)


@pytest.mark.parametrize("name", ["dynamic_vae", "control_vae", "beta_vae"])
def test_controllers_hold_the_kl_of_a_vae_at_the_set_point(name):
    """beta-VAE's KL lands where it lands; both controllers' at 3 nats."""
    torch.set_default_dtype(torch.float32)
    options = {
        "dynamic_vae": {"target_kl": 3.0, "start": 3.0, "beta_init": 2.0, "ki": 0.01},
        "control_vae": {"target_kl": 3.0, "start": 3.0, "ki": 0.01},
        "beta_vae": {"beta": 4.0},
    }[name]
    method = getattr(pd, name)((1, 8, 8), latent_dim=4, lr=2e-3, **options)
    run = method.fit(digits(), steps=1500, progress=False, device="cpu", log_every=500)
    kl = run.history["kl.z"].iloc[-1]
    if name == "beta_vae":
        assert run.history["kl_scale.z"].iloc[-1] == 4.0
        assert not 2.7 < kl < 3.3
    else:
        assert kl == pytest.approx(3.0, abs=0.15)
        trace = ("set_point", "smoothed_kl", "p", "i", "saturation", "beta", "margin")
        assert {f"{column}.z" for column in trace} <= set(run.history.columns)
        assert run.history["beta.z"].iloc[-1] == pytest.approx(run.history["kl_scale.z"].iloc[-1])


def test_unknown_site_is_found_before_training():
    method = pd.vae((1, 4, 4), latent_dim=2)
    with pytest.raises(pd.SiteError, match=r"IncrementalPI: no latent site 'w'; the model has \['z'\]"):
        method.fit(torch.rand(8, 1, 4, 4), steps=3, callbacks=[IncrementalPI("w", target=3.0)], progress=False)
