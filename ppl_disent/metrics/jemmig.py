# Copyright ppl-disent contributors.
# SPDX-License-Identifier: Apache-2.0
"""The joint entropy minus mutual information gap, from the whole of q(z|x) on a fixed grid of bins."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from torch import Tensor
from torch.distributions import Distribution

from ppl_disent.metrics.bootstrap import with_interval
from ppl_disent.metrics.information import Array, Indices, as_factors, entropy, information_matrix
from ppl_disent.metrics.rmig import as_normal, quantised_joint
from ppl_disent.metrics.score import Score


def jemmig(
    codes: Distribution | tuple[Tensor | npt.ArrayLike, Tensor | npt.ArrayLike] | Tensor | npt.ArrayLike,
    factors: Tensor | npt.ArrayLike,
    *,
    bins: int = 100,
    limits: tuple[float, float] = (-4.0, 4.0),
    bootstrap: int = 0,
    seed: int = 0,
    factor_names: Sequence[str] | None = None,
) -> Score:
    """JEMMIG: does one latent know a factor and nothing else, and no other latent know it? **Lower is better.**

    Of factor k, with j1 and j2 the latents that know most of it, ``[H(z_j1, v_k) - I_1 + I_2] / (H(v_k) + ln B)``,
    averaged over factors: the joint entropy punishes whatever else is in the latent, which no gap sees. The joint is
    that of :func:`rmig`, of the noisy code ``z ~ q(z|x)`` on B fixed bins, in nats.

    This follows the authors' script (clarken92/DisentanglementMetrics, working/disentanglement/dSprites/FactorVAE/
    exp_4_paper/7a_interpretability_metrics_v2.py), with one difference: entropies are exact where the script clips
    logarithms at 1e-8, which moves the figure of a factor by less than 1e-5.

    Pitfalls:
        *0 needs a code that is narrower than a bin and a function of one factor*; noise in a bin or two costs
        entropy. Others publish 1 less a variant with 10 bins (ubisoft's jemmig.py), or estimate differential entropies
        by sampling, where it can be negative. Those of :func:`rmig` on limits and on sampled points hold here too.

    Args:
        codes: As for :func:`rmig`.
        factors: An ``(N, K)`` tensor or array of discrete values; ``(N,)`` is one factor.
        bins: B, the number of bins of a latent. The script's default is 100, its authors ran it with 200.
        limits: The outer edges of the bins.
        bootstrap: Resamples for ``detail["interval"]``, see :mod:`ppl_disent.metrics.bootstrap`; 0 for none. Each
            costs as much as the score.
        seed: Of the bootstrap.
        factor_names: K names, the keys of ``per_factor``; by default ``v0``, ``v1`` and so on.

    Returns:
        The mean, in [0, 1]. ``per_factor`` has that of every factor; ``detail`` has ``mutual_information`` and
        ``joint_entropy``, ``(L, K)`` arrays in nats, ``factor_entropy`` ``(K,)`` in nats, ``top_latents`` ``(K, 2)``
        (one column for one latent), and ``interval`` where it was asked for.

    Raises:
        ArgumentError: As for :func:`rmig`.

    Example:
        >>> import numpy as np
        >>> v = np.indices((2, 2)).reshape(2, -1).T  # every combination of two factors
        >>> f"{jemmig(v @ [[2], [1]], v):.3f}"  # both in one latent: ln 2 / (ln 2 + ln 100)
        '0.131'

    References:
        Theory and Evaluation Metrics for Learning Disentangled Representations (Do & Tran, 2020), section 3.2,
        https://arxiv.org/abs/1908.09961.
    """
    mean, std = as_normal(codes)
    v = as_factors(factors, factor_names, len(mean))

    def of(tables: list[Array]) -> tuple[Array, dict[str, object]]:
        information = information_matrix(tables)
        joint_entropy = np.stack([entropy(table.reshape(len(table), -1)) for table in tables], axis=1)
        known = np.array([entropy(table[0].sum(0)) for table in tables])
        top = np.argsort(-information, axis=0, kind="stable")[:2].T
        best = np.take_along_axis(information.T, top, axis=1)
        second = best[:, 1] if best.shape[1] == 2 else 0.0
        joint = np.take_along_axis(joint_entropy.T, top[:, :1], axis=1)[:, 0]
        gaps = (joint - best[:, 0] + second) / (known + math.log(bins))
        detail: dict[str, object] = {"mutual_information": information, "joint_entropy": joint_entropy}
        return gaps, detail | {"factor_entropy": known, "top_latents": top}

    gaps, detail = of(quantised_joint(mean, std, v, bins=bins, limits=limits))
    how = f"q(z|x) on {bins} bins over [{limits[0]:g}, {limits[1]:g}], N = {len(mean)}; lower is better"
    score = Score(float(gaps.mean()), dict(zip(v.names, gaps.tolist())), detail, how)

    def resampled(rows: Indices) -> float:
        return float(of(quantised_joint(mean[rows], std[rows], v.take(rows), bins=bins, limits=limits))[0].mean())

    return with_interval(score, resampled, len(mean), bootstrap=bootstrap, seed=seed)
