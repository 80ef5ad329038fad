# Copyright ppl-disent contributors.
# SPDX-License-Identifier: Apache-2.0
"""`python -m experiments.train`: what it writes is true, it resumes, and it refuses before it trains."""

import inspect
import json
import subprocess
import sys
from datetime import datetime
from pathlib import Path

import pandas
import pytest
import torch

import ppl_disent as pd
from experiments import outcome, train
from ppl_disent.data import Arrays

FILES = {
    "checkpoint.pt",
    "config.json",
    "curves.png",
    "history.csv",
    "history.jsonl",
    "metrics.json",
    "reconstructions.png",
    "traversal.png",
}
FAST = ["--data", "digits", "--log-every", "5", "--no-progress", "--device", "cpu", "--network", "mlp"]
SHORT = [*FAST, "--latent-dim", "3", "--lr", "1e-3"]
DYNAMIC = ["dynamic_vae", *SHORT, "--target-kl", "3", "--every", "10", "--ramp", "5", "--beta-init", "5"]


@pytest.fixture(autouse=True)
def _as_from_a_shell(tmp_path, monkeypatch):
    torch.set_default_dtype(torch.float32)
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The folder of a run of 20 steps."""
    out = tmp_path_factory.mktemp("finished") / "run"
    default = torch.get_default_dtype()
    torch.set_default_dtype(torch.float32)
    train.main([*DYNAMIC, "--steps", "20", "--out", str(out)])
    torch.set_default_dtype(default)
    return out


def refused(capsys, *argv: str) -> str:
    """What a command that cannot be run says."""
    with pytest.raises(SystemExit) as stop:
        train.main(argv)
    assert stop.value.code == 2
    said = capsys.readouterr()
    assert "Traceback" not in said.err
    assert not list(Path().iterdir()), "something was left behind"
    return said.err


def test_it_writes_everything_and_says_so(capsys):
    train.main([*DYNAMIC, "--steps", "20", "--seed", "3"])
    out = Path("runs/dynamic_vae-digits-s3")
    assert {file.name for file in out.iterdir()} == FILES
    said = capsys.readouterr().out
    assert all(str(out / file) in said for file in FILES)
    for word in ("dynamic_vae", "digits", "reconstruction", "KL of z", "set point", "beta of z", "MIG", "RMIG"):
        assert word in said
    assert all((out / file).read_bytes().startswith(b"\x89PNG") for file in FILES if file.endswith("png"))


def test_history_is_that_of_the_run(finished):
    written = pandas.read_csv(finished / "history.csv", index_col="step")
    assert list(written.index) == [5, 10, 15, 20]
    assert {"loss", "kl.z", "log_lik.x", "kl_scale.z", "set_point.z"} <= set(written.columns)
    pandas.testing.assert_frame_equal(written, pd.Run.load(finished).history)


def test_a_run_can_be_read_while_it_is_trained(monkeypatch, capsys, finished):
    def stopped(path, content):
        raise KeyboardInterrupt

    monkeypatch.setattr(train.checkpoint, "save", stopped)
    with pytest.raises(SystemExit, match="130"):
        train.main([*DYNAMIC, "--steps", "20", "--out", "run", "--checkpoint-every", "12"])
    assert {file.name for file in Path("run").iterdir()} == {"config.json", "history.jsonl"}
    rows = pandas.read_json("run/history.jsonl", lines=True).set_index("step")
    whole = pandas.read_csv(finished / "history.csv", index_col="step")
    pandas.testing.assert_frame_equal(rows, whole.loc[[5, 10]].astype(rows.dtypes))
    config = json.loads(Path("run/config.json").read_text())
    assert (config["method"], config["options"]["steps"]) == ("dynamic_vae", 20)


def test_tensorboard_beside_it():
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    train.main([*DYNAMIC, "--steps", "10", "--out", "run", "--tensorboard"])
    events = accumulator.EventAccumulator("run/tensorboard")
    events.Reload()
    assert [e.step for e in events.Scalars("kl/z")] == [5, 10]
    assert set(events.Tags()["images"]) == {"reconstructions", "traversal/z"}
    train.main([*DYNAMIC, "--steps", "15", "--out", "run", "--resume"])


def test_metrics_are_those_of_the_posterior(finished):
    metrics, run, data = json.loads((finished / "metrics.json").read_text()), pd.Run.load(finished), pd.load("digits")
    x = data.batch(range(len(data)))[0]
    q, z = run.posterior, run.posterior.encode(x)["z"]
    error = pd.reconstruction_error(x, q.decode(x, z=z.mean))
    kl = torch.distributions.kl_divergence(z.base_dist, torch.distributions.Normal(0.0, 1.0)).mean(0)
    assert metrics["reconstruction"]["nats_per_datum"] == pytest.approx(float(error), rel=1e-5)
    assert metrics["kl"]["z"]["per_latent"] == pytest.approx(kl.tolist(), rel=1e-4)
    assert metrics["kl"]["z"]["nats_per_datum"] == pytest.approx(float(kl.sum()), rel=1e-4)
    for name, score in {"mig": pd.mig(z.mean, data.factors), "rmig": pd.rmig(z, data.factors)}.items():
        assert metrics[name]["value"] == pytest.approx(float(score), abs=1e-3)
        assert metrics[name]["estimator"] == score.estimator
        assert set(metrics[name]["per_factor"]) == {"digit"}
    beta = run.history["kl_scale.z"]
    assert metrics["beta"]["z"] == {"first": beta[5], "first_step": 5, "last": beta[20]}
    assert metrics["set_point"]["z"] == run.history["set_point.z"][20]
    assert (metrics["method"], metrics["data"], metrics["steps"]) == ("dynamic_vae", "digits", 20)
    training = metrics["training"]
    assert training["steps_per_second"] == pytest.approx(20 / training["seconds"])


def test_config_has_what_is_needed_to_do_it_again(finished):
    config = json.loads((finished / "config.json").read_text())
    options = {"steps": 20, "seed": 0, "target_kl": 3.0, "ramp": 5, "beta_min": 0.1, "device": "cpu"}
    assert options.items() <= config["options"].items()
    assert config["settings"]["method.likelihood"] == "bernoulli"
    assert config["command"].startswith("python -m experiments.train dynamic_vae --data digits")
    assert set(config["machine"]) == {"system", "processor", "GPU"}
    began = datetime.fromisoformat(config["began"])
    assert 0 <= (datetime.now().astimezone() - began).total_seconds() < 3600
    assert set(config["versions"]) == {"ppl_disent", "python", "torch", "pyro"}


def test_the_same_command_gives_the_same_numbers(finished):
    train.main([*DYNAMIC, "--steps", "20", "--out", "again"])
    assert Path("again/history.csv").read_bytes() == (finished / "history.csv").read_bytes()


def test_resume_equals_the_uninterrupted_run(finished):
    command = [*DYNAMIC, "--out", "run"]
    train.main([*command, "--steps", "13"])
    train.main([*command, "--steps", "20", "--resume"])
    # The 13th step closed a row of the first run; all else is the same.
    whole, parts = (pandas.read_csv(file / "history.csv", index_col=0) for file in (finished, Path("run")))
    pandas.testing.assert_frame_equal(parts.loc[[5, 10, 20], ["kl_scale.z"]], whole.loc[[5, 10, 20], ["kl_scale.z"]])
    a, b = (pd.Run.load(folder) for folder in (finished, Path("run")))
    assert all(torch.equal(p, q) for p, q in zip(a.guide.parameters(), b.guide.parameters(), strict=True))
    metrics = json.loads(Path("run/metrics.json").read_text())
    assert metrics["training"]["steps"] == 7


def test_resume_at_a_row_gives_the_same_history(finished):
    train.main([*DYNAMIC, "--out", "run", "--steps", "10"])
    train.main([*DYNAMIC, "--out", "run", "--steps", "20", "--resume"])
    assert Path("run/history.csv").read_bytes() == (finished / "history.csv").read_bytes()


def test_resume_of_a_finished_run_writes_its_files_again(finished):
    command = [*DYNAMIC, "--out", "run", "--steps", "20"]
    train.main(command)
    for file in ("history.csv", "history.jsonl", "traversal.png", "metrics.json"):
        Path("run", file).unlink()
    train.main([*command, "--resume"])
    assert {file.name for file in Path("run").iterdir()} == FILES
    assert Path("run/history.csv").read_bytes() == (finished / "history.csv").read_bytes()
    assert json.loads(Path("run/metrics.json").read_text())["training"]["steps_per_second"] is None


def test_default_folder_is_a_free_one_and_resume_takes_the_last():
    command = ["vae", *SHORT, "--steps", "5"]
    for _ in range(3):
        train.main(command)
    assert {folder.name for folder in Path("runs").iterdir()} == {f"vae-digits-s0{end}" for end in ("", "-2", "-3")}
    train.main(["vae", *SHORT, "--steps", "10", "--resume"])
    steps = {out.name: pd.Run.load(out).step for out in Path("runs").iterdir()}
    assert steps == {"vae-digits-s0": 5, "vae-digits-s0-2": 5, "vae-digits-s0-3": 10}


@pytest.mark.parametrize("name", list(train.METHODS))
def test_every_method_runs(name):
    labelled = "labels" in inspect.signature(train.METHODS[name]).parameters
    data = ["--data", "digits_bars", "--data-options", "attributes=2", "part=train"] if labelled else []
    train.main([name, *SHORT, *data, "--steps", "5", "--out", "run"])
    recipe = pd.Run.load("run").recipe
    assert recipe["builder"] == name
    assert recipe["arguments"].get("labels") == (2 if labelled else None)


@pytest.mark.parametrize("optimizer", ["cayley", "riemannian_adam"])
def test_every_optimizer_of_the_manifold(optimizer):
    argv = ["st_rkm", *SHORT, "--manifold-optim", optimizer, "--manifold-lr", "0.01", "--steps", "5", "--out", "run"]
    train.main(argv)
    history = pandas.read_csv("run/history.csv")
    assert history["travel.U"].iloc[-1] > 0
    assert history["orthonormality.U"].iloc[-1] < 1e-5


def test_kl_of_a_subspace_is_from_its_prior():
    """As the objective has it, for one draw of nothing: an analytic KL. CSVAE's w_0 is far from a standard normal."""
    data = ["--data", "digits_bars"]
    train.main(["csvae", *SHORT, *data, "--steps", "5", "--out", "run"])
    metrics, run = json.loads(Path("run/metrics.json").read_text()), pd.Run.load("run")
    everything = pd.load("digits_bars").batch(slice(None))
    step = run.elbo.evaluate(run.model, run.guide, *everything)
    for site in ("z", "w_0"):
        assert metrics["kl"][site]["nats_per_datum"] == pytest.approx(step.kl[site].item(), rel=1e-4)


