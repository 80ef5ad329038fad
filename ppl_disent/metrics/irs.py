# Copyright ppl-disent contributors.
# SPDX-License-Identifier: Apache-2.0
"""The interventional robustness score."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from torch import Tensor
from torch.distributions import Distribution

from ppl_disent.errors import ArgumentError
from ppl_disent.metrics.information import Array, Indices, as_codes, as_values, equal_width_bins, varying
from ppl_disent.metrics.score import Score


def irs(
    codes: Tensor | npt.ArrayLike | Distribution,
    factors: Tensor | npt.ArrayLike,
    *,
    quantile: float = 0.99,
    factor_bins: int = 20,
    factor_names: Sequence[str] | None = None,
) -> Score:
    """The interventional robustness score (IRS): with one factor held, how far can the others move a latent?

    ``IRS_jk`` is 1 less the mean over the values of factor k of the ``quantile`` of ``|z_j - E(z_j | v_k)|``, in units
    of ``max |z_j - E z_j|``. A latent scores its best factor; the score is the mean over latents with these units as
    weights. Latents that are constant are left out; if all are, the score is 0. Factors are first put into
    ``factor_bins`` bins of equal width, so those with more values lose some, and continuous ones are welcome. As in
    disentanglement_lib (evaluation/metrics/irs.py), with its quantile; 1 is the paper's maximum.

    Pitfalls:
        *Noise scores about 0.4*, since a latent's quantile is below its maximum; one outlier raises all scores of its
        latent. The weights are in the unit of the codes. There is no bootstrap of a largest deviation
        (:mod:`ppl_disent.metrics.bootstrap`).

    Args:
        codes: An ``(N, L)`` tensor or array, of any real type, on any device; or a distribution with batch shape
            ``(N,)`` and event shape ``(L,)``, of which the mean is taken.
        factors: An ``(N, K)`` tensor or array of any numbers; ``(N,)`` is one factor.
        quantile: Of the deviations within one value of a factor, above 0 and at most 1.
        factor_bins: The number of bins of a factor.
        factor_names: K names; by default ``v0``, ``v1`` and so on.

    Returns:
        The score, in [0, 1]. ``detail`` has ``robustness``, the ``(L, K)`` matrix (NaN for a constant latent);
        ``per_latent`` ``(L,)``; ``parents`` ``(L,)``, the best factor of each latent (-1 for a constant one);
        ``max_deviation`` ``(L,)``; and the ``factor_names``.

    Raises:
        ArgumentError: If shapes do not fit, a code is NaN or infinite, a factor has one value only, or for a quantile
            outside of its range.

    Example:
        >>> import numpy as np
        >>> v = np.indices((4, 4)).reshape(2, -1).T  # every combination of two factors
        >>> f"{irs(v, v):.2f}, {irs(v.sum(1, keepdims=True), v):.2f}"
        '1.00, 0.50'

    References:
        Robustly Disentangled Causal Mechanisms (Suter et al., 2019), section 4, https://arxiv.org/abs/1811.00007.
    """
    if not 0 < quantile <= 1:
        raise ArgumentError("quantile", got=quantile, expected="above 0 and at most 1")
    z = as_codes("codes", codes).astype(np.float64)
    values, names = as_values(factors, factor_names, len(z))
    classes = equal_width_bins(values, factor_bins)
    active = varying(z)
    moved = np.abs(z - z.mean(0)).max(0)
    deviation = np.stack([_deviation(z, column, quantile) for column in classes.T], axis=1)
    robust = np.full_like(deviation, np.nan)
    robust[active] = 1 - deviation[active] / moved[active, None]
    each = np.where(active, np.nan_to_num(robust).max(1, initial=-np.inf), np.nan)
    value = float(np.average(each[active], weights=moved[active])) if active.any() else 0.0
    parents = np.where(active, np.nan_to_num(robust, nan=-np.inf).argmax(1), -1)
    detail = {
        "robustness": robust,
        "per_latent": each,
        "parents": parents,
        "max_deviation": moved,
        "factor_names": names,
    }
    return Score(value, {}, detail, f"quantile {quantile:g}, factors in {factor_bins} bins, N = {len(z)}")


def _deviation(z: Array, classes: Indices, quantile: float) -> Array:
    """The quantile of each latent's distance from its mean within one class, averaged over classes: (L,)."""
    order = np.argsort(classes, kind="stable")
    groups = np.split(z[order], np.unique(classes[order], return_index=True)[1][1:])
    return np.mean([np.quantile(np.abs(group - group.mean(0)), quantile, axis=0) for group in groups], axis=0)
