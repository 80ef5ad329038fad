# Copyright ppl-disent contributors.
# SPDX-License-Identifier: Apache-2.0
"""InfoMEC, the scores without labels, and UDR: published algorithms written out plainly, closed forms, bad input."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.linalg import sqrtm
from scipy.special import digamma
from scipy.stats import spearmanr
from sklearn.feature_selection import mutual_info_classif
from sklearn.linear_model import Lasso, LogisticRegression
from sklearn.metrics import log_loss, mutual_info_score
from sklearn.preprocessing import LabelEncoder, OneHotEncoder, StandardScaler

from ppl_disent.errors import ArgumentError
from ppl_disent.metrics import gaussian_total_correlation, infomec, mean_mutual_information, udr
from ppl_disent.metrics.information import as_factors
from ppl_disent.metrics.knn import neighbour_information
from tests.test_metrics import grid, sample, two_point_information

# ------------------------------------------------------------------------------------------------------------ InfoMEC


def published_infomec(sources: np.ndarray, latents: np.ndarray, discrete: bool) -> tuple:
    """kylehkhsu/latent_quantization, disentangle/metrics/infomec.py, for a current scikit-learn."""

    def cross_entropy(x: np.ndarray, y: np.ndarray) -> float:
        model = LogisticRegression(C=np.inf, class_weight="balanced", tol=1e-4, max_iter=100).fit(x, y)
        return log_loss(y, model.predict_proba(x))

    ys = [LabelEncoder().fit_transform(v) for v in sources.T]
    z = StandardScaler().fit_transform(latents)
    share = np.empty((len(ys), latents.shape[1]))
    for k, y in enumerate(ys):
        for j in range(latents.shape[1]):
            if discrete:
                share[k, j] = mutual_info_score(y, LabelEncoder().fit_transform(latents[:, j]))
            else:
                share[k, j] = mutual_info_classif(z[:, [j]], y, n_neighbors=10, random_state=0)[0]
        share[k] /= mutual_info_score(y, y)
    span = np.ptp(latents, axis=0)
    active = span > (0 if discrete else span.max() / 20)
    kept, n, count = share[:, active], len(ys), active.sum()
    m = ((kept.max(0) / kept.sum(0)).mean() - 1 / n) / (1 - 1 / n)
    c = ((kept.max(1) / kept.sum(1)).mean() - 1 / count) / (1 - 1 / count)
    x = OneHotEncoder().fit_transform(latents) if discrete else z
    null = [cross_entropy(np.zeros(latents.shape), y) for y in ys]
    e = np.mean([(h - cross_entropy(x, y)) / h for h, y in zip(null, ys)])
    return m, e, c, share, active


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("discrete", [False, True])
@pytest.mark.parametrize("seed", range(2))
def test_infomec_equals_the_authors_code(seed: int, discrete: bool) -> None:
    codes, factors, _ = sample(seed, points=800, sizes=(3, 4, 6))
    codes[:, 0] *= 0.03  # pruned, for its range
    if discrete:
        codes = np.digitize(codes, [-0.5, 0, 0.5]).astype(float)
        codes[:, 0] = 2
    m, e, c, share, active = published_infomec(factors, codes, discrete)
    score = infomec(codes, factors, estimator="discrete" if discrete else "knn")
    np.testing.assert_allclose(score.detail["normalised_information"].T, share, atol=1e-6)
    np.testing.assert_array_equal(score.detail["active"], active)
    assert not active[0]
    assert active.sum() > 2
    figures = [score.detail[part] for part in ("modularity", "explicitness", "compactness")]
    np.testing.assert_allclose(figures, [m, e, c], atol=1e-6)
    assert float(score) == figures[0]


@pytest.mark.parametrize("neighbours", [1, 3, 10])
@pytest.mark.parametrize("seed", range(3))
def test_neighbour_information_equals_scikit_learn(seed: int, neighbours: int) -> None:
    # sklearn/feature_selection/_mutual_info.py, _compute_mi_cd. With fewer than 2 k points of a value its search takes
    # distances from products, rounded so that the k-th neighbour can count as nearer than itself.
    codes, factors, _ = sample(seed, points=1000)
    v = as_factors(factors, None, len(codes))
    ours = neighbour_information(codes, v, neighbours=neighbours)
    theirs = [mutual_info_classif(codes, y, n_neighbors=neighbours, random_state=0) for y in v.classes.T]
    np.testing.assert_allclose(ours, np.transpose(theirs), atol=1e-6)


@pytest.mark.parametrize("seed", range(3))
def test_neighbour_information_equals_the_estimator_written_out(seed: int) -> None:
    # Ross (2014), equation 6, with all distances; of 40 values one occurs once, the others less often than k.
    codes, factors, _ = sample(seed, points=300)
    factors[0, 2] = 77
    v = as_factors(factors, None, len(codes))
    for j, k in [(0, 0), (1, 2), (2, 2), (4, 1)]:
        y = v.classes[:, k]
        terms, kept = [], [i for i in range(300) if (y == y[i]).sum() > 1]
        for i in kept:
            among = np.sort(np.abs(codes[y == y[i], j] - codes[i, j]))
            near = min(10, len(among) - 1)
            nearer = (np.abs(codes[kept, j] - codes[i, j]) < among[near]).sum()
            terms.append(digamma(near) - digamma(len(among)) - digamma(nearer))
        expected = max(0.0, digamma(len(kept)) + np.mean(terms))
        assert neighbour_information(codes, v)[j, k] == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("s", [0.5, 1.0])
def test_neighbour_information_of_a_noisy_binary_code_is_the_integral(s: float) -> None:
    y = np.arange(20_000) % 2
    z = 2 * y - 1 + s * np.random.default_rng(0).normal(size=20_000)
    estimate = neighbour_information(z[:, None], as_factors(y, None, len(y)))
    assert estimate.item() == pytest.approx(two_point_information(s), abs=0.015)


def test_neighbour_information_of_equal_codes_is_finite() -> None:
    v = as_factors(np.tile(grid(2, 3), (30, 1)), None, 180)
    codes = np.stack([v.classes[:, 0], np.full(180, 0.1), np.full(180, 1e9)], axis=1).astype(float)
    found = neighbour_information(codes, v)
    assert np.isfinite(found).all()
    assert found[0, 0] >= math.log(2) - 0.05
    assert found[1:].max() < 0.1


def test_the_null_model_is_the_logarithm_of_the_number_of_values() -> None:
    y = np.repeat([0, 1, 2], [70, 20, 10])
    model = LogisticRegression(C=np.inf, class_weight="balanced").fit(np.zeros((100, 2)), y)
    assert log_loss(y, model.predict_proba(np.zeros((100, 2)))) == pytest.approx(math.log(3), abs=1e-9)


@pytest.mark.parametrize("estimator", ["knn", "binned", "discrete"])
def test_infomec_is_defined_where_the_original_divides_by_zero(estimator: str) -> None:
    v = np.tile(grid(3, 4), (20, 1))
    one = infomec(v[:, [0]] * 1.0, v, estimator=estimator)  # type: ignore[arg-type]
    assert one.detail["compactness"] == 1.0
    assert float(one) == pytest.approx(1.0, abs=0.1)
    dead = infomec(np.full((240, 2), 0.1), v, estimator=estimator)  # type: ignore[arg-type]
    assert [dead.detail[p] for p in ("modularity", "explicitness", "compactness")] == [0, 0, 0]
    # Under two thirds of the factor is told by a latent of two values that merges the outer ones of three.
    half = infomec((v[:, [0]] == 1) * 1.0, v, estimator="binned")
    binary = mutual_info_score(v[:, 0], v[:, 0] == 1) / math.log(3)
    np.testing.assert_allclose(half.detail["normalised_information"], [[binary, 0]], atol=1e-12)


# ------------------------------------------------------------------------------------------------------- unsupervised


def test_total_correlation_of_a_known_covariance() -> None:
    # The figures for S = [[1, .9], [.9, 1]], from points that have exactly this covariance.
    z = grid(2, 2) * 2 - 1
    z = z / z.std(0, ddof=1) @ np.linalg.cholesky([[1, 0.9], [0.9, 1]]).T
    score = gaussian_total_correlation(z)
    assert float(score) == pytest.approx(-0.5 * math.log(1 - 0.81), abs=1e-12)
    assert float(score) == pytest.approx(0.830366, abs=1e-6)
    assert score.detail["wasserstein"] == pytest.approx(0.610735, abs=1e-6)
    assert score.detail["wasserstein_normalised"] == pytest.approx(0.305367, abs=1e-6)


@pytest.mark.parametrize("seed", range(3))
def test_unsupervised_scores_equal_disentanglement_lib(seed: int) -> None:
    # google-research/disentanglement_lib, evaluation/metrics/unsupervised_metrics.py.
    codes, _, _ = sample(seed)
    cov = np.cov(codes.T)
    score = gaussian_total_correlation(codes)
    assert float(score) == pytest.approx(0.5 * (np.log(np.diag(cov)).sum() - np.linalg.slogdet(cov)[1]), abs=1e-10)
    distance = 2 * np.trace(cov) - 2 * np.trace(sqrtm(cov * np.diag(cov)[:, None])).real
    assert score.detail["wasserstein"] == pytest.approx(distance, abs=1e-8)
    binned = [np.digitize(z, np.histogram(z, 20)[1][:-1]) for z in codes.T]
    information = np.array([[mutual_info_score(a, b) for a in binned] for b in binned])
    np.testing.assert_allclose(mean_mutual_information(codes).detail["mutual_information"], information, atol=1e-12)
    np.fill_diagonal(information, 0)
    assert float(mean_mutual_information(codes)) == pytest.approx(information.sum() / 20, abs=1e-12)


def test_unsupervised_scores_of_degenerate_codes() -> None:
    z = np.random.default_rng(0).normal(size=(100, 3))
    alone = gaussian_total_correlation(z)
    dead = gaussian_total_correlation(np.concatenate([np.full((100, 1), 0.1), z * [1, -50, 1e-5]], axis=1))
    assert float(dead) == pytest.approx(float(alone), abs=1e-10)
    assert dead.detail["active"].tolist() == [False, True, True, True]
    assert float(gaussian_total_correlation(np.concatenate([z, z[:, :2] @ [[1], [2.0]]], axis=1))) == math.inf
    assert float(gaussian_total_correlation(np.full((9, 2), 0.1))) == 0.0
    assert float(mean_mutual_information(np.concatenate([z, 0 * z], axis=1).astype(np.float16))) > 0


# ---------------------------------------------------------------------------------------------------------------- UDR


def published_udr(runs: list[np.ndarray], kl: list[np.ndarray], similarity: str, tol: float) -> tuple:
    """google-research/disentanglement_lib, evaluation/udr/metrics/udr.py, ``compute_udr_sklearn``."""
    runs = [StandardScaler().fit_transform(z) * (k > 0.01) for z, k in zip(runs, kl)]
    likeness = np.zeros((len(runs), len(runs)))
    for i, one in enumerate(runs):
        for j, other in enumerate(runs):
            if i == j:
                continue
            if similarity == "lasso":
                matrix = np.abs(Lasso(alpha=0.1, tol=tol, max_iter=100_000).fit(one, other).coef_).T
            else:
                kept = [(a, b) for a in range(one.shape[1]) for b in range(other.shape[1])]
                matrix = np.zeros((one.shape[1], other.shape[1]))
                for a, b in kept:
                    if one[:, a].any() and other[:, b].any():
                        matrix[a, b] = abs(spearmanr(one[:, a], other[:, b])[0])
            matrix = matrix[kl[i] > 0.01][:, kl[j] > 0.01]
            parts = []
            for axis in (0, 1):
                total = matrix.sum(axis)
                parts.append(np.mean(np.where(total > 0, matrix.max(axis) ** 2 / np.where(total > 0, total, 1), 0)))
            likeness[i, j] = np.mean(parts)
    return [np.median(np.delete(likeness[:, i], i)) for i in range(len(runs))], likeness


@pytest.mark.parametrize("similarity", ["lasso", "spearman"])
def test_udr_equals_disentanglement_lib(similarity: str) -> None:
    rng = np.random.default_rng(0)
    base = rng.normal(size=(300, 4))
    runs = [base @ (np.eye(4)[rng.permutation(4)] + a * rng.normal(size=(4, 4))) for a in (0, 0.1, 0.5, 1)]
    kl = [np.array([0.5, 1, 2, 0.001]), np.ones(4), np.array([0.0, 3, 3, 3]), np.ones(4)]
    per_run, likeness = published_udr(runs, kl, similarity, tol=1e-12)
    score = udr(runs, kl=kl, similarity=similarity)  # type: ignore[arg-type]
    np.testing.assert_allclose(score.detail["likeness"], likeness, atol=1e-6)
    np.testing.assert_allclose(score.detail["per_run"], per_run, atol=1e-6)
    assert float(score) == pytest.approx(np.mean(per_run), abs=1e-6)
    if similarity == "lasso":  # scikit-learn's default tolerance, which they use, is coarser than our solution
        np.testing.assert_allclose(per_run, published_udr(runs, kl, similarity, tol=1e-4)[0], atol=1e-3)


def test_udr_of_known_runs() -> None:
    z = np.random.default_rng(0).normal(size=(5000, 3))
    z = z - z.mean(0)
    z = z @ np.linalg.inv(np.linalg.cholesky(np.cov(z.T))).T  # exactly uncorrelated
    runs = [z, z[:, [2, 0, 1]] * [-1, 5, 0.1], np.concatenate([z, np.full((5000, 1), 0.3)], axis=1)]
    # Matching latents have a Lasso weight of 1 - 0.1, all others 0.
    assert float(udr(runs)) == pytest.approx(0.9, abs=1e-9)
    assert udr(runs).detail["active"][2].tolist() == [True, True, True, False]
    noise = np.random.default_rng(1).normal(size=(5000, 2))
    assert udr([*runs, torch.tensor(noise)]).detail["per_run"][3] == 0.0
    assert float(udr([noise, np.full((5000, 2), 0.1)])) == 0.0


# ----------------------------------------------------------------------------------------------------------- bad input


def test_bad_input_is_named() -> None:
    v, z = grid(3, 4), np.random.default_rng(0).random((12, 2))
    for call, words in [
        (lambda: infomec(z, v, estimator="ksg"), "estimator: got 'ksg'"),  # type: ignore[arg-type]
        (lambda: infomec(z, v, neighbours=0), "neighbours"),
        (lambda: infomec(z, v[:, 0]), "one factor"),
        (lambda: infomec(z, z), "continuous"),
        (lambda: infomec(z * np.nan, v), "codes"),
        (lambda: gaussian_total_correlation(z[:1]), "two points"),
        (lambda: mean_mutual_information(z[:, :1]), "two latents"),
        (lambda: mean_mutual_information(z * np.inf), "finite"),
        (lambda: udr([z]), "at least two runs"),
        (lambda: udr([z, z[:5]]), "same data"),
        (lambda: udr([z, z * np.nan]), r"runs\[1\]"),
        (lambda: udr([z, z], kl=[[1, 1], [1]]), "kl"),
        (lambda: udr([z, z], similarity="cka"), "similarity"),  # type: ignore[arg-type]
    ]:
        with pytest.raises(ArgumentError, match=words):
            call()
