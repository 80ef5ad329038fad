# Copyright ppl-disent contributors.
# SPDX-License-Identifier: Apache-2.0
"""The comparison of methods: its plan, its figures against known ones, its tables and pictures."""

import math

import numpy as np
import pandas
import pytest
import torch

import ppl_disent as pd
from experiments import compare
from experiments.comparison import correlations, heat, tradeoff, violins
from experiments.outcome import Codes
from experiments.scores import FIGURES, _codes, _factors
from experiments.study import study
from experiments.tables import bootstrapped, differences, interval
from ppl_disent.data import Arrays
from ppl_disent.metrics import bench

SMALL = {"seeds": 2, "steps": 20, "latent_dim": 3}


def test_a_method_is_a_builder_with_what_all_share_and_its_own_arguments():
    options = compare.Options(methods=("vae", "beta_vae:beta=8", "dynamic_vae:ki=0.02,kp=0.1", "st_rkm"), **SMALL)
    configs = compare.plan(options)
    assert [c.name for c in configs[:4]] == list(options.methods)
    assert len({c.key for c in configs}) == len(configs) == 8
    of = {c.name: c.arguments["method"] for c in configs[:4]}
    assert of["beta_vae:beta=8"]["beta"] == 8
    assert {m["latent_dim"] for m in of.values()} == {3}
    controlled = of["dynamic_vae:ki=0.02,kp=0.1"]
    assert (controlled["ki"], controlled["kp"], controlled["every"]) == (0.02, 0.1, 1)
    # From the first set point to the target in half of the steps.
    assert controlled["start"] + 10 * controlled["step"] == pytest.approx(options.target_kl)
    assert "likelihood" not in of["st_rkm"]
    assert {c.arguments["seed"] for c in configs} == {0, 1}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"data": "swiss_roll"}, "data: got 'swiss_roll'"),
        ({"data": "nothing"}, "data: got 'nothing'"),
        ({"methods": ("gan",)}, "methods: got 'gan'"),
        ({"methods": ("vae:beta=3",)}, r"methods: got 'vae:beta=3', .*no \['beta'\]"),
        ({"methods": ("vae:shape=3",)}, "methods"),
        ({"methods": ("csvae",)}, "data with labels"),
        ({"methods": ("vae", "vae")}, "none twice"),
        ({"methods": ()}, "at least one"),
        ({"seeds": 0}, "seeds: got 0"),
        ({"steps": 0}, "steps: got 0"),
    ],
)
def test_bad_input(options, message):
    with pytest.raises(pd.ArgumentError, match=message):
        compare.plan(compare.Options(**options))


def test_bad_input_ends_the_command_with_one_line(capsys):
    with pytest.raises(SystemExit) as stop:
        compare.main(["--methods", "vae", "--engine", "abacus", "--no-progress"])
    assert stop.value.code == 2
    assert capsys.readouterr().err.startswith("error: engine: got 'abacus'")


def test_figures_of_known_codes():
    """The four cases of the bench whose scores have formulas, through what a study records."""
    for case in bench.cases():
        codes, factors = torch.tensor(case.codes), torch.tensor(case.factors)
        sizes = [4] * 4
        data = Arrays(codes, likelihood="gaussian", factors=factors, factor_names="abcd", factor_sizes=sizes)
        n, latents = codes.shape
        given = Codes(torch.arange(n), {"z": codes}, {"z": torch.zeros_like(codes)}, {"z": torch.ones(latents)}, codes)
        found = _factors(given, data) | _codes(given)
        assert found["kl"] == latents
        assert found["active"] == latents
        same = {"infom": "infom", "infoe": "infoe", "infoc": "infoc", "modularity": "modularity", "sap": "sap"}
        same |= {"mig": "mig", "rmig": "rmig", "jemmig": "jemmig", "irs": "irs", "explicitness": "explicitness"}
        same |= {"total_correlation": "total_correlation", "mutual_information": "mean_mutual_information"}
        same |= {"dci_lasso": "dci", "factor_vae_score": "factor_vae_score", "beta_vae_score": "beta_vae_score"}
        for mine, row in same.items():
            if row in case.analytic:
                assert found[mine] == pytest.approx(case.analytic[row], abs=0.08), (case.name, mine)
        if case.name == "perfect":
            assert min(found["dci"], found["completeness"], found["informativeness"]) > 0.99


def test_without_factors_there_are_fewer_figures():
    x = torch.randn(50, 3)
    codes = Codes(torch.arange(50), {"z": x}, {"z": torch.ones(50, 3)}, {"z": torch.ones(3)}, x)
    assert set(_factors(codes, Arrays(x, likelihood="gaussian")).values()) == {None}
    one = Arrays(x, likelihood="gaussian", factors=torch.arange(50)[:, None] % 2, factor_names=["a"], factor_sizes=[2])
    known = {name for name, value in _factors(codes, one).items() if value is not None}
    assert known == {"mig", "rmig", "jemmig", "sap", "irs"}


