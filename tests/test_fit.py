# Copyright ppl-disent contributors.
# SPDX-License-Identifier: Apache-2.0
"""The loop: bad input at the door, failures, checkpoints, kills, precision, any iterable."""

import os
import signal
import subprocess
import sys
import time
import zipfile

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.nn import PyroModule, PyroParam
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import ppl_disent as pd
from ppl_disent.checkpoint import previous

QUIET = {"steps": 6, "batch_size": 4, "progress": False, "device": "cpu", "log_every": 2}
X = torch.rand(10, 1, 4, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def vae(**options):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        return pd.vae((1, 4, 4), **({"latent_dim": 2, "network": "mlp"} | options))


def parameters(method):
    return [p.detach().clone() for program in (method.model, method.guide) for p in program.parameters()]


# ---------------------------------------------------------------- bad input, before any training


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({"steps": 0}, "steps"),
        ({"steps": -1}, "steps"),
        ({"steps": 2.5}, "steps"),
        ({"batch_size": 0}, "batch_size"),
        ({"log_every": 0}, "log_every"),
        ({"checkpoint_every": 0}, "checkpoint_every"),
        ({"precision": "float8"}, "precision"),
        ({"device": "abacus"}, "device"),
        ({"device": "cuda:99"}, "device"),
        ({"resume": True}, "resume"),
        ({"optim": torch.optim.Adam}, "optim"),
        ({"manifold_optim": torch.optim.Adam}, "manifold_optim"),
        ({"checkpoint": "/proc/nowhere/run.pt"}, "checkpoint"),
    ],
)
def test_bad_options(options, name):
    method = vae()
    before = parameters(method)
    with pytest.raises(pd.ArgumentError, match=f"^{name}: got"):
        method.fit(X, **(QUIET | options))
    assert all(torch.equal(a, b) for a, b in zip(before, parameters(method), strict=True))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (X.new_ones(10, 1, 5, 5), "got shape .* expected 16 values"),
        (X.float(), "got dtype torch.float32, expected torch.float64"),
        ((X * 255).to(torch.uint8), r"uint8.*Try x.float\(\) / 255"),
        (X * 2 - 1, r"x: got values from -0.* to 0.*, expected values in \[0, 1\] \(Bernoulli\)"),
        (torch.cat([X, X.new_full((1, 1, 4, 4), float("nan"))]), "field 0 of the batch has NaN"),
        (torch.cat([X, X.new_full((1, 1, 4, 4), 7.0)]), r"expected values in \[0, 1\]"),
        ((X, torch.zeros(9)), r"lengths \[10, 9\]"),
        (torch.zeros(0, 1, 4, 4), "no rows"),
        ([], "without a batch"),
        (["text"], "batches of str"),
        (7, "data: got 'int'"),
        (None, "data: got 'NoneType'"),
    ],
)
def test_bad_data(data, message):
    with pytest.raises((pd.DataError, pd.ArgumentError), match=message):
        vae().fit(data, **QUIET)


def test_conv_networks_name_the_shape_they_want():
    with pytest.raises(pd.DataError, match=r"got images of shape \(4, 1, 16, 16\), expected \(batch, 1, 64, 64\)"):
        pd.vae((1, 64, 64)).fit(torch.rand(4, 1, 16, 16), **QUIET)


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (lambda: pd.vae((1, 4, 4), latent_dim=0), "latent_dim"),
        (lambda: pd.vae((1, 4, 4), lr=-1e-3), "lr"),
        (lambda: pd.vae((1, 4, 4), likelihood="cauchy"), "likelihood"),
        (lambda: pd.vae((1, 4, 4), likelihood="gaussian", sigma=0.0), "sigma"),
        (lambda: pd.vae((1, 4, 4), sigma=0.5), "sigma, learn_sigma"),
        (lambda: pd.vae((1, 4, 4), network="transformer"), "network"),
        (lambda: pd.vae((1, 30, 30), network="conv"), "shape"),
        (lambda: pd.vae((), network="mlp"), "inputs"),
        (lambda: pd.beta_vae((1, 4, 4), beta=float("nan")), "kl_scale"),
        (lambda: pd.capacity_vae((1, 4, 4), capacity=0), "capacity"),
        (lambda: pd.capacity_vae((1, 4, 4), capacity_steps=0), "capacity_steps"),
        (lambda: pd.load("nothing"), "name"),
    ],
)
def test_bad_builder_arguments(make, name):
    with pytest.raises(pd.ArgumentError, match=f"^{name}: got"):
        make()


