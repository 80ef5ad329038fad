# Copyright ppl-disent contributors.
# SPDX-License-Identifier: Apache-2.0
"""Metrics: closed forms, then published definitions written out plainly, then invariances, then bad input."""

from __future__ import annotations

import math

import numpy as np
import pyro.distributions as dist
import pytest
import torch
from scipy.integrate import quad
from sklearn.metrics import mutual_info_score

from ppl_disent.errors import ArgumentError
from ppl_disent.metrics import Score, mig, reconstruction_error, rmig
from ppl_disent.metrics.information import as_factors, equal_width_bins, joint_counts, mutual_information


def grid(*sizes: int) -> np.ndarray:
    """Every combination of factor values once, an (N, K) array of indices."""
    return np.stack(np.unravel_index(np.arange(math.prod(sizes)), sizes), axis=1)


def sample(seed: int, points: int = 500, sizes: tuple[int, ...] = (3, 6, 40), latents: int = 5) -> tuple:
    """Codes that know some factors, mix others and are partly noise; every value of every factor occurs."""
    rng = np.random.default_rng(seed)
    factors = np.stack([rng.permutation(np.arange(points) % size) for size in sizes], axis=1)
    mixing = rng.normal(size=(len(sizes), latents)) * (rng.random((len(sizes), latents)) < 0.5)
    codes = (factors / np.array(sizes) - 0.5) @ mixing * 3 + rng.normal(size=(points, latents)) * 0.2
    return codes, factors, np.exp(rng.uniform(-6, 0.5, size=codes.shape))


def gaps(score: Score) -> np.ndarray:
    return np.array(list(score.per_factor.values()))


def gaps_of(information: np.ndarray, entropy: np.ndarray) -> np.ndarray:
    ordered = np.sort(information, axis=0)[::-1]
    return (ordered[0] - ordered[1]) / entropy


# ---------------------------------------------------------------------------------------------------------------- MIG


def test_mig_of_the_factors_themselves_reaches_its_maxima_on_the_dsprites_grid() -> None:
    # On a product grid I(z_k; v_k) depends on the values of factor k alone and I(z_j; v_k) = 0, so two small grids give
    # the figures of the whole. 40 values fall in pairs into 20 bins; of 32 values 24 do, and 8 are alone.
    small, square = mig(grid(3, 6, 40), grid(3, 6, 40)), mig(grid(32, 32), grid(32, 32))
    np.testing.assert_allclose(gaps(small), [1, 1, 1 - math.log(2) / math.log(40)], atol=1e-12)
    np.testing.assert_allclose(gaps(square), 1 - 0.75 * math.log(2) / math.log(32), atol=1e-12)
    np.testing.assert_allclose([*gaps(small), *gaps(square)], [1, 1, 0.8121, 0.85, 0.85], atol=5e-5)
    np.testing.assert_allclose(small.detail["factor_entropy"], np.log([3, 6, 40]))


def test_enough_bins_make_mig_of_the_factors_one() -> None:
    assert float(mig(grid(3, 40), grid(3, 40), bins=40)) == pytest.approx(1.0, abs=1e-12)


def test_mig_of_duplicated_rotated_and_xor_codes_is_zero() -> None:
    v = grid(4, 4)
    assert float(mig(np.concatenate([v, v], axis=1), v)) == pytest.approx(0.0, abs=1e-12)
    rotated = np.stack([v[:, 0] + v[:, 1], v[:, 0] - v[:, 1]], axis=1)
    assert float(mig(rotated, v)) == pytest.approx(0.0, abs=1e-12)
    xor = np.bitwise_xor(*grid(2, 2).T)[:, None]
    assert float(mig(xor, grid(2, 2))) == pytest.approx(0.0, abs=1e-12)


def test_mig_does_not_see_one_latent_that_holds_two_factors() -> None:
    # The second best latent is absent, so the gap is whole: the score says "one latent only", not "one factor only".
    v = grid(2, 2)
    assert float(mig(v @ np.array([[2], [1]]), v)) == pytest.approx(1.0, abs=1e-12)


