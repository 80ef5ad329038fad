# Copyright ppl-disent contributors.
# SPDX-License-Identifier: Apache-2.0
"""The Fréchet distance of two Gaussians, and of the features of two sets of images."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ppl_disent.errors import ArgumentError
from ppl_disent.metrics.images import Images, batches
from ppl_disent.metrics.inception import inception
from ppl_disent.metrics.information import Array, as_array
from ppl_disent.metrics.score import Score

Features = Callable[[Tensor], Tensor]
_EPS = float(np.finfo(np.float64).eps)


def frechet_distance(
    mean_a: Tensor | npt.ArrayLike,
    cov_a: Tensor | npt.ArrayLike,
    mean_b: Tensor | npt.ArrayLike,
    cov_b: Tensor | npt.ArrayLike,
) -> float:
    """The squared Fréchet (2-Wasserstein) distance of two Gaussians, ``|m_a - m_b|^2 + tr(A + B - 2 (A B)^(1/2))``.

    With A = L L' and B = M M' the last trace is the sum of the singular values of L' M. They need no root of a matrix
    that is not symmetric, so nothing becomes complex, and covariances of any rank will do: equal ones are at distance
    0 up to rounding.

    Args:
        mean_a, mean_b: ``(d,)`` tensors or arrays.
        cov_a, cov_b: ``(d, d)`` tensors or arrays, symmetric and positive semi-definite.

    Returns:
        The distance, in the square of the units of the means; at least 0.

    Raises:
        ArgumentError: If shapes do not fit, a value is NaN or infinite, or a covariance is not symmetric and positive
            semi-definite, up to 1e-6 of its largest eigenvalue.

    Example:
        >>> import numpy as np
        >>> f"{frechet_distance([0, 0], np.eye(2), [3, 4], np.eye(2)):.2f}"
        '25.00'

    References:
        The Fréchet Distance between Multivariate Normal Distributions (Dowson & Landau, 1982),
        https://doi.org/10.1016/0047-259X(82)90077-X
    """
    return sum(_parts(mean_a, cov_a, mean_b, cov_b))


def fid(
    real: Images,
    generated: Images,
    *,
    features: Features | str | Path,
    batch_size: int = 64,
) -> Score:
    """The Fréchet distance of two sets of images: of Gaussians with the means and covariances of their features.

    Images are not held: of each batch features are taken, and added to a mean and a covariance in float64. Batches of a
    data set are ``(data.batch(i) for i in torch.arange(10_000).split(64))``.

    Pitfalls:
        *The distance depends on the features, and on n.* It is biased upwards, the less the larger n is, and not by the
        same amount for all models: compare at one n (papers mostly take 10,000 or 50,000). With n no larger than the
        number of features the covariances are singular; the distance exists, and is mostly bias. Only the original
        network (TensorFlow's inception-2015-12-05) gives what papers call FID. torchvision's Inception-v3 has other
        weights and other pooling, so its distances are not comparable with published ones. Images that are no
        photographs (sprites, digits) are far from what either has learnt.

    Args:
        real: An ``(n, channels, height, width)`` floating tensor with values in [0, 1], or an iterable of batches of
            them, or of tuples whose first item is one.
        generated: Likewise, of any number.
        features: A callable from a batch of images to an ``(n, d)`` tensor. Or a file of weights that you have:
            those of ``torchvision.models.inception_v3`` (1,000 classes), or torch-fidelity's
            ``weights-inception-2015-12-05-6726825d.pth`` (the original network, 1,008 classes; needs
            ``pip install 'ppl-disent[generation]'``). Nothing is downloaded.
        batch_size: Of the batches that tensors are cut into.

    Returns:
        The distance. ``detail`` has its two parts, ``mean`` (of the squared difference of the means) and
        ``covariance``.

    Raises:
        ArgumentError: For images of another type, shape or range, fewer than two of them, or features that are not
            finite, of shape ``(n, d)``.
        DataError: For a file of weights that is missing or another, or where torch-fidelity is not installed.

    Example:
        >>> import torch
        >>> x = torch.rand(50, 1, 2, 2, generator=torch.Generator().manual_seed(0)) / 2
        >>> f"{fid(x, x + 0.5, features=lambda x: x.flatten(1)):.3f}"  # (1 / 2)^2 for each of 4 pixels
        '1.000'

    References:
        GANs Trained by a Two Time-Scale Update Rule Converge to a Local Nash Equilibrium (Heusel et al., 2017),
        equation 6, https://arxiv.org/abs/1706.08500
    """
    if callable(features):
        of, name = features, getattr(features, "__name__", type(features).__name__)
    elif isinstance(features, str | Path):
        of, name = inception(Path(features).expanduser())
    else:
        raise ArgumentError("features", got=features, expected="a callable, or the path of a file of weights")
    with torch.no_grad():
        moments = [
            _moments(which, of, batches(which, x, batch_size))
            for which, x in (("real", real), ("generated", generated))
        ]
    (n, mean_a, cov_a), (m, mean_b, cov_b) = moments
    if mean_a.shape != mean_b.shape:
        raise ArgumentError("features", got=f"{len(mean_a)} and {len(mean_b)} of them", expected="as many of both sets")
    mean, covariance = _parts(mean_a, cov_a, mean_b, cov_b)
    estimator = f"{len(mean_a)} features of {name}, n = {n} real and {m} generated"
    if min(n, m) <= len(mean_a):
        estimator += ", too few for covariances of full rank"
    return Score(mean + covariance, {}, {"mean": mean, "covariance": covariance}, estimator)


def _parts(mean_a: object, cov_a: object, mean_b: object, cov_b: object) -> tuple[float, float]:
    """What the means and what the covariances add to the distance."""
    a, b = (as_array(name, v).astype(np.float64) for name, v in (("mean_a", mean_a), ("mean_b", mean_b)))
    if a.ndim != 1 or not len(a) or b.shape != a.shape:
        raise ArgumentError("mean_a, mean_b", got=(a.shape, b.shape), expected="one shape, (d,)")
    left, right = (_factor(name, v, len(a)) for name, v in (("cov_a", cov_a), ("cov_b", cov_b)))
    overlap = np.linalg.svd(left.T @ right, compute_uv=False).sum()
    covariance = np.square(left).sum() + np.square(right).sum() - 2 * overlap
    return float(np.square(a - b).sum()), max(0.0, float(covariance))


def _factor(name: str, value: object, size: int) -> Array:
    """L with L L' = value."""
    cov = as_array(name, value).astype(np.float64)
    if cov.shape != (size, size):
        raise ArgumentError(name, got=cov.shape, expected=f"the shape ({size}, {size})")
    values, vectors = np.linalg.eigh(cov)
    tolerance = 1e-6 * max(abs(values[0]), abs(values[-1]))
    if abs(cov - cov.T).max() > tolerance or values[0] < -tolerance:
        got = (
            f"a matrix with eigenvalues from {values[0]:g} to {values[-1]:g}, asymmetric by {abs(cov - cov.T).max():g}"
        )
        raise ArgumentError(name, got=got, expected="a symmetric, positive semi-definite one")
    # An eigenvalue of 0 comes out as rounding of the largest, and its root would be 1e8 times too large.
    values = np.where(values > size * _EPS * values[-1], values, 0)
    return vectors * np.sqrt(values)


def _moments(name: str, features: Features, images: Iterator[Tensor]) -> tuple[int, Array, Array]:
    """The number of images, and mean and covariance (by n - 1) of their features."""
    n, mean, scatter = 0, torch.zeros(0), torch.zeros(0)
    for x in images:
        f = features(x)
        if not isinstance(f, Tensor) or f.ndim != 2 or len(f) != len(x) or not f.shape[1]:
            got = f"{tuple(f.shape)} for {len(x)} images" if isinstance(f, Tensor) else f
            raise ArgumentError("features", got=got, expected="an (n, d) tensor for n images")
        f = f.double()
        if not math.isfinite(f.sum().item()):
            raise ArgumentError("features", got=f"NaN or infinite features of {name} images", expected="finite ones")
        if not n:
            mean, scatter = f.new_zeros(f.shape[1]), f.new_zeros(f.shape[1], f.shape[1])
        # Chan's update: the mean is taken off before anything is squared.
        away = f.mean(0) - mean
        centred = f - f.mean(0)
        scatter += centred.T @ centred + torch.outer(away, away) * (n * len(f) / (n + len(f)))
        n += len(f)
        mean += away * (len(f) / n)
    if n < 2:
        raise ArgumentError(name, got=f"{n} image", expected="at least two")
    return n, mean.cpu().numpy(), (scatter / (n - 1)).cpu().numpy()
