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
from ppl_disent.metrics.bootstrap import with_interval
from ppl_disent.metrics.information import Array, Indices, as_codes, as_values, equal_width_bins, varying
from ppl_disent.metrics.score import Score


def irs(
    codes: Tensor | npt.ArrayLike | Distribution,
    factors: Tensor | npt.ArrayLike,
    *,
    quantile: float = 0.99,
    factor_bins: int = 20,
    bootstrap: int = 0,
    seed: int = 0,
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
        latent. The weights are in the unit of the codes.

    Args:
        codes: An ``(N, L)`` tensor or array, of any real type, on any device; or a distribution with batch shape
            ``(N,)`` and event shape ``(L,)``, of which the mean is taken.
        factors: An ``(N, K)`` tensor or array of any numbers; ``(N,)`` is one factor.
        quantile: Of the deviations within one value of a factor, above 0 and at most 1.
        factor_bins: The number of bins of a factor.
        bootstrap: Resamples for ``detail["interval"]``, see :mod:`ppl_disent.metrics.bootstrap`; 0 for none. Bins and
            units stay as they are.
        seed: Of the bootstrap.
        factor_names: K names; by default ``v0``, ``v1`` and so on.

    Returns:
        The score, in [0, 1]. ``detail`` has ``robustness``, the ``(L, K)`` matrix (NaN for a constant latent);
        ``per_latent`` ``(L,)``; ``parents`` ``(L,)``, the best factor of each latent (-1 for a constant one);
        ``max_deviation`` ``(L,)``; the ``factor_names``; and ``interval`` where it was asked for.

    Raises:
        ArgumentError: If shapes do not fit, a code is NaN or infinite, a factor has one value only, for a quantile
            outside of its range, or for a bootstrap with a quantile of 1.

    References:
        Robustly Disentangled Causal Mechanisms (Suter et al., 2019), section 4, https://arxiv.org/abs/1811.00007.
    """
    if not 0 < quantile <= 1:
        raise ArgumentError("quantile", got=quantile, expected="above 0 and at most 1")
    if quantile == 1 and bootstrap:
        hint = "No resample goes beyond the largest deviation, so that an interval would be too low."
        raise ArgumentError("bootstrap", got=bootstrap, expected="0 with a quantile of 1", hint=hint)
    z = as_codes("codes", codes).astype(np.float64)
    values, names = as_values(factors, factor_names, len(z))
    classes = equal_width_bins(values, factor_bins)
    active = varying(z)
    moved = np.abs(z - z.mean(0)).max(0)

    def of(rows: Indices | slice) -> tuple[float, Array]:
        deviation = np.stack([_deviation(z[rows], column, quantile) for column in classes[rows].T], axis=1)
        robust = np.full_like(deviation, np.nan)
        robust[active] = 1 - deviation[active] / moved[active, None]
        best = robust[active].max(1)
        return float(np.average(best, weights=moved[active])) if active.any() else 0.0, robust

    value, robust = of(slice(None))
    each = np.where(active, np.nan_to_num(robust).max(1, initial=-np.inf), np.nan)
    parents = np.where(active, np.nan_to_num(robust, nan=-np.inf).argmax(1), -1)
    detail = {
        "robustness": robust,
        "per_latent": each,
        "parents": parents,
        "max_deviation": moved,
        "factor_names": names,
    }
    score = Score(value, {}, detail, f"quantile {quantile:g}, factors in {factor_bins} bins, N = {len(z)}")
    return with_interval(score, lambda rows: of(rows)[0], len(z), bootstrap=bootstrap, seed=seed)


def _deviation(z: Array, classes: Indices, quantile: float) -> Array:
    """The quantile of each latent's distance from its mean within one class, averaged over classes: (L,)."""
    order = np.argsort(classes, kind="stable")
    groups = np.split(z[order], np.unique(classes[order], return_index=True)[1][1:])
    return np.mean([np.quantile(np.abs(group - group.mean(0)), quantile, axis=0) for group in groups], axis=0)
