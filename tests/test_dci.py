# Copyright ppl-disent contributors.
# SPDX-License-Identifier: Apache-2.0
"""DCI: the published formulas on known matrices, published algorithms written out plainly, then bad input."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.stats import entropy
from sklearn.ensemble import GradientBoostingClassifier, RandomForestRegressor
from sklearn.linear_model import Lasso

from ppl_disent.errors import ArgumentError
from ppl_disent.metrics import dci
from ppl_disent.metrics.dci import concentration
from ppl_disent.metrics.held_out import split, standardised
from ppl_disent.metrics.predictors import PREDICTORS
from tests.test_metrics import grid, sample


def codes_and_factors(seed: int, points: int = 600) -> tuple[np.ndarray, np.ndarray]:
    """Four latents about factors of 3, 4 and 5 values, mixed and noisy, and one that knows nothing."""
    codes, factors, _ = sample(seed, points=points, sizes=(3, 4, 5), latents=5)
    codes[:, 4] = np.random.default_rng(seed).normal(size=points)
    return codes, factors


# ------------------------------------------------------------------------------------------------------------ formula


def with_empty_row() -> np.ndarray:
    matrix = np.eye(5)
    matrix[2] = 0
    return matrix


@pytest.mark.parametrize(
    ("importance", "disentanglement", "completeness"),
    # google-research/disentanglement_lib, evaluation/metrics/dci_test.py.
    [
        (np.eye(5), 1.0, 1.0),
        (np.eye(5) * [1, 2, 3, 4, 5], 1.0, 1.0),
        (with_empty_row(), 1.0, 1.0),
        (np.zeros((5, 5)), 0.0, 0.0),
        (np.concatenate([np.eye(5), np.eye(5)], axis=0), 1.0, 1 - math.log(2) / math.log(10)),
        (np.concatenate([np.eye(5), np.eye(5)], axis=1), 1 - math.log(2) / math.log(10), 1.0),
        (np.diag([5.0, 3, 0, 0, 0]), 1.0, 1.0),
        (np.ones((4, 3)), 0.0, 0.0),
        (np.ones((1, 2)), 0.0, 1.0),
    ],
)
def test_the_formulas_of_known_matrices(importance: np.ndarray, disentanglement: float, completeness: float) -> None:
    assert concentration(importance)[0] == pytest.approx(disentanglement, abs=1e-12)
    assert concentration(importance.T)[0] == pytest.approx(completeness, abs=1e-12)


def published_formulas(importance: np.ndarray) -> tuple[float, float]:
    """google-research/disentanglement_lib, evaluation/metrics/dci.py, ``disentanglement`` and ``completeness``."""
    rows = 1 - entropy(importance.T + 1e-11, base=importance.shape[1])
    columns = 1 - entropy(importance + 1e-11, base=importance.shape[0])
    share = importance / importance.sum()
    return float(rows @ share.sum(1)), float(columns @ share.sum(0))


@pytest.mark.parametrize("seed", range(3))
def test_the_formulas_equal_disentanglement_lib(seed: int) -> None:
    rng = np.random.default_rng(seed)
    importance = rng.gamma(0.3, size=(7, 4)) * (rng.random((7, 4)) < 0.7)
    ours = concentration(importance)[0], concentration(importance.T)[0]
    np.testing.assert_allclose(ours, published_formulas(importance), atol=1e-9)


# ------------------------------------------------------------------------------------------------ published algorithms


@pytest.mark.parametrize("seed", range(2))
def test_classification_equals_disentanglement_lib(seed: int) -> None:
    # google-research/disentanglement_lib, evaluation/metrics/dci.py (_compute_dci, compute_importance_gbt); boosting
    # permutes latents to break ties, hence the seed there too.
    codes, factors = codes_and_factors(seed)
    train, test = split(len(codes), 1 / 3, seed)
    importance, accuracy = np.zeros((5, 3)), []
    for k in range(3):
        model = GradientBoostingClassifier(random_state=seed).fit(codes[train], factors[train, k])
        importance[:, k] = np.abs(model.feature_importances_)
        accuracy.append([np.mean(model.predict(codes[at]) == factors[at, k]) for at in (train, test)])
    expected = published_formulas(importance)

    score = dci(codes, factors, estimator="gradient_boosting", seed=seed, factor_names=["a", "b", "c"])
    np.testing.assert_allclose(score.detail["importance"], importance, atol=1e-12)
    assert (float(score), score.detail["completeness"]) == pytest.approx(expected, abs=1e-6)
    informativeness = score.detail["informativeness_train"], score.detail["informativeness"]
    np.testing.assert_allclose(informativeness, np.mean(accuracy, axis=0), atol=1e-12)
    assert list(score.detail["informativeness_per_factor"]) == ["a", "b", "c"]
    assert "gradient_boosting, classification (informativeness: accuracy), 400 + 200 points" in score.estimator


@pytest.mark.parametrize("estimator", ["lasso", "random_forest"])
def test_regression_equals_the_authors_notebook(estimator: str) -> None:
    # cianeastwood/qedr, quantify.ipynb (fit_visualise_quantify, normalize_datasets) and lib/eval/regression.py
    # (entropic_scores, norm_entropy, nrmse). The notebook gives forests a depth by hand, found on a tenth.
    codes, factors = codes_and_factors(3)
    train, test = split(len(codes), 0.1, 0)
    z, v = ((a - a[train].mean(0)) / a[train].std(0) for a in (codes, factors))
    columns, errors = [], []
    for y in v.T:
        model = Lasso(alpha=0.02)
        if estimator == "random_forest":
            dev, rest = train[len(train) - len(train) // 10 :], train[: len(train) - len(train) // 10]
            forests = [RandomForestRegressor(10, max_depth=depth, random_state=0) for depth in range(2, 13)]
            forests = [forest.fit(z[rest], y[rest]) for forest in forests]
            model = min(forests, key=lambda f: np.mean((f.predict(z[dev]) - y[dev]) ** 2))
            columns.append(np.abs(model.feature_importances_))
        else:
            columns.append(np.abs(model.fit(z[train], y[train]).coef_))
        errors.append(np.sqrt(np.mean((model.predict(z[test]) - y[test]) ** 2)) / np.std(y[test]))
    importance = np.stack(columns, axis=1)

    def scores(matrix: np.ndarray) -> np.ndarray:
        shares = matrix / matrix.sum(0)
        return np.array([1 + p @ np.log(p + 1e-12) / np.log(len(p) + 1e-12) for p in shares.T])

    weight = importance.sum(1) / importance.sum()
    with np.errstate(invalid="ignore"):
        disentanglement = np.nansum(scores(importance.T) * weight)  # a latent without weight is 0 / 0 there

    score = dci(codes, factors, estimator=estimator, protocol="regression", held_out=0.1)  # type: ignore[arg-type]
    np.testing.assert_allclose(score.detail["importance"], importance, atol=1e-12)
    assert float(score) == pytest.approx(disentanglement, abs=1e-6)
    assert score.detail["completeness"] == pytest.approx(scores(importance).mean(), abs=1e-6)
    assert score.detail["informativeness"] == pytest.approx(np.mean(errors), abs=1e-12)


@pytest.mark.parametrize("angle", [0, 15, 30, 45])
def test_lasso_of_a_rotated_code_is_the_closed_form(angle: int) -> None:
    # On standardised latents without correlation a Lasso shrinks each weight, cos t or sin t, by its penalty. The
    # factors are continuous.
    x = np.random.default_rng(0).uniform(-1, 1, size=(40_000, 2))
    t = math.radians(angle)
    rotation = np.array([[math.cos(t), -math.sin(t)], [math.sin(t), math.cos(t)]])
    p = np.maximum(np.array([math.cos(t), math.sin(t)]) - 0.02, 0)
    known = 1 - entropy(p, base=2)
    assert known == pytest.approx([1, 0.2749, 0.0557, 0][angle // 15], abs=1e-4)
    score = dci(x @ rotation, x, estimator="lasso")
    assert (float(score), score.detail["completeness"]) == pytest.approx((known, known), abs=0.02)
    assert score.detail["informativeness"] == pytest.approx(0.02 if angle == 0 else 0.02 * math.sqrt(2), abs=2e-3)


@pytest.mark.parametrize("estimator", ["gradient_boosting", "hist_gradient_boosting"])
def test_the_gain_of_trees_is_the_variance_that_their_splits_explain(estimator: str) -> None:
    # Of 2 a + b, a and b of -1 and 1, each round leaves the same share of both, so that 4/5 of the gain is due to a.
    a, b = 2.0 * np.tile(grid(2, 2), (300, 1)).T - 1
    score = dci(
        np.stack([a, b], axis=1),
        np.stack([2 * a + b, a + 2 * b], axis=1),
        estimator=estimator,  # type: ignore[arg-type]
        protocol="regression",
    )
    np.testing.assert_allclose(score.detail["importance"], [[0.8, 0.2], [0.2, 0.8]], atol=0.01)
    assert float(score) == pytest.approx(1 - entropy([0.8, 0.2], base=2), abs=0.02)


def test_boosting_on_binned_codes_uses_the_latents_as_ordinary_boosting_does() -> None:
    codes, factors = codes_and_factors(1)
    binned, ordinary = (
        dci(codes, factors, estimator=name).detail["importance"]  # type: ignore[arg-type]
        for name in ("hist_gradient_boosting", "gradient_boosting")
    )
    np.testing.assert_allclose(binned, ordinary, atol=0.12)
    np.testing.assert_array_equal(binned.argmax(0), ordinary.argmax(0))


# --------------------------------------------------------------------------------------------------------- properties


@pytest.mark.parametrize(("estimator", "protocol"), list(PREDICTORS))
def test_every_predictor_finds_a_perfect_code_and_ignores_what_is_dead(estimator: str, protocol: str) -> None:
    # A forest that had to split on random latents would give 0.63 here.
    factors = np.tile(grid(3, 4), (150, 1))
    codes = np.concatenate([factors[:, ::-1] * [-3.0, 0.1], np.full((1800, 1), 0.7)], axis=1).astype(np.float32)
    score = dci(codes, factors, estimator=estimator, protocol=protocol)  # type: ignore[arg-type]
    assert float(score) > 0.93
    assert score.detail["completeness"] > 0.93
    assert score.detail["importance"][2] == pytest.approx([0, 0], abs=1e-12)
    informativeness = score.detail["informativeness"]
    assert informativeness < 0.05 if protocol == "regression" else informativeness > 0.99


def test_dci_takes_other_forms_and_shapes() -> None:
    codes, factors = codes_and_factors(2)
    half = codes.astype(np.float16)
    same = dci(half.astype(np.float64), factors, estimator="lasso")
    for z in (half, torch.tensor(half, requires_grad=True), torch.distributions.Normal(torch.tensor(half), 1.0)):
        if isinstance(z, torch.distributions.Distribution):
            z = torch.distributions.Independent(z, 1)
        assert float(dci(z, torch.tensor(factors), estimator="lasso")) == float(same)
    one = dci(codes[:, [0]], factors, estimator="lasso")
    assert one.detail["importance"].shape == (1, 3)
    assert set(one.detail["completeness_per_factor"].values()) <= {0.0, 1.0}
    nothing = dci(np.full((60, 2), 0.1), factors[:60], estimator="lasso")
    assert (float(nothing), nothing.detail["completeness"]) == (0.0, 0.0)
    assert nothing.detail["informativeness"] == pytest.approx(1.0, abs=0.1)


def test_rounding_of_a_dead_latent_is_not_scaled_up() -> None:
    x = np.full((30, 1), 0.1) + np.random.default_rng(0).integers(2, size=(30, 1)) * 1e-17
    jitter = np.float64(0.1) + np.arange(30)[:, None] % 2 * np.spacing(0.1)
    for z in (x, jitter):
        assert not standardised(z, np.arange(20)).any()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"estimator": "forest"}, ["estimator, protocol", "'forest'", "random_forest with regression"]),
        ({"estimator": "lasso", "protocol": "classification"}, ["estimator, protocol", "lasso with regression"]),
        ({"estimator": "logistic", "protocol": "regression"}, ["estimator, protocol"]),
        ({"codes": np.full((60, 2), np.nan)}, ["codes", "120 of 120"]),
        ({"factors": np.arange(60) % 3}, ["factors", "one factor", "at least two"]),
        ({"factors": np.stack([np.arange(60) % 3, np.zeros(60)], 1)}, ["'v1'", "one value only"]),
        ({"factors": np.random.default_rng(0).random((60, 2)), "protocol": "classification"}, ["continuous"]),
        ({"factors": np.stack([np.arange(60) % 3, np.arange(60) == 0], 1), "held_out": 0.95}, ["'v1'", "to train on"]),
        ({"factors": np.stack([np.arange(60) % 3, np.arange(60) == 0], 1), "estimator": "lasso"}, ["'v1'", "held out"]),
        ({"held_out": 0.0}, ["held_out", "between 0 and 1"]),
        ({"held_out": 0.001}, ["held_out", "60 points"]),
        ({"factors": np.zeros((59, 2))}, ["60 and 59 rows"]),
    ],
)
def test_bad_input_is_named(change: dict, words: list[str]) -> None:
    factors = np.stack([np.arange(60) % 3, np.arange(60) // 3 % 4], axis=1)
    arguments = {"codes": factors * 1.0, "factors": factors, "estimator": "logistic", **change}
    with pytest.raises(ArgumentError) as caught:
        dci(arguments.pop("codes"), arguments.pop("factors"), **arguments)
    assert all(word in str(caught.value) for word in words), caught.value
