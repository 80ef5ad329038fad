# Copyright ppl-disent contributors.
# SPDX-License-Identifier: Apache-2.0
"""Studies: every run once, in spite of failures and of kills; and the experiments that are made of them."""

import os
import signal
import subprocess
import sys
import time

import pandas
import pytest
import torch

import ppl_disent as pd
from experiments import adversaries, csvae_toy, st_rkm, subspaces
from experiments.editing import Editor
from experiments.generation import FIGURES
from experiments.study import Config, complete, study
from experiments.tables import intervals


def square(x):
    return Config("tests.tasks:square", "square", {"x": x}, 1)


def test_each_run_once_and_results_in_order(tmp_path):
    configs = [square(3), square(2)]
    assert study(configs, tmp_path, workers=2, progress=False) == ([{"square": 9}, {"square": 4}], {})
    times = {file: file.stat().st_mtime_ns for file in tmp_path.rglob("*")}
    assert study(configs[::-1], tmp_path, progress=False) == ([{"square": 4}, {"square": 9}], {})
    assert times == {file: file.stat().st_mtime_ns for file in tmp_path.rglob("*")}, "nothing was done again"


def test_a_failure_is_shown_and_tried_again(tmp_path):
    configs = [Config("tests.tasks:fails_once", "f", {"x": 1}, 1), square(2)]
    results, failed = study(configs, tmp_path, workers=1, progress=False)
    assert results == [None, {"square": 4}]
    assert failed == {configs[0].key: "ValueError: not today"}
    assert study(configs, tmp_path, workers=1, progress=False) == ([{"x": 1}, {"square": 4}], {})


def test_bad_input(tmp_path):
    with pytest.raises(pd.ArgumentError, match="no run twice"):
        study([square(1), square(1)], tmp_path)
    with pytest.raises(pd.ArgumentError, match="workers: got 0"):
        study([square(1)], tmp_path, workers=0)
    assert square(1).key != square(2).key


DRIVER = """
import sys
from experiments.study import Config, study
configs = [Config("tests.tasks:small", "small", {"seed": seed}, 1500) for seed in range(6)]
print(study(configs, sys.argv[1], workers=2, on=sys.argv[2], progress=False))
"""


class Studied:
    """Six runs, two at a time, in a driver of its own."""

    def __init__(self, folder, engine, environment):
        self.diary, command = folder / "diary", [sys.executable, "-c", DRIVER, folder, engine]
        self.driver = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=os.environ | environment)

    def wait_until(self, word, times):
        deadline = time.time() + 300
        while not (self.diary.exists() and self.diary.read_text().count(word) >= times):
            assert time.time() < deadline, "the runs do not begin"
            assert self.driver.poll() is None
            time.sleep(0.05)

    def kill(self):
        self.driver.kill()
        self.driver.stdout.close()
        self.driver.wait()

    def result(self):
        out, _ = self.driver.communicate(timeout=500)
        assert self.driver.returncode == 0
        return out.strip().splitlines()[-1]

    def ended(self):
        return sorted(word for word in self.diary.read_text().split("\n") if word.startswith("ended"))


ALL_ONCE = [f"ended {seed}" for seed in range(6)]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    return Studied(tmp_path_factory.mktemp("undisturbed"), "processes", {}).result()


@pytest.mark.slow
def test_killed_workers_and_drivers_lose_nothing(tmp_path, undisturbed):
    """A worker is killed, then the driver; the other worker goes on alone, and its run is not made twice."""
    first = Studied(tmp_path, "processes", {})
    first.wait_until("began", 2)
    children = subprocess.check_output(["pgrep", "-P", str(first.driver.pid)], text=True).split()
    os.kill(int(children[0]), signal.SIGKILL)
    first.wait_until("began", 3)
    first.kill()
    again = Studied(tmp_path, "processes", {})
    assert again.result() == undisturbed
    assert again.ended() == ALL_ONCE


CLUSTER = """
import sys
from ray.cluster_utils import Cluster
cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
second = cluster.add_node(num_cpus=1)
print(cluster.address, flush=True)
if sys.stdin.readline():
    cluster.remove_node(second, allow_graceful=False)
    sys.stdin.readline()
cluster.shutdown()
"""


