# Copyright ppl-disent contributors.
# SPDX-License-Identifier: Apache-2.0
"""Each metric against its published algorithm written out plainly, in turns in one process, on the same inputs.

Run with ``python -m benchmarks.metrics``: first over N at 10 latents, then over the number of latents at 2,000 points.
Only the ratios mean something: the seconds belong to the machine. MIG and RMIG are in ``benchmarks.mig``.

The plain ones follow google-research/disentanglement_lib (evaluation/metrics and evaluation/udr), clarken92/
DisentanglementMetrics (jemmig) and kylehkhsu/latent_quantization (infomec), one pair of latent and factor, or one vote,
at a time. Those that sample draw differently, so that their values differ by chance; theirs encodes every image drawn.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from sklearn.feature_selection import mutual_info_classif
from sklearn.linear_model import Lasso, LogisticRegression
from sklearn.metrics import mutual_info_score, roc_auc_score
from sklearn.svm import LinearSVC

from ppl_disent.data import Arrays
from ppl_disent.metrics import (
    beta_vae_score,
    dci,
    factor_vae_score,
    infomec,
    irs,
    jemmig,
    mean_mutual_information,
    modularity_explicitness,
    sap,
    udr,
)
from ppl_disent.metrics.held_out import split, standardised

SIZES = (3, 6, 10, 8)
TURNS, VOTES = 3, 300


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


def plain_sap(codes: np.ndarray, factors: np.ndarray) -> float:
    matrix = np.zeros((codes.shape[1], factors.shape[1]))
    for j, z in enumerate(codes.T):
        for k, v in enumerate(factors.T):
            cov = np.cov(z, v, ddof=1)
            matrix[j, k] = cov[0, 1] ** 2 / (cov[0, 0] * cov[1, 1])
    return gap(matrix)


def plain_sap_svm(codes: np.ndarray, factors: np.ndarray) -> float:
    train, test = split(len(codes), 1 / 3, 0)
    matrix = np.zeros((codes.shape[1], factors.shape[1]))
    for j, z in enumerate(codes.T):
        for k, v in enumerate(factors.T):
            machine = LinearSVC(C=0.01, class_weight="balanced").fit(z[train, None], v[train])
            matrix[j, k] = np.mean(machine.predict(z[test, None]) == v[test])
    return gap(matrix)


def plain_modularity(codes: np.ndarray, factors: np.ndarray) -> float:
    squared = np.array([[mutual_info_score(v, z) for v in factors.T] for z in binned(codes)]) ** 2
    train, test = split(len(codes), 1 / 3, 0)
    z = standardised(codes, train)
    for v in factors.T:
        model = LogisticRegression().fit(z[train], v[train])
        for at in (train, test):
            roc_auc_score(v[at][:, None] == model.classes_, model.predict_proba(z[at]))
    most = squared.max(1)
    return float(np.mean(1 - (squared.sum(1) - most) / most / (squared.shape[1] - 1)))


def plain_jemmig(codes: np.ndarray, factors: np.ndarray) -> float:
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
        first, second = np.argsort(information)[::-1][:2]
        entropy = mutual_info_score(v, v) + math.log(bins)
        result.append((joint_entropy[first] - information[first] + information[second]) / entropy)
    return float(np.mean(result))


def plain_irs(codes: np.ndarray, factors: np.ndarray) -> float:
    factors = np.stack(binned(factors), axis=1)
    furthest = np.abs(codes - codes.mean(0)).max(0)
    total = np.zeros((codes.shape[1], factors.shape[1]))
    for k, v in enumerate(factors.T):
        values = np.unique(v)
        for value in values:
            group = codes[v == value]
            total[:, k] += np.percentile(np.abs(group - group.mean(0)), 99, axis=0) / len(values)
    return float(np.average((1 - total / furthest[:, None]).max(1), weights=furthest))


def plain_lasso_dci(codes: np.ndarray, factors: np.ndarray) -> float:
    train, test = split(len(codes), 1 / 3, 0)
    z, v = standardised(codes, train), standardised(factors, train)
    models = [Lasso(alpha=0.02).fit(z[train], y[train]) for y in v.T]
    for model, y in zip(models, v.T):
        for at in (train, test):
            np.sqrt(((model.predict(z[at]) - y[at]) ** 2).mean()) / y[at].std()
    weights = np.abs(np.stack([model.coef_ for model in models], axis=1))
    share = weights / np.maximum(weights.sum(1, keepdims=True), 1e-12)
    each = 1 + (share * np.log(share + 1e-12)).sum(1) / math.log(share.shape[1])
    return float((each * weights.sum(1)).sum() / weights.sum())


def plain_infom(codes: np.ndarray, factors: np.ndarray) -> float:
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


def plain_mean_information(codes: np.ndarray, factors: np.ndarray) -> float:
    table = np.array([[mutual_info_score(a, b) for a in binned(codes)] for b in binned(codes)])
    np.fill_diagonal(table, 0)
    return float(table.sum() / (len(table) ** 2 - len(table)))


def three_runs(codes: np.ndarray) -> list[np.ndarray]:
    rng = np.random.default_rng(1)
    return [codes, codes[:, ::-1] + rng.normal(scale=0.1, size=codes.shape), rng.permutation(codes, axis=1)]


def plain_udr(codes: np.ndarray, factors: np.ndarray) -> float:
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
def plain_factor_vae(codes: np.ndarray, factors: np.ndarray) -> float:
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
def plain_beta_vae(codes: np.ndarray, factors: np.ndarray) -> float:
    rng, net = np.random.default_rng(0), network(codes.shape[1])
    labels, points = rng.integers(len(SIZES), size=2 * VOTES), np.zeros((2 * VOTES, codes.shape[1]))
    for i, k in enumerate(labels):
        one, other = rng.integers(SIZES, size=(2, 64, len(SIZES)))
        other[:, k] = one[:, k]
        points[i] = np.abs(net(images(one)).numpy() - net(images(other)).numpy()).mean(0)
    model = LogisticRegression().fit(points[:VOTES], labels[:VOTES])
    return float(model.score(points[VOTES:], labels[VOTES:]))


def sampled(metric: Callable[..., Any], codes: np.ndarray, **options: int) -> float:
    """A metric that samples, on the grid of all factors."""
    grid = np.stack(np.unravel_index(np.arange(math.prod(SIZES)), SIZES), axis=1)
    data = Arrays(
        images(grid),
        likelihood="gaussian",
        factors=torch.from_numpy(grid),
        factor_names="abcd",
        factor_sizes=SIZES,
    )
    return float(metric(network(codes.shape[1]), data, **options))


PAIRS: dict[str, tuple[Callable[..., Any], Callable[..., Any]]] = {
    "dci (lasso)": (lambda z, v: dci(z, v, estimator="lasso"), plain_lasso_dci),
    "sap (correlation)": (lambda z, v: sap(z, v, continuous=True), plain_sap),
    "sap (machines)": (sap, plain_sap_svm),
    "factor_vae_score": (
        lambda z, v: sampled(factor_vae_score, z, votes=VOTES, eval_votes=VOTES, variance_points=2000, threshold=0),
        plain_factor_vae,
    ),
    "beta_vae_score": (lambda z, v: sampled(beta_vae_score, z, points=VOTES, eval_points=VOTES), plain_beta_vae),
    "modularity_explicitness": (modularity_explicitness, plain_modularity),
    "jemmig": (lambda z, v: jemmig((z, np.full_like(z, 0.2)), v), plain_jemmig),
    "irs": (irs, plain_irs),
    "infomec (knn)": (infomec, plain_infom),
    "mean_mutual_information": (lambda z, v: mean_mutual_information(z), plain_mean_information),
    "udr (three runs)": (lambda z, v: udr(three_runs(z)), plain_udr),
}


def seconds(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def compare(name: str, points: int, latents: int) -> None:
    """Prints one line: both times, the median of the ratios within a turn and their range, and the values."""
    codes, factors = draw(points, latents)
    ours, plain = PAIRS[name]
    values = float(ours(codes, factors)), plain(codes, factors)
    turns = [(seconds(lambda: ours(codes, factors)), seconds(lambda: plain(codes, factors))) for _ in range(TURNS)]
    ratios = [b / a for a, b in turns]
    mine, theirs = (statistics.median(column) * 1e3 for column in zip(*turns))
    print(
        f"{name:>24} {points:>7,} {latents:>4} {mine:>9.1f} ms {theirs:>9.1f} ms  x{statistics.median(ratios):<7.1f}"
        f"({min(ratios):.1f} to {max(ratios):.1f})  {values[0]:.6f}, differ by {abs(values[0] - values[1]):.1e}",
        flush=True,
    )


def main() -> None:
    print(f"{'metric':>24} {'N':>7} {'L':>4} {'ours':>12} {'plain':>12}  ratio, its range, our value")
    for name in PAIRS:
        for points in (1_000, 4_000, 16_000):
            compare(name, points, 10)
        for latents in (5, 20):
            compare(name, 2_000, latents)


if __name__ == "__main__":
    main()
