# Copyright ppl-disent contributors.
# SPDX-License-Identifier: Apache-2.0
"""The published algorithms of the metrics, written out plainly: one pair of latent and factor, or one vote, at a time.

They follow google-research/disentanglement_lib (evaluation/metrics and evaluation/udr), clarken92/
DisentanglementMetrics (rmig, jemmig) and kylehkhsu/latent_quantization (infomec). Those that sample draw differently
from ours, so that their values differ by chance; they encode every image drawn.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from scipy.linalg import sqrtm
from sklearn.ensemble import GradientBoostingClassifier
from sklearn.feature_selection import mutual_info_classif
from sklearn.linear_model import Lasso, LogisticRegression
from sklearn.metrics import mutual_info_score, roc_auc_score
from sklearn.svm import LinearSVC

from ppl_disent.metrics.held_out import split, standardised

SIZES = (3, 6, 10, 8)
VOTES = 300


def draw(points: int, latents: int) -> tuple[np.ndarray, np.ndarray]:
    """Sampled factors, and codes of which the first four are the factors with noise, the others noise."""
    rng = np.random.default_rng(0)
    factors = rng.integers(SIZES, size=(points, len(SIZES)))
    codes = rng.normal(scale=0.2, size=(points, latents))
    codes[:, : len(SIZES)] += factors / np.array(SIZES) * 3 - 1.5
    return codes, factors


def binned(codes: np.ndarray) -> list[np.ndarray]:
    return [np.digitize(z, np.histogram(z, 20)[1][:-1]) for z in codes.T]


def gap(matrix: np.ndarray) -> float:
    ordered = np.sort(matrix, axis=0)
    return float((ordered[-1] - ordered[-2]).mean())


def sap(codes: np.ndarray, factors: np.ndarray) -> float:
    matrix = np.zeros((codes.shape[1], factors.shape[1]))
    for j, z in enumerate(codes.T):
        for k, v in enumerate(factors.T):
            cov = np.cov(z, v, ddof=1)
            matrix[j, k] = cov[0, 1] ** 2 / (cov[0, 0] * cov[1, 1])
    return gap(matrix)


def sap_svm(codes: np.ndarray, factors: np.ndarray) -> float:
    train, test = split(len(codes), 1 / 3, 0)
    matrix = np.zeros((codes.shape[1], factors.shape[1]))
    for j, z in enumerate(codes.T):
        for k, v in enumerate(factors.T):
            machine = LinearSVC(C=0.01, class_weight="balanced").fit(z[train, None], v[train])
            matrix[j, k] = np.mean(machine.predict(z[test, None]) == v[test])
    return gap(matrix)


def modularity(codes: np.ndarray, factors: np.ndarray) -> float:
    squared = np.array([[mutual_info_score(v, z) for v in factors.T] for z in binned(codes)]) ** 2
    train, test = split(len(codes), 1 / 3, 0)
    z = standardised(codes, train)
    for v in factors.T:
        model = LogisticRegression().fit(z[train], v[train])
        for at in (train, test):
            roc_auc_score(v[at][:, None] == model.classes_, model.predict_proba(z[at]))
    most = squared.max(1)
    return float(np.mean(1 - (squared.sum(1) - most) / most / (squared.shape[1] - 1)))


def mig(codes: np.ndarray, factors: np.ndarray) -> float:
    information = np.array([[mutual_info_score(v, z) for v in factors.T] for z in binned(codes)])
    return gap(information / [mutual_info_score(v, v) for v in factors.T])


def quantised(codes: np.ndarray, factors: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
    """The information of every latent with a factor, and its joint entropy, for every factor."""
    bins, std = 100, 0.2
    edges = np.linspace(-4, 4, bins + 1)
    centres, result = (edges[1:] + edges[:-1]) / 2, []
    for v in factors.T:
        one_hot = np.eye(v.max() + 1)[v]
        information, joint_entropy = [], []
        for z in codes.T:
            q = np.exp(-((centres - z[:, None]) ** 2) / 2 / std**2)
            q /= q.sum(1, keepdims=True)
            joint = q.T @ one_hot / len(q)
            log_joint, log_q = (np.log(np.clip(p, 1e-8, 1)) for p in (joint, q.mean(0)))
            information.append((joint * (log_joint - log_q[:, None] - np.log(one_hot.mean(0)))).sum())
            joint_entropy.append(-(joint * log_joint).sum())
        result.append((np.array(information), np.array(joint_entropy)))
    return result


def rmig(codes: np.ndarray, factors: np.ndarray) -> float:
    information = np.stack([of for of, _ in quantised(codes, factors)], axis=1)
    return gap(information / [mutual_info_score(v, v) for v in factors.T])


def jemmig(codes: np.ndarray, factors: np.ndarray) -> float:
    result = []
    for v, (information, joint_entropy) in zip(factors.T, quantised(codes, factors)):
        first, second = np.argsort(information)[::-1][:2]
        entropy = mutual_info_score(v, v) + math.log(100)
        result.append((joint_entropy[first] - information[first] + information[second]) / entropy)
    return float(np.mean(result))


def irs(codes: np.ndarray, factors: np.ndarray) -> float:
    factors = np.stack(binned(factors), axis=1)
    furthest = np.abs(codes - codes.mean(0)).max(0)
    total = np.zeros((codes.shape[1], factors.shape[1]))
    for k, v in enumerate(factors.T):
        values = np.unique(v)
        for value in values:
            group = codes[v == value]
            total[:, k] += np.percentile(np.abs(group - group.mean(0)), 99, axis=0) / len(values)
    return float(np.average((1 - total / furthest[:, None]).max(1), weights=furthest))


def lasso_dci(codes: np.ndarray, factors: np.ndarray) -> float:
    train, test = split(len(codes), 1 / 3, 0)
    z, v = standardised(codes, train), standardised(factors, train)
    models = [Lasso(alpha=0.02).fit(z[train], y[train]) for y in v.T]
    for model, y in zip(models, v.T):
        for at in (train, test):
            np.sqrt(((model.predict(z[at]) - y[at]) ** 2).mean()) / y[at].std()
    return disentanglement(np.abs(np.stack([model.coef_ for model in models], axis=1)))


def boosted_dci(codes: np.ndarray, factors: np.ndarray) -> float:
    train, test = split(len(codes), 1 / 3, 0)
    models = [GradientBoostingClassifier(random_state=0).fit(codes[train], v[train]) for v in factors.T]
    for model, v in zip(models, factors.T):
        for at in (train, test):
            np.mean(model.predict(codes[at]) == v[at])
    return disentanglement(np.stack([model.feature_importances_ for model in models], axis=1))


def disentanglement(weights: np.ndarray) -> float:
    share = weights / np.maximum(weights.sum(1, keepdims=True), 1e-12)
    each = 1 + (share * np.log(share + 1e-12)).sum(1) / math.log(share.shape[1])
    return float((each * weights.sum(1)).sum() / weights.sum())


def infom(codes: np.ndarray, factors: np.ndarray) -> float:
    share = np.empty((factors.shape[1], codes.shape[1]))
    for k, v in enumerate(factors.T):
        for j in range(codes.shape[1]):
            share[k, j] = mutual_info_classif(codes[:, [j]], v, n_neighbors=10, random_state=0)[0]
        share[k] /= mutual_info_score(v, v)
    for v in factors.T:
        model = LogisticRegression(C=np.inf, class_weight="balanced").fit(standardised(codes, np.arange(len(v))), v)
        model.predict_proba(codes)
    k = len(share)
    kept = share[:, share.sum(0) > 0]
    ratio = [*(kept.max(0) / kept.sum(0)), *[1 / k] * (share.shape[1] - kept.shape[1])]
    return float((np.mean(ratio) - 1 / k) / (1 - 1 / k))


def mean_information(codes: np.ndarray, factors: np.ndarray) -> float:
    table = np.array([[mutual_info_score(a, b) for a in binned(codes)] for b in binned(codes)])
    np.fill_diagonal(table, 0)
    return float(table.sum() / (len(table) ** 2 - len(table)))


def total_correlation(codes: np.ndarray, factors: np.ndarray) -> float:
    cov = np.cov(codes.T)
    2 * np.trace(cov) - 2 * np.trace(sqrtm(cov * np.diag(cov)[:, None]))
    return float(0.5 * (np.log(np.diag(cov)).sum() - np.linalg.slogdet(cov)[1]))


def three_runs(codes: np.ndarray) -> list[np.ndarray]:
    rng = np.random.default_rng(1)
    return [codes, codes[:, ::-1] + rng.normal(scale=0.1, size=codes.shape), rng.permutation(codes, axis=1)]


def udr(codes: np.ndarray, factors: np.ndarray) -> float:
    runs = [standardised(z, np.arange(len(z))) for z in three_runs(codes)]
    likeness = np.zeros((3, 3))
    for i, j in [(i, j) for i in range(3) for j in range(3) if i != j]:
        matrix = np.abs(Lasso(alpha=0.1).fit(runs[i], runs[j]).coef_).T
        sums = [matrix.sum(axis) for axis in (0, 1)]
        parts = [np.nan_to_num(matrix.max(axis) ** 2 / np.maximum(sums[axis], 1e-12)).mean() for axis in (0, 1)]
        likeness[i, j] = np.mean(parts)
    return float(np.mean([np.median(np.delete(likeness[:, i], i)) for i in range(3)]))


def network(latents: int) -> torch.nn.Module:
    """An encoder of 4 numbers, which has some work to do for each image."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        first, last = torch.nn.Linear(4, 512), torch.nn.Linear(512, latents)
    with torch.no_grad():
        # As large as codes are, so that the penalty of beta-VAE's classifier lets it learn.
        last.weight.mul_(30)
    return torch.nn.Sequential(first, torch.nn.ReLU(), last).double()