def test_unknown_options_are_refused():
    with pytest.raises(TypeError, match="stepz"):
        vae().fit(X, stepz=3, **QUIET)
    with pytest.raises(TypeError, match="betta"):
        pd.beta_vae((1, 4, 4), betta=3.0)


def test_programs_must_be_modules():
    with pytest.raises(pd.ArgumentError, match=r"model: got .* expected a torch.nn.Module"):
        pd.fit(lambda x: None, nn.Linear(1, 1), pd.TermELBO(), X, **QUIET)


def test_param_statements_outside_of_the_module_are_refused():
    class Guide(nn.Module):
        def forward(self, x):
            loc = pyro.param("loc", torch.zeros(2))
            with pyro.plate("data", len(x)):
                pyro.sample("z", dist.Normal(loc, 1.0).to_event(1))

    with pytest.raises(pd.ArgumentError, match=r"a pyro.param statement 'loc'"):
        pd.fit(vae().model, Guide(), pd.TermELBO(), X, **QUIET)


# ---------------------------------------------------------------- failures in the loop


class Poison:
    """Makes the guide's first weight infinite after a step."""

    def __init__(self, at):
        self.at = at

    def after_step(self, svi, step):
        if svi.index == self.at:
            with torch.no_grad():
                next(iter(svi.guide.parameters())).fill_(float("inf"))


def test_nan_stops_with_step_and_term_and_keeps_the_last_good_checkpoint(tmp_path):
    path = tmp_path / "run.pt"
    with pytest.raises(pd.NonFiniteError, match=r"kl.z became .* at step 6") as caught:
        vae().fit(X, **(QUIET | {"steps": 20}), checkpoint=path, checkpoint_every=2, callbacks=[Poison(5)])
    assert (caught.value.step, caught.value.term) == (6, "kl.z")
    run = pd.Run.load(path, vae())
    assert run.step == 4
    assert all(p.isfinite().all() for p in run.guide.parameters())


def test_non_finite_terms_before_training():
    method = vae()
    method.elbo.terms["bad"] = (1.0, lambda step: step.kl["z"] * float("nan"))
    with pytest.raises(pd.NonFiniteError, match=r"extra.bad became nan at step 0"):
        method.fit(X, **QUIET)
    method.elbo.terms["bad"] = (1.0, lambda step: step["z"])
    with pytest.raises(pd.ArgumentError, match=r"extra.bad: got .* expected a 0-dim tensor"):
        method.fit(X, **QUIET)


# ---------------------------------------------------------------- checkpoints


def test_an_existing_checkpoint_is_not_overwritten(tmp_path):
    vae().fit(X, checkpoint=tmp_path / "run.pt", **QUIET)
    before = (tmp_path / "run.pt").read_bytes()
    with pytest.raises(pd.CheckpointError, match=r"exists already.*resume=True"):
        vae().fit(X, checkpoint=tmp_path / "run.pt", **QUIET)
    assert (tmp_path / "run.pt").read_bytes() == before


def test_resume_without_a_checkpoint_starts(tmp_path):
    assert vae().fit(X, checkpoint=tmp_path / "sub" / "run.pt", resume=True, **QUIET).step == 6


def test_resume_names_the_settings_that_differ(tmp_path):
    path = tmp_path / "run.pt"
    vae().fit(X, checkpoint=path, **QUIET)

    def again(method=None, data=X, **options):
        (method or vae()).fit(data, checkpoint=path, resume=True, **(QUIET | {"steps": 8} | options))

    with pytest.raises(pd.CheckpointError, match="batch_size was 4 and is now 5; seed was 0 and is now 3"):
        again(batch_size=5, seed=3)
    with pytest.raises(pd.CheckpointError, match=r"optim.lr was '0.0001' and is now '0.01'.*method.lr"):
        again(vae(lr=0.01))
    with pytest.raises(pd.CheckpointError, match="of a run of vae, and this is beta_vae"):
        again(pd.beta_vae((1, 4, 4), latent_dim=2, network="mlp"))
    with pytest.raises(pd.CheckpointError, match="data was"):
        again(data=X * 0.5)
    with pytest.raises(pd.CheckpointError, match=r"method.latent_dim was 2 and is now 3"):
        again(vae(latent_dim=3))
    with pytest.raises(pd.CheckpointError, match="LinearAnnealing"):
        again(callbacks=[pd.LinearAnnealing("z", steps=5)])
    with pytest.raises(pd.ArgumentError, match="steps: got 3, expected at least the 6 of the checkpoint"):
        again(steps=3)
    again()


