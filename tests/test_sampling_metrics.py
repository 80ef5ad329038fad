# Copyright ppl-disent contributors.
# SPDX-License-Identifier: Apache-2.0
"""FactorVAE's and beta-VAE's metrics: published algorithms written out plainly, closed forms, draws, bad input."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from ppl_disent.data import Arrays, Subset, load
from ppl_disent.errors import ArgumentError
from ppl_disent.metrics import beta_vae_score, factor_vae_score
from ppl_disent.metrics.factor_vae import least_varying
from ppl_disent.metrics.rows import Rows, encode_drawn
from tests.test_metrics import grid

SIZES = (3, 6, 4)
FEW = {"votes": 1500, "eval_votes": 1500, "variance_points": 2000}


def gridded(*sizes: int) -> Arrays:
    """A grid of factors, of which x is the factors in units of their range."""
    v = torch.tensor(grid(*sizes))
    x = v.double() / torch.tensor(sizes) - 0.5
    return Arrays(
        x, likelihood="gaussian", factors=v, factor_names=[f"f{k}" for k in range(len(sizes))], factor_sizes=sizes
    )


def mixed(latents: int = 5, seed: int = 0) -> np.ndarray:
    """A matrix that mixes three factors into so many latents, some more than others."""
    rng = np.random.default_rng(seed)
    return rng.normal(size=(3, latents)) * (rng.random((3, latents)) < 0.6) + 0.05


def itself(x: torch.Tensor) -> torch.Tensor:
    return x


# -------------------------------------------------------------------------------------------- published algorithms


def published_factor_vae(mixing: np.ndarray, seed: int, batch: int, threshold: float) -> float:
    """google-research/disentanglement_lib, evaluation/metrics/factor_vae.py, with new factors for each vote."""
    rng = np.random.RandomState(seed)

    def draw(n: int) -> np.ndarray:
        return np.stack([rng.randint(size, size=n) for size in SIZES], axis=1)

    def represent(factors: np.ndarray) -> np.ndarray:
        return (factors / np.array(SIZES) - 0.5) @ mixing

    spread = np.var(represent(draw(2000)), axis=0, ddof=1)
    active = np.sqrt(spread) >= threshold

    def votes(n: int) -> np.ndarray:
        table = np.zeros((3, mixing.shape[1]), dtype=int)
        for _ in range(n):
            k, factors = rng.randint(3), draw(batch)
            factors[:, k] = factors[0, k]
            local = np.var(represent(factors), axis=0, ddof=1)
            table[k, np.argmin(local[active] / spread[active])] += 1
        return table

    learned = votes(1500)
    majority = np.argmax(learned, axis=0), np.arange(mixing.shape[1])
    counted = votes(1500)
    return counted[majority].sum() / counted.sum()


@pytest.mark.parametrize(("batch", "threshold"), [(64, 0.0), (8, 0.05), (8, 0.3)])
def test_the_factor_vae_score_equals_disentanglement_lib(batch: int, threshold: float) -> None:
    mixing = mixed()
    expected = published_factor_vae(mixing, 0, batch, threshold)
    score = factor_vae_score(
        lambda x: x.numpy() @ mixing, gridded(*SIZES), batch_size=batch, threshold=threshold, seed=1, **FEW
    )
    # Two accuracies of 1,500 votes each: their difference has a standard error below 0.019; majorities differ little.
    assert float(score) == pytest.approx(expected, abs=0.06)
    assert score.detail["train_accuracy"] == pytest.approx(expected, abs=0.06)
    assert score.detail["votes"].sum() == 1500


def published_beta_vae(mixing: np.ndarray, seed: int, batch: int) -> float:
    """google-research/disentanglement_lib, evaluation/metrics/beta_vae.py."""
    rng = np.random.RandomState(seed)

    def draw() -> np.ndarray:
        return np.stack([rng.randint(size, size=batch) for size in SIZES], axis=1)

    def features(n: int) -> tuple[np.ndarray, np.ndarray]:
        points, labels = np.zeros((n, mixing.shape[1])), np.zeros(n, dtype=int)
        for i in range(n):
            labels[i], one, other = rng.randint(3), draw(), draw()
            other[:, labels[i]] = one[:, labels[i]]
            points[i] = np.abs((one - other) / np.array(SIZES) @ mixing).mean(axis=0)
        return points, labels

    model = LogisticRegression(random_state=rng).fit(*features(1500))
    return model.score(*features(1500))


@pytest.mark.parametrize("batch", [64, 5])
def test_the_beta_vae_score_equals_disentanglement_lib(batch: int) -> None:
    mixing = mixed()
    expected = published_beta_vae(mixing, 0, batch)
    score = beta_vae_score(
        lambda x: x.numpy() @ mixing, gridded(*SIZES), points=1500, eval_points=1500, batch_size=batch, seed=1
    )
    assert float(score) == pytest.approx(expected, abs=0.06)
    assert score.detail["weights"].shape == (3, 5)


def test_the_vote_is_the_least_ratio_of_variances() -> None:
    codes = np.random.default_rng(0).normal(size=(20, 7, 4)) * [1, 10, 0.1, 3]
    spread, active = np.array([1.0, 100, 0.02, 9]), np.array([True, True, False, True])
    for batch, vote in zip(codes, least_varying(codes, spread, active)):
        ratios = {j: batch[:, j].var(ddof=1) / spread[j] for j in (0, 1, 3)}
        assert vote == min(ratios, key=ratios.__getitem__)


# -------------------------------------------------------------------------------------------------------- closed forms


def test_known_codes() -> None:
    data = gridded(*SIZES)
    perfect = factor_vae_score(itself, data, **FEW)
    assert float(perfect) == perfect.detail["train_accuracy"] == 1.0
    np.testing.assert_array_equal(perfect.detail["votes"] > 0, np.eye(3, dtype=bool))
    assert float(beta_vae_score(lambda x: 3 * x, data, points=1000, eval_points=500)) == 1.0
    # One factor is missing: its votes go anywhere, but its absence tells beta-VAE's classifier.
    assert float(factor_vae_score(lambda x: x[:, :2], data, **FEW)) == pytest.approx(2 / 3, abs=0.05)
    assert float(beta_vae_score(lambda x: 3 * x[:, :2], data, points=1000, eval_points=500)) == 1.0
    # 72 codes of noise would be a code of a kind.
    many = data.factors.repeat(200, 1)
    look_up = Arrays(
        torch.randn(14_400, 4), likelihood="gaussian", factors=many, factor_names="abc", factor_sizes=SIZES
    )
    for score in (factor_vae_score(itself, look_up, **FEW), beta_vae_score(itself, look_up, points=1500)):
        assert float(score) == pytest.approx(1 / 3, abs=0.05)
        assert score.detail["chance"] == 1 / 3


def test_dead_latents_have_no_vote() -> None:
    data = gridded(*SIZES)
    with_dead = factor_vae_score(lambda x: torch.cat([0 * x + 0.1, x, 1e-3 * x], 1), data, **FEW)
    assert float(with_dead) == 1.0
    assert with_dead.detail["active"].tolist() == [False] * 3 + [True] * 3 + [False] * 3
    dead = factor_vae_score(lambda x: 0 * x + 0.1, data, threshold=0.0, **FEW)
    assert (float(dead), dead.detail["votes"].sum(), dead.detail["train_accuracy"]) == (0.0, 0, 0.0)
    assert float(beta_vae_score(lambda x: 0 * x, data, points=300, eval_points=300)) == pytest.approx(1 / 3, abs=0.1)


# --------------------------------------------------------------------------------------------------------------- draws


def test_rows_are_drawn_uniformly_among_those_that_share_a_value() -> None:
    # Any set of rows, in any order, in which values have different frequencies.
    keep = np.random.default_rng(0).permutation(72)[:40]
    data = Subset(gridded(*SIZES), torch.tensor(keep))
    rows, rng = Rows(data), np.random.default_rng(1)
    given = np.repeat(np.arange(40), 3)
    fixed = np.tile(np.arange(3), 40)
    drawn = rows.like(given, fixed, 2000, rng)
    values = grid(*SIZES)[keep]
    for at, k, found in zip(given, fixed, drawn):
        alike = (values[:, k] == values[at, k]).nonzero()[0]
        counts = Counter(found.tolist())
        assert set(counts) <= set(alike.tolist())
        expected = 2000 / len(alike)
        assert sum((counts[i] - expected) ** 2 / expected for i in alike) < len(alike) + 6 * np.sqrt(2 * len(alike)) + 6


def test_an_image_is_encoded_once_and_its_code_is_put_where_it_was_drawn() -> None:
    data, seen = gridded(*SIZES), []

    def encode(x: torch.Tensor) -> np.ndarray:
        assert not torch.is_grad_enabled()
        assert len(x) <= 7
        seen.extend(map(tuple, x.tolist()))
        return x.numpy().astype(np.float32)

    drawn = [np.array([[5, 5, 70], [0, 5, 1]]), np.array([1, 1])]
    first, second = encode_drawn(encode, data, drawn, 7)
    assert len(seen) == len(set(seen)) == 4
    x = (grid(*SIZES) / np.array(SIZES) - 0.5).astype(np.float32)
    np.testing.assert_array_equal(first, x[drawn[0]])
    np.testing.assert_array_equal(second, x[drawn[1]])
    seen.clear()
    factor_vae_score(encode, data, encode_batch=7, **FEW)
    assert len(seen) == len(data)


def test_the_same_seed_gives_the_same_score_and_the_global_state_is_left() -> None:
    data, mixing = gridded(*SIZES), mixed(seed=3)
    before = np.random.get_state()[1].copy(), torch.get_rng_state()
    for metric, options in ((factor_vae_score, FEW), (beta_vae_score, {"points": 300, "eval_points": 300})):
        one, same = (metric(lambda x: x.numpy() @ mixing, data, batch_size=4, seed=5, **options) for _ in range(2))
        assert float(one) == float(same)
    assert (np.random.get_state()[1] == before[0]).all()
    assert torch.equal(torch.get_rng_state(), before[1])


def test_dsprites_and_distributions_are_scored_and_constant_factors_left_out() -> None:
    # The centre of mass knows the positions and little else, and the lack of these does not tell shape from scale.
    data = load("dsprites", every=(1, 5, 40, 8, 8))
    assert data.factor_sizes == (3, 2, 1, 4, 4)
    pixel = torch.arange(64.0)

    def encode(x: torch.Tensor) -> torch.distributions.Distribution:
        x = x[:, 0].double()
        mass = x.sum((1, 2))
        place = torch.stack([(x.sum(1) @ pixel) / mass, (x.sum(2) @ pixel) / mass], dim=1)
        return torch.distributions.Independent(torch.distributions.Normal(place, 1.0), 1)

    score = factor_vae_score(encode, data, **FEW)
    assert score.detail["factor_names"] == ("shape", "scale", "pos_x", "pos_y")
    np.testing.assert_array_equal(score.detail["votes"][2:] > 0, np.eye(2, dtype=bool))
    assert float(score) == pytest.approx(0.5, abs=0.06)
    assert float(beta_vae_score(encode, data, points=500, eval_points=500)) == pytest.approx(0.75, abs=0.08)


# ----------------------------------------------------------------------------------------------------------- bad input


@pytest.mark.parametrize("metric", [factor_vae_score, beta_vae_score])
@pytest.mark.parametrize(
    ("encode", "data", "options", "words"),
    [
        (itself, Arrays(torch.zeros(4, 2), likelihood="gaussian"), {}, ["dataset", "known factors"]),
        (itself, gridded(1, 5), {}, ["dataset", "two factors that vary"]),
        (itself, gridded(2, 2), {"batch_size": 1}, ["batch_size", "at least 2"]),
        (itself, gridded(2, 2), {"encode_batch": 0}, ["encode_batch"]),
        (lambda x: x[:1], gridded(2, 2), {}, ["encode", "(4, latents)"]),
        (lambda x: x[:, 0], gridded(2, 2), {}, ["encode(images)", "(points, latents)"]),
        (lambda x: x * torch.nan, gridded(2, 2), {}, ["encode(images)", "NaN"]),
    ],
)
def test_bad_input_is_named(metric: object, encode: object, data: object, options: dict, words: list[str]) -> None:
    with pytest.raises(ArgumentError) as caught:
        metric(encode, data, **options)  # type: ignore[operator]
    assert all(word in str(caught.value) for word in words), caught.value
