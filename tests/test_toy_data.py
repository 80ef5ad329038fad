# Copyright ppl-disent contributors.
# SPDX-License-Identifier: Apache-2.0
"""Data made by a program: the laws of labels and factors, exact counterfactuals, what survives a split."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from ppl_disent.data import Arrays, Dataset, digits, digits_bars, load, swiss_roll
from ppl_disent.errors import ArgumentError, DataError

TOYS = {
    "swiss_roll": {"n": 500, "attributes": 2},
    "moons": {"n": 500},
    "blobs": {"n": 500, "classes": 3},
    "digits_bars": {"attributes": 2},
}


def x_of(data: Dataset) -> torch.Tensor:
    return data.batch(slice(None))[0]


def entropy(p: float) -> float:
    return -p * math.log(p) - (1 - p) * math.log(1 - p)


# --- what all of them promise


@pytest.fixture(params=list(TOYS))
def toy(request: pytest.FixtureRequest) -> Dataset:
    return load(request.param, **TOYS[request.param])


def test_labels_and_continuous_factors_survive_split_subset_and_to(toy: Dataset) -> None:
    assert toy.labels is not None
    assert toy.continuous is not None
    assert toy.labels.dtype == toy.continuous.dtype == x_of(toy).dtype == torch.float32
    assert len(toy.label_names) == toy.labels.shape[1]
    assert len(toy.continuous_names) == toy.continuous.shape[1]
    marked = Arrays(torch.arange(len(toy))[:, None].float(), likelihood="gaussian")
    for part, twin in zip(toy.split((0.7, 0.3), seed=1), marked.split((0.7, 0.3), seed=1)):
        where = x_of(twin)[:, 0].long()
        assert torch.equal(part.continuous, toy.continuous[where])
        assert torch.equal(part.labels, toy.labels[where])
        assert (part.label_names, part.continuous_names) == (toy.label_names, toy.continuous_names)
        assert torch.equal(part.batch([0, 3])[0], toy.batch(where[[0, 3]])[0])
    away = toy.split((0.7, 0.3), seed=1)[0].to("meta")
    assert away.continuous is not None
    assert away.continuous.device.type == away.batch(range(2))[0].device.type == "meta"


def test_the_same_seed_gives_the_same_data_and_leaves_the_global_state(toy: Dataset) -> None:
    name = next(n for n, o in TOYS.items() if load(n, **o).fingerprint == toy.fingerprint)
    torch_state, numpy_state = torch.get_rng_state(), np.random.get_state()[1].copy()
    again, other = load(name, **TOYS[name]), load(name, **TOYS[name], seed=1)
    assert torch.equal(torch.get_rng_state(), torch_state)
    assert (np.random.get_state()[1] == numpy_state).all()
    assert again.fingerprint == toy.fingerprint != other.fingerprint
    assert torch.equal(again.continuous, toy.continuous)


# --- swiss roll


@pytest.mark.parametrize(("axis", "p", "h"), [(1, 10 / 21, 0.69201), (0, 0.13816, 0.40161)])
def test_label_law_of_the_roll(axis: int, p: float, h: float) -> None:
    n = 200_000
    data = load("swiss_roll", axis=axis, n=n)
    assert data.labels is not None
    share = float(data.labels.double().mean())
    assert share == pytest.approx(p, abs=4 * math.sqrt(p * (1 - p) / n))
    assert entropy(p) == pytest.approx(h, abs=1e-5)
    x, y = data.batch(slice(None))
    assert torch.equal(y[:, 0] == 1, x[:, 1] < 10 if axis == 1 else x[:, 0] >= 10)


def test_the_roll_is_what_its_factors_say() -> None:
    data = load("swiss_roll", n=1000)
    t, width = data.continuous.T
    assert data.continuous_names == ("t", "width")
    assert 1.5 * math.pi <= t.min() < 5
    assert 14 < t.max() <= 4.5 * math.pi
    torch.testing.assert_close(x_of(data), torch.stack([t * t.cos(), width, t * t.sin()], 1), atol=1e-4, rtol=0)


def test_noise_moves_the_points_alone() -> None:
    clean, noisy = swiss_roll(n=5000), swiss_roll(n=5000, noise=0.5)
    assert torch.equal(clean.labels, noisy.labels)
    assert torch.equal(clean.continuous, noisy.continuous)
    assert float((x_of(noisy) - x_of(clean)).std()) == pytest.approx(0.5, rel=0.03)


def test_standardised_coordinates_have_the_scale_of_the_law() -> None:
    raw, standard = swiss_roll(n=100_000), swiss_roll(n=100_000, standardise=True)
    assert torch.equal(raw.labels, standard.labels)
    torch.testing.assert_close(x_of(standard).mean(0), torch.zeros(3, dtype=torch.float32), atol=0.015, rtol=0)
    torch.testing.assert_close(x_of(standard).std(0), torch.ones(3, dtype=torch.float32), atol=0.01, rtol=0)
    ratio = x_of(raw).std(0) / x_of(standard).std(0)
    torch.testing.assert_close(ratio, torch.tensor([6.62, 6.06, 6.95], dtype=torch.float32), atol=0.01, rtol=0)


def test_two_attributes_are_independent_on_axis_1_and_nested_on_axis_0() -> None:
    one, two = load("swiss_roll", n=100_000), load("swiss_roll", n=100_000, attributes=2)
    assert torch.equal(one.labels, two.labels[:, :1])
    assert two.label_names == ("width < 10", "t >= 3 pi")
    p = two.labels.mean(0)
    assert float(p[1]) == pytest.approx(0.5, abs=0.01)
    assert float(two.labels.prod(1).mean()) == pytest.approx(float(p.prod()), abs=0.01)
    arc, outer = load("swiss_roll", n=10_000, attributes=2, axis=0).labels.T.bool()
    assert (outer | ~arc).all()


# --- moons and blobs


def test_moons() -> None:
    data = load("moons", n=1001, noise=0.0, nuisance=2.0)
    (x, y), (angle, nuisance) = data.batch(slice(None)), data.continuous.T
    upper, lower = torch.stack([angle.cos(), angle.sin()], 1), torch.stack([1 - angle.cos(), 0.5 - angle.sin()], 1)
    torch.testing.assert_close(x[:, :2], torch.where(y == 1, lower, upper))
    assert torch.equal(x[:, 2], nuisance)
    assert float(nuisance.std()) == pytest.approx(2, rel=0.1)
    assert y.sum() == 501
    assert abs(float(torch.corrcoef(torch.stack([nuisance, y[:, 0]]))[0, 1])) < 0.1


def test_blobs() -> None:
    data = load("blobs", n=20_000, distance=2.0)
    x, y = data.batch(slice(None))
    assert data.label_names == ("cluster 1",)
    assert torch.equal(y[:, 0], data.factors[:, 0].float())
    gap = x[y[:, 0] == 1].mean(0) - x[y[:, 0] == 0].mean(0)
    torch.testing.assert_close(gap.abs(), torch.tensor([2.0, 0.0, 0.0], dtype=torch.float32), atol=0.06, rtol=0)
    wrong = float(((x[:, 0] < 0) != (y[:, 0] == 1)).double().mean())
    assert wrong == pytest.approx(0.5 * math.erfc(1 / math.sqrt(2)), abs=0.01)
    three = load("blobs", n=900, classes=3)
    assert three.labels.sum(1).unique().tolist() == [1]
    assert three.labels.sum(0).tolist() == [300] * 3


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("swiss_roll", {"axis": 2}, "axis: got 2"),
        ("swiss_roll", {"attributes": 3}, "attributes: got 3"),
        ("swiss_roll", {"n": 1}, "n: got 1"),
        ("swiss_roll", {"noise": -1.0}, r"noise.*got \(-1.0,\)"),
        ("moons", {"nuisance": float("nan")}, "nuisance"),
        ("blobs", {"classes": 1}, "classes: got 1"),
        ("digits_bars", {"attributes": 3}, "attributes: got 3"),
        ("digits_bars", {"size": 28}, "size: got 28"),
        ("digits_bars", {"resample": "cubic"}, "resample: got 'cubic'"),
        ("digits_bars", {"part": "valid"}, "part: got 'valid'"),
        ("digits_bars", {"copies": 0}, "copies: got 0"),
        ("digits_bars", {"probability": 1.0}, "probability: got 1.0"),
        ("digits_bars", {"probability": 0.2, "correlation": -0.5}, r"correlation: got -0.5, expected from -0.25 to 1"),
    ],
)
def test_options_that_cannot_be(name: str, options: dict, message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        load(name, **options)


# --- digits with bars


@pytest.fixture(scope="module")
def bars() -> Dataset:
    return digits_bars(attributes=2)


def test_bars_off_are_the_scans_and_on_are_the_formula(bars: Dataset) -> None:
    everything = range(len(bars))
    scans = x_of(digits())
    x, y = bars.batch(everything)
    assert (x.min(), x.max(), x.shape[1:]) == (0, 1, (1, 8, 8))
    torch.testing.assert_close(x[y.sum(1) == 0], scans[y.sum(1) == 0])
    assert torch.equal(bars.factors, digits().factors)
    dark = 1 - scans[:, 0].double()
    position, strength = bars.continuous[:, ::2].double(), bars.continuous[:, 1::2].double()
    for n in (0, 1, 2, 10, 11, 500):
        for c in (0, 1):
            light = torch.zeros(8)
            whole, share = int(position[n, c]), float(position[n, c] % 1)
            light[whole] = (1 - share) * strength[n, c]
            if whole < 7:
                light[whole + 1] = share * strength[n, c]
            dark[n] *= 1 - float(y[n, c]) * (light[:, None] if c == 0 else light[None, :])
        torch.testing.assert_close(x[n, 0].double(), 1 - dark[n], atol=1e-6, rtol=0)


def test_counterfactuals_are_exact(bars: Dataset) -> None:
    index = torch.tensor([5, 0, 1796, 5, 11])
    x, y = bars.batch(index)
    for c, name in enumerate(("horizontal", "vertical")):
        flipped = bars.counterfactual(index, name)
        on, off = (bars.counterfactual(index, c, on=value) for value in (True, False))
        is_on = y[:, c].bool()[:, None, None, None]
        assert torch.equal(x, torch.where(is_on, on, off))
        assert torch.equal(flipped, torch.where(is_on, off, on))
        assert (on >= off).all()
        assert (on != off).flatten(1).any(1).all()
    # A style of one's own: the third row alone is lit, at full strength.
    lit = bars.counterfactual(index, 0, on=True, style=torch.tensor([2.0, 1.0]))
    assert (lit[:, 0, 2] == 1).all()
    off = bars.counterfactual(index, 0, on=False)
    assert torch.equal(lit[:, 0, [0, 1, 3, 4, 5, 6, 7]], off[:, 0, [0, 1, 3, 4, 5, 6, 7]])
    each = bars.counterfactual(index[:2], 0, on=True, style=torch.tensor([[2.0, 1.0], [3.0, 0.5]]))
    assert torch.equal(each[0], lit[0])
    own = bars.continuous[index, 2:]
    assert torch.equal(
        bars.counterfactual(index, 1, on=True, style=own), bars.counterfactual(index, "vertical", on=True)
    )


def test_counterfactuals_of_parts(bars: Dataset) -> None:
    part = bars.split((0.5, 0.5), seed=0)[1].split((0.5, 0.5), seed=0)[0]
    x, y = part.batch(range(20))
    on, off = (part.counterfactual(range(20), 0, on=value) for value in (True, False))
    assert torch.equal(x, torch.where(y[:, 0].bool()[:, None, None, None], on, off))


def test_bad_counterfactuals(bars: Dataset) -> None:
    for attribute in ("diagonal", 2, -1, None, 0.5):
        with pytest.raises(ArgumentError, match=r"attribute: got .*'horizontal', 'vertical'"):
            bars.counterfactual([0], attribute)  # type: ignore[arg-type]
    with pytest.raises(ArgumentError, match="index"):
        bars.counterfactual([1797], 0)
    with pytest.raises(ArgumentError, match=r"style: got \(3,\), expected a shape"):
        bars.counterfactual([0], 0, style=torch.zeros(3))
    for style in ([7.5, 1.0], [-0.1, 1.0], [0.0, 1.1], [float("nan"), 1.0]):
        with pytest.raises(ArgumentError, match=r"style: got .*positions from 0 to 7"):
            bars.counterfactual([0], 0, style=torch.tensor(style))
    with pytest.raises(DataError, match=r"counterfactual: got .*expected data made by a program"):
        swiss_roll(n=50).counterfactual([0], 0)
    with pytest.raises(ArgumentError, match=r"attribute: got 0, expected one of \(\)"):
        digits().counterfactual([0], 0)


def test_options_change_nothing_else(bars: Dataset) -> None:
    one, large, twice = digits_bars(), digits_bars(attributes=2, size=32), digits_bars(attributes=2, copies=2)
    assert torch.equal(one.labels, bars.labels[:, :1])
    assert torch.equal(one.continuous, bars.continuous[:, :2])
    assert torch.equal(large.labels, bars.labels)
    assert large.shape == (1, 32, 32)
    assert torch.equal(x_of(twice)[:1797], x_of(bars))
    assert torch.equal(twice.factors, bars.factors.repeat(2, 1))
    assert not torch.equal(twice.labels[1797:], bars.labels)
    nearest = x_of(digits_bars(attributes=2, size=16, resample="nearest"))
    clean = bars.labels.sum(1) == 0
    assert torch.equal(nearest[clean][:, :, ::2, ::2], x_of(bars)[clean])


def test_a_large_bar_is_an_eighth_of_the_side() -> None:
    data = digits_bars(size=32)
    on = data.counterfactual([0], 0, on=True, style=torch.tensor([3.0, 1.0]))[0, 0]
    assert (on[12:16] == 1).all()
    half = data.counterfactual([0], 0, on=True, style=torch.tensor([3.125, 1.0]))[0, 0]
    assert (half[13:16] == 1).all()
    assert half[12].min() == half[16].min() == 0.5
    assert torch.equal(on[:12], data.counterfactual([0], 0, on=False)[0, 0, :12])


def test_parts_share_no_scan() -> None:
    train, test, whole = (digits_bars(part=p) for p in ("train", "test", "all"))
    assert (len(train), len(test), len(digits_bars(part="test", copies=3))) == (1438, 359, 3 * 359)
    scans = {p: p_.counterfactual(slice(None), 0, on=False).flatten(1) for p, p_ in (("a", train), ("b", test))}
    known = {row.numpy().tobytes() for row in scans["a"]}
    assert sum(row.numpy().tobytes() in known for row in scans["b"]) == 0
    rows = {row.numpy().tobytes() for row in x_of(whole)}
    assert all(row.numpy().tobytes() in rows for row in x_of(test))


def test_label_law_of_the_bars() -> None:
    for p, rho in ((0.5, 0.0), (0.2, 0.5), (0.5, -1.0)):
        y = digits_bars(attributes=2, probability=p, correlation=rho, copies=10).labels.double()
        assert y.mean(0).tolist() == pytest.approx([p, p], abs=0.015)
        assert float(torch.corrcoef(y.T)[0, 1]) == pytest.approx(rho, abs=0.03)


# --- what Dataset refuses


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"continuous": torch.zeros(4, 1)}, "continuous: got a float.* tensor .* with 0 names"),
        (
            {"continuous": torch.zeros(3, 1), "continuous_names": ("t",)},
            r"expected a floating tensor of shape \(4, m\)",
        ),
        ({"continuous": torch.zeros(4, 1, dtype=torch.int64), "continuous_names": ("t",)}, "continuous: got a int64"),
        ({"continuous": torch.full((4, 1), math.nan), "continuous_names": ("t",)}, "continuous: got NaN"),
        ({"continuous_names": ("t",)}, "continuous: got a NoneType"),
        ({"label_names": ("a",)}, "labels: got None"),
        ({"labels": torch.zeros(4, 2), "label_names": ("a",)}, "label_names: got .*2 different names"),
        ({"labels": torch.zeros(4, 2), "label_names": ("a", "a")}, "label_names: got"),
    ],
)
def test_names_and_continuous_factors_that_do_not_fit(options: dict, message: str) -> None:
    with pytest.raises(DataError, match=message):
        Arrays(torch.zeros(4, 2), likelihood="gaussian", **options)


def test_labels_have_names_by_default() -> None:
    assert Arrays(torch.zeros(4, 2), likelihood="gaussian", labels=torch.zeros(4, 2)).label_names == ("y0", "y1")
    assert Arrays(torch.zeros(4, 2), likelihood="gaussian").label_names == ()