def test_noise_latents_score_zero_on_a_grid_and_only_their_bias_on_a_sample() -> None:
    v = grid(3, 4, 5)
    assert float(mig(v[:, [2]], v[:, :2])) == pytest.approx(0.0, abs=1e-12)
    rng = np.random.default_rng(0)
    points, values = 10_000, 40
    score = mig(rng.normal(size=(points, 4)), rng.integers(values, size=points))
    # Gaussian codes leave the outer bins nearly empty, so the bias stays below that of 20 full ones.
    assert 0 < score.detail["mutual_information"].max() < 1.2 * 19 * (values - 1) / (2 * points)
    assert float(score) < 0.003


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("seed", range(3))
def test_mig_equals_disentanglement_lib(seed: int, dtype: type) -> None:
    # google-research/disentanglement_lib, evaluation/metrics/mig.py (_compute_mig) and utils.py (_histogram_discretize,
    # discrete_mutual_info, discrete_entropy); arrays there are (L, N) and (K, N).
    codes, factors, _ = sample(seed)
    codes = codes.astype(dtype)
    codes[:, -1] = factors[:, 0]  # values on the edges of bins
    binned = [np.digitize(z, np.histogram(z, 20)[1][:-1]) for z in codes.T]
    information = np.array([[mutual_info_score(v, z) for v in factors.T] for z in binned])
    entropy = np.array([mutual_info_score(v, v) for v in factors.T])

    score = mig(codes, factors)
    np.testing.assert_array_equal(equal_width_bins(codes, 20), np.stack(binned, axis=1))
    np.testing.assert_allclose(score.detail["mutual_information"], information, atol=1e-12)
    np.testing.assert_allclose(gaps(score), gaps_of(information, entropy), atol=1e-10)
    assert float(score) == pytest.approx(gaps_of(information, entropy).mean(), abs=1e-10)
    np.testing.assert_array_equal(score.detail["top_latents"], np.argsort(-information, axis=0)[:2].T)


def test_mutual_information_takes_counts_or_probabilities_and_survives_underflow() -> None:
    codes, factors, _ = sample(7)
    (table,) = joint_counts(equal_width_bins(codes, 20), as_factors(factors[:, 2], None, len(codes)))
    np.testing.assert_allclose(mutual_information(table), mutual_information(table / table.sum()), rtol=1e-12)
    tiny = np.array([[0.5, 0.0], [5e-324, 0.5]])
    assert mutual_information(tiny) == pytest.approx(math.log(2))
    assert mutual_information(np.ones((3, 2, 4))).tolist() == [0, 0, 0]


def test_mig_does_not_change_where_it_should_not() -> None:
    codes, factors, _ = sample(3)
    expected = gaps(mig(codes, factors))
    rows, latents = np.random.default_rng(0).permutation(len(codes)), [4, 2, 0, 3, 1]
    relabelled = np.stack([np.random.default_rng(k).permutation(40)[v] * 7 - 3 for k, v in enumerate(factors.T)], 1)
    for z, v in [
        (codes[rows], factors[rows]),
        (codes[:, latents], factors),
        (codes, relabelled),
        (codes * [-1, 3.7, 100, 1e-3, -2] + [0, 1, -5, 7, 2], factors),
    ]:
        np.testing.assert_allclose(gaps(mig(z, v)), expected, atol=1e-12)
    reordered = mig(codes, factors[:, [2, 0, 1]], factor_names=["c", "a", "b"])
    np.testing.assert_allclose([reordered.per_factor[name] for name in "abc"], expected, atol=1e-12)


