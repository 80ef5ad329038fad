# Copyright ppl-disent contributors.
# SPDX-License-Identifier: Apache-2.0
"""The unsupervised disentanglement ranking: do runs that differ by their seed find the same latents?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt
from torch import Tensor
from torch.distributions import Distribution

from ppl_disent.errors import ArgumentError
from ppl_disent.metrics.bootstrap import with_interval
from ppl_disent.metrics.held_out import standardised
from ppl_disent.metrics.information import Array, Indices, as_array, as_codes
from ppl_disent.metrics.score import Score


def udr(
    runs: Sequence[Tensor | npt.ArrayLike | Distribution],
    *,
    kl: Sequence[Tensor | npt.ArrayLike] | None = None,
    similarity: Literal["lasso", "spearman"] = "lasso",
    kl_threshold: float = 0.01,
    bootstrap: int = 0,
    seed: int = 0,
) -> Score:
    """The unsupervised disentanglement ranking (UDR): ranks runs without factors, by how alike their latents are.

    For two runs, ``R_ab`` is how much latent a of the one has to do with latent b of the other: the absolute weight of
    a Lasso (penalty 0.1, both standardised) or the absolute rank correlation. Their likeness is the mean over columns
    of ``max_a R_ab^2 / sum_a R_ab``, averaged with the same over rows: 1 (less the penalty) if the latents match one to
    one. The score of a run is the median of its likeness to the others. As in disentanglement_lib
    (evaluation/udr/metrics/udr.py), where latents with a KL of at most 0.01 nats are left out.

    Pitfalls:
        Runs that are alike need not be disentangled, and a run of one latent matches well: hold the reconstructions
        beside it. Without ``kl`` only constant latents are left out, and those that are noise lower the score.

    Args:
        runs: At least two runs' codes of the same N data, each an ``(N, L)`` tensor or array, or a distribution, of
            which the mean is taken; L may differ.
        kl: Each run's KL by latent, an ``(L,)`` array, averaged over the data, in nats.
        similarity: ``"lasso"`` or ``"spearman"``.
        kl_threshold: Latents are left out whose KL is not above it.
        bootstrap: Resamples of the **runs** for ``detail["interval"]``, see :mod:`ppl_disent.metrics.bootstrap`; 0 for
            none. A run that is drawn twice is not compared with itself.
        seed: Of the bootstrap.

    Returns:
        The mean score of the runs. ``detail`` has ``per_run`` ``(R,)``, by which to rank; ``likeness`` ``(R, R)``, from
        row to column, 0 on its diagonal; ``active``, for each run an ``(L,)`` array; and ``interval`` where it was
        asked for.

    Raises:
        ArgumentError: If there are fewer than two runs, their N differ, a code is NaN or infinite, ``kl`` does not fit,
            or for an unknown similarity.

    Example:
        >>> import numpy as np
        >>> z = np.array([[1, 1], [1, -1], [-1, 1], [-1, -1]])
        >>> f"{udr([z, z[:, ::-1] * [-1, 5]]):.2f}"  # 1 less the penalty
        '0.90'

    References:
        Unsupervised Model Selection for Variational Disentangled Representation Learning (Duan et al., 2020), section
        4, https://arxiv.org/abs/1905.12614.
    """
    if similarity not in ("lasso", "spearman"):
        raise ArgumentError("similarity", got=similarity, expected='"lasso" or "spearman"')
    codes = [as_codes(f"runs[{i}]", run).astype(np.float64) for i, run in enumerate(runs)]
    if len(codes) < 2 or len({len(z) for z in codes}) != 1:
        got = [z.shape for z in codes]
        raise ArgumentError("runs", got=got, expected="codes of at least two runs, of the same data")
    codes = [standardised(z, np.arange(len(z))) for z in codes]
    active = [z.any(0) for z in codes]
    if kl is not None:
        active = [a & (k > kl_threshold) for a, k in zip(active, _read_kl(kl, codes))]
    codes = [z[:, a] for z, a in zip(codes, active)]
    if similarity == "spearman":
        from scipy.stats import rankdata

        codes = [standardised(rankdata(z, axis=0), np.arange(len(z))) for z in codes]
    likeness = np.zeros((len(codes), len(codes)))
    for i, one in enumerate(codes):
        # Shared by all Lassos on this run's latents: what is left to do for each does not grow with N.
        gram = one.T @ one / len(one)
        for j, other in enumerate(codes):
            if i != j and one.size and other.size:
                cross = one.T @ other / len(one)
                likeness[i, j] = _strength(np.abs(_lasso(gram, cross) if similarity == "lasso" else cross))
    each = np.array([np.median(np.delete(likeness[:, i], i)) for i in range(len(codes))])
    detail = {"per_run": each, "likeness": likeness, "active": active}
    score = Score(float(each.mean()), {}, detail, f"{similarity}, {len(codes)} runs, N = {len(codes[0])}")

    def resampled(some: Indices) -> float:
        others = [some[some != i] for i in some]
        # Drawn as often as there are runs, one alone has nothing but its own score.
        return float(np.mean([np.median(likeness[o, i]) if len(o) else each[i] for i, o in zip(some, others)]))

    return with_interval(score, resampled, len(codes), bootstrap=bootstrap, seed=seed)


def _read_kl(kl: Sequence[object], codes: Sequence[Array]) -> list[Array]:
    read = [as_array(f"kl[{i}]", value).astype(np.float64) for i, value in enumerate(kl)]
    if [k.shape for k in read] != [z.shape[1:] for z in codes]:
        got, expected = [k.shape for k in read], f"one of each latent, {[z.shape[1:] for z in codes]}"
        raise ArgumentError("kl", got=got, expected=expected)
    return read


def _lasso(gram: Array, cross: Array, alpha: float = 0.1) -> Array:
    """The weights ``(L, M)`` of M Lassos with the covariances ``gram`` ``(L, L)`` and ``cross`` ``(L, M)``.

    Coordinate descent on all of them together: each step soft-thresholds one row, and the objective never grows.
    """
    weights = np.zeros_like(cross)
    for _ in range(10_000):
        before = weights.copy()
        for a in range(len(gram)):
            rest = cross[a] - gram[a] @ weights + gram[a, a] * weights[a]
            weights[a] = np.sign(rest) * np.maximum(np.abs(rest) - alpha, 0) / gram[a, a]
        if np.abs(weights - before).max() < 1e-10:
            break
    return weights


def _strength(relation: Array) -> float:
    """The mean of max^2 / sum over columns, and over rows, averaged; an empty column or row counts as 0."""
    ends = []
    for axis in (0, 1):
        total, most = relation.sum(axis), relation.max(axis)
        ends.append(np.divide(most**2, total, out=np.zeros_like(total), where=total > 0).mean())
    return float(np.mean(ends))
