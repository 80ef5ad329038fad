# Copyright ppl-disent contributors.
# SPDX-License-Identifier: Apache-2.0
"""Features of Inception-v3, from a file of weights."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from ppl_disent.errors import ArgumentError, DataError


def inception(path: Path) -> tuple[Callable[[Tensor], Tensor], str]:
    """The 2,048 pooled features of the network whose weights a file holds, and its name.

    The file is a state dict, of ``torchvision.models.inception_v3`` (1,000 classes) or of torch-fidelity's conversion
    of the original network (1,008 classes). For torchvision's network images are resized to 299 x 299 (bilinear, not
    aliased) and scaled to [-1, 1], as it was trained; the original gets them as bytes, and resizes them itself. Grey
    images count as three equal channels.

    Raises:
        DataError: For a file that is missing or is neither of them, or where torch-fidelity is not installed.
    """
    expected = "Expected weights of torchvision's inception_v3, or torch-fidelity's weights-inception-2015-12-05"
    if not path.is_file():
        raise DataError(f"{path}: no such file. {expected}; nothing is downloaded.")
    try:
        weights = torch.load(path, map_location="cpu", weights_only=True)
        if not isinstance(weights, dict):
            raise ValueError("no state dict")
        classes = len(weights["fc.weight"])
        if classes not in (1000, 1008):
            raise ValueError(f"{classes} classes")
        network = _original(path) if classes == 1008 else _torchvision(weights)
    except (RuntimeError, ValueError, KeyError, TypeError, EOFError, pickle.UnpicklingError) as error:
        if isinstance(error, DataError):
            raise
        # Not its message: torch's would have one try again with weights_only=False, which runs what is in the file.
        raise DataError(f"{path}: holds something else ({type(error).__name__}). {expected}.") from error
    original = classes == 1008

    def features(images: Tensor) -> Tensor:
        if images.shape[1] not in (1, 3):
            raise ArgumentError("images", got=tuple(images.shape), expected="1 or 3 channels")
        network.to(images.device)
        x = images.float().expand(-1, 3, -1, -1)
        if original:
            return network((255 * x).round().to(torch.uint8))[0]
        return network(2 * F.interpolate(x, (299, 299), mode="bilinear", antialias=True) - 1)

    return (
        features,
        "the original Inception (torch-fidelity)" if original else "torchvision's Inception-v3, not the original",
    )


def _torchvision(weights: dict[str, Tensor]) -> torch.nn.Module:
    from torchvision.models import inception_v3

    # Made without values, which would take seconds to draw and be thrown away.
    with torch.device("meta"):
        network = inception_v3(weights=None, init_weights=False, transform_input=False)
    network.load_state_dict(weights, assign=True)
    network.fc = torch.nn.Identity()
    return network.float().eval()


def _original(path: Path) -> torch.nn.Module:
    try:
        from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3
    except ImportError:
        message = "torch-fidelity, which knows this network, is not installed: pip install 'ppl-disent[generation]'."
        raise DataError(f"{path}: {message}") from None
    return FeatureExtractorInceptionV3("inception-v3-compat", ["2048"], feature_extractor_weights_path=str(path))
