# Copyright ppl-disent contributors.
# SPDX-License-Identifier: Apache-2.0
"""Leakage and transfer against known answers: Gaussian classes by quadrature, edits whose truth is known."""

from __future__ import annotations

import math

import numpy as np
import pyro.distributions as dist
import pytest
import torch
from scipy.integrate import quad

from ppl_disent.data import digits_bars
from ppl_disent.errors import ArgumentError
from ppl_disent.metrics import attribute_classifier, attribute_transfer, latent_leakage

# ------------------------------------------------------------------------------------------------------------ leakage


def labelled(p: float, n: int, latents: int = 3, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, latents)), (rng.random(n) < p).astype(int)


def gaussian_information(distance: float, p: float) -> float:
    """I(Y; Z) for z ~ N(distance y, 1), y ~ Bernoulli(p), by quadrature."""

    def density(x: float) -> float:
        off, on = np.exp(-(x**2) / 2), np.exp(-((x - distance) ** 2) / 2)
        return ((1 - p) * off + p * on) / math.sqrt(2 * math.pi)

    entropy, _ = quad(lambda x: -density(x) * math.log(density(x)), -12, 12 + distance, limit=200)
    return entropy - 0.5 * math.log(2 * math.pi * math.e)


@pytest.mark.parametrize("probe", ["mlp", "boosting"])
@pytest.mark.parametrize("p", [0.5, 0.138])
def test_innocent_codes_leak_nothing(probe: str, p: float) -> None:
    z, y = labelled(p, 4000)
    score = latent_leakage(z, y, probe=probe)  # type: ignore[arg-type]
    assert abs(float(score)) < (0.006 if probe == "mlp" else 0.012)
    assert score.detail["balanced_accuracy"][0] == pytest.approx(0.5, abs=0.07)
    assert score.detail["label_entropy"][0] == pytest.approx(-p * math.log(p) - (1 - p) * math.log(1 - p), abs=0.02)


@pytest.mark.parametrize("probe", ["mlp", "boosting"])
@pytest.mark.parametrize(("distance", "p"), [(1.0, 0.5), (2.0, 0.5), (2.0, 0.138)])
def test_gaussian_classes_agree_with_quadrature(probe: str, distance: float, p: float) -> None:
    z, y = labelled(p, 12_000, seed=1)
    z[:, 1] += distance * y
    score = latent_leakage(10 * z + 3, y, probe=probe)  # type: ignore[arg-type]
    exact = gaussian_information(distance, p)
    error = score.detail["standard_error"][0]
    assert exact - 0.015 - 2 * error < float(score) < exact + 3 * error
    assert 0.001 < error < 0.02
    # The balanced accuracy of the best threshold, half-way between the classes.
    best = 0.5 * math.erfc(-distance / 2 / math.sqrt(2))
    assert score.detail["balanced_accuracy"][0] == pytest.approx(best, abs=0.03)


@pytest.mark.parametrize("probe", ["mlp", "boosting"])
def test_separable_classes_leak_all_of_the_entropy(probe: str) -> None:
    z, y = labelled(0.3, 4000)
    z[:, 0] = (abs(z[:, 0]) + 0.3) * (2 * y - 1)
    score = latent_leakage(z, y, probe=probe)  # type: ignore[arg-type]
    assert score.detail["balanced_accuracy"][0] > 0.995
    assert float(score) == pytest.approx(score.detail["label_entropy"][0], abs=0.015)


def test_what_no_line_can_tell_is_found() -> None:
    z, _ = labelled(0.5, 6000, latents=2)
    score = latent_leakage(z, (z[:, 0] > 0) ^ (z[:, 1] > 0))
    assert float(score) > 0.6


def test_each_label_has_its_own_score() -> None:
    z, y = labelled(0.5, 3000)
    other = labelled(0.5, 3000, seed=2)[1]
    score = latent_leakage(np.column_stack([z, y + 0.1 * z[:, 0]]), np.column_stack([y, other]), label_names=["a", "b"])
    assert score.per_factor["a"] > 0.65
    assert abs(score.per_factor["b"]) < 0.01
    assert float(score) == pytest.approx(np.mean(list(score.per_factor.values())))
    assert all(len(value) == 2 for value in score.detail.values())
    difference = score.detail["label_entropy"] - score.detail["cross_entropy"]
    np.testing.assert_allclose(difference, list(score.per_factor.values()))
    assert "mlp" in score.estimator


