# Copyright ppl-disent contributors.
# SPDX-License-Identifier: Apache-2.0
"""Modularity, from binned codes, and explicitness, from a linear classifier."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from torch import Tensor
from torch.distributions import Distribution

from ppl_disent.metrics.bootstrap import with_interval
from ppl_disent.metrics.held_out import check_varying, several_factors, split, standardised
from ppl_disent.metrics.information import (
    Array,
    Factors,
    Indices,
    as_codes,
    equal_width_bins,
    information_matrix,
    joint_counts,
)
from ppl_disent.metrics.score import Score


def modularity_explicitness(
    codes: Tensor | npt.ArrayLike | Distribution,
    factors: Tensor | npt.ArrayLike,
    *,
    bins: int = 20,
    held_out: float = 1 / 3,
    seed: int = 0,
    bootstrap: int = 0,
    factor_names: Sequence[str] | None = None,
) -> Score:
    """Modularity (is a latent about one factor only?) and explicitness (can the factors be read off linearly?).

    Modularity of latent j is ``1 - sum_{k not m} I_jk^2 / (I_jm^2 (K - 1))``, m its best factor, and 0 for a latent
    without information; the mean over latents. I is the plug-in estimate of :func:`mig`, in nats. Explicitness of
    factor k is the area under the ROC curve of a logistic regression on standardised codes, on points held out, one
    value against the rest, averaged over values and then over factors: 0.5 is chance. Both are disentanglement_lib's
    (evaluation/metrics/modularity_explicitness.py), but that modularity is computed there on the training points.

    Pitfalls:
        *Noise has a high modularity*: on sampled points its information is the bias, which is proportional to
        ``n_k - 1``, and so looks like a latent about the factor with most values (0.65 on dSprites' factors). Leave out
        collapsed latents first: while there is noise in the code, the interval does not narrow with more points.
        Explicitness tolerates any linear mixing; other code rescales it to ``2 (AUC - 0.5)``.

    Args:
        codes: An ``(N, L)`` tensor or array, of any real type, on any device; or a distribution with batch shape
            ``(N,)`` and event shape ``(L,)``, of which the mean is taken.
        factors: An ``(N, K)`` tensor or array of discrete values, at least two factors.
        bins: The number of bins of a latent.
        held_out: The share of points to test the classifiers on.
        seed: Of the split and of the bootstrap.
        bootstrap: Resamples for ``detail["interval"]`` of the modularity, see :mod:`ppl_disent.metrics.bootstrap`; 0
            for none. Bins stay as they are.
        factor_names: K names; by default ``v0``, ``v1`` and so on.

    Returns:
        The modularity, in [0, 1]. ``detail`` has ``modularity`` and ``modularity_per_latent`` ``(L,)``;
        ``explicitness``, ``explicitness_train`` and, by the factors' names, ``explicitness_per_factor``;
        ``mutual_information``, ``(L, K)`` in nats; and ``interval`` where it was asked for.

    Raises:
        ArgumentError: If shapes do not fit, a code is NaN or infinite, a factor is continuous or has one value only (in
            all points or among those that are trained on), or there is one factor only.

    Example:
        >>> import numpy as np
        >>> v = np.indices((2, 2)).reshape(2, -1).T.repeat(20, 0)  # every combination of two factors
        >>> score = modularity_explicitness(v, v)
        >>> f"{score:.2f}, {score.detail['explicitness']:.2f}"
        '1.00, 1.00'

    References:
        Learning Deep Disentangled Embeddings with the F-Statistic Loss (Ridgeway & Mozer, 2018), section 3,
        https://arxiv.org/abs/1802.05312.
    """
    z = as_codes("codes", codes)
    v = several_factors(factors, factor_names, len(z))
    train, test = split(len(z), held_out, seed)
    binned = equal_width_bins(z, bins) - 1
    information = information_matrix(joint_counts(binned, v))
    each = modularity_per_latent(information)
    value = float(each.mean())
    area = _explicitness(standardised(z.astype(np.float64), train), v, train, test)
    detail = {
        "modularity": value,
        "modularity_per_latent": each,
        "explicitness": float(area[1].mean()),
        "explicitness_train": float(area[0].mean()),
        "explicitness_per_factor": dict(zip(v.names, area[1].tolist())),
        "mutual_information": information,
    }
    how = f"modularity: plug-in on {bins} equal-width bins of the codes, N = {len(z)}; explicitness: AUC of a logistic"
    score = Score(value, {}, detail, f"{how} regression, {len(train)} + {len(test)} points, seed {seed}")

    def resampled(rows: Indices) -> float:
        again = information_matrix(joint_counts(binned[rows], v.take(rows)))
        return float(modularity_per_latent(again).mean())

    return with_interval(score, resampled, len(z), bootstrap=bootstrap, seed=seed)


def modularity_per_latent(information: Array) -> Array:
    """The modularity of every row of an ``(L, K)`` matrix, K at least 2; 0 for rows without information."""
    squared = information**2
    best = squared.max(1)
    rest = (squared.sum(1) - best) / np.where(best > 0, best, 1.0) / (squared.shape[1] - 1)
    return np.where(best > 0, 1 - rest, 0.0)


def _explicitness(z: Array, factors: Factors, train: Indices, test: Indices) -> Array:
    """The areas under the curve of all factors, on the training and on the held-out points: (2, K)."""
    from sklearn.linear_model import LogisticRegression

    area = np.empty((2, len(factors.sizes)))
    check_varying(factors.names, factors.classes, train, "to train on")
    for k, y in enumerate(factors.classes.T):
        model = LogisticRegression(max_iter=1000).fit(z[train], y[train])
        for i, rows in enumerate((train, test)):
            area[i, k] = _area(model.predict_proba(z[rows]), y[rows], model.classes_)
    return area


def _area(probability: Array, y: Indices, classes: Indices) -> float:
    """The area under the ROC curve of each class against the rest, averaged over the classes that have a rest."""
    from sklearn.metrics import roc_auc_score

    is_class = y[:, None] == classes
    defined = is_class.any(0) & ~is_class.all(0)
    if not defined.any():
        return 0.5
    return float(roc_auc_score(is_class[:, defined], probability[:, defined]))
