# Copyright ppl-disent contributors.
# SPDX-License-Identifier: Apache-2.0
"""A small judge of images, for those who have no classifier of their own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ppl_disent.errors import ArgumentError
from ppl_disent.metrics.information import Array, as_array
from ppl_disent.metrics.labels import as_labels


@dataclass(frozen=True, eq=False)
class AttributeClassifier:
    """Logits of k binary attributes: call it with ``(n, *shape)`` images for an ``(n, k)`` tensor.

    Attributes:
        accuracy: A ``(k,)`` array, the share of right decisions on real images that were held out: what an edit that
            cannot be told from a real image would score.
        shape: The shape of one image.
    """

    accuracy: Array
    shape: tuple[int, ...]
    _net: Any
    _mean: Array
    _scale: float

    def __call__(self, images: Tensor | npt.ArrayLike) -> Tensor:
        x = _flat("images", images)
        if x.shape[1] != self._mean.size:
            raise ArgumentError("images", got=tuple(np.shape(images)), expected=f"images of shape {self.shape}")
        p = np.clip(self._net.predict_proba((x - self._mean) / self._scale), 1e-9, 1 - 1e-9)
        p = p[:, 1:] if len(self.accuracy) == 1 else p
        return torch.from_numpy(np.log(p / (1 - p)))


def attribute_classifier(
    x: Tensor | npt.ArrayLike, labels: Tensor | npt.ArrayLike, *, hidden: int = 128, seed: int = 0
) -> AttributeClassifier:
    """Trains a perceptron with one hidden layer to tell k binary attributes of real images.

    Meant for small images (digits in seconds); for faces hand a convolutional network of your own to
    :func:`attribute_transfer`. A judge is worth its ``accuracy``: below about 0.95 figures of transfer say more of the
    judge than of the edits.

    Args:
        x: Real images, an ``(N, *shape)`` tensor or array; the edits' originals are better not among them.
        labels: An ``(N, k)`` tensor or array of 0 and 1; ``(N,)`` is one attribute.
        hidden: Units of the hidden layer.
        seed: Of the initial weights and of the tenth of the images that is held out.

    Returns:
        A callable from images to ``(n, k)`` logits, with its held-out ``accuracy``.

    Raises:
        ArgumentError: If shapes do not fit, values are not finite, or there are fewer than 20 images.

    Example:
        >>> import numpy as np
        >>> y = np.arange(200) % 2
        >>> x = np.random.default_rng(0).random((200, 4, 4)) + y[:, None, None]
        >>> attribute_classifier(x, y).accuracy
        array([1.])
    """
    from sklearn.neural_network import MLPClassifier

    flat = _flat("x", x)
    y, _ = as_labels("labels", labels, len(flat), None)
    if len(flat) < 20:
        raise ArgumentError("x", got=f"{len(flat)} images", expected="at least 20")
    order = np.random.default_rng(seed).permutation(len(flat))
    held, kept = np.split(order, [len(flat) // 10])
    mean = flat[kept].mean(0)
    # One scale for all pixels: dim corners must not be blown up.
    scale = float(flat[kept].std()) or 1.0
    x_in = (flat - mean) / scale
    net = MLPClassifier((hidden,), learning_rate_init=2e-3, random_state=seed)
    # By hand, since MLPClassifier.fit warns where it stops before it has converged, as is meant here.
    target = y[:, 0] if y.shape[1] == 1 else y
    classes = np.arange(max(2, y.shape[1]))
    epochs = max(30, 30_000 // len(kept))
    for _ in range(epochs):
        net.partial_fit(x_in[kept], target[kept], classes=classes)
    right = net.predict(x_in[held]).reshape(len(held), -1) == y[held]
    return AttributeClassifier(right.mean(0), tuple(np.shape(x)[1:]), net, mean, scale)


def _flat(name: str, value: object) -> Array:
    """Images as an (n, pixels) float64 array."""
    array = as_array(name, value)
    if array.ndim < 2 or not array.size:
        raise ArgumentError(name, got=array.shape, expected="the shape (n, *image), n at least 1")
    return array.reshape(len(array), -1).astype(np.float64)