def test_leakage_takes_codes_in_any_form_and_is_reproducible() -> None:
    z, y = labelled(0.5, 1500)
    z[:, 0] += 2 * y
    loc = torch.tensor(z, requires_grad=True)
    expected = latent_leakage(z, y, seed=3)
    torch_state, numpy_state = torch.get_rng_state(), np.random.get_state()[1].copy()
    for codes, labels in ((loc, torch.tensor(y)), (z, y[:, None].astype(bool)), (loc.detach(), torch.tensor(y) * 1.0)):
        assert float(latent_leakage(codes, labels, seed=3)) == float(expected)
    assert float(latent_leakage(z, y, seed=4)) != float(expected)
    # A distribution is drawn from: noise hides what the mean knows.
    wide, narrow = (dist.Normal(loc, scale).to_event(1) for scale in (20.0, 1e-9))
    assert float(latent_leakage(wide, y)) < 0.02
    assert float(latent_leakage(narrow, y)) == pytest.approx(float(latent_leakage(z, y)), abs=1e-6)
    assert float(latent_leakage(wide, y)) == float(latent_leakage(wide, y))
    assert torch.equal(torch.get_rng_state(), torch_state)
    assert (np.random.get_state()[1] == numpy_state).all()
    assert "N = 1000" in latent_leakage(z, y, points=1000).estimator


def test_constant_latents_are_no_trouble() -> None:
    _, y = labelled(0.5, 500)
    assert abs(float(latent_leakage(np.zeros((500, 2)), y))) < 0.01
    assert abs(float(latent_leakage(np.zeros((500, 2)), y, probe="boosting"))) < 0.01


@pytest.mark.parametrize(
    ("codes", "labels", "options", "words"),
    [
        (np.zeros(50), np.arange(50) % 2, {}, ["codes", "(50,)"]),
        (np.full((50, 1), np.nan), np.arange(50) % 2, {}, ["codes", "50 of 50"]),
        (np.zeros((50, 1)), np.arange(49) % 2, {}, ["labels", "(49, 1)", "(50, labels)"]),
        (np.zeros((50, 1)), 2 * (np.arange(50) % 2) - 1, {}, ["labels", "-1 to 1", "only 0 and 1", "/ 2"]),
        (np.zeros((50, 1)), np.arange(50) < 9, {}, ["labels", "'y0'", "0 for 41 points and 1 for 9", "ten"]),
        (np.zeros((50, 1)), np.zeros(50), {}, ["labels", "1 for 0"]),
        (np.zeros((50, 1)), np.arange(50) % 2, {"probe": "svm"}, ["probe", "'svm'"]),
        (np.zeros((50, 1)), np.arange(50) % 2, {"label_names": "y"}, []),
        (np.zeros((50, 1)), np.arange(50) % 2, {"label_names": ["a", "b"]}, ["label_names", "1 different names"]),
    ],
)
def test_bad_input_of_leakage_is_named(codes: object, labels: object, options: dict, words: list[str]) -> None:
    with pytest.raises(ArgumentError) as caught:
        latent_leakage(codes, labels, **options)  # type: ignore[arg-type]
    assert all(word in str(caught.value) for word in words), caught.value


# ----------------------------------------------------------------------------------------------------------- transfer


def tell(images: torch.Tensor) -> torch.Tensor:
    """A perfect judge of four-pixel images whose first two pixels are their attributes."""
    assert images.ndim == 4
    return images.flatten(1)[:, :2] - 0.5


