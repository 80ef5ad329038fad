# Copyright ppl-disent contributors.
# SPDX-License-Identifier: Apache-2.0
"""The separated attribute predictability, from what each latent alone predicts."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from torch import Tensor
from torch.distributions import Distribution

from ppl_disent.metrics.bootstrap import with_interval
from ppl_disent.metrics.held_out import check_varying, split
from ppl_disent.metrics.information import Array, Indices, as_codes, as_factors, as_values
from ppl_disent.metrics.score import Score


def sap(
    codes: Tensor | npt.ArrayLike | Distribution,
    factors: Tensor | npt.ArrayLike,
    *,
    continuous: bool = False,
    held_out: float = 1 / 3,
    seed: int = 0,
    bootstrap: int = 0,
    factor_names: Sequence[str] | None = None,
) -> Score:
    """The separated attribute predictability (SAP): of each factor, how much better is its best latent than the next?

    ``S_jk`` says how well latent j alone predicts factor k; the score is the best less the second best latent, averaged
    over factors. With ``continuous`` S is the squared correlation on all points (0 for a latent with a variance of at
    most 1e-12); else it is the accuracy, on points held out, of a linear support vector machine with C = 0.01 and
    balanced classes, one against the rest. Both are disentanglement_lib's (evaluation/metrics/sap_score.py), whose
    study has the latter, on 10,000 points and 5,000 held out.

    Pitfalls:
        *The machine cannot find a value that lies between others*: on one number it can tell apart the outermost
        classes only, so the factors of dSprites predict themselves with 1.00, 0.49, 0.08, 0.09 and 0.10, and no code
        scores above 0.23. It depends on the unit of a latent, too. The squared correlation does not, but sees no
        relation that is not linear: report both. A single latent is compared with 0.

    Args:
        codes: An ``(N, L)`` tensor or array, of any real type, on any device; or a distribution with batch shape
            ``(N,)`` and event shape ``(L,)``, of which the mean is taken.
        factors: An ``(N, K)`` tensor or array; ``(N,)`` is one factor. Discrete values, or with ``continuous`` any
            numbers.
        continuous: Whether S is the squared correlation.
        held_out: The share of points to test the machines on; of no effect with ``continuous``.
        seed: Of the split and of the bootstrap.
        bootstrap: Resamples for ``detail["interval"]``, see :mod:`ppl_disent.metrics.bootstrap`; 0 for none. Machines
            are not trained anew: their interval tells of the points held out only.
        factor_names: K names, the keys of ``per_factor``; by default ``v0``, ``v1`` and so on.

    Returns:
        The mean difference, in [0, 1]. ``per_factor`` has those of the factors; ``detail`` has ``predictability``, the
        ``(L, K)`` matrix S, and ``interval`` where it was asked for.

    Raises:
        ArgumentError: If shapes do not fit, a code is NaN or infinite, or a factor has one value only (in all points or
            among those that are trained on) or is continuous where classes are expected.

    Example:
        >>> import numpy as np
        >>> v = np.indices((3, 4)).reshape(2, -1).T  # every combination of two factors
        >>> f"{sap(v[:, [0, 0, 1]], v, continuous=True):.2f}"  # the first factor is in two latents
        '0.50'

    References:
        Variational Inference of Disentangled Latent Concepts from Unlabeled Observations (Kumar et al., 2018), section
        3, https://arxiv.org/abs/1711.00848.
    """
    z = as_codes("codes", codes).astype(np.float64)
    if continuous:
        values, names = as_values(factors, factor_names, len(z))
        how, points = f"squared correlation, N = {len(z)}", len(z)
    else:
        v = as_factors(factors, factor_names, len(z))
        train, test = split(len(z), held_out, seed)
        check_varying(v.names, v.classes, train, "to train on")
        right, names = _machines(z, v.classes, train, test), v.names
        how, points = f"linear SVM, {len(train)} + {len(test)} points, seed {seed}", len(test)

    def matrix(rows: Indices | slice) -> Array:
        return squared_correlation(z[rows], values[rows]) if continuous else right[rows].mean(0)

    predictability = matrix(slice(None))
    gaps = _gaps(predictability)
    score = Score(float(gaps.mean()), dict(zip(names, gaps.tolist())), {"predictability": predictability}, how)
    return with_interval(score, lambda rows: float(_gaps(matrix(rows)).mean()), points, bootstrap=bootstrap, seed=seed)


def squared_correlation(codes: Array, factors: Array) -> Array:
    """The squared correlation of all columns of ``(N, L)`` with all of ``(N, K)``: ``(L, K)``, 0 for constants."""
    z, v = codes - codes.mean(0), factors - factors.mean(0)
    # As the reference does: a variance, divided by n - 1, of at most 1e-12 is none.
    spread = (z**2).sum(0) / max(len(z) - 1, 1)
    unit = np.where(spread > 1e-12, 1 / np.sqrt(np.maximum(spread, 1e-12)), 0.0)
    scale = np.sqrt((v**2).sum(0))
    share = (unit[:, None] * (z.T @ v)) / np.sqrt(max(len(z) - 1, 1)) / np.where(scale > 0, scale, 1.0)
    return share**2


def _machines(z: Array, classes: Indices, train: Indices, test: Indices) -> Array:
    """Whether each held-out point is classified rightly by each latent alone, (n, L, K) of 0 and 1."""
    from sklearn.svm import LinearSVC

    right = np.zeros((len(test), z.shape[1], classes.shape[1]))
    for j, code in enumerate(z.T):
        for k, y in enumerate(classes.T):
            machine = LinearSVC(C=0.01, class_weight="balanced", dual=False).fit(code[train, None], y[train])
            right[:, j, k] = machine.predict(code[test, None]) == y[test]
    return right


def _gaps(matrix: Array) -> Array:
    """The best less the second best row of each column; of one row, the row."""
    top = np.sort(np.concatenate([np.zeros((1, matrix.shape[1])), matrix]), axis=0)
    return top[-1] - top[-2]