@pytest.mark.slow
def test_a_cluster_that_loses_a_node_and_its_driver_loses_nothing(tmp_path, undisturbed):
    pytest.importorskip("ray", reason="Ray is not installed: pip install 'ppl-disent[study]'")
    cluster = subprocess.Popen(
        [sys.executable, "-c", CLUSTER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
    )
    try:
        environment = {"RAY_ADDRESS": cluster.stdout.readline().strip()}
        first = Studied(tmp_path, "ray", environment)
        first.wait_until("began", 2)
        print("remove the second node", file=cluster.stdin)
        first.wait_until("ended", 2)
        first.kill()
        again = Studied(tmp_path, "ray", environment)
        assert again.result() == undisturbed
        assert again.ended() == ALL_ONCE
        assert again.diary.read_text().count("began") > 6, "a run was begun again on the node that is left"
    finally:
        cluster.communicate()


def test_intervals_are_students():
    every = pandas.DataFrame({"a": [1.0, 2.0, 3.0, 7.0], "b": [None] * 4})
    every.index = pandas.MultiIndex.from_tuples([("m", 0), ("m", 1), ("m", 2), ("n", 0)], names=["model", "seed"])
    text = intervals(every, {"a": "A", "b": "B"})
    # The mean of 1, 2, 3 is 2, its standard error 1 / sqrt(3), the quantile of t with 2 degrees of freedom 4.3027.
    assert text == "| | m | n |\n|---|---|---|\n| A | 2.000 ± 2.484 | 7.000 |\n"


def test_the_toys_figures(tmp_path):
    torch.set_default_dtype(torch.float32)
    config = csvae_toy.config("CSVAE", 0, 20, data={}, method={"latent_dim": 2})
    result = csvae_toy.run(tmp_path, **config.arguments)
    assert set(result["figures"]) == set(csvae_toy.FIGURES)
    again = csvae_toy.run(tmp_path, **config.arguments)
    assert again == result, "it resumes, and scores the same"
    assert set(csvae_toy.pictures(tmp_path, config)) == {"csvae_codes.png", "csvae_curves.png"}


def test_points_are_left_out_as_asked():
    torch.set_default_dtype(torch.float32)
    rare = csvae_toy.points(0, rare=0.12)
    assert rare.labels.mean().item() == pytest.approx(0.12 * 10 / (0.12 * 10 + 11), abs=0.02)
    alike = csvae_toy.points(0, attributes=2, alike=0.25)
    same = (alike.labels[:, 0] == alike.labels[:, 1]).double().mean().item()
    assert same == pytest.approx(1 / (1 + 0.25), abs=0.02)


def test_every_cell_of_the_ablation_is_a_run_of_its_own():
    cells = adversaries.configs(adversaries.Options(seeds=2))
    assert len({config.key for config in cells.values()}) == len(cells) == 2 * (6 * 7 + 2)
    for config in cells.values():
        pd.csvae((3,), labels=1, **config.arguments["method"])


def test_what_determines_a_run_has_the_builders_defaults():
    method = complete("csvae", {"b4": 7.0})
    assert (method["b4"], method["b1"], method["adversary"]) == (7.0, 20.0, "cross_entropy")
    assert "shape" not in method
    assert "labels" not in method


@pytest.fixture(scope="module")
def judged(tmp_path_factory):
    folder = tmp_path_factory.mktemp("study")
    default = torch.get_default_dtype()
    torch.set_default_dtype(torch.float32)
    data = {"name": "digits_bars", "root": None, "options": {"size": 8, "attributes": 2, "copies": 1}}
    (folder / "judge").mkdir()
    accuracy = subspaces.run_judge(folder / "judge", data=data, steps=300)["accuracy"]
    torch.set_default_dtype(default)
    return folder, data, accuracy


def test_the_judge_judges(judged):
    assert judged[2]["horizontal"] > 0.9


@pytest.mark.parametrize("model", subspaces.MODELS)
def test_every_model_of_the_comparison(judged, model):
    torch.set_default_dtype(torch.float32)
    folder, data, _ = judged
    (folder / model).mkdir()
    method = {"latent_dim": 3, "network": "mlp", "lr": 1e-3}
    options = {"data": data, "judge": "judge", "steps": 10, "batch_size": 64, "method": method}
    figures = subspaces.run(folder / model, model=model, seed=0, **options)["figures"]
    assert set(figures) == set(subspaces.FIGURES)
    assert (figures["kl_w"] is None) == (model != "csvae")
    train, test = subspaces.parts(**data)
    q = pd.Run.load(folder / model).posterior
    editor, batch = Editor(q, train), test.batch(range(6))
    target = editor.target(batch[1], 1)
    assert torch.equal((target != batch[1]).sum(0), torch.tensor([0, 6]))
    torch.testing.assert_close(editor.switch(batch, batch[1]), q.reconstruct(*batch), msg="no change is no edit")
    assert not torch.allclose(editor.switch(batch, target), q.reconstruct(*batch))
    assert editor.styles(batch, 1).shape == (9, 6, 1, 8, 8)


def test_unknown_data_and_models_are_refused(capsys):
    for argv, named in (
        (["--data", "mnist"], "data: got"),
        (["--models", "gan"], "models: got"),
        (["--seeds", "0"], "seeds"),
    ):
        with pytest.raises(SystemExit) as stop:
            subspaces.main(argv)
        assert stop.value.code == 2
        assert f"error: {named}" in capsys.readouterr().err


def test_st_rkm_and_its_baselines(tmp_path):
    torch.set_default_dtype(torch.float32)
    plan = st_rkm.plan(st_rkm.Options(seeds=1, steps=5, latent_dim=3, feature_dim=6, batch_size=64))
    assert [config.name for config in plan] == list(st_rkm.MODELS)
    for config in (plan[1], plan[3]):
        folder = tmp_path / config.key
        folder.mkdir()
        figures = st_rkm.run(folder, **config.arguments)["figures"]
        assert set(figures) <= set(FIGURES)
        assert figures["squared_error"] > 0
        assert ("angle" in figures) == (config.name == "St-RKM, noisy")
        assert len(st_rkm.pictures(folder, config)) == 5
    assert figures["covariance"] > 1e-3, "a VAE's codes are correlated"
    # U as trained turns the very same decoder: between them lies only the rotation.
    assert 0 <= st_rkm.run(tmp_path / plan[1].key, **plan[1].arguments)["figures"]["off_diagonal_trained"] <= 1
    for options in ({"data": "swiss_roll"}, {"data": "nothing"}, {"models": ("gan",)}, {"seeds": 0}):
        with pytest.raises(pd.ArgumentError, match=next(iter(options))):
            st_rkm.plan(st_rkm.Options(**options))