@pytest.mark.slow
def test_a_study_from_the_command_line(tmp_path, capsys):
    torch.set_default_dtype(torch.float32)
    arguments = ["--data", "digits", "--methods", "vae", "st_rkm", "--seeds", "2", "--steps", "20", "--no-progress"]
    with pytest.raises(SystemExit) as stop:
        compare.main([*arguments, "--out", str(tmp_path)])
    assert stop.value.code == 0
    assert "| runs | 2 | 2 |" in capsys.readouterr().out
    made = {file.name for file in tmp_path.iterdir() if file.is_file()}
    pictures = {"tradeoff.png", "violins.png", "rank_correlations.png"}
    assert made == pictures | {"rank_correlations.csv", "scores.csv", "table.md"}
    every = pandas.read_csv(tmp_path / "scores.csv", index_col=["model", "seed"])
    assert list(every) == list(FIGURES)
    assert every[["squared_error", "cross_entropy", "pixel_distance", "mig", "udr"]].notna().all().all()


def test_a_failed_run_is_counted_and_not_dropped(tmp_path):
    configs = compare.plan(compare.Options(methods=("vae", "beta_vae:beta=2", "beta_vae:beta=3"), **SMALL))
    done = {"figures": dict.fromkeys(FIGURES, 1.0) | {"mig": 0.5, "dci": None, "udr": None}}
    results = [done if c.name == "vae" else None if c.arguments["seed"] else done for c in configs]
    for config in configs:
        (tmp_path / config.key).mkdir()
        np.savez(tmp_path / config.key / "codes.npz", mean=np.random.default_rng(0).normal(size=(30, 2)), kl=np.ones(2))
    every = compare.collect(configs, results, tmp_path)
    assert list(every.index.get_level_values(0).unique()) == ["vae", "beta_vae:beta=2", "beta_vae:beta=3"]
    assert every["mig"].isna().sum() == 2
    assert every["udr"].notna().sum() == 2, "only the VAE has two runs to compare"
    text, files = compare.report(every)
    assert "| runs | 2 | 1 of 2, 1 failed | 1 of 2, 1 failed |" in text
    assert "| MIG ↑ | 0.500 [0.500, 0.500] | 0.500 | 0.500 |" in text
    assert set(files) >= {"tradeoff.png", "violins.png"}


def table(**columns):
    every = pandas.DataFrame(columns, dtype=float)
    n = len(every) // 2
    every.index = pandas.MultiIndex.from_product([["a", "b"], range(n)], names=["model", "seed"])
    return every


def test_differences_are_of_pairs():
    every = table(mig=[1, 2, 3, 1.5, 2.5, 3.5], dci=[1, 2, math.nan, 1, 1, 1])
    text = differences(every, {"mig": "MIG", "dci": "DCI"}, "a")
    # The spread over seeds, which is large, is not that of the differences, which is none.
    assert "| MIG | 0.500 [0.500, 0.500] (3 of 3) |" in text
    assert "| DCI | -0.500 [-1.000, 0.000] (0 of 2) |" in text


def test_intervals_of_the_bootstrap():
    # The mean of two draws of 0 and 1 is 0, 1/2 or 1, with chances 1/4, 1/2, 1/4.
    assert interval(pandas.Series([0.0, 1.0])) == (0.0, 1.0)
    assert all(math.isnan(bound) for bound in interval(pandas.Series([1.0])))
    values = pandas.Series(np.random.default_rng(0).normal(size=400))
    low, high = interval(values)
    assert high - low == pytest.approx(2 * 1.96 * values.std() / 20, rel=0.05)
    assert bootstrapped(pandas.Series([2.0])) == "2.000"


def test_correlations_turn_what_is_better_when_less():
    names = {"mig": FIGURES["mig"], "squared_error": FIGURES["squared_error"], "kl": FIGURES["kl"]}
    every = table(mig=[1, 2, 3, 4], squared_error=[9, 4, 2, 1], kl=[5, 5, 5, 5])
    ranks = correlations(every, names)
    assert ranks.loc["MIG", "squared error of reconstructions"] == pytest.approx(1)
    assert "KL of the latents, nats" not in ranks, "what never varies has no rank"
    texts = [text.get_text() for text in heat(ranks).axes[0].texts]
    assert texts == ["1.0"] * 4


def test_pictures_hold_what_there_is():
    every = table(squared_error=[1, 2, 3, 4], mig=[0.1, 0.2, math.nan, math.nan])
    drawn = tradeoff(every, {"squared_error": FIGURES["squared_error"]}, {"mig": FIGURES["mig"]})
    assert [text.get_text() for text in drawn.legends[0].get_texts()] == ["a"], "b has no MIG"
    panels = violins(every, {"squared_error": FIGURES["squared_error"], "mig": FIGURES["mig"]}).axes
    assert [len(panel.collections) for panel in panels[:2]] == [4, 3], "a violin and points, or points alone"


def test_ray_is_asked_for_by_name(tmp_path, monkeypatch):
    """Where it is not installed, the error says how to install it."""
    monkeypatch.setitem(__import__("sys").modules, "ray", None)
    config = compare.plan(compare.Options(methods=("vae",), seeds=1))[0]
    with pytest.raises(pd.ArgumentError, match=r"pip install 'ppl-disent\[study\]'"):
        study([config], tmp_path, on="ray", progress=False)