def test_data_options_are_those_of_the_loader(capsys):
    said = refused(capsys, "vae", *SHORT, "--data-options", "sise=16")
    assert said.startswith("error: options: got 'sise'")
    said = refused(capsys, "csvae", *SHORT)
    assert "data: got 'digits', expected data with labels, for csvae" in said


def test_every_option_of_every_builder_is_there():
    for name, build in train.METHODS.items():
        fields = train.command(name).__dataclass_fields__
        for option, parameter in list(inspect.signature(build).parameters.items())[1:]:
            of_the_data = option in ("likelihood", "labels")
            assert fields[option].default == (None if of_the_data else parameter.default)
            assert fields[option].type.__metadata__[0].help, f"{name} does not document {option}"
    assert set(train.METHODS) == {
        *("vae", "beta_vae", "capacity_vae", "control_vae", "dynamic_vae"),
        *("cvae", "cvae_if", "csvae", "st_rkm", "factor_vae", "beta_tcvae", "dip_vae"),
    }


def test_help_is_the_builders(capsys):
    with pytest.raises(SystemExit) as stop:
        train.main(["dynamic_vae", "--help"])
    assert stop.value.code == 0
    said = " ".join(capsys.readouterr().out.split())
    for words in ("Shao et al. (2020)", "--target-kl FLOAT", "Final set point, nats", "--checkpoint-every", "--step "):
        assert words in said
    assert ":func:" not in said