@pytest.mark.parametrize("damage", ["truncate", "flip", "text", "empty"])
def test_a_damaged_checkpoint_is_reported_and_the_one_before_used(damage, tmp_path):
    path = tmp_path / "run.pt"
    whole = vae()
    whole.fit(X, **(QUIET | {"steps": 9}))
    vae().fit(X, checkpoint=path, checkpoint_every=3, **QUIET)
    data = bytearray(path.read_bytes())
    if damage == "flip":
        with zipfile.ZipFile(path) as archive:
            weight = next(i for i in archive.infolist() if i.file_size > 100 and "/data/" in i.filename)
        data[weight.header_offset + 200] ^= 0xFF
    broken = {"truncate": data[: len(data) // 2], "flip": data, "text": b"not a checkpoint", "empty": b""}[damage]
    path.write_bytes(broken)
    resumed = vae()
    with pytest.warns(UserWarning, match=r"run.pt: damaged.*Using the one before it, of step 3"):
        resumed.fit(X, checkpoint=path, resume=True, **(QUIET | {"steps": 9}))
    assert all(torch.equal(a, b) for a, b in zip(parameters(whole), parameters(resumed), strict=True))
    assert torch.load(previous(path), weights_only=True)["svi"]["index"] == 3, "the damage was not rotated over it"
    path.write_bytes(broken)
    previous(path).unlink()
    with pytest.raises(pd.CheckpointError, match="There is no earlier one"):
        vae().fit(X, checkpoint=path, resume=True, **QUIET)


def test_a_foreign_checkpoint_is_refused(tmp_path):
    torch.save({"weights": torch.zeros(3)}, tmp_path / "foreign.pt")
    with pytest.raises(pd.CheckpointError, match="not a checkpoint of a ppl-disent run"):
        pd.Run.load(tmp_path / "foreign.pt")
    with pytest.raises(pd.CheckpointError, match="no such checkpoint"):
        pd.Run.load(tmp_path)


def test_a_run_of_programs_without_a_builder_needs_them_to_be_opened(tmp_path):
    method = vae()
    pd.fit(method.model, method.guide, method.elbo, X, checkpoint=tmp_path / "checkpoint.pt", **QUIET)
    with pytest.raises(pd.CheckpointError, match="Pass method="):
        pd.Run.load(tmp_path)
    run = pd.Run.load(tmp_path, vae())
    assert torch.equal(run.posterior.reconstruct(X), pd.Posterior(method.model, method.guide).reconstruct(X))
    with pytest.raises(pd.CheckpointError, match="do not fit"):
        pd.Run.load(tmp_path, vae(latent_dim=5))


def identical(a, b):
    """Bit for bit, NaN included, through dicts and lists."""
    if isinstance(a, torch.Tensor):
        return a.dtype == b.dtype and a.shape == b.shape and a.numpy().tobytes() == b.numpy().tobytes()
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(identical(a[k], b[k]) for k in a)
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(map(identical, a, b))
    return a == b


KILLED = """
import sys, torch
sys.path.insert(0, {root!r})
import ppl_disent as pd
torch.manual_seed(1)
method = pd.dynamic_vae((1, 8, 8), latent_dim=3, target_kl=2.0, every=10, ramp=5, beta_init=2.0, lr=1e-3)
x = torch.rand(50, 1, 8, 8, generator=torch.Generator().manual_seed(0))
method.fit(x, steps={steps}, batch_size=8, checkpoint={path!r}, checkpoint_every=7, log_every=5, resume=True,
           progress=False, device="cpu")
"""


def test_a_run_killed_again_and_again_ends_bit_identical(tmp_path):
    """SIGKILL at any moment; controller, sampler, optimizer, history and random state included."""
    root, environment = str(pd.__path__[0] + "/.."), os.environ | {"OMP_NUM_THREADS": "1"}

    def start(path, steps=400):
        code = KILLED.format(root=root, path=str(path), steps=steps)
        return subprocess.Popen([sys.executable, "-c", code], env=environment)

    whole, killed = tmp_path / "whole.pt", tmp_path / "killed.pt"
    assert start(whole).wait() == 0
    for kill in range(3):
        process = start(killed)
        seen = killed.stat().st_mtime_ns if killed.exists() else 0
        while process.poll() is None and (killed.stat().st_mtime_ns if killed.exists() else 0) <= seen:
            time.sleep(0.005)
        time.sleep(0.013 * kill)
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert start(killed).wait() == 0
    a, b = (torch.load(path, weights_only=True) for path in (whole, killed))
    assert a["svi"]["index"] == 400
    assert identical(a, b)


# ---------------------------------------------------------------- what else goes in


def test_any_iterable_of_batches():
    loader = DataLoader(TensorDataset(X), batch_size=5, shuffle=True)
    assert vae().fit(loader, **QUIET).step == 6
    assert vae().fit([X[:4], X[4:8]], **QUIET).step == 6
    with pytest.raises(pd.DataError, match="cannot be started again"):
        vae().fit((x for x in [X[:4], X[4:8]]), **QUIET)


def test_an_iterable_is_given_batch_by_batch_in_its_order():
    seen = []

    class Look:
        def after_step(self, svi, step):
            seen.append(step.batch[0])

    vae().fit([X[:4], X[4:8], X[8:]], callbacks=[Look()], **QUIET)
    assert all(torch.equal(a, b) for a, b in zip(seen, [X[:4], X[4:8], X[8:]] * 2, strict=True))


def test_each_epoch_visits_every_row_once():
    seen = []

    class Look:
        def after_step(self, svi, step):
            seen.append(step.batch[1])

    vae().fit((X, torch.arange(10)), callbacks=[Look()], **(QUIET | {"batch_size": 5}))
    for epoch in range(3):
        assert torch.cat(seen[2 * epoch : 2 * epoch + 2]).sort().values.tolist() == list(range(10))
    assert not torch.equal(seen[0], seen[2])


@pytest.mark.parametrize("optim", [lambda: pyro.optim.Adam({"lr": 1e-3}), lambda: pyro.optim.ClippedAdam({"lr": 1e-3})])
def test_any_pyro_optim_trains_and_resumes(optim, tmp_path):
    whole, first, second = vae(), vae(), vae()
    whole.fit(X, optim=optim(), **QUIET)
    first.fit(X, optim=optim(), checkpoint=tmp_path / "run.pt", **(QUIET | {"steps": 3}))
    second.fit(X, optim=optim(), checkpoint=tmp_path / "run.pt", resume=True, **QUIET)
    assert all(torch.equal(a, b) for a, b in zip(parameters(whole), parameters(second), strict=True))
    assert not any(torch.equal(a, b) for a, b in zip(parameters(whole), parameters(vae()), strict=True))


def test_per_parameter_options_of_a_pyro_optim_get_names():
    names = set()

    def options(name):
        names.add(name)
        return {"lr": 0.0 if name.startswith("model") else 1e-3}

    method = vae()
    before = parameters(method)
    method.fit(X, optim=pyro.optim.Adam(options), **QUIET)
    frozen = [torch.equal(a, b) for a, b in zip(before, parameters(method), strict=True)]
    count = len(list(method.model.parameters()))
    assert frozen == [True] * count + [False] * (len(frozen) - count)
    assert {"model.decoder.net.0.weight", "guide.networks.z.net.0.weight"} <= names


def test_gradient_clipping_is_over_all_tensors():
    method = vae()
    optim = pd.JointOptim(torch.optim.SGD, {"lr": 1.0}, {"clip_norm": 1e-3})
    before = parameters(method)
    method.fit(X, optim=optim, **(QUIET | {"steps": 1}))
    moved = sum((a - b).square().sum() for a, b in zip(before, parameters(method), strict=True)).sqrt()
    assert moved.item() == pytest.approx(1e-3, rel=1e-3)


def test_autoguides_and_pyro_modules():
    class Model(PyroModule):
        def __init__(self):
            super().__init__()
            self.scale = PyroParam(torch.tensor(2.0), constraint=dist.constraints.positive)

        def forward(self, x):
            mu = pyro.sample("mu", dist.Normal(0.0, 10.0))
            with pyro.plate("data", len(x)):
                pyro.sample("x", dist.Normal(mu, self.scale), obs=x)

    x = 3 + 0.5 * torch.randn(200)
    model = Model()
    guide = pyro.infer.autoguide.AutoNormal(model)
    run = pd.fit(model, guide, pd.TermELBO(), x, optim=pd.adam(0.05), **(QUIET | {"steps": 600, "batch_size": 200}))
    assert model.scale.item() == pytest.approx(0.5, abs=0.1)
    assert guide.median()["mu"].item() == pytest.approx(3.0, abs=0.15)
    assert run.history["loss"].iloc[-1] < run.history["loss"].iloc[0]


def test_bfloat16_runs_the_networks_only():
    torch.set_default_dtype(torch.float32)
    seen = set()

    class Look:
        def after_step(self, svi, step):
            seen.update({step["z"].dtype, step.loss.dtype, *(p.dtype for p in svi.parameters)})

    x = X.float()
    exact = vae().fit(x, **(QUIET | {"steps": 50}))
    low = vae().fit(x, precision="bfloat16", callbacks=[Look()], **(QUIET | {"steps": 50}))
    auto = vae().fit(x, precision="auto", **(QUIET | {"steps": 50}))
    assert auto.history.equals((low if auto.settings["precision"] == "bfloat16" else exact).history)
    assert seen == {torch.float32}
    a, b = exact.history["loss"].iloc[0], low.history["loss"].iloc[0]
    assert a != b
    assert a == pytest.approx(b, rel=0.02)
    assert "forward" not in vars(low.model.decoder), "the network's own forward is back"


def test_bfloat16_leaves_contiguous_parameters_and_optimizer_state(tmp_path):
    """Convolutions are channels-last meanwhile; optimizer state follows, so a later fit has the right moments."""
    torch.set_default_dtype(torch.float32)
    x = torch.rand(8, 1, 16, 16)
    options = {"steps": 4, "batch_size": 4, "progress": False, "device": "cpu", "precision": "bfloat16"}
    whole, first, second = (pd.vae((1, 16, 16), latent_dim=2) for _ in range(3))
    for other in (first, second):
        other.model.load_state_dict(whole.model.state_dict())
        other.guide.load_state_dict(whole.guide.state_dict())
    whole.fit(x, **options)
    first.fit(x, checkpoint=tmp_path / "run.pt", **(options | {"steps": 2}))
    second.fit(x, checkpoint=tmp_path / "run.pt", resume=True, **options)
    assert all(torch.equal(a, b) for a, b in zip(parameters(whole), parameters(second), strict=True))
    for p, state in whole.optim.optimizer.state.items():
        assert p.is_contiguous()
        assert state["exp_avg"].stride() == p.stride()


def test_history_rows_are_means_over_their_steps():
    losses = []

    class Look:
        def after_step(self, svi, step):
            losses.append(step.loss.item())

    history = vae().fit(X, callbacks=[Look()], **(QUIET | {"steps": 7, "log_every": 3})).history
    assert list(history.index) == [3, 6, 7]
    expected = [sum(losses[:3]) / 3, sum(losses[3:6]) / 3, losses[6]]
    assert history["loss"].tolist() == pytest.approx(expected)
    assert history.index.name == "step"
    assert {"kl.z", "kl_scale.z", "log_lik.x"} <= set(history.columns)


def test_hooks_are_called_in_order_and_once():
    calls = []

    class Hook:
        def __call__(self, step):
            return step.kl["z"] * 0

        def before_fit(self, svi, data):
            calls.append("before_fit")

        def before_backward(self, svi, step):
            assert step.loss is None
            calls.append("before_backward")

        def after_step(self, svi, step):
            calls.append("after_step")

        def after_record(self, svi, row):
            assert row["extra.t"] == 0
            calls.append("after_record")

        def record(self):
            return {"mine": torch.tensor(3.0)}

        def after_fit(self, run, data):
            calls.append("after_fit")

    hook, method = Hook(), vae()
    method.elbo.terms["t"] = (1.0, hook)
    run = method.fit(X, callbacks=[hook], **(QUIET | {"steps": 2, "log_every": 2}))
    step = ["before_backward", "after_step"]
    assert calls == ["before_fit", *step, *step, "after_record", "after_fit"]
    assert run.history["mine"].tolist() == [3.0]


def test_a_callback_changes_the_weight_of_the_very_batch():
    class Free(pd.control.KLScale):
        def update(self, kl):
            return kl * 2

    losses = []

    class Look:
        def after_step(self, svi, step):
            losses.append((step.loss, 2 * step.kl["z"] ** 2 - step.log_lik["x"]))

    vae().fit(X, callbacks=[Free("z"), Look()], **QUIET)
    for loss, expected in losses:
        torch.testing.assert_close(loss, expected)


def test_a_users_own_model_with_two_sites_and_a_controller():
    """The model of the README: p(s) p(z) p(x | s, z)."""
    from guides import Gaussian

    class Shared(nn.Module):
        def __init__(self, decoder, s, z):
            super().__init__()
            self.decoder, self.s, self.z = decoder, s, z

        def forward(self, x):
            with pyro.plate("data", len(x)):
                s = pyro.sample("s", dist.Normal(x.new_zeros(self.s), 1.0).to_event(1))
                z = pyro.sample("z", dist.Normal(x.new_zeros(self.z), 1.0).to_event(1))
                logits = self.decoder(torch.cat([s, z], -1))
                pyro.sample("x", dist.Bernoulli(logits=logits, validate_args=False).to_event(3), obs=x)

    model = Shared(pd.MLP(5, (1, 4, 4)), s=2, z=3)
    guide = Gaussian(s=pd.MLP(16, 4), z=pd.MLP(16, 6))
    elbo = pd.TermELBO(kl_scale={"s": 1.0, "z": 4.0})
    run = pd.fit(model, guide, elbo, X, callbacks=[pd.IncrementalPI("s", target=3.0)], **QUIET)
    assert {"kl.s", "kl.z", "beta.s", "kl_scale.z"} <= set(run.history.columns)
    assert run.history["kl_scale.z"].iloc[-1] == 4.0
    q = run.posterior
    assert q.encode(X)["z"].mean.shape == (10, 3)
    assert q.traverse("s", 0, torch.linspace(-3, 3, 9), X[:1]).shape == (1, 9, 1, 4, 4)
    with pytest.raises(pd.SiteError, match="no latent site 'w'"):
        q.traverse("w", 0, [0.0], X)
    with pytest.raises(pd.ArgumentError, match="dim: got 2"):
        q.traverse("s", 2, [0.0], X)
    with pytest.raises(pd.SiteError, match=r"no site \['w'\]"):
        q.decode(w=torch.zeros(3, 2))
    assert q.decode(s=torch.zeros(3, 2)).batch_shape == (3,)


@pytest.mark.cuda
def test_a_step_makes_no_host_synchronisation():
    torch.set_default_dtype(torch.float32)
    for name in ("vae", "dynamic_vae", "control_vae", "capacity_vae"):
        method = getattr(pd, name)((1, 8, 8), latent_dim=3)
        x = torch.rand(16, 1, 8, 8, device="cuda")
        for part in (method.model, method.guide, *(h for h in method.callbacks)):
            part.to("cuda")
        for _, term in method.elbo.terms.values():
            term.to("cuda")
        svi = pd.SVI(method.model, method.guide, method.optim, method.elbo, callbacks=method.callbacks)
        with pyro.validation_enabled(False):
            for _ in range(3):
                svi.step(x)
            torch.cuda.synchronize()
            torch.cuda.set_sync_debug_mode("error")
            try:
                svi.step(x)
            finally:
                torch.cuda.set_sync_debug_mode("default")


@pytest.mark.cuda
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_fit_on_cuda_is_repeatable_and_resumes(precision, tmp_path):
    torch.set_default_dtype(torch.float32)
    options = QUIET | {"device": "cuda", "precision": precision, "steps": 20}
    whole, first, second = vae(), vae(), vae()
    whole.fit(X.float(), **options)
    first.fit(X.float(), checkpoint=tmp_path / "run.pt", **(options | {"steps": 9}))
    second.fit(X.float(), checkpoint=tmp_path / "run.pt", resume=True, **options)
    assert all(torch.equal(a, b) for a, b in zip(parameters(whole), parameters(second), strict=True))