def test_collapsed_latents_carry_no_information_and_raise_nothing() -> None:
    v = grid(3, 4)
    jitter = np.nextafter(np.float32(1), np.float32(2)) * (v[:, 0] == 1) + np.float32(1) * (v[:, 0] != 1)
    codes = np.stack([v[:, 0], np.full(12, 0.3), jitter], axis=1).astype(np.float32)
    score = mig(codes, v)
    assert score.detail["mutual_information"][1].tolist() == [0, 0]
    # A latent that moves by one unit in the last place is still a latent.
    assert score.per_factor["v0"] == pytest.approx(1 - mutual_info_score(v[:, 0], v[:, 0] == 1) / math.log(3))


def test_mig_takes_codes_and_factors_in_any_form() -> None:
    codes, factors, std = sample(1)
    halves = torch.tensor(codes).to(torch.bfloat16)
    expected = gaps(mig(halves.double(), factors))
    frozen = halves.double().numpy().copy()
    frozen.setflags(write=False)
    loc = halves.double().requires_grad_()
    for z in (
        halves,
        halves.to(torch.float32),
        loc,
        frozen,
        frozen.tolist(),
        dist.Normal(loc, torch.tensor(std)).to_event(1),
        torch.distributions.Independent(torch.distributions.Normal(loc, torch.tensor(std)), 1),
    ):
        np.testing.assert_allclose(gaps(mig(z, factors)), expected, atol=1e-12)
    for v in (torch.tensor(factors), factors.astype(np.float32), factors.astype(np.uint8), factors.tolist()):
        np.testing.assert_allclose(gaps(mig(halves, v)), expected, atol=1e-12)
    assert float(mig(codes.astype(np.float16), factors)) == float(mig(codes.astype(np.float16).astype(float), factors))


def test_factor_shapes_and_more_factors_than_latents() -> None:
    v = grid(2, 3, 4)
    assert float(mig(v, v[:, 1])) == pytest.approx(1.0)
    score = mig(v[:, [0]], v, factor_names=("a", "b", "c"))
    np.testing.assert_allclose([score.per_factor[name] for name in "abc"], [1, 0, 0], atol=1e-12)
    assert score.detail["mutual_information"].shape == (1, 3)
    assert score.detail["top_latents"].shape == (3, 1)


@pytest.mark.parametrize("metric", [mig, rmig])
@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"codes": np.array([[0.0, np.nan]] * 12)}, ["codes", "12 of 24", "finite"]),
        ({"codes": np.full((12, 2), np.inf)}, ["codes", "finite"]),
        ({"codes": np.zeros((11, 2))}, ["codes, factors", "11", "12"]),
        ({"codes": np.zeros(12)}, ["codes", "codes[:, None]"]),
        ({"codes": np.zeros((12, 0))}, ["codes", "(12, 0)"]),
        ({"codes": np.zeros((12, 2), dtype=complex)}, ["codes", "real"]),
        ({"codes": np.array([["a", "b"]] * 12)}, ["codes", "real"]),
        ({"factors": np.zeros((12, 2, 1))}, ["factors", "(12, 2, 1)"]),
        ({"factors": np.arange(24).reshape(12, 2) * [1, 0], "factor_names": ["x", "hue"]}, ["'hue'", "one value only"]),
        ({"factors": np.linspace(0, 1, 12)}, ["continuous", "12 values in 12 points"]),
        ({"factors": np.full((12, 2), np.nan)}, ["factors", "24 of 24"]),
        ({"factor_names": ["only"]}, ["factor_names", "2 different names"]),
        ({"factor_names": ["same", "same"]}, ["factor_names"]),
        ({"factor_names": "xy"}, ["factor_names"]),
        ({"bins": 1}, ["bins", "at least 2"]),
    ],
)
def test_bad_input_is_named(metric: object, change: dict, words: list[str]) -> None:
    arguments = {"codes": grid(3, 4) * 1.0, "factors": grid(3, 4), **change}
    with pytest.raises(ArgumentError) as caught:
        metric(arguments.pop("codes"), arguments.pop("factors"), **arguments)  # type: ignore[operator]
    assert all(word in str(caught.value) for word in words), caught.value