@pytest.mark.parametrize(
    ("argv", "named"),
    [
        (["nope", *SHORT], "nope"),
        ([], "subcommand"),
        (["vae", *SHORT, "--stepz", "5"], "--stepz"),
        (["dynamic_vae", *SHORT, "--target", "5"], "--target"),  # no abbreviations: --step is not --steps
        (["vae", *SHORT, "--step", "5"], "--step"),
        (["vae", *SHORT, "--target-kl", "5"], "--target-kl"),
        (["vae", *SHORT, "--steps", "many"], "--steps"),
        (["vae", *SHORT, "--steps"], "--steps"),
    ],
)
def test_what_is_no_command_is_refused(capsys, argv, named):
    assert named in refused(capsys, *argv)


@pytest.mark.parametrize(
    ("argv", "named"),
    [
        (["--data", "nope"], "data: got 'nope'"),
        (["--root", "folder"], "root: got 'folder'"),
        (["--steps", "0"], "steps: got 0"),
        (["--steps", "-5"], "steps: got -5"),
        (["--batch-size", "0"], "batch_size: got 0"),
        (["--log-every", "0"], "log_every: got 0"),
        (["--checkpoint-every", "0"], "checkpoint_every: got 0"),
        (["--seed", "-1"], "seed: got -1"),
        (["--device", "abacus"], "device: got 'abacus'"),
        (["--precision", "half"], "precision: got 'half'"),
        (["--lr", "-1"], "lr: got -1.0"),
        (["--latent-dim", "0"], "latent_dim: got 0"),
        (["--likelihood", "poisson"], "likelihood: got 'poisson'"),
        (["--network", "brain"], "network: got 'brain'"),
    ],
)
def test_bad_values_are_refused(capsys, argv, named):
    said = refused(capsys, "vae", *SHORT, "--steps", "5", *argv)
    assert said.startswith(f"error: {named}")
    assert said.count("\n") == 1


