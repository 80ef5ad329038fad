# Copyright ppl-disent contributors.
# SPDX-License-Identifier: Apache-2.0
"""Every metric of codes on the same awkward input: a finite score in its range, or an error that names the argument."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch

from ppl_disent import metrics as m
from ppl_disent.errors import ArgumentError
from tests.test_metrics import grid


@dataclass(frozen=True, eq=False)
class Table:
    """A data set that gives the positions themselves, for codes that lie in a table."""

    factors: Any
    factor_names: tuple[str, ...] = ()

    def batch(self, index: torch.Tensor) -> tuple[torch.Tensor]:
        return (index,)


def looked_up(metric: Callable[..., m.Score], **options: int) -> Callable[..., m.Score]:
    """A metric that samples, of codes and factors."""

    def of(codes: Any, factors: Any, **more: int) -> m.Score:
        known = codes if isinstance(codes, torch.Tensor) else np.asarray(codes)
        return metric(lambda index: known[index], Table(factors), **options, **more)

    return of


UNSUPERVISED: dict[str, Callable[..., m.Score]] = {
    "gaussian_total_correlation": lambda z, v, **o: m.gaussian_total_correlation(z, **o),
    "mean_mutual_information": lambda z, v, **o: m.mean_mutual_information(z, **o),
    "udr": lambda z, v, **o: m.udr([z, z, z], **o),
}
SAMPLED = {
    "factor_vae_score": looked_up(m.factor_vae_score, votes=40, eval_votes=40, variance_points=50, batch_size=8),
    "beta_vae_score": looked_up(m.beta_vae_score, points=40, eval_points=40, batch_size=8),
}
# Of one factor or more.
SINGLE: dict[str, Callable[..., m.Score]] = {
    "mig": m.mig,
    "rmig": m.rmig,
    "jemmig": m.jemmig,
    "sap, machines": m.sap,
    "sap, correlation": partial(m.sap, continuous=True),
    "irs": m.irs,
}
SEVERAL: dict[str, Callable[..., m.Score]] = {
    "dci, lasso": partial(m.dci, estimator="lasso"),
    "dci, logistic": partial(m.dci, estimator="logistic"),
    "dci, random_forest": partial(m.dci, estimator="random_forest"),
    "dci, gradient_boosting": m.dci,
    "dci, hist_gradient_boosting": partial(m.dci, estimator="hist_gradient_boosting"),
    "modularity_explicitness": m.modularity_explicitness,
    "infomec, knn": m.infomec,
    "infomec, binned": partial(m.infomec, estimator="binned"),
    "infomec, discrete": partial(m.infomec, estimator="discrete"),
}
METRICS = UNSUPERVISED | SAMPLED | SINGLE | SEVERAL
LABELLED = SAMPLED.keys() | SINGLE.keys() | SEVERAL.keys()
NUMERIC = {"dci, lasso", "sap, correlation", "irs"}

V = np.tile(grid(2, 3), (10, 1))
Z = V + 0.1 * np.random.default_rng(0).normal(size=V.shape)
SEEN = Z > 1.9
# What is refused, by whom, and the arguments that are named.
CASES: dict[str, tuple[Any, Any, Any, str]] = {
    "plain": (Z, V, (), ""),
    "constant latents": (np.full((60, 2), 0.3), V, (), ""),
    "one constant latent": (np.c_[Z, np.full(60, 0.3)], V, (), ""),
    "one latent": (Z[:, :1], V, {"mean_mutual_information"}, "codes"),
    "more latents than factors": (np.c_[Z, Z**2, -Z, np.sin(9 * Z)], V, (), ""),
    "latents far from 0": (Z + 1e6, V, (), ""),
    "tiny codes": (Z * 1e-30, V, (), ""),
    "integers": (V, V.astype(np.uint8), (), ""),
    "booleans": (V > 0, V > 0, (), ""),
    "a single-valued factor": (Z, V * [1, 0], LABELLED, "factors|dataset"),
    "one factor": (Z, V[:, :1], SAMPLED.keys() | SEVERAL.keys(), "factors|dataset"),
    "continuous factors": (Z, Z[::-1].copy(), LABELLED - NUMERIC, "factors"),
    "factors that are NaN": (Z, np.where(V > 1, np.nan, V), LABELLED, "factors|dataset"),
    "NaN": (np.where(SEEN, np.nan, Z), V, METRICS.keys(), r"codes|runs\[0\]|encode\(images\)"),
    "infinite": (np.where(SEEN, -np.inf, Z), V, METRICS.keys(), r"codes|runs\[0\]|encode\(images\)"),
    "too large": (Z * 1e200, V, METRICS.keys(), r"codes|runs\[0\]|encode\(images\)"),
    "one axis": (Z[:, 0], V, METRICS.keys(), r"codes|runs\[0\]|encode\(images\)"),
    "words": (Z.astype(str), V, METRICS.keys(), r"codes|runs\[0\]|encode\(images\)"),
    "too few codes": (Z[:59], V, SINGLE.keys() | SEVERAL.keys(), "codes, factors"),
    "a point": (Z[:1], V[:1], LABELLED | {"gaussian_total_correlation"}, "factors|dataset|codes"),
    "no point": (Z[:0], V[:0], METRICS.keys(), r"codes|runs\[0\]|dataset"),
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("name", METRICS)
def test_a_score_is_defined_or_its_argument_refused(name: str, case: str) -> None:
    codes, factors, refused, argument = CASES[case]
    if case == "too few codes" and name in SAMPLED:
        pytest.skip("its encoder gives the codes")
    if name in refused:
        with pytest.raises(ArgumentError, match=f"(?s)^({argument}): got .*, expected "):
            METRICS[name](codes, factors)
        return
    score = METRICS[name](codes, factors)
    # Latents that are functions of others have an infinite total correlation.
    singular = name == "gaussian_total_correlation" and case == "more latents than factors"
    assert math.isfinite(score.value) != singular
    assert 0 <= score.value <= (1 + 1e-9 if name not in list(UNSUPERVISED)[:2] else math.inf)
    assert score.estimator
    assert type(float(score)) is float


@pytest.mark.parametrize("name", METRICS)
def test_a_score_does_not_depend_on_what_holds_the_codes(name: str) -> None:
    metric = METRICS[name]
    exact, half = float(metric(Z, V)), Z.astype(np.float16)
    rounded = float(metric(half.astype(np.float64), V))
    if name != "infomec, discrete":  # to which each of the 60 codes is a value of its own
        assert rounded == pytest.approx(exact, abs=0.03)
    assert float(metric(Z.tolist(), V.tolist())) == pytest.approx(exact, abs=1e-12)
    assert float(metric(torch.tensor(Z, requires_grad=True), torch.tensor(V))) == pytest.approx(exact, abs=1e-12)
    for codes in (half, torch.tensor(half)):
        assert float(metric(codes, V)) == pytest.approx(rounded, abs=1e-12)
    single = float(metric(half.astype(np.float32), V))
    assert single == pytest.approx(rounded, abs=1e-6)


# -------------------------------------------------------------------------------------------------------- bootstrap

WITHOUT = {"irs", "infomec, knn"}
SLOW = {"dci, random_forest", "dci, gradient_boosting", "dci, hist_gradient_boosting"}


@pytest.mark.parametrize("name", [name for name in METRICS if name not in WITHOUT | SLOW])
def test_an_interval_is_in_range_also_where_resamples_lose_a_value(name: str) -> None:
    metric, rare = METRICS[name], np.stack([np.arange(60) % 3, np.arange(60) == 7], axis=1)
    # Of 60 points, one has its own value of the second factor; machines must have seen it.
    options = {"held_out": 0.1} if name in ("sap, machines", "dci, logistic", "modularity_explicitness") else {}
    for codes, factors in ((Z, V), (np.full((60, 2), 0.3), V), (rare + 0.0, rare)):
        if factors is rare and name == "dci, lasso":
            continue  # both parts need two values
        score = metric(codes, factors, bootstrap=9, **(options if factors is rare else {}))
        low, high = score.detail["interval"]
        assert 0 <= low <= high
        assert high <= 1 or name in list(UNSUPERVISED)[:2]
        assert "interval" not in metric(codes, factors, **(options if factors is rare else {})).detail


@pytest.mark.parametrize("name", [name for name in METRICS if name not in WITHOUT])
def test_a_bootstrap_that_is_none_is_refused(name: str) -> None:
    for bootstrap in (1, -3, 2.5):
        with pytest.raises(ArgumentError, match=r"^bootstrap: got"):
            METRICS[name](Z, V, bootstrap=bootstrap)


def test_where_no_interval_would_hold_none_is_offered() -> None:
    with pytest.raises(ArgumentError, match=r"^bootstrap: got 100, expected 0 with estimator"):
        m.infomec(Z, V, bootstrap=100)


@pytest.mark.parametrize("estimator", ["gradient_boosting", "hist_gradient_boosting", "logistic"])
def test_the_interval_of_dci_is_of_predictors_that_were_fitted_anew(estimator: str) -> None:
    factors = np.tile(V, (4, 1))
    noisy = factors + 0.5 * np.random.default_rng(1).normal(size=factors.shape)
    score = m.dci(noisy, factors, estimator=estimator, bootstrap=2)  # type: ignore[arg-type]
    low, high = score.detail["interval"]
    assert 0 <= low < high <= 1