@pytest.mark.parametrize("metric", [mig, rmig])
def test_a_distribution_without_a_mean_is_refused(metric: object) -> None:
    base = dist.Normal(torch.zeros(12, 2), torch.ones(12, 2)).to_event(1)
    flow = torch.distributions.TransformedDistribution(base, [torch.distributions.TanhTransform()])
    with pytest.raises(ArgumentError, match="with a mean"):
        metric(flow, grid(3, 4))  # type: ignore[operator]


# --------------------------------------------------------------------------------------------------------------- RMIG


def two_point_information(s: float) -> float:
    """I(z; v) in nats of v = -1 or 1 with equal chances and z ~ N(v, s^2): H(v) less the mean entropy of v given z."""

    def loss(z: float) -> float:
        p = 1 / (1 + math.exp(min(-2 * z / s**2, 700)))
        entropy = -sum(q * math.log(q) for q in (p, 1 - p) if q > 0)
        return entropy * (math.exp(-((z - 1) ** 2) / 2 / s**2) + math.exp(-((z + 1) ** 2) / 2 / s**2)) / 2

    wide = 1 + 12 * s
    return math.log(2) - 2 * quad(loss, 0, wide, epsabs=1e-13, limit=200)[0] / s / math.sqrt(2 * math.pi)


@pytest.mark.parametrize(("s", "known"), [(0.25, 0.999865), (0.5, 0.912822), (1.0, 0.485944), (2.0, 0.160747)])
def test_rmig_of_a_noisy_binary_code_is_the_integral(s: float, known: float) -> None:
    integral = two_point_information(s) / math.log(2)
    assert integral == pytest.approx(known, abs=1e-6)
    code = (np.array([[-1.0], [1.0]]), np.full((2, 1), s))
    # Densities at the middles of bins are the midpoint rule, whose error falls faster than any power of the width once
    # bins are narrower than s (here s / 4); 12 s beyond the means leave out less than 1e-30.
    reach = 1 + 12 * s
    score = rmig(code, [0, 1], bins=math.ceil(8 * reach / s), limits=(-reach, reach))
    assert float(score) == pytest.approx(integral, abs=1e-9)
    assert score.detail["mutual_information"].item() == pytest.approx(integral * math.log(2), abs=1e-9)
    # The default grid loses only what lies beyond 4, which is renormalised: 3 s for s = 1, 1.5 s for s = 2.
    assert float(rmig(code, [0, 1])) == pytest.approx(integral, abs=1e-6 if s < 1 else 2e-3 if s == 1 else 0.05)


def scaled(*sizes: int) -> np.ndarray:
    return grid(*sizes) / np.array(sizes) * 3 - 1.5


def test_rmig_of_the_factors_themselves() -> None:
    sure = rmig((scaled(3, 6, 10), np.full((180, 3), 0.001)), grid(3, 6, 10))
    np.testing.assert_allclose(gaps(sure), 1.0, atol=1e-12)
    assert gaps(rmig(scaled(3, 6, 10), grid(3, 6, 10))).tolist() == gaps(sure).tolist()
    # The figures of the docstring; two small grids give those of the whole, as above.
    for std, known in [(0.001, 0.994), (0.05, 0.858), (0.3, 0.467), (1.0, 0.123)]:
        parts = [
            gaps(rmig((scaled(*n), np.full((math.prod(n), len(n)), std)), grid(*n))) for n in [(3, 6, 40), (32, 32)]
        ]
        assert np.concatenate(parts).mean() == pytest.approx(known, abs=1e-3)


def test_rmig_of_noise_is_zero_on_a_grid() -> None:
    v = grid(3, 4, 5)
    mean = np.stack([scaled(3, 4, 5)[:, 2], np.zeros(60)], axis=1)
    score = rmig((mean, np.stack([np.full(60, 0.3), np.ones(60)], axis=1)), v[:, :2])
    np.testing.assert_allclose(score.detail["mutual_information"], 0, atol=1e-14)
    assert float(score) == pytest.approx(0.0, abs=1e-14)