def test_a_folder_that_cannot_be_written_is_refused(capsys, tmp_path):
    (tmp_path / "file").touch()
    for out in ("file", "file/run"):
        with pytest.raises(SystemExit) as stop:
            train.main(["vae", *SHORT, "--steps", "5", "--out", out])
        assert stop.value.code == 2
        assert capsys.readouterr().err.startswith(f"error: out: got '{out}'")


def test_a_folder_with_a_run_is_refused_without_resume(capsys, finished):
    before = (finished / "checkpoint.pt").read_bytes()
    said = refused(capsys, *DYNAMIC, "--steps", "20", "--out", str(finished))
    assert "out: got" in said
    assert "--resume" in said
    assert (finished / "checkpoint.pt").read_bytes() == before


@pytest.mark.parametrize(
    ("argv", "named"),
    [(["--lr", "1e-2"], "lr was"), (["--seed", "4"], "seed was 0 and is now 4"), ([], "steps: got 10")],
)
def test_resume_with_other_settings_is_refused(capsys, finished, argv, named):
    steps = "20" if argv else "10"
    said = refused(capsys, *DYNAMIC, "--steps", steps, "--out", str(finished), "--resume", *argv)
    assert said.startswith("error: ")
    assert named in said


def test_a_run_that_fails_leaves_no_empty_folder(capsys):
    said = refused(capsys, "vae", *SHORT, "--likelihood", "gaussian", "--lr", "1e30", "--steps", "50", "--out", "a/b")
    assert "at step" in said


