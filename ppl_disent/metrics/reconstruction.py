# Copyright ppl-disent contributors.
# SPDX-License-Identifier: Apache-2.0
"""How far reconstructions are from their data, in units that can be compared."""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.distributions import Bernoulli, Distribution, Independent

from ppl_disent.errors import ArgumentError
from ppl_disent.metrics.information import moment
from ppl_disent.metrics.score import Score

# Pixels turned into float64 at a time.
_CHUNK = 2**22


def reconstruction_error(
    x: Tensor | npt.ArrayLike,
    x_hat: Tensor | npt.ArrayLike | Distribution,
    *,
    kind: Literal["bernoulli", "mse"] = "bernoulli",
) -> Score:
    """The reconstruction error of a data set: summed over the pixels of a datum, averaged over the data.

    ``"bernoulli"`` is the binary cross-entropy ``-sum_i [x_i log p_i + (1 - x_i) log(1 - p_i)]`` in nats per datum,
    the reconstruction loss of the ControlVAE and DynamicVAE papers (shj1987/DynamicVAE-CVPR2022,
    2D-sprites/solver_dynamic.py, ``reconstruction_loss``). ``"mse"`` is the squared error ``sum_i (x_i - x_hat_i)^2``,
    not halved; the mean over pixels that others call MSE is ``detail["per_pixel"]``.

    Pitfalls:
        The cross-entropy can reach 0 only where every x is 0 or 1: for grey values its least value is their entropy. A
        probability of exactly 0 or 1 that is wrong costs 100 nats, since logarithms are clamped at -100 as in
        ``torch.nn.functional.binary_cross_entropy``; single-precision probabilities become exactly 1 from a logit of 17
        on. A Bernoulli distribution is scored from its logits and has neither problem.

    Args:
        x: An ``(n, *shape)`` tensor or array; in [0, 1] for ``"bernoulli"``.
        x_hat: The reconstructions, of the same shape: means (in [0, 1] for ``"bernoulli"``), or a distribution as
            ``Posterior.reconstruct`` returns it, of which the mean (of a Bernoulli with ``"bernoulli"``, the logits) is
            taken.
        kind: ``"bernoulli"`` or ``"mse"``.

    Returns:
        The mean over data. ``detail`` has ``per_pixel``, the mean over data and pixels; ``per_datum``, an ``(n,)``
        array; and ``min``, ``max``, ``std`` of that array (the std divided by n, not n - 1).

    Raises:
        ArgumentError: If the shapes differ, there are no data, a value is NaN or infinite, lies outside [0, 1] with
            ``"bernoulli"``, or ``kind`` is unknown.

    Example:
        >>> import torch
        >>> f"{reconstruction_error(torch.ones(2, 4), torch.full((2, 4), 0.5)):.3f}"  # 4 ln 2 nats
        '2.773'
    """
    if kind not in ("bernoulli", "mse"):
        raise ArgumentError("kind", got=kind, expected='"bernoulli" or "mse"')
    logits = None
    if isinstance(x_hat, Distribution):
        base = x_hat
        while isinstance(base, Independent):
            base = base.base_dist
        if kind == "bernoulli" and isinstance(base, Bernoulli):
            logits = base.logits
        x_hat = logits if logits is not None else moment("x_hat", x_hat, "mean")
    data, guess = _tensor(x), _tensor(x_hat)
    if data.shape != guess.shape:
        raise ArgumentError("x, x_hat", got=(tuple(data.shape), tuple(guess.shape)), expected="the same shape")
    if data.ndim < 1 or data.numel() == 0:
        raise ArgumentError("x", got=tuple(data.shape), expected="at least one datum with at least one pixel")

    pixels = data.numel() // len(data)
    chunks = []
    for t, p in zip(*(each.split(max(1, _CHUNK // pixels)) for each in (data, guess.to(data.device)))):
        t, p = t.double(), p.double()
        bounded = kind == "bernoulli"
        _check("x", t, bounded)
        _check("x_hat", p, bounded and logits is None)
        if kind == "mse":
            error = (t - p).square()
        elif logits is not None:
            error = F.binary_cross_entropy_with_logits(p, t, reduction="none")
        else:
            error = F.binary_cross_entropy(p, t, reduction="none")
        chunks.append(error.reshape(len(t), -1).sum(1))
    each = torch.cat(chunks).cpu().numpy()
    value = float(each.mean())
    detail = {
        "per_pixel": value / pixels,
        "per_datum": each,
        "min": float(each.min()),
        "max": float(each.max()),
        "std": float(each.std()),
    }
    unit = "binary cross-entropy in nats" if kind == "bernoulli" else "squared error"
    return Score(value, {}, detail, f"{unit}, summed over {pixels} pixels, mean over n = {len(data)}")


def _tensor(value: object) -> Tensor:
    """A detached tensor; arrays are copied, since torch warns when it must share memory that it may not write to."""
    return value.detach() if isinstance(value, Tensor) else torch.tensor(np.asarray(value))


def _check(name: str, value: Tensor, bounded: bool) -> None:
    """Raises if a chunk holds a NaN or an infinity, or, if bounded, a value outside [0, 1]."""
    # A NaN makes both of them NaN.
    low, high = value.min().item(), value.max().item()
    if not (math.isfinite(low) and math.isfinite(high)) or (bounded and (low < 0 or high > 1)):
        expected = "values in [0, 1]" if bounded else "finite values"
        hint = 'For real-valued data use kind="mse".' if bounded else ""
        raise ArgumentError(name, got=f"values from {low:g} to {high:g}", expected=expected, hint=hint)