def test_rmig_without_noise_is_mig_on_fixed_bins() -> None:
    codes, factors, _ = sample(2)
    codes[0] = [-9, 9, 4, -4, 0]  # beyond and on the limits: the end bins
    binned = np.clip(np.digitize(codes, np.linspace(-4, 4, 101)), 1, 100)
    information = np.array([[mutual_info_score(v, z) for v in factors.T] for z in binned.T])
    for quiet in (codes, (codes, np.zeros_like(codes)), dist.Delta(torch.tensor(codes)).to_event(1)):
        np.testing.assert_allclose(rmig(quiet, factors).detail["mutual_information"], information, atol=1e-12)


def published_rmig(mean: np.ndarray, std: np.ndarray, factors: np.ndarray, bins: int) -> np.ndarray:
    """The gaps of clarken92/DisentanglementMetrics, exp_4_paper/7a_interpretability_metrics_v2.py, in float64.

    With normal_density and at_bin of utils/general.py.
    """
    eps, edges = 1e-8, np.linspace(-4, 4, bins + 1)
    centres, widths = (edges[:-1] + edges[1:]) / 2, np.diff(edges)
    information, entropies = np.zeros((mean.shape[1], factors.shape[1])), np.zeros(factors.shape[1])
    for j in range(mean.shape[1]):
        m, s = mean[:, j, None], std[:, j, None]
        density = np.exp(-((centres - m) ** 2) / (2 * np.maximum(s**2, eps)))
        density /= np.maximum(s, eps) * math.sqrt(2 * math.pi)
        inside = (m >= edges[:-1]) & (m < edges[1:])
        inside[m[:, 0] < edges[0], 0] = True
        inside[m[:, 0] >= edges[-1], -1] = True
        q = density * widths / np.maximum((density * widths).sum(1, keepdims=True), eps)
        q = np.where(density.max(1, keepdims=True) < 1e-5, inside, q)
        log_q = np.log(np.clip(q.mean(0), eps, 1 - eps))
        for k in range(factors.shape[1]):
            one_hot = np.eye(factors[:, k].max() + 1)[factors[:, k]]
            p = one_hot.mean(0)
            log_p = np.log(np.clip(p, eps, 1 - eps))
            joint = q.T @ one_hot / len(q)
            joint /= max(joint.sum(), eps)
            information[j, k] = (joint * (np.log(np.clip(joint, eps, 1 - eps)) - log_q[:, None] - log_p)).sum()
            entropies[k] = -(p * log_p).sum()
    return gaps_of(information, entropies)


@pytest.mark.parametrize("bins", [20, 100, 200])
@pytest.mark.parametrize("seed", range(3))
def test_rmig_equals_the_authors_script(seed: int, bins: int) -> None:
    mean, factors, std = sample(seed)
    # Narrower than the floors, on an edge, beyond the limits, and both.
    mean[:6, 0], std[:6, 0] = [0.0, 4.0, 40.0, -40.0, 4.5, -4.0], [0.0, 1e-9, 1.0, 1e-3, 0.0, 1e-5]
    np.testing.assert_allclose(
        gaps(rmig((mean, std), factors, bins=bins)), published_rmig(mean, std, factors, bins), atol=1e-6
    )


def test_rmig_does_not_change_where_it_should_not() -> None:
    # More points than one chunk holds.
    mean, factors, std = sample(5, points=2_000)
    score = rmig((mean, std), factors)
    rows, latents = np.random.default_rng(0).permutation(len(mean)), [4, 2, 0, 3, 1]
    for m, s, v in [
        (mean[rows], std[rows], factors[rows]),
        (mean[:, latents], std[:, latents], factors),
        (-mean, std, factors),
        (mean, std, 5 - 2 * factors),
        (np.tile(mean, (2, 1)), np.tile(std, (2, 1)), np.tile(factors, (2, 1))),
    ]:
        np.testing.assert_allclose(gaps(rmig((m, s), v)), gaps(score), atol=1e-12)
    # The threshold under which a code counts as narrow is absolute: scaling is exact only for codes wider than a bin.
    wide = np.maximum(std, 0.1)
    twice = rmig((2 * mean, 2 * wide), factors, limits=(-8, 8))
    np.testing.assert_allclose(gaps(twice), gaps(rmig((mean, wide), factors)), atol=1e-12)
    assert (score.detail["code_entropy"] <= math.log(100)).all()