def images(factors: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(factors / np.array(SIZES) - 0.5)


@torch.no_grad()
def factor_vae(codes: np.ndarray, factors: np.ndarray) -> float:
    rng, net = np.random.default_rng(0), network(codes.shape[1])
    spread = net(images(factors[rng.integers(len(factors), size=2000)])).numpy().var(0, ddof=1)
    votes = np.zeros((2, len(SIZES), codes.shape[1]))
    for turn in (0, 1):
        for _ in range(VOTES):
            k, drawn = rng.integers(len(SIZES)), rng.integers(SIZES, size=(64, len(SIZES)))
            drawn[:, k] = drawn[0, k]
            votes[turn, k, (net(images(drawn)).numpy().var(0, ddof=1) / spread).argmin()] += 1
    return float(votes[1][votes[0].argmax(0), np.arange(codes.shape[1])].sum() / VOTES)


@torch.no_grad()
def beta_vae(codes: np.ndarray, factors: np.ndarray) -> float:
    rng, net = np.random.default_rng(0), network(codes.shape[1])
    labels, points = rng.integers(len(SIZES), size=2 * VOTES), np.zeros((2 * VOTES, codes.shape[1]))
    for i, k in enumerate(labels):
        one, other = rng.integers(SIZES, size=(2, 64, len(SIZES)))
        other[:, k] = one[:, k]
        points[i] = np.abs(net(images(one)).numpy() - net(images(other)).numpy()).mean(0)
    model = LogisticRegression().fit(points[:VOTES], labels[:VOTES])
    return float(model.score(points[VOTES:], labels[VOTES:]))
