# Copyright ppl-disent contributors.
# SPDX-License-Identifier: Apache-2.0
"""The predictors of DCI: each is fitted to one factor, and says what it uses of every latent."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from ppl_disent.metrics.information import Array

Predict = Callable[[Array], npt.NDArray[Any]]
Targets = npt.NDArray[Any]
# From training codes (n, L) and targets (n,), and a seed, to importances (L,) and a predictor.
Fit = Callable[[Array, Targets, int], tuple[Array, Predict]]

_DEPTHS = range(2, 13)


def _lasso(z: Array, y: Targets, seed: int) -> tuple[Array, Predict]:
    from sklearn.linear_model import Lasso

    model = Lasso(alpha=0.02).fit(z, y)
    return np.abs(model.coef_), model.predict


def _logistic(z: Array, y: Targets, seed: int) -> tuple[Array, Predict]:
    from sklearn.linear_model import LogisticRegression

    model = LogisticRegression(max_iter=1000).fit(z, y)
    return np.abs(model.coef_).mean(0), model.predict


def _forest_classifier(z: Array, y: Targets, seed: int) -> tuple[Array, Predict]:
    from sklearn.ensemble import RandomForestClassifier

    # Restricted to sqrt(L) latents a node, as is the default, it has to split on latents that know nothing.
    model = RandomForestClassifier(10, max_features=None, random_state=seed).fit(z, y)
    return model.feature_importances_, model.predict


def _forest_regressor(z: Array, y: Targets, seed: int) -> tuple[Array, Predict]:
    from sklearn.ensemble import RandomForestRegressor

    # The split is random, so these are any tenth.
    kept = max(1, len(z) - len(z) // 10)
    forests = [RandomForestRegressor(10, max_depth=depth, random_state=seed) for depth in _DEPTHS]
    left, answer = (z[kept:], y[kept:]) if kept < len(z) else (z, y)
    errors = [((forest.fit(z[:kept], y[:kept]).predict(left) - answer) ** 2).mean() for forest in forests]
    best = forests[int(np.argmin(errors))]
    return best.feature_importances_, best.predict


def _boosting(name: str, z: Array, y: Targets, seed: int) -> tuple[Array, Predict]:
    from sklearn import ensemble

    model = getattr(ensemble, f"GradientBoosting{name}")(random_state=seed).fit(z, y)
    return model.feature_importances_, model.predict


def _hist(name: str, z: Array, y: Targets, seed: int) -> tuple[Array, Predict]:
    from sklearn import ensemble

    trees = getattr(ensemble, f"HistGradientBoosting{name}")
    model = trees(max_depth=3, early_stopping=False, random_state=seed).fit(z, y)
    # scikit-learn keeps each split's gain, but sums them up for ordinary boosting only.
    nodes = np.concatenate([tree.nodes for round_ in model._predictors for tree in round_])
    splits = nodes[nodes["is_leaf"] == 0]
    gain = np.bincount(splits["feature_idx"], splits["gain"], minlength=z.shape[1])
    return gain / max(gain.sum(), np.finfo(float).tiny), model.predict


PREDICTORS: dict[tuple[str, str], Fit] = {
    ("lasso", "regression"): _lasso,
    ("random_forest", "regression"): _forest_regressor,
    ("gradient_boosting", "regression"): partial(_boosting, "Regressor"),
    ("hist_gradient_boosting", "regression"): partial(_hist, "Regressor"),
    ("logistic", "classification"): _logistic,
    ("random_forest", "classification"): _forest_classifier,
    ("gradient_boosting", "classification"): partial(_boosting, "Classifier"),
    ("hist_gradient_boosting", "classification"): partial(_hist, "Classifier"),
}
