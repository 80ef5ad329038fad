# Copyright ppl-disent contributors.
# SPDX-License-Identifier: Apache-2.0
"""The mutual information gap, from binned codes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy.typing as npt
from torch import Tensor
from torch.distributions import Distribution

from ppl_disent.metrics.bootstrap import with_interval
from ppl_disent.metrics.information import Indices, as_codes, as_factors, equal_width_bins, gap_score, joint_counts
from ppl_disent.metrics.score import Score


def mig(
    codes: Tensor | npt.ArrayLike | Distribution,
    factors: Tensor | npt.ArrayLike,
    *,
    bins: int = 20,
    bootstrap: int = 0,
    seed: int = 0,
    factor_names: Sequence[str] | None = None,
) -> Score:
    """The mutual information gap (MIG): is every factor known to one latent, and to one only?

    For every factor k the mutual information in nats of its two best latents, ``(I_1 - I_2) / H(v_k)``, averaged over
    the factors. Codes are cut into bins of equal width between their extremes, and the information is the plug-in
    estimate. This is the estimator of disentanglement_lib (evaluation/metrics/mig.py, 20 bins on the posterior means of
    10,000 sampled points), to which it is equal on the same points.

    Pitfalls:
        *A perfect code need not score 1.* With fewer bins than a factor has values, bins merge values: on the dSprites
        grid the code that *is* the factors scores 1, 1, 0.812, 0.85, 0.85 (shape, scale, orientation, x, y; 3, 6, 40,
        32, 32 values), 0.902 in all. A factor coded by two latents together scores 0, however well. One outlier widens
        all bins of its latent. Sampled points bias the information of many-valued factors upwards
        (:mod:`ppl_disent.metrics.information`). The authors' own estimator uses all of q(z|x), not the mean, and four
        factors on dSprites: its figures are not comparable with these.

    Args:
        codes: An ``(N, L)`` tensor or array, of any real type, on any device; or a distribution with batch shape
            ``(N,)`` and event shape ``(L,)``, of which the mean is taken.
        factors: An ``(N, K)`` tensor or array of discrete values; ``(N,)`` is one factor.
        bins: The number of bins of a latent.
        bootstrap: Resamples for ``detail["interval"]``, see :mod:`ppl_disent.metrics.bootstrap`; 0 for none. Bins
            stay as they are.
        seed: Of the bootstrap.
        factor_names: K names, the keys of ``per_factor``; by default ``v0``, ``v1`` and so on.

    Returns:
        The mean gap, in [0, 1]. ``per_factor`` has the gap of every factor; ``detail`` has ``mutual_information``, an
        ``(L, K)`` array in nats, ``factor_entropy`` ``(K,)`` in nats, ``top_latents`` ``(K, 2)``, the best two,
        and ``interval`` where it was asked for.

    Raises:
        ArgumentError: If shapes do not fit, a code is NaN or infinite, or a factor is continuous or has one value only.

    Example:
        >>> import numpy as np
        >>> v = np.indices((3, 4)).reshape(2, -1).T  # every combination of two factors
        >>> mig(v[:, [0, 0, 1]], v)  # the first factor is in two latents
        Score(0.5; v0 0, v1 1; plug-in on 20 equal-width bins of the codes, N = 12)

    References:
        Isolating Sources of Disentanglement in Variational Autoencoders (Chen et al., 2018), section 4.1,
        https://arxiv.org/abs/1802.04942; Challenging Common Assumptions in the Unsupervised Learning of Disentangled
        Representations (Locatello et al., 2019), https://arxiv.org/abs/1811.12359.
    """
    z = as_codes("codes", codes)
    v = as_factors(factors, factor_names, len(z))
    # The bins are counted from 1.
    binned = equal_width_bins(z, bins) - 1
    score = gap_score(joint_counts(binned, v), v, f"plug-in on {bins} equal-width bins of the codes, N = {len(z)}")

    def resampled(rows: Indices) -> float:
        some = v.take(rows)
        return gap_score(joint_counts(binned[rows], some), some, "").value

    return with_interval(score, resampled, len(z), bootstrap=bootstrap, seed=seed)
