# Copyright ppl-disent contributors.
# SPDX-License-Identifier: Apache-2.0
"""The parts that the information metrics share: readers of codes and factors, bins, joint tables, mutual information.

Most disagreements between published "MIG"s are made here, in the binning and the estimator, not in the formula of the
score. Throughout: N points, L latents, K factors, B bins, ``n_k`` values of factor k; information in nats.

On sampled points the plug-in estimate of mutual information is biased upwards by about ``(B - 1)(n_k - 1) / (2 N)``
nats (0.037 for 20 bins, 40 values and 10,000 points), so latents of pure noise prefer the factor with most values. On a
full grid of factors there is nothing to sample, and no bias.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch
from torch.distributions import Distribution

from ppl_disent.errors import ArgumentError
from ppl_disent.metrics.score import Score

# Beyond it squares overflow in float32, in which trees work, and linear machines do not end.
_LARGEST = 1e18

Array = npt.NDArray[np.float64]
Indices = npt.NDArray[np.int64]


def as_array(name: str, value: object) -> npt.NDArray[np.generic]:
    """A tensor (any device, with or without a gradient), array or list as a finite, real array on the host.

    Raises:
        ArgumentError: If it holds something other than real numbers, or a NaN or an infinity.
    """
    if isinstance(value, torch.Tensor):
        value = value.detach().cpu()
        # numpy has no bfloat16 or float8, and float16 bin edges would be coarser than the bins.
        value = (value.double() if value.is_floating_point() and value.itemsize < 4 else value).numpy()
    array = np.asarray(value)
    if array.dtype.kind not in "fiub":
        raise ArgumentError(name, got=array.dtype, expected="real numbers")
    if bad := array.size - np.count_nonzero(np.isfinite(array)):
        raise ArgumentError(name, got=f"{bad} of {array.size} values NaN or infinite", expected="finite values")
    return array


def as_codes(name: str, value: object) -> npt.NDArray[np.floating]:
    """Codes as an ``(N, L)`` array of float32 or float64, whichever they came in; other types become float64.

    Args:
        name: The argument, for the error message.
        value: An ``(N, L)`` tensor or array, or a distribution with batch shape ``(N,)`` and event shape ``(L,)``, of
            which the mean is taken.

    Raises:
        ArgumentError: If it is not of that shape, is empty, not finite, beyond 1e18, or a distribution that knows no
            mean.
    """
    array = as_array(name, moment(name, value, "mean") if isinstance(value, Distribution) else value)
    if array.ndim != 2 or array.size == 0:
        hint = "One latent is codes[:, None]." if array.ndim == 1 else ""
        raise ArgumentError(name, got=array.shape, expected="the shape (points, latents), both at least 1", hint=hint)
    read = array.astype(array.dtype if array.dtype in (np.float32, np.float64) else np.float64, copy=False)
    if (largest := np.abs(read).max()) > _LARGEST:
        raise ArgumentError(name, got=f"a magnitude of {largest:g}", expected=f"at most {_LARGEST:g}")
    return read


def moment(name: str, distribution: Distribution, which: str) -> torch.Tensor:
    """The ``"mean"`` or the ``"stddev"`` of a distribution, or an error that says what to pass instead."""
    try:
        return getattr(distribution, which)
    except NotImplementedError:
        hint = "Pass the codes themselves, for instance the mean of some draws."
        raise ArgumentError(name, got=distribution, expected=f"a distribution with a {which}", hint=hint) from None


@dataclass(frozen=True, eq=False)
class Factors:
    """Ground-truth factors as class indices.

    Attributes:
        classes: An ``(N, K)`` array; column k counts the values of factor k, in their order, from 0 to ``n_k - 1``.
        sizes: ``n_k``, the number of values that occur.
        names: The factors' names.
        entropy: A ``(K,)`` array, the entropy of every factor's frequencies in nats.
    """

    classes: Indices
    sizes: tuple[int, ...]
    names: tuple[str, ...]
    entropy: Array

    def take(self, rows: Indices) -> Factors:
        """The factors of some of the points, which need not hold every value; their entropies are those of the rows."""
        classes = self.classes[rows]
        counts = [np.bincount(v, minlength=size) for v, size in zip(classes.T, self.sizes)]
        return replace(self, classes=classes, entropy=np.array([entropy(count / len(rows)) for count in counts]))


def as_factors(value: object, names: Sequence[str] | None, points: int) -> Factors:
    """Reads factors: any discrete values, one column a factor, as many rows as the codes have.

    Args:
        value: An ``(N, K)`` tensor or array of integers, or of floats with discrete values; ``(N,)`` is one factor.
        names: K different names; by default ``v0``, ``v1`` and so on.
        points: N, the number of codes.

    Raises:
        ArgumentError: If rows or names do not fit, if a factor has one value only (it has no entropy to explain), or if
            a column of floats has more than N / 2 values, that is, if it is continuous.
    """
    array, names = _columns(value, names, points)
    columns, sizes, entropies = [], [], []
    for name, column in zip(names, array.T):
        found, classes, counts = np.unique(column, return_inverse=True, return_counts=True)
        if len(found) < 2:
            raise _constant(name)
        if array.dtype.kind == "f" and len(found) > points / 2:
            got = f"{name!r}, a float with {len(found)} values in {points} points"
            raise ArgumentError("factors", got=got, expected="discrete values", hint="Bin continuous factors first.")
        columns.append(classes)
        sizes.append(len(found))
        entropies.append(entropy(counts / points))
    return Factors(np.stack(columns, axis=1), tuple(sizes), names, np.array(entropies))


def as_values(value: object, names: Sequence[str] | None, points: int) -> tuple[Array, tuple[str, ...]]:
    """Reads factors as numbers, discrete or continuous: an ``(N, K)`` array of float64, and the factors' names.

    Args:
        value: An ``(N, K)`` tensor or array of real numbers; ``(N,)`` is one factor.
        names: As for :func:`as_factors`.
        points: N, the number of codes.

    Raises:
        ArgumentError: If rows or names do not fit, or a factor has one value only.
    """
    array, names = _columns(value, names, points)
    for name, column in zip(names, array.T):
        if (column == column[0]).all():
            raise _constant(name)
    return array.astype(np.float64), names


def _columns(
    value: object, names: Sequence[str] | None, points: int
) -> tuple[npt.NDArray[np.generic], tuple[str, ...]]:
    """Factors (N, K), whatever their values, and their K names."""
    array = as_array("factors", value)
    array = array[:, None] if array.ndim == 1 else array
    if array.ndim != 2 or array.shape[1] == 0:
        raise ArgumentError("factors", got=array.shape, expected="the shape (points, factors)")
    if len(array) != points:
        raise ArgumentError("codes, factors", got=f"{points} and {len(array)} rows", expected="as many rows in both")
    width = array.shape[1]
    names = [f"v{k}" for k in range(width)] if names is None else names
    # A string is a sequence of one-letter names, which nobody means.
    if isinstance(names, str) or len(names) != width or len(set(names)) != width:
        raise ArgumentError("factor_names", got=names, expected=f"{width} different names, one for each factor")
    return array, tuple(names)


def _constant(name: str) -> ArgumentError:
    got, hint = f"{name!r}, which has one value only", "Leave out the factors that do not vary."
    return ArgumentError("factors", got=got, expected="at least two", hint=hint)


def varying(values: Array) -> npt.NDArray[np.bool_]:
    """Which columns of ``(N, L)`` move by more than rounding, relative to their size; those of zeros do not.

    The computed variance of a constant need not be 0, and scaled up its rounding would pass for a code.
    """
    return values.std(0) > 1e-12 * np.abs(values).max(0)


def equal_width_bins(codes: npt.NDArray[np.floating], bins: int) -> Indices:
    """The bin, from 1 to ``bins``, of every code: equal widths between the smallest and the largest value of a latent.

    The edges are those of ``np.histogram`` and the assignment that of ``np.digitize(x, edges[:-1])``, as in
    disentanglement_lib (evaluation/metrics/utils.py, ``_histogram_discretize``), in the precision of the codes. The
    bins follow the data: one outlier widens them all. A latent that is constant, or varies by fewer than ``bins`` steps
    of its precision (where ``np.histogram`` now refuses), falls into the bins that are left.

    Args:
        codes: An ``(N, L)`` array.
        bins: B, at least 2.

    Returns:
        An ``(N, L)`` array of indices.
    """
    if bins < 2:
        raise ArgumentError("bins", got=bins, expected="at least 2")
    edges = (np.linspace(z.min(), z.max(), bins + 1, dtype=codes.dtype) for z in codes.T)
    return np.stack([np.digitize(z, e[:-1]) for z, e in zip(codes.T, edges)], axis=1)


def joint_counts(codes: Indices, factors: Factors) -> list[Array]:
    """Counts how often every latent's bin meets every value of a factor; linear in N.

    Args:
        codes: An ``(N, L)`` array of bin indices, from 0.
        factors: K factors over the same N points.

    Returns:
        K arrays ``(L, B, n_k)``, where B - 1 is the largest index in ``codes``.
    """
    bins = int(codes.max()) + 1
    columns = np.ascontiguousarray(codes.T)
    return [
        np.stack([np.bincount(column * size + classes, minlength=bins * size) for column in columns])
        .reshape(-1, bins, size)
        .astype(np.float64)
        for classes, size in zip(np.ascontiguousarray(factors.classes.T), factors.sizes)
    ]


def entropy(p: Array) -> float | Array:
    """The entropy in nats of the distributions over the last axis; ``0 log 0 = 0``."""
    return -(p * np.log(p, out=np.zeros_like(p), where=p > 0)).sum(-1)


def mutual_information(joint: Array) -> Array:
    """The mutual information in nats of ``(..., B, n)`` tables of counts or probabilities, over their last two axes.

    On counts it is the plug-in estimate, equal to ``sklearn.metrics.mutual_info_score``.

    Returns:
        An array ``(...)``, never negative.
    """
    p = joint / joint.sum((-2, -1), keepdims=True)
    independent = p.sum(-1, keepdims=True) * p.sum(-2, keepdims=True)
    # Cells far out in a tail can underflow in the product while p itself does not: they weigh nothing.
    ratio = np.divide(p, independent, out=np.ones_like(p), where=(p > 0) & (independent > 0))
    return np.maximum((p * np.log(ratio)).sum((-2, -1)), 0.0)


def information_matrix(tables: Sequence[Array]) -> Array:
    """The mutual information in nats of L latents and K factors, ``(L, K)``, from K joint tables ``(L, B, n_k)``."""
    return np.stack([mutual_information(table) for table in tables], axis=1)


def gap_score(joint: Sequence[Array], factors: Factors, estimator: str, **detail: object) -> Score:
    """The mutual information gap of K joint tables ``(L, B, n_k)``: (best - second best latent) / H(v_k), mean over k.

    With one latent the second best is 0. ``detail`` is passed on, next to ``mutual_information`` ``(L, K)``,
    ``factor_entropy`` ``(K,)`` and ``top_latents`` ``(K, 2)``, the indices of the best two (one column for one latent).
    """
    information = information_matrix(joint)
    top = np.argsort(-information, axis=0, kind="stable")[:2].T
    best = np.take_along_axis(information.T, top, axis=1)
    gaps = best[:, 0] - (best[:, 1] if best.shape[1] == 2 else 0.0)
    # A resample may have lost all but one value of a factor: its gap is 0.
    gaps /= np.where(factors.entropy > 0, factors.entropy, 1.0)
    return Score(
        float(gaps.mean()),
        dict(zip(factors.names, gaps.tolist())),
        {"mutual_information": information, "factor_entropy": factors.entropy, "top_latents": top, **detail},
        estimator,
    )