def test_a_broken_checkpoint_is_refused(capsys, tmp_path_factory):
    out = tmp_path_factory.mktemp("broken")
    (out / "checkpoint.pt").write_text("junk")
    said = refused(capsys, *DYNAMIC, "--steps", "20", "--out", str(out), "--resume")
    assert "checkpoint.pt: damaged" in said


def small(n: int = 30, **options) -> Arrays:
    x = torch.rand(n, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    return Arrays(x, likelihood=options.pop("likelihood", "bernoulli"), **options)


def codes_of(data: Arrays, shape: tuple[int, ...] = (1, 4, 4)) -> tuple[pd.Run, outcome.Codes]:
    run = pd.vae(shape, latent_dim=2, network="mlp").fit(data, steps=2, log_every=1, progress=False, device="cpu")
    return run, outcome.encode(run, data, progress=False)


def test_factors_that_are_not_known_or_constant():
    factors = torch.stack([torch.arange(30) % 3, torch.zeros(30, dtype=torch.long)], 1)
    data = small(factors=factors, factor_names=("a", "b"), factor_sizes=(3, 1))
    run, codes = codes_of(data)
    found = outcome.score(codes, data, run.history)
    for name in ("mig", "rmig"):
        assert list(found[name]["per_factor"]) == ["a"]
        assert found[name]["constant_factors_left_out"] == ["b"]
    constant = small(factors=factors[:, 1:], factor_names=("b",), factor_sizes=(1,))
    assert "one value" in outcome.score(codes, constant, run.history)["mig"]["skipped"]
    unknown = outcome.score(codes, small(), run.history)
    assert "not known" in unknown["rmig"]["skipped"]
    about = {"method": "vae", "data": "small", "steps": 2, "training": {"seconds": 1.0, "steps": 0}}
    assert "skipped: the factors" in outcome.table(about | unknown)


def test_scores_are_of_at_most_so_many_data(monkeypatch):
    monkeypatch.setattr(outcome, "SCORED", 12)
    monkeypatch.setattr(outcome, "CHUNK", 5)
    data = small()
    run, codes = codes_of(data)
    assert len(codes.index.unique()) == 12
    x = data.batch(codes.index)[0]
    torch.testing.assert_close(codes.mean["z"], run.posterior.encode(x)["z"].mean)
    torch.testing.assert_close(codes.stddev["z"], run.posterior.encode(x)["z"].stddev)
    torch.testing.assert_close(codes.kl["z"], pd.plots.latent_kl(run.posterior, x))
    torch.testing.assert_close(codes.index, outcome.encode(run, data, progress=False).index)


def test_data_that_are_no_images_have_curves_only():
    data = Arrays(torch.rand(30, 5), likelihood="bernoulli")
    run, codes = codes_of(data, (5,))
    assert list(outcome.draw(run, data, codes)) == ["curves.png"]


def test_files_are_whole_or_not_there(tmp_path, monkeypatch):
    outcome.write(tmp_path / "a.json", {"a": 1})
    before = (tmp_path / "a.json").read_text()
    circular: dict = {}
    circular["a"] = circular
    with pytest.raises(ValueError, match="Circular"):
        outcome.write(tmp_path / "a.json", circular)
    assert (tmp_path / "a.json").read_text() == before


def test_from_a_shell():
    command = [sys.executable, "-m", "experiments.train", *DYNAMIC, "--steps", "5", "--out", "{}"]
    root = Path(train.__file__).parent.parent
    out = Path.cwd() / "run"
    command[-1] = str(out)
    done = subprocess.run(command, cwd=root, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert {file.name for file in out.iterdir()} == FILES
    again = subprocess.run(command, cwd=root, capture_output=True, text=True)
    assert again.returncode == 2
    assert again.stderr.startswith("error: out: got")
