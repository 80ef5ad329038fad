# Copyright ppl-disent contributors.
# SPDX-License-Identifier: Apache-2.0
"""Disentanglement, completeness and informativeness, from what a predictor uses of a code."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from torch import Tensor
from torch.distributions import Distribution

from ppl_disent.errors import ArgumentError
from ppl_disent.metrics.bootstrap import check_bootstrap, with_interval
from ppl_disent.metrics.held_out import check_varying, split, standardised
from ppl_disent.metrics.information import Array, Indices, as_codes, as_factors, as_values, entropy
from ppl_disent.metrics.predictors import PREDICTORS, Fit
from ppl_disent.metrics.score import Score

Estimator = Literal["lasso", "logistic", "random_forest", "gradient_boosting", "hist_gradient_boosting"]


def dci(
    codes: Tensor | npt.ArrayLike | Distribution,
    factors: Tensor | npt.ArrayLike,
    *,
    estimator: Estimator = "gradient_boosting",
    protocol: Literal["regression", "classification"] | None = None,
    held_out: float = 1 / 3,
    seed: int = 0,
    bootstrap: int = 0,
    factor_names: Sequence[str] | None = None,
) -> Score:
    """DCI: is every latent about one factor, every factor in one latent, and is every factor there at all?

    One predictor for each factor gives ``R``, an ``(L, K)`` matrix of how much it uses each latent.
    *Disentanglement* of latent j is ``1 - H(R_j. / sum R_j.) / ln K``, averaged with the weights ``sum R_j. / sum R``.
    *Completeness* of factor k is ``1 - H(R_.k / sum R_.k) / ln L``. *Informativeness* is how well the factors are
    predicted on points held out. A latent that no predictor uses has weight 0; with one latent, completeness is 1.

    Two protocols, whose figures are not comparable:

    - ``"regression"``, Eastwood & Williams (cianeastwood/qedr, quantify.ipynb and lib/eval/regression.py): codes and
      factors are numbers, standardised on the training points; informativeness is the normalised root mean squared
      error, rmse / std of the factor: **lower is better**, 1 is a guess of the mean. Completeness is the plain mean
      over factors. ``"lasso"`` has their weight of 0.02, ``"random_forest"`` their 10 trees, of a depth from 2 to 12
      that is chosen for each factor on a tenth of the training points. They test on a tenth of all points.
    - ``"classification"``, Locatello et al. (disentanglement_lib, evaluation/metrics/dci.py): the factors' values are
      classes; informativeness is the **accuracy**, higher is better, whatever it is called there. Completeness is
      weighted by ``sum R_.k / sum R``. ``"gradient_boosting"`` is theirs, 100 rounds of depth 3 on raw codes, trained
      on 10,000 points and tested on 5,000; a forest (10 trees) may split on every latent at every node.
      ``"logistic"`` is trained on standardised codes.

    Importances ``R`` are absolute weights for ``"lasso"``, their mean over classes for ``"logistic"``, and what the
    trees' splits gain, as decrease of impurity, which sums to 1 for each factor. ``"hist_gradient_boosting"`` are as
    many trees of the same depth on codes in 255 bins, several times as fast; its gain is that of Newton's step.

    Pitfalls:
        *The predictor decides.* The Lasso sees no factor that depends on its latent in a non-linear way, and on noise
        keeps a few accidental weights that score near 1: read informativeness and ``importance`` beside the score. A
        constant latent counts in L. Ordinary boosting grows ``sum n_k`` trees a round: minutes for dSprites.

    Args:
        codes: An ``(N, L)`` tensor or array, of any real type, on any device; or a distribution with batch shape
            ``(N,)`` and event shape ``(L,)``, of which the mean is taken.
        factors: An ``(N, K)`` tensor or array, at least two factors: discrete values for ``"classification"``, any
            numbers for ``"regression"``.
        estimator: The predictor.
        protocol: See above; by default ``"regression"`` for ``"lasso"``, else ``"classification"``.
        held_out: The share of points to test on.
        seed: Of the split, of the predictor and of the bootstrap.
        bootstrap: Resamples for ``detail["interval"]`` of the disentanglement, see
            :mod:`ppl_disent.metrics.bootstrap`; 0 for none. All predictors are fitted anew for each, on training points
            that are drawn again: it costs that many scores.
        factor_names: K names; by default ``v0``, ``v1`` and so on.

    Returns:
        The disentanglement, in [0, 1]. ``detail`` has ``disentanglement``, ``completeness`` and ``informativeness``;
        ``informativeness_train``; ``importance`` ``(L, K)``; ``disentanglement_per_latent`` ``(L,)``; and, by the
        factors' names, ``completeness_per_factor`` and ``informativeness_per_factor``; and ``interval`` where it was
        asked for.

    Raises:
        ArgumentError: If shapes do not fit, a code is NaN or infinite, a factor has one value only (in all points or
            among those that are trained on) or is continuous where classes are expected, there is one factor only, or
            the estimator has no such protocol.

    Example:
        >>> import numpy as np
        >>> v = np.indices((3, 4)).reshape(2, -1).T.repeat(20, 0)  # every combination of two factors
        >>> score = dci(v, v, estimator="lasso")
        >>> f"{score:.2f}, {score.detail['completeness']:.2f}, {score.detail['informativeness']:.2f}"
        '1.00, 1.00, 0.02'

    References:
        A Framework for the Quantitative Evaluation of Disentangled Representations (Eastwood & Williams, 2018),
        section 2, https://openreview.net/forum?id=By-7dz-AZ; Challenging Common Assumptions in the Unsupervised
        Learning of Disentangled Representations (Locatello et al., 2019), https://arxiv.org/abs/1811.12359.
    """
    protocol = protocol or ("regression" if estimator == "lasso" else "classification")
    if (estimator, protocol) not in PREDICTORS:
        known = [" with ".join(pair) for pair in PREDICTORS]
        raise ArgumentError("estimator, protocol", got=(estimator, protocol), expected=f"one of {known}")
    check_bootstrap(bootstrap)
    numeric = protocol == "regression"
    z = as_codes("codes", codes).astype(np.float64)
    values: npt.NDArray[Any]
    if numeric:
        values, names = as_values(factors, factor_names, len(z))
    else:
        v = as_factors(factors, factor_names, len(z))
        values, names = v.classes, v.names
    if len(names) < 2:
        raise ArgumentError("factors", got="one factor", expected="at least two, for there is nothing to tell apart")
    train, test = split(len(z), held_out, seed)
    check_varying(names, values, train, "to train on")
    if numeric:
        # In units of the spread of one value no error is finite.
        check_varying(names, values, test, "held out")
        values = standardised(values.astype(np.float64), train)
    if numeric or estimator == "logistic":
        z = standardised(z, train)

    fit: Fit = PREDICTORS[estimator, protocol]
    importance = np.empty((z.shape[1], len(names)))
    quality = np.empty((2, len(names)))
    for k, y in enumerate(values.T):
        importance[:, k], predict = fit(z[train], y[train], seed)
        for i, rows in enumerate((train, test)):
            guess, answer = predict(z[rows]), y[rows]
            wrong = np.sqrt(((guess - answer) ** 2).mean()) / answer.std() if numeric else (guess != answer).mean()
            quality[i, k] = wrong if numeric else 1 - wrong

    disentanglement, per_latent = concentration(importance)
    completeness, per_factor = concentration(importance.T)
    detail = {
        "disentanglement": disentanglement,
        "completeness": float(per_factor.mean()) if numeric else completeness,
        "informativeness": float(quality[1].mean()),
        "informativeness_train": float(quality[0].mean()),
        "importance": importance,
        "disentanglement_per_latent": per_latent,
        "completeness_per_factor": dict(zip(names, per_factor.tolist())),
        "informativeness_per_factor": dict(zip(names, quality[1].tolist())),
    }
    unit = "NRMSE, lower is better" if numeric else "accuracy"
    how = f"{estimator}, {protocol} (informativeness: {unit}), {len(train)} + {len(test)} points, seed {seed}"
    score = Score(disentanglement, {}, detail, how)

    def resampled(some: Indices) -> float:
        at = train[some]
        again = np.zeros_like(importance)
        for k, y in enumerate(values.T):
            # A factor of which one value is left needs no latent.
            if (y[at] != y[at[0]]).any():
                again[:, k] = fit(z[at], y[at], seed)[0]
        return concentration(again)[0]

    return with_interval(score, resampled, len(train), bootstrap=bootstrap, seed=seed)


def concentration(importance: Array) -> tuple[float, Array]:
    """``1 - H(row / sum of row) / ln (columns)`` of each row, 0 for empty rows, and its mean weighted by the sums.

    Of an ``(L, K)`` matrix that is not negative it is the disentanglement, of its transpose the completeness; both are
    0 if all of it is.
    """
    total = importance.sum(1)
    share = np.divide(importance, total[:, None], out=np.zeros_like(importance), where=total[:, None] > 0)
    # The logarithm of one column is 0, and so is the entropy.
    each = np.where(total > 0, 1 - entropy(share) / np.log(max(importance.shape[1], 2)), 0.0)
    return float(each @ total / total.sum()) if total.any() else 0.0, each