def tiny(n: int = 12) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Images of four pixels: attributes 0 and 1, and two of noise; then labels, and attribute 0 switched on."""
    labels = torch.stack([torch.arange(n) % 2, torch.arange(n) // 2 % 2], 1)
    x = torch.cat([labels.double(), torch.rand(n, 2)], 1).view(n, 1, 2, 2)
    target = labels.clone()
    target[:, 0] = 1
    return x, labels, target


def test_transfer_by_hand() -> None:
    x, labels, target = tiny()
    off = labels[:, 0] == 0
    edited = x.clone()
    edited[:, 0, 0, 0] = 1.0
    edited[0, 0, 0, 0] = 0.0  # one of six edits does nothing,
    edited[2, 0, 0, 1] = 1 - x[2, 0, 0, 1]  # one spoils the other attribute,
    edited[1] = 0.3  # and this one is not asked for
    true = x.clone()
    true[:, 0, 0, 0] = 1.0
    score = attribute_transfer(x, edited, labels, target, classifier=tell, counterfactual=true)
    assert float(score) == pytest.approx(5 / 6)
    assert score.per_factor == {"y0": float(score)}
    assert score.detail["kept"] == {"y0": None, "y1": pytest.approx(5 / 6)}
    assert score.detail["real_accuracy"] == {"y0": 1.0, "y1": 1.0}
    assert score.detail["original_changed"] == pytest.approx(1.0)  # five by one, one of them by one more
    assert score.detail["target_changed"] == pytest.approx(2 / 6)
    assert score.detail["target_original"] == pytest.approx(1.0)
    assert score.detail["diversity"] is None
    assert score.detail["edits"] == int(off.sum()) == 6
    without = attribute_transfer(x, edited, labels, target, classifier=tell)
    assert without.detail["target_changed"] is without.detail["target_original"] is None


def test_several_points() -> None:
    x, labels, target = tiny()
    good = x.clone()
    good[:, 0, 0, 0] = 1.0
    far = good.clone()
    far[:, 0, 1, 1] += 2.0
    score = attribute_transfer(x, torch.stack([good, far, x]), labels, target, classifier=tell, counterfactual=good)
    assert float(score) == pytest.approx(2 / 3)
    assert score.detail["target_changed"] == pytest.approx((0 + 4 + 1) / 3)
    assert score.detail["target_changed_best"] == 0.0
    # By pixel: 1, 1, 0 and a, a + 2, a.
    assert score.detail["diversity"] == pytest.approx(1 / 3 + 4 / 3)
    same = attribute_transfer(x, torch.stack([good, good]), labels, target, classifier=tell)
    assert same.detail["diversity"] == 0.0
    each = attribute_transfer(
        x, torch.stack([good, far]), labels, target, classifier=tell, counterfactual=torch.stack([good, far])
    )
    assert each.detail["target_changed"] == 0.0


def test_both_attributes_at_once() -> None:
    x, labels, target = tiny()
    target[:, 1] = 1 - labels[:, 1]
    edited = x.clone()
    edited[:, 0, 0, 1] = 1 - x[:, 0, 0, 1]
    score = attribute_transfer(x, edited, labels, target, classifier=tell, label_names=["a", "b"])
    assert score.per_factor == {"a": 0.0, "b": 1.0}
    assert float(score) == 0.5
    assert score.detail["kept"] == {"a": 1.0, "b": None}


def test_what_a_classifier_may_return() -> None:
    x, labels, target = tiny()
    edited = x.clone()
    edited[:, 0, 0, 0] = 1.0
    for judge in (
        tell,
        lambda images: tell(images) > 0,
        lambda images: (tell(images) > 0).double(),
        lambda images: tell(images).numpy(),
    ):
        assert float(attribute_transfer(x, edited, labels, target, classifier=judge, batch_size=5)) == 1.0  # type: ignore[arg-type]
    with pytest.raises(ArgumentError, match=r"classifier: got .outputs from 0\.\d+ to .*return p > 0.5"):
        attribute_transfer(x, edited, labels, target, classifier=lambda images: tell(images).sigmoid())
    with pytest.raises(ArgumentError, match=r"classifier: got .outputs \(6, 1\).*expected \(6, 2\)"):
        attribute_transfer(x, edited, labels, target, classifier=lambda images: tell(images)[:, :1])
    with pytest.raises(ArgumentError, match="classifier: got 'NaN"):
        attribute_transfer(x, edited, labels, target, classifier=lambda images: tell(images) * math.nan)


def test_bad_input_of_transfer_is_named() -> None:
    x, labels, target = tiny()
    for changes, words in [
        ({"edited": x[:, :, :1]}, "edited: got"),
        ({"edited": x[None, None]}, "edited: got .*one axis of points"),
        ({"edited": x * math.nan}, "edited: got 'NaN"),
        ({"original": x.numpy()}, "original: got 'ndarray'"),
        ({"labels": labels[:5]}, r"labels: got \(5, 2\)"),
        ({"target": labels}, "target: got .*at least one attribute that changes"),
        ({"target": target[:, :1]}, r"target: got \(12, 1\), expected .*\(12, 2\)"),
        ({"target": 2 * target}, "target: got 'values from 0 to 2"),
        ({"counterfactual": x[:5]}, "counterfactual: got"),
    ]:
        given = {"original": x, "edited": x, "labels": labels, "target": target} | changes
        with pytest.raises(ArgumentError, match=words):
            attribute_transfer(**given, classifier=tell)  # type: ignore[arg-type]


def test_the_small_classifier_judges_true_edits_of_digits() -> None:
    train, test = digits_bars(part="train", copies=2), digits_bars(part="test", seed=1)
    judge = attribute_classifier(*train.batch(slice(None)))
    assert judge.accuracy[0] > 0.97
    x, y = test.batch(slice(None))
    for value in (0, 1):
        true = test.counterfactual(slice(None), 0, on=bool(value))
        target = torch.full_like(y, value)
        score = attribute_transfer(x, true, y, target, classifier=judge, counterfactual=true)
        assert float(score) > 0.95
        assert score.detail["target_changed"] == 0.0
        assert float(attribute_transfer(x, x, y, target, classifier=judge)) < 0.05
    again = attribute_classifier(*train.batch(slice(None)))
    assert torch.equal(again(x), judge(x))
    with pytest.raises(ArgumentError, match=r"images: got \(2, 1, 16, 16\), expected images of shape \(1, 8, 8\)"):
        judge(torch.zeros(2, 1, 16, 16))
    with pytest.raises(ArgumentError, match="x: got '5 images'"):
        attribute_classifier(x[:5], y[:5])


def test_the_small_classifier_with_two_attributes() -> None:
    x, labels, _ = tiny(600)
    judge = attribute_classifier(x, labels)
    assert judge.accuracy.tolist() == [1.0, 1.0]
    assert torch.equal(judge(x) > 0, labels == 1)
