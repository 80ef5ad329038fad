# Copyright ppl-disent contributors.
# SPDX-License-Identifier: Apache-2.0
"""The bench's formulas against its measurements, and bootstrap intervals against known scores and known spread."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

import ppl_disent as pd
from ppl_disent.errors import ArgumentError
from ppl_disent.metrics import (
    bench,
    dci,
    factor_vae_score,
    gaussian_total_correlation,
    infomec,
    jemmig,
    mean_mutual_information,
    mig,
    modularity_explicitness,
    rmig,
    sap,
    udr,
)
from ppl_disent.metrics.bootstrap import with_interval
from ppl_disent.metrics.score import Score
from tests.test_sampling_metrics import gridded

# -------------------------------------------------------------------------------------------------------------- bench

# 1,000 votes, held-out points of a third, the penalty on points that are not quite a grid, 100 iterations.
LOOSE = {"factor_vae_score": 0.06, "beta_vae_score": 0.06, "dci": 0.01, "dci completeness": 0.01, "infoe": 1e-3}
LOOSE |= {"dci nrmse": 2e-3}


@pytest.mark.parametrize("seed", range(2))
def test_metrics_of_codes_without_noise_are_the_formulas(seed: int) -> None:
    measured, known = bench.table(512, seed), bench.analytic(512, seed)
    assert list(measured.index) == list(known.index) == list(bench.ROWS)
    assert list(measured) == list(known) == ["perfect", "permuted", "rotated", "duplicated", "entangled", "noise"]
    clean = [name for name in known if name != "noise"]
    for row in bench.ROWS:
        expected = known.loc[row, clean]
        got = measured.loc[row, clean].where(expected.notna(), np.nan)
        np.testing.assert_allclose(got, expected, atol=LOOSE.get(row, 1e-9), rtol=0, err_msg=row)
    assert known[clean].isna().sum().sum() == 1


def test_metrics_of_noise_approach_the_formulas() -> None:
    few, many, known = (f["noise"] for f in (bench.table(256, 1), bench.table(20_480, 1), bench.analytic()))
    rows = known.dropna().index.difference(["factor_vae_score", "beta_vae_score"])
    assert len(rows) == 8
    assert ((many - known).abs()[rows] < 0.02).all()
    assert ((many - known).abs()[rows] < (few - known).abs()[rows]).all()
    for row in ("factor_vae_score", "beta_vae_score"):
        assert many[row] == pytest.approx(known[row], abs=0.06)


def test_the_table_in_the_documentation_is_that_of_the_functions() -> None:
    lines = [line for line in (bench.__doc__ or "").splitlines() if "0." in line or "1." in line]
    rows = {line[:24].strip(): line[24:].split() for line in lines if line[:24].strip() in bench.ROWS}
    known, last = bench.analytic(), bench.cases()[-1]
    noise = bench.scores(last.codes, last.factors)
    assert list(rows) == list(bench.ROWS)
    for name, cells in rows.items():
        for case, cell in zip(known, cells, strict=True):
            if cell.startswith("~"):
                assert math.isnan(known.loc[name, case])
                assert case != "noise" or float(cell[1:]) == pytest.approx(noise[name], abs=0.1)
            else:
                assert float(cell) == pytest.approx(known.loc[name, case], abs=0.005)


def test_the_formulas_are_numbers_counted_by_hand() -> None:
    # Sums of two factors in {0, 1, 2, 3} take the values 0 to 6 in 1, 2, 3, 4, 3, 2, 1 of 16 ways.
    sums = -sum(w * math.log(w / 16) for w in (1, 2, 3, 4, 3, 2, 1)) / 16
    known = bench.analytic()
    assert known.loc["mean_mutual_information", "rotated"] == pytest.approx((2 * sums - math.log(16)) / 3)
    assert known.loc["jemmig", "rotated"] == pytest.approx(math.log(16) / math.log(400))
    assert known.loc["jemmig", "duplicated"] == pytest.approx(math.log(4) / math.log(400))


def test_cases_are_grids_of_codes_as_described() -> None:
    cases = {case.name: case for case in bench.cases(300, seed=3)}
    for case in cases.values():
        assert case.codes.shape == (512, 8 if case.name == "duplicated" else 4)
        np.testing.assert_array_equal(np.unique(case.factors, axis=0, return_counts=True)[1], [2] * 256)
    perfect = cases["perfect"].codes
    np.testing.assert_allclose(np.cov(perfect.T, ddof=0), np.eye(4), atol=1e-12)
    for name in ("rotated", "entangled"):
        mixing = np.linalg.lstsq(perfect, cases[name].codes, rcond=None)[0]
        np.testing.assert_allclose(mixing @ mixing.T, np.eye(4), atol=1e-12)
        np.testing.assert_allclose(perfect @ mixing, cases[name].codes, atol=1e-12)
    np.testing.assert_allclose(np.abs(mixing), 0.5, atol=1e-12)
    assert not np.array_equal(bench.cases(300, seed=4)[0].factors, cases["perfect"].factors)
    for n in (0, 2.5):
        with pytest.raises(ArgumentError, match="n: got"):
            bench.cases(n)  # type: ignore[arg-type]


def test_the_metrics_are_public() -> None:
    for name in ("dci", "sap", "jemmig", "irs", "infomec", "udr", "factor_vae_score", "beta_vae_score", "mig", "rmig"):
        assert getattr(pd, name) is getattr(pd.metrics, name)


# ---------------------------------------------------------------------------------------------------------- bootstrap


def test_the_interval_of_a_mean_has_the_width_of_the_normal_approximation() -> None:
    x = np.arange(2000) % 10 < 3
    score = with_interval(Score(0.3), lambda rows: float(x[rows].mean()), 2000, bootstrap=2000, seed=0)
    half = 1.96 * math.sqrt(0.3 * 0.7 / 2000)
    np.testing.assert_allclose(score.detail["interval"], [0.3 - half, 0.3 + half], atol=2e-3)


def test_the_interval_is_reflected_about_the_score_and_stays_in_range() -> None:
    draws = iter(np.linspace(0.5, 0.9, 401).tolist())
    score = with_interval(Score(0.6, detail={"a": 1}), lambda rows: next(draws), 3, bootstrap=401, seed=0)
    np.testing.assert_allclose(score.detail["interval"], [0.31, 0.69], atol=1e-9)
    assert score.detail["a"] == 1
    high = with_interval(Score(0.99), lambda rows: 0.9 + 0.01 * len(set(rows)), 3, bootstrap=50, seed=0)
    assert high.detail["interval"][1] == 1.0


def test_intervals_of_votes_are_those_of_the_binomial_distribution() -> None:
    # Of three factors the code lacks one, whose votes all go astray: two in three are right, independently.
    data = gridded(3, 6, 4)
    hits, n = 0, 150
    for seed in range(60):
        options = {"votes": 60, "eval_votes": n, "variance_points": 500, "batch_size": 16, "seed": seed}
        score = factor_vae_score(lambda x: x[:, :2], data, bootstrap=300, **options)  # type: ignore[arg-type]
        half = 1.96 * math.sqrt(float(score) * (1 - float(score)) / n)
        low, high = score.detail["interval"]
        assert (low, high) == pytest.approx((float(score) - half, float(score) + half), abs=0.03)
        hits += low <= 2 / 3 <= high
    # 57 of 60 are expected; fewer than 51 would have a chance below 0.01.
    assert hits >= 51


def test_runs_are_drawn_as_runs() -> None:
    # All 27 resamples of three runs, each run's median likeness to the drawn ones that are not itself.
    base = np.random.default_rng(0).normal(size=(200, 3))
    mixing = np.random.default_rng(1).normal(size=(3, 3))
    score = udr([base @ (np.eye(3) + a * mixing) for a in (0, 0.2, 0.8)], bootstrap=3000)
    likeness, values = score.detail["likeness"], []
    for drawn in itertools.product(range(3), repeat=3):
        each = []
        for i in drawn:
            others = [likeness[j, i] for j in drawn if j != i]
            each.append(np.median(others) if others else score.detail["per_run"][i])
        values.append(np.mean(each))
    high, low = np.quantile(values, [0.025, 0.975], method="inverted_cdf")
    expected = 2 * float(score) - low, min(1.0, 2 * float(score) - high)
    np.testing.assert_allclose(score.detail["interval"], expected, atol=1e-9)


def flipped(rng: np.random.Generator, points: int = 300) -> tuple[np.ndarray, np.ndarray]:
    """A binary factor, and two latents: the factor with a fifth of it turned round, and noise."""
    v = rng.integers(2, size=points)
    return np.stack([v ^ (rng.random(points) < 0.2), rng.integers(2, size=points)], axis=1) * 1.0, v


def test_intervals_cover_the_truth_as_often_as_they_say() -> None:
    # I / H of a binary symmetric channel that errs in a fifth of cases, and its squared correlation, (1 - 2/5)^2.
    loss = -(0.2 * math.log(0.2) + 0.8 * math.log(0.8)) / math.log(2)
    # Of two latents whose correlation is 0.6 beside that; InfoM of a latent that is one factor and, erring, the other.
    share = 1 / (2 - loss)
    truth = {"mig": 1 - loss, "sap": 0.36, "mean_mutual_information": (1 - loss) * math.log(2)}
    truth |= {"gaussian_total_correlation": -0.5 * math.log(1 - 0.36), "infomec": 2 * share - 1}
    hits = dict.fromkeys(truth, 0)
    for seed in range(80):
        z, v = flipped(np.random.default_rng(seed))
        both, half = np.stack([v, z[:, 0]], axis=1), z[:, 1].astype(int)
        whole = z[:, [0]] + 2 * z[:, [1]]
        found = {
            "mig": mig(z, v, bins=2, bootstrap=120, seed=seed),
            "sap": sap(z, v, continuous=True, bootstrap=120, seed=seed),
            "mean_mutual_information": mean_mutual_information(both, bins=2, bootstrap=120, seed=seed),
            "gaussian_total_correlation": gaussian_total_correlation(both, bootstrap=120, seed=seed),
            "infomec": infomec(whole, np.stack([v, half], 1), estimator="discrete", bootstrap=120, seed=seed),
        }
        for name, score in found.items():
            low, high = score.detail["interval"]
            hits[name] += low <= truth[name] <= high
    # 95 % of 80 is 76; fewer than 68 would have a chance below 0.001.
    assert all(count >= 68 for count in hits.values()), hits


def test_every_interval_is_of_its_metric_and_narrows_with_more_points() -> None:
    rng = np.random.default_rng(0)
    width = {}
    for points in (200, 3200):
        v = rng.integers((3, 4), size=(points, 2))
        known = v + 0.5 * v[:, ::-1] + 0.4 * rng.normal(size=(points, 2))
        z = np.concatenate([known, rng.normal(size=(points, 1))], axis=1)
        for name, metric in {
            "mig": lambda **o: mig(z, v, **o),  # noqa: B023
            "rmig": lambda **o: rmig((z, 0.3 + 0 * z), v, bins=30, **o),  # noqa: B023
            "jemmig": lambda **o: jemmig((z, 0.3 + 0 * z), v, bins=30, **o),  # noqa: B023
            "modularity": lambda **o: modularity_explicitness(z[:, :2], v, **o),  # noqa: B023
            "svm": lambda **o: sap(z, v, **o),  # noqa: B023
            "correlation": lambda **o: sap(z, v, continuous=True, **o),  # noqa: B023
            "dci": lambda **o: dci(z, v, estimator="lasso", **o),  # noqa: B023
            "infomec": lambda **o: infomec(z[:, :2], v, estimator="binned", bins=6, **o),  # noqa: B023
            "gaussian_total_correlation": lambda **o: gaussian_total_correlation(z[:, :2], **o),  # noqa: B023
            "mean_mutual_information": lambda **o: mean_mutual_information(z[:, :2], bins=6, **o),  # noqa: B023
        }.items():
            plain, score = metric(), metric(bootstrap=60, seed=0)
            assert "interval" not in plain.detail
            assert float(plain) == float(score)
            low, high = score.detail["interval"]
            assert 0 <= low < high <= 1
            assert low - 0.1 < float(score) < high + 0.1
            width.setdefault(name, []).append(high - low)
    for name, (few, many) in width.items():
        assert many < 0.6 * few, name


@pytest.mark.parametrize("metric", [mig, rmig, jemmig, lambda z, v, **o: sap(z, v, continuous=True, **o)])
def test_resamples_that_lose_a_value_are_defined(metric: object) -> None:
    v = np.stack([np.arange(30) % 3, np.arange(30) == 7], axis=1)
    low, high = metric(v * 1.0, v, bootstrap=40).detail["interval"]  # type: ignore[operator]
    assert 0 <= low <= high <= 1
