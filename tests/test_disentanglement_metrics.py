# Copyright ppl-disent contributors.
# SPDX-License-Identifier: Apache-2.0
"""SAP, modularity and explicitness, JEMMIG, IRS: published algorithms written out plainly, closed forms, bad input."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import mutual_info_score, roc_auc_score
from sklearn.preprocessing import MultiLabelBinarizer
from sklearn.svm import LinearSVC

from ppl_disent.errors import ArgumentError
from ppl_disent.metrics import irs, jemmig, modularity_explicitness, sap
from ppl_disent.metrics.held_out import split
from ppl_disent.metrics.modularity import modularity_per_latent
from tests.test_metrics import gaps, grid, sample, scaled

METRICS = [sap, modularity_explicitness, jemmig, irs]

# ---------------------------------------------------------------------------------------------------------------- SAP


def top_two(matrix: np.ndarray) -> np.ndarray:
    ordered = np.sort(matrix, axis=0)
    return ordered[-1] - ordered[-2]


@pytest.mark.parametrize("seed", range(3))
def test_sap_equals_disentanglement_lib(seed: int) -> None:
    # google-research/disentanglement_lib, evaluation/metrics/sap_score.py (compute_score_matrix,
    # compute_avg_diff_top_two), both settings of continuous_factors.
    codes, factors, _ = sample(seed, sizes=(3, 6, 8))
    codes[:, 4] = 0.3
    train, test = split(len(codes), 1 / 3, seed)
    correlation, accuracy = np.zeros((5, 3)), np.zeros((5, 3))
    for j in range(5):
        for k in range(3):
            cov = np.cov(codes[:, j], factors[:, k], ddof=1)
            if cov[0, 0] > 1e-12:
                correlation[j, k] = cov[0, 1] ** 2 / (cov[0, 0] * cov[1, 1])
            machine = LinearSVC(C=0.01, class_weight="balanced").fit(codes[train, j, None], factors[train, k])
            accuracy[j, k] = np.mean(machine.predict(codes[test, j, None]) == factors[test, k])

    linear, discrete = sap(codes, factors, continuous=True), sap(codes, factors, seed=seed)
    np.testing.assert_allclose(linear.detail["predictability"], correlation, atol=1e-12)
    np.testing.assert_allclose(gaps(linear), top_two(correlation), atol=1e-12)
    np.testing.assert_allclose(discrete.detail["predictability"], accuracy, atol=1e-12)
    assert float(discrete) == pytest.approx(top_two(accuracy).mean(), abs=1e-12)


def test_sap_of_known_codes() -> None:
    v = grid(4, 4)
    assert float(sap(v, v, continuous=True)) == pytest.approx(1.0, abs=1e-12)
    assert float(sap(np.concatenate([v, v], 1), v, continuous=True)) == pytest.approx(0.0, abs=1e-12)
    # Variance 5/4 of the factor beside s^2 of noise that is orthogonal to both, on a grid.
    x = grid(4, 4, 2)
    noisy = x[:, :2] + 2 * (2 * x[:, [2]] - 1)
    expected = 1.25 / (1.25 + 4)
    assert gaps(sap(noisy, x[:, :2], continuous=True)) == pytest.approx([expected, expected], abs=1e-12)
    assert float(sap(v[:, [0]], v[:, 0], continuous=True)) == pytest.approx(1.0)
    # Continuous factors, and the scale of a latent.
    z = np.random.default_rng(0).normal(size=(50, 3))
    np.testing.assert_allclose(gaps(sap(z * [1, -7, 1e-3], z, continuous=True)), gaps(sap(z, z, continuous=True)))


def test_a_linear_machine_cannot_find_the_middle_of_a_dsprites_factor() -> None:
    factors = np.random.default_rng(0).integers((3, 6, 40), size=(9000, 3))
    best = sap(factors / 1.0, factors).detail["predictability"].max(0)
    np.testing.assert_allclose(best, [1.0, 0.49, 0.075], atol=0.03)


# ------------------------------------------------------------------------------------------ modularity, explicitness


@pytest.mark.parametrize(
    ("information", "expected"),
    # google-research/disentanglement_lib, evaluation/metrics/modularity_explicitness_test.py.
    [
        (np.eye(3), 1.0),
        (np.diag([1.0, 1.0, 0.0]), 2 / 3),
        (np.zeros((3, 3)), 0.0),
        (np.concatenate([np.eye(5), np.eye(5)], axis=1), 1 - 1 / 9),
    ],
)
def test_modularity_of_known_matrices(information: np.ndarray, expected: float) -> None:
    assert modularity_per_latent(information).mean() == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("seed", range(2))
def test_modularity_and_explicitness_equal_disentanglement_lib(seed: int) -> None:
    # google-research/disentanglement_lib, evaluation/metrics/modularity_explicitness.py (modularity,
    # explicitness_per_factor) and utils.py (normalize_data), modularity on all points.
    codes, factors, _ = sample(seed, points=900, sizes=(3, 2, 6))
    binned = [np.digitize(z, np.histogram(z, 20)[1][:-1]) for z in codes.T]
    squared = np.array([[mutual_info_score(v, z) for v in factors.T] for z in binned]) ** 2
    most = squared.max(1)
    modularity = np.mean(1 - (squared.sum(1) - most) / (most * 2))
    train, test = split(len(codes), 1 / 3, seed)
    z = (codes - codes[train].mean(0)) / codes[train].std(0)
    areas = []
    for v in factors.T:
        model = LogisticRegression().fit(z[train], v[train])
        one_hot = [MultiLabelBinarizer().fit_transform(v[at][:, None]) for at in (train, test)]
        areas.append([roc_auc_score(y, model.predict_proba(z[at])) for y, at in zip(one_hot, (train, test))])

    score = modularity_explicitness(codes, factors, seed=seed)
    assert float(score) == pytest.approx(modularity, abs=1e-10)
    assert score.detail["explicitness_train"] == pytest.approx(np.mean(areas, axis=0)[0], abs=1e-6)
    assert score.detail["explicitness"] == pytest.approx(np.mean(areas, axis=0)[1], abs=1e-6)
    np.testing.assert_allclose(list(score.detail["explicitness_per_factor"].values()), np.array(areas)[:, 1], atol=1e-6)


def test_explicitness_leaves_out_values_that_are_not_held_out() -> None:
    factors = np.stack([np.arange(30) % 2, np.arange(30) == 0], axis=1)
    seed = next(s for s in range(99) if 0 in split(30, 1 / 3, s)[0])
    score = modularity_explicitness(factors * 1.0, factors, seed=seed)
    assert score.detail["explicitness_per_factor"]["v0"] == 1.0
    assert score.detail["explicitness_per_factor"]["v1"] == 0.5


# ------------------------------------------------------------------------------------------------------------- JEMMIG


def published_jemmig(mean: np.ndarray, std: np.ndarray, factors: np.ndarray, bins: int) -> np.ndarray:
    """clarken92/DisentanglementMetrics, exp_4_paper/7a_interpretability_metrics_v2.py, in float64."""
    eps, edges = 1e-8, np.linspace(-4, 4, bins + 1)
    centres, width = (edges[:-1] + edges[1:]) / 2, 8 / bins
    result = []
    for v in factors.T:
        one_hot = np.eye(v.max() + 1)[v]
        p = one_hot.mean(0)
        log_p = np.log(np.clip(p, eps, 1 - eps))
        information, joint_entropy = [], []
        for m, s in zip(mean.T[..., None], std.T[..., None]):
            density = np.exp(-((centres - m) ** 2) / (2 * s**2)) / s / math.sqrt(2 * math.pi)
            q = density * width / np.maximum((density * width).sum(1, keepdims=True), eps)
            inside = (np.clip(np.digitize(m, edges), 1, bins) - 1) == np.arange(bins)
            q = np.where(density.max(1, keepdims=True) < 1e-5, inside, q)
            log_q = np.log(np.clip(q.mean(0), eps, 1 - eps))
            joint = q.T @ one_hot / len(q)
            log_joint = np.log(np.clip(joint, eps, 1 - eps))
            information.append((joint * (log_joint - log_q[:, None] - log_p)).sum())
            joint_entropy.append(-(joint * log_joint).sum())
        first, second = np.argsort(information)[::-1][:2]
        joint_less = joint_entropy[first] - information[first] + information[second]
        result.append(joint_less / (-(p * log_p).sum() + np.log(bins)))
    return np.array(result)


@pytest.mark.parametrize("bins", [100, 200])
@pytest.mark.parametrize("seed", range(2))
def test_jemmig_equals_the_authors_script(seed: int, bins: int) -> None:
    mean, factors, std = sample(seed, sizes=(3, 6, 10))
    np.testing.assert_allclose(
        gaps(jemmig((mean, std), factors, bins=bins)), published_jemmig(mean, std, factors, bins), atol=1e-6
    )


def test_jemmig_of_known_codes() -> None:
    v = grid(3, 6, 10)
    assert float(jemmig(scaled(3, 6, 10), v)) == pytest.approx(0.0, abs=1e-12)
    # Two factors in one latent: the other one's entropy is what it costs; no second latent.
    both = (v[:, [0]] * 6 + v[:, [1]]) / 18 * 7 - 3.5
    expected = [math.log(6) / (math.log(3) + math.log(100)), math.log(3) / (math.log(6) + math.log(100))]
    np.testing.assert_allclose(gaps(jemmig(both, v[:, :2])), expected, atol=1e-12)
    # Noise over all bins alike knows nothing: H(z) = ln B.
    flat = jemmig((np.zeros((540, 2)), np.full((540, 2), 2e3)), np.concatenate([v, v, v]))
    np.testing.assert_allclose(gaps(flat), 1.0, atol=1e-6)


# ---------------------------------------------------------------------------------------------------------------- IRS


def published_irs(factors: np.ndarray, latents: np.ndarray, quantile: float) -> tuple[float, np.ndarray]:
    """google-research/disentanglement_lib, evaluation/metrics/irs.py, ``scalable_disentanglement_score``."""
    furthest = np.max(np.abs(latents - latents.mean(axis=0)), axis=0)
    cumulated = np.zeros((latents.shape[1], factors.shape[1]))
    for i in range(factors.shape[1]):
        values = np.unique(factors[:, i])
        for value in values:
            group = latents[factors[:, i] == value]
            cumulated[:, i] += np.percentile(np.abs(group - group.mean(axis=0)), q=quantile * 100, axis=0)
        cumulated[:, i] /= len(values)
    matrix = 1 - cumulated / furthest[:, None]
    return float(np.average(matrix.max(axis=1), weights=furthest)), matrix


@pytest.mark.parametrize("quantile", [0.99, 1.0])
@pytest.mark.parametrize("seed", range(3))
def test_irs_equals_disentanglement_lib(seed: int, quantile: float) -> None:
    codes, factors, _ = sample(seed)
    binned = np.stack([np.digitize(v, np.histogram(v, 20)[1][:-1]) for v in factors.T], axis=1)
    expected, matrix = published_irs(binned, codes, quantile)
    score = irs(np.concatenate([codes, np.full((500, 1), 0.3)], axis=1), factors, quantile=quantile)
    assert float(score) == pytest.approx(expected, abs=1e-12)
    np.testing.assert_allclose(score.detail["robustness"][:-1], matrix, atol=1e-12)
    assert np.isnan(score.detail["robustness"][-1]).all()
    assert score.detail["parents"].tolist() == [*matrix.argmax(1), -1]
    np.testing.assert_allclose(score.detail["per_latent"], [*matrix.max(1), np.nan], atol=1e-12)


def test_irs_of_known_codes() -> None:
    v = grid(4, 4)
    assert float(irs(v, v)) == pytest.approx(1.0)
    # With one of two factors in {-3, -1, 1, 3} held, their sum moves by at most 3 of 6.
    assert float(irs((2 * v - 3).sum(1, keepdims=True), v)) == pytest.approx(0.5)
    assert float(irs(np.full((16, 2), 0.1), v)) == 0.0
    continuous = np.random.default_rng(0).uniform(size=(4000, 2))
    assert float(irs(continuous, continuous)) == pytest.approx(1 - 0.025 / 0.5, abs=0.01)  # half a bin of a twentieth


# ---------------------------------------------------------------------------------------------------------------- all


@pytest.mark.parametrize("metric", METRICS)
def test_metrics_do_not_change_where_they_should_not(metric: object) -> None:
    codes, factors, _ = sample(4, sizes=(3, 4))
    options = {"continuous": True} if metric is sap else {}
    score = metric(codes, factors, **options)  # type: ignore[operator]
    for z in (codes[:, [3, 1, 4, 0, 2]], -codes):
        assert float(metric(z, factors, **options)) == pytest.approx(float(score), abs=1e-10)  # type: ignore[operator]
    half = torch.tensor(codes, dtype=torch.float16)
    same = metric(half.double(), torch.tensor(factors), **options)  # type: ignore[operator]
    assert float(metric(half.numpy(), factors.astype(np.float16), **options)) == float(same)  # type: ignore[operator]


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"codes": np.full((12, 2), np.nan)}, ["codes", "24 of 24"]),
        ({"codes": np.zeros(12)}, ["codes[:, None]"]),
        ({"factors": grid(3, 4)[:11]}, ["12 and 11 rows"]),
        ({"factors": grid(3, 4) * [1, 0]}, ["'v1'", "one value only"]),
        ({"factor_names": "xy"}, ["factor_names"]),
    ],
)
def test_bad_input_is_named(metric: object, change: dict, words: list[str]) -> None:
    arguments = {"codes": grid(3, 4) * 1.0, "factors": grid(3, 4), **change}
    with pytest.raises(ArgumentError) as caught:
        metric(arguments.pop("codes"), arguments.pop("factors"), **arguments)  # type: ignore[operator]
    assert all(word in str(caught.value) for word in words), caught.value


def test_other_bad_input_is_named() -> None:
    v, z = grid(3, 4), np.random.default_rng(0).random((12, 2))
    for call, words in [
        (lambda: irs(z, v, quantile=0), "quantile"),
        (lambda: modularity_explicitness(z, v[:, 0]), "one factor"),
        (lambda: sap(z, z), "continuous"),
        (lambda: jemmig(z, z), "continuous"),
        (lambda: modularity_explicitness(z, z), "continuous"),
    ]:
        with pytest.raises(ArgumentError, match=words):
            call()