def test_rmig_takes_codes_in_any_form() -> None:
    mean, factors, std = sample(6)
    loc, scale = torch.tensor(mean, requires_grad=True), torch.tensor(std)
    expected = gaps(rmig((mean, std), factors))
    for q in (
        dist.Normal(loc, scale).to_event(1),
        torch.distributions.Normal(loc, scale),
        torch.distributions.MultivariateNormal(loc, scale_tril=torch.diag_embed(scale)),
        (loc, scale),
    ):
        np.testing.assert_allclose(gaps(rmig(q, factors)), expected, atol=1e-12)
    single = rmig((mean.astype(np.float32), std.astype(np.float32)), factors)
    np.testing.assert_allclose(gaps(single), expected, atol=1e-6)


@pytest.mark.parametrize(
    ("codes", "options", "words"),
    [
        ((np.zeros((12, 2)), np.zeros((12, 1))), {}, ["(12, 2)", "(12, 1)"]),
        ((np.zeros((12, 2)), np.full((12, 2), -0.5)), {}, ["stddev", "-0.5"]),
        ((np.zeros((12, 2)), np.full((12, 2), np.nan)), {}, ["stddev", "24 of 24"]),
        (np.zeros((12, 2)), {"limits": (4, -4)}, ["limits", "(4, -4)"]),
        (np.zeros((12, 2)), {"limits": (-math.inf, 4)}, ["limits"]),
    ],
)
def test_bad_input_of_rmig_is_named(codes: object, options: dict, words: list[str]) -> None:
    with pytest.raises(ArgumentError) as caught:
        rmig(codes, grid(3, 4), **options)  # type: ignore[arg-type]
    assert all(word in str(caught.value) for word in words), caught.value


# ----------------------------------------------------------------------------------------------------- reconstruction


def test_reconstruction_errors_of_constant_guesses() -> None:
    x = (torch.arange(2 * 12) % 3 == 0).double().reshape(2, 1, 3, 4)
    half = torch.full_like(x, 0.5)
    bernoulli, mse = reconstruction_error(x, half), reconstruction_error(x, half, kind="mse")
    assert float(bernoulli) == pytest.approx(12 * math.log(2))
    assert float(mse) == pytest.approx(12 * 0.25)
    assert bernoulli.detail["per_pixel"] == pytest.approx(math.log(2))
    assert mse.detail["per_pixel"] == pytest.approx(0.25)
    assert mse.detail["per_datum"].shape == (2,)
    assert (mse.detail["min"], mse.detail["max"], mse.detail["std"]) == (3.0, 3.0, 0.0)
    assert bernoulli.per_factor == {}


def test_reconstruction_error_equals_the_published_loss() -> None:
    # shj1987/DynamicVAE-CVPR2022, 2D-sprites/solver_dynamic.py, reconstruction_loss.
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(5, 3, 4, generator=generator, dtype=torch.float64) * 3
    x = torch.rand(5, 3, 4, generator=generator, dtype=torch.float64)
    published = torch.nn.functional.binary_cross_entropy_with_logits(logits, x, reduction="sum").item() / 5
    squared = (x - logits.sigmoid()).square().reshape(5, -1).sum(1).numpy()
    q = dist.Bernoulli(logits=logits, validate_args=False).to_event(2)
    for guess in (q, logits.sigmoid(), logits.sigmoid().numpy(), logits.sigmoid().requires_grad_()):
        assert float(reconstruction_error(x, guess)) == pytest.approx(published, rel=1e-12)
        score = reconstruction_error(x.numpy(), guess, kind="mse")
        assert float(score) == pytest.approx(squared.mean())
        np.testing.assert_allclose(score.detail["per_datum"], squared)
        assert score.detail["std"] == pytest.approx(squared.std())
    normal = dist.Normal(logits, 1.0).to_event(2)
    assert float(reconstruction_error(x, normal, kind="mse")) == float(reconstruction_error(x, logits, kind="mse"))


