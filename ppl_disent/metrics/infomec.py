# Copyright ppl-disent contributors.
# SPDX-License-Identifier: Apache-2.0
"""InfoM, InfoE and InfoC: modularity, explicitness and compactness from information."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt
from torch import Tensor
from torch.distributions import Distribution

from ppl_disent.errors import ArgumentError
from ppl_disent.metrics.bootstrap import with_interval
from ppl_disent.metrics.held_out import several_factors, standardised
from ppl_disent.metrics.information import (
    Array,
    Factors,
    Indices,
    as_codes,
    equal_width_bins,
    information_matrix,
    joint_counts,
)
from ppl_disent.metrics.knn import neighbour_information
from ppl_disent.metrics.score import Score


def infomec(
    codes: Tensor | npt.ArrayLike | Distribution,
    factors: Tensor | npt.ArrayLike,
    *,
    estimator: Literal["knn", "binned", "discrete"] = "knn",
    neighbours: int = 10,
    bins: int = 20,
    seed: int = 0,
    bootstrap: int = 0,
    factor_names: Sequence[str] | None = None,
) -> Score:
    """InfoMEC: InfoM (is a latent about one factor?), InfoE (can factors be read off?), InfoC (is a factor in one?).

    With ``N_jk = I(z_j; v_k) / H(v_k)`` over the A active latents and K factors::

        InfoM = (mean_j max_k N_jk / sum_k N_jk - 1/K) / (1 - 1/K)
        InfoC = (mean_k max_j N_jk / sum_j N_jk - 1/A) / (1 - 1/A)
        InfoE = mean_k (H_0 - H(v_k | z)) / H_0

    H(v_k | z) is the cross-entropy of a multinomial logistic regression without penalty and with balanced classes,
    fitted (100 iterations) and judged on the same points; H_0 is the same without inputs, which is ``ln n_k``. Latents
    are active whose range is above a twentieth of the largest. As in the authors' kylehkhsu/latent_quantization,
    disentangle/metrics/infomec.py, with its ``"knn"`` information of 10 neighbours
    (:func:`~ppl_disent.metrics.knn.neighbour_information`); ``"discrete"`` is its variant for latents that have few
    values, of which all that vary are active and the regression's inputs are one-hot. ``"binned"``, which is not
    theirs, is the plug-in estimate of :func:`mig`: exact on a grid.

    Pitfalls:
        Read the three together. *Noise is active, and its InfoM is far from 0*: most estimates are a little above 0,
        and ratios of them are anything (the ratio of a latent without any counts as 1/K, where the original has NaN).
        A rotated code keeps some InfoM. InfoE is not held out and grows with the number of latents: the authors use
        10,000 points. It can be below 0 where values are rare. One active latent has InfoC 1.

    Args:
        codes: An ``(N, L)`` tensor or array, of any real type, on any device; or a distribution with batch shape
            ``(N,)`` and event shape ``(L,)``, of which the mean is taken.
        factors: An ``(N, K)`` tensor or array of discrete values, at least two factors.
        estimator: Of the information.
        neighbours: For ``"knn"``.
        bins: For ``"binned"``.
        seed: Of the noise of 1e-10 by which ``"knn"`` tells equal codes apart, and of the bootstrap.
        bootstrap: Resamples for ``detail["interval"]`` of InfoM, see :mod:`ppl_disent.metrics.bootstrap`; 0 for none,
            as it must be for ``"knn"``. Bins and active latents stay as they are.
        factor_names: K names; by default ``v0``, ``v1`` and so on.

    Returns:
        InfoM, at most 1. ``detail`` has ``modularity``, ``explicitness`` and ``compactness``, that is, InfoM, InfoE and
        InfoC; ``explicitness_per_factor`` by the factors' names; ``normalised_information``, the ``(L, K)`` matrix
        N_jk; ``active`` ``(L,)``; and ``interval`` where it was asked for. If no latent is active all three are 0.

    Raises:
        ArgumentError: If shapes do not fit, a code is NaN or infinite, a factor is continuous or has one value only,
            there is one factor only, for an estimator or a number of neighbours that there is not, or for a bootstrap
            of ``"knn"``.

    Example:
        >>> import numpy as np
        >>> v = np.indices((2, 2)).reshape(2, -1).T.repeat(20, 0)  # every combination of two factors
        >>> score = infomec(v, v, estimator="binned")
        >>> {part: round(score.detail[part], 2) for part in ("modularity", "explicitness", "compactness")}
        {'modularity': 1.0, 'explicitness': 1.0, 'compactness': 1.0}

    References:
        Disentanglement via Latent Quantization (Hsu et al., 2023), section 4, https://arxiv.org/abs/2305.18378.
    """
    if estimator not in ("knn", "binned", "discrete"):
        raise ArgumentError("estimator", got=estimator, expected='"knn", "binned" or "discrete"')
    if not isinstance(neighbours, int) or neighbours < 1:
        raise ArgumentError("neighbours", got=neighbours, expected="an integer of at least 1")
    if estimator == "knn" and bootstrap:
        hint = "A point that is drawn twice is its own nearest neighbour."
        raise ArgumentError("bootstrap", got=bootstrap, expected='0 with estimator="knn"', hint=hint)
    z = as_codes("codes", codes).astype(np.float64)
    v = several_factors(factors, factor_names, len(z))
    span = np.ptp(z, axis=0)
    active = span > (0 if estimator == "discrete" else span.max() / 20)
    classes = np.stack([np.unique(x, return_inverse=True)[1] for x in z.T], axis=1)
    binned = equal_width_bins(z, bins) - 1 if estimator == "binned" else classes
    if estimator == "knn":
        information = neighbour_information(z, v, neighbours=neighbours, seed=seed)
    else:
        information = information_matrix(joint_counts(binned, v))
    share = information / v.entropy
    modularity, compactness = _concentration(share[active]), _concentration(share[active].T)
    inputs = _one_hot(classes) if estimator == "discrete" else standardised(z, np.arange(len(z)))
    explicit = _explicitness(inputs, v) if active.any() else np.zeros(len(v.sizes))
    detail = {
        "modularity": modularity,
        "explicitness": float(explicit.mean()),
        "compactness": compactness,
        "explicitness_per_factor": dict(zip(v.names, explicit.tolist())),
        "normalised_information": share,
        "active": active,
    }
    how = {"knn": f"{neighbours} nearest neighbours", "binned": f"plug-in on {bins} equal-width bins"}
    score = Score(modularity, {}, detail, f"{how.get(estimator, 'plug-in on discrete codes')}, N = {len(z)}")

    def resampled(rows: Indices) -> float:
        some = v.take(rows)
        again = information_matrix(joint_counts(binned[rows], some))
        return _concentration((again / np.where(some.entropy > 0, some.entropy, 1.0))[active])

    return with_interval(score, resampled, len(z), bootstrap=bootstrap, seed=seed)


def _concentration(share: Array) -> float:
    """The mean over rows of max / sum, moved and scaled so that equal columns give 0; 1 for one column."""
    rows, columns = share.shape
    if not rows or not columns:
        return 0.0
    if columns == 1:
        return 1.0
    total = share.sum(1)
    ratio = np.divide(share.max(1), total, out=np.full(rows, 1 / columns), where=total > 0)
    return float((ratio.mean() - 1 / columns) / (1 - 1 / columns))


def _one_hot(classes: Indices) -> Array:
    return np.concatenate([np.eye(column.max() + 1)[column] for column in classes.T], axis=1)


def _explicitness(inputs: Array, factors: Factors) -> Array:
    """``1 - H(v_k | z) / H_0`` of each factor."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import log_loss

    explicit = []
    for y, size in zip(factors.classes.T, factors.sizes):
        with warnings.catch_warnings():
            # Without a penalty, weights of separable classes have no optimum: the definition stops at 100 iterations.
            warnings.simplefilter("ignore", ConvergenceWarning)
            model = LogisticRegression(C=np.inf, class_weight="balanced", max_iter=100).fit(inputs, y)
        explicit.append(1 - log_loss(y, model.predict_proba(inputs)) / np.log(size))
    return np.array(explicit)
