# Copyright ppl-disent contributors.
# SPDX-License-Identifier: Apache-2.0
"""Handwritten digits: the 1,797 small real scans that come with scikit-learn."""

from __future__ import annotations

import torch

from ppl_disent.data.dataset import Arrays, Dataset


def digits() -> Dataset:
    """8 x 8 scans of handwritten digits; nothing is downloaded.

    Returns:
        1,797 images of shape ``(1, 8, 8)`` with 17 grey levels in [0, 1], likelihood ``"bernoulli"``. The one factor,
        ``digit``, is the figure that was written.

    References:
        Optical Recognition of Handwritten Digits (Alpaydin & Kaynak, 1998)
        https://archive.ics.uci.edu/ml/datasets/Optical+Recognition+of+Handwritten+Digits

    Example:
        >>> data = load("digits")
        >>> data.factors[:6, 0]
        tensor([0, 1, 2, 3, 4, 5])
    """
    from sklearn.datasets import load_digits

    scans = load_digits()
    return Arrays(
        torch.from_numpy(scans.images).float().div(16).unsqueeze(1),
        likelihood="bernoulli",
        factors=torch.from_numpy(scans.target).long().unsqueeze(1),
        factor_names=("digit",),
        factor_sizes=(10,),
    )