def test_certain_probabilities_cost_as_in_torch_and_logits_stay_exact() -> None:
    x, wrong = torch.tensor([[0.0, 1.0]]), torch.tensor([[1.0, 1.0]])
    assert float(reconstruction_error(x, x)) == 0.0
    assert float(reconstruction_error(x, wrong)) == 100.0
    # sigmoid(30) is 1 in single precision: the mean has lost what the logit knows.
    logits = torch.tensor([[30.0, 30.0]], dtype=torch.float32)
    assert float(reconstruction_error(x, logits.sigmoid())) == 100.0
    assert float(reconstruction_error(x, dist.Bernoulli(logits=logits).to_event(1))) == pytest.approx(30.0)


def test_reconstruction_error_takes_bytes_and_many_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    x = np.random.default_rng(0).integers(2, size=(10, 7)).astype(np.uint8)
    x.setflags(write=False)
    guess = np.random.default_rng(1).random((10, 7))
    whole = reconstruction_error(x, guess)
    monkeypatch.setattr("ppl_disent.metrics.reconstruction._CHUNK", 21)
    np.testing.assert_array_equal(reconstruction_error(x, guess).detail["per_datum"], whole.detail["per_datum"])


@pytest.mark.parametrize(
    ("x", "x_hat", "kind", "words"),
    [
        (torch.zeros(2, 3), torch.zeros(2, 4), "mse", ["x, x_hat", "(2, 3)", "(2, 4)"]),
        (torch.zeros(0, 3), torch.zeros(0, 3), "mse", ["x", "at least one"]),
        (torch.zeros(()), torch.zeros(()), "mse", ["x", "at least one"]),
        (torch.zeros(2, 3), torch.full((2, 3), 1.5), "bernoulli", ["x_hat", "[0, 1]", 'kind="mse"']),
        (torch.full((2, 3), -0.1), torch.zeros(2, 3), "bernoulli", ["x", "[0, 1]"]),
        (torch.zeros(2, 3), torch.tensor([[0.0, math.nan, 0.0]] * 2), "bernoulli", ["x_hat", "nan"]),
        (torch.zeros(2, 3), torch.tensor([[0.0, math.nan, 0.0]] * 2), "mse", ["x_hat", "nan", "finite"]),
        (torch.full((2, 3), math.inf), torch.zeros(2, 3), "mse", ["x", "inf", "finite"]),
        (torch.zeros(2, 3), torch.zeros(2, 3), "l1", ["kind", "'l1'"]),
    ],
)
def test_bad_input_of_reconstruction_error_is_named(x: object, x_hat: object, kind: str, words: list[str]) -> None:
    with pytest.raises(ArgumentError) as caught:
        reconstruction_error(x, x_hat, kind=kind)  # type: ignore[arg-type]
    assert all(word in str(caught.value) for word in words), caught.value


# -------------------------------------------------------------------------------------------------------------- Score


def test_a_score_is_a_float_that_knows_where_it_comes_from() -> None:
    score = mig(grid(3, 40), grid(3, 40), factor_names=["shape", "turn"])
    assert repr(score) == ("Score(0.906; shape 1, turn 0.8121; plug-in on 20 equal-width bins of the codes, N = 120)")
    assert f"{score:.2f}" == "0.91"
    assert f"{score}" == str(score) == repr(score)
    assert type(float(score)) is float
    assert float(score) == score.value == np.mean(list(score.per_factor.values()))
    with pytest.raises(AttributeError):
        score.value = 1.0  # type: ignore[misc]
    with pytest.raises(TypeError):
        score < 1  # type: ignore[operator]  # noqa: B015
    assert repr(Score(0.5)) == "Score(0.5)"
