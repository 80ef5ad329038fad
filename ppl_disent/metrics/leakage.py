# Copyright ppl-disent contributors.
# SPDX-License-Identifier: Apache-2.0
"""What a code knows of binary labels that it should not know."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.distributions import Distribution

from ppl_disent.errors import ArgumentError
from ppl_disent.metrics.information import Array, Indices, as_codes, entropy
from ppl_disent.metrics.labels import as_labels
from ppl_disent.metrics.score import Score

# Points to learn from, to stop at and to set the confidence, and to report on.
_SHARES = (0.5, 0.2, 0.3)
_EPOCHS, _PATIENCE = 100, 8
_WIDTHS = (64, 64)
# Inverse of the penalty on the slope: little enough to leave separable labels separable, enough to converge.
_TRUST = 100.0


def latent_leakage(
    codes: Tensor | npt.ArrayLike | Distribution,
    labels: Tensor | npt.ArrayLike,
    *,
    probe: Literal["mlp", "boosting"] = "mlp",
    points: int | None = 20_000,
    seed: int = 0,
    label_names: Sequence[str] | None = None,
) -> Score:
    """The information on each label that a fresh probe finds in a code, on points that it has not seen: H(Y) - CE.

    CE is the probe's cross-entropy in nats and H(Y) the entropy of the label's frequency, both on the same held-out
    three tenths; the difference is a lower bound of I(Y; Z), up to the error of the sample, and 0 for a code that
    knows nothing. It is reported as it comes out, so an innocent code may score a little below 0. Half of the points
    train the probe, a fifth says when it has learned enough and sets its confidence (a logistic regression on its
    logit), so that a probe which has found nothing falls back to the base rate. Each label has a probe of its own. On
    5,000 points innocent codes scored within 0.005 nats of 0, Gaussian classes within 0.02 of the exact figure.

    Pitfalls:
        *A code without information leaks nothing*: beside this, report the KL of the site (I(Y; Z) is at most its mean
        where p(z) does not depend on y, so a leak above it is an error of the estimate), the reconstruction, and
        whether z still predicts the other factors. Never use the run's own adversary as the probe: it is what the code
        has learned to fool. Means know more than draws: a posterior mean can tell labels apart that its noise hides.
        Accuracy says little on rare labels, hence the balanced one, at the threshold P(y = 1).

    Args:
        codes: An ``(N, L)`` tensor or array of any real type, on any device; or a distribution with batch shape
            ``(N,)`` and event shape ``(L,)``, of which one draw each is taken.
        labels: An ``(N, k)`` tensor or array of 0 and 1; ``(N,)`` is one label.
        probe: ``"mlp"``, two layers of 64 units, for codes in which nearby points are alike; ``"boosting"``, histogram
            gradient boosting, for thresholds and for coordinates of unlike scales. Codes are standardised by their
            quartiles and cut off at 10 standard deviations.
        points: At most so many points are used, drawn at random; None uses all.
        seed: Of the split, the probe and the draws; the same seed gives the same score.
        label_names: k names, the keys of ``per_factor``; by default ``y0``, ``y1`` and so on.

    Returns:
        The mean over the labels of the leaked nats, ``per_factor`` those of each. ``detail`` has ``balanced_accuracy``
        (0.5 by chance), ``label_entropy`` (H(Y)), ``cross_entropy`` and the ``standard_error`` of their difference
        (from the held-out points, one split and one probe), ``(k,)`` arrays, the latter three in nats.

    Raises:
        ArgumentError: If shapes do not fit, a code is NaN or infinite, a label is not 0 or 1 or has fewer than ten
            points of either kind, or for an unknown probe.

    Example:
        >>> import numpy as np
        >>> y = np.arange(1000) % 2
        >>> z = np.random.default_rng(0).normal(size=(1000, 1)) + 20 * y[:, None]
        >>> f"{latent_leakage(z, y):.2f}"  # ln 2 nats
        '0.69'

    References:
        Learning Latent Subspaces in Variational Autoencoders (Klys et al., 2018), whose aim this measures,
        https://arxiv.org/abs/1812.06190; the bound: The IM Algorithm (Barber & Agakov, 2003).
    """
    if probe not in ("mlp", "boosting"):
        raise ArgumentError("probe", got=probe, expected='"mlp" or "boosting"')
    z = as_codes("codes", _draw(codes, seed) if isinstance(codes, Distribution) else codes).astype(np.float64)
    y, names = as_labels("labels", labels, len(z), label_names)
    rng = np.random.default_rng(seed)
    if points is not None and len(z) > points:
        kept = rng.permutation(len(z))[:points]
        z, y = z[kept], y[kept]
    found = [_probe(z, column, name, probe, rng) for name, column in zip(names, y.T)]
    accuracy, uncertainty, cross_entropy, error = np.array(found).T
    leaked = uncertainty - cross_entropy
    return Score(
        float(leaked.mean()),
        dict(zip(names, leaked.tolist())),
        {
            "balanced_accuracy": accuracy,
            "label_entropy": uncertainty,
            "cross_entropy": cross_entropy,
            "standard_error": error,
        },
        f"H(Y) - CE of a held-out {probe} probe in nats, N = {len(z)}, seed {seed}",
    )


def _probe(z: Array, y: Indices, name: str, probe: str, rng: np.random.Generator) -> list[float]:
    """Balanced accuracy, H(Y), cross-entropy and standard error of a fresh probe, on the points held out for them."""
    if min(count := np.bincount(y, minlength=2)) < 10:
        got = f"{name!r}, 0 for {count[0]} points and 1 for {count[1]}"
        raise ArgumentError("labels", got=got, expected="at least ten of each")
    train, stop, test = _split(y, rng)
    # By quartiles, and cut off: one outlier would squeeze all other points into one.
    low, middle, high = np.quantile(z[train], (0.25, 0.5, 0.75), axis=0)
    spread = np.where(high > low, (high - low) / 1.349, z[train].std(0))
    z = np.clip((z - middle) / np.where(spread > 0, spread, 1.0), -10, 10)
    seed = int(rng.integers(2**31))
    logit = (_mlp if probe == "mlp" else _boosting)(z, y, train, stop, seed)
    logit = _calibrated(logit, y, stop)
    # log(1 + e^x) - y x, without overflow.
    loss = (np.logaddexp(0, logit) - y * logit)[test]
    rate = y[test].mean()
    gain = -np.log(np.where(y[test] == 1, rate, 1 - rate)) - loss
    guess = logit[test] > np.log(y[train].mean() / (1 - y[train].mean()))
    accuracy = (guess[y[test] == 1].mean() + (~guess[y[test] == 0]).mean()) / 2
    error = gain.std() / np.sqrt(len(test))
    return [float(accuracy), float(entropy(np.array([rate, 1 - rate]))), float(loss.mean()), float(error)]


def _split(y: Indices, rng: np.random.Generator) -> list[Indices]:
    """Positions to train on, to stop at and to test on, with the same share of each label in all."""
    bounds = np.cumsum(_SHARES)[:-1]
    orders = [rng.permutation((y == value).nonzero()[0]) for value in (0, 1)]
    parts = zip(*(np.split(order, np.round(bounds * len(order)).astype(int)) for order in orders))
    return [rng.permutation(np.concatenate(part)) for part in parts]


def _mlp(z: Array, y: Indices, train: Indices, stop: Indices, seed: int) -> Array:
    """The logits of a perceptron at its epoch of least cross-entropy (scikit-learn would stop by accuracy)."""
    from sklearn.neural_network import MLPClassifier

    net = MLPClassifier(_WIDTHS, learning_rate_init=2e-3, batch_size=min(128, len(train)), random_state=seed)
    best, least, since = np.zeros(len(z)), np.inf, 0
    for _ in range(_EPOCHS):
        net.partial_fit(z[train], y[train], classes=[0, 1])
        logit = _logit(net, z)
        loss = (np.logaddexp(0, logit) - y * logit)[stop].mean()
        best, least, since = (logit, loss, 0) if loss < least else (best, least, since + 1)
        if since >= _PATIENCE:
            break
    return best


def _boosting(z: Array, y: Indices, train: Indices, stop: Indices, seed: int) -> Array:
    """The logits of boosted trees, as many as have the least cross-entropy."""
    from sklearn.ensemble import HistGradientBoostingClassifier

    trees = HistGradientBoostingClassifier(
        learning_rate=0.05, max_leaf_nodes=15, early_stopping=False, random_state=seed
    )
    staged = np.stack([f.reshape(len(z)) for f in trees.fit(z[train], y[train]).staged_decision_function(z)])
    losses = (np.logaddexp(0, staged) - y * staged)[:, stop].mean(axis=1)
    return staged[losses.argmin()]


def _calibrated(logit: Array, y: Indices, stop: Indices) -> Array:
    """The logits with the slope and the intercept that suit the points ``stop`` best."""
    from sklearn.linear_model import LogisticRegression

    scale = logit[stop].std()
    feature = (logit / (scale if scale > 0 else 1.0))[:, None]
    return LogisticRegression(C=_TRUST).fit(feature[stop], y[stop]).decision_function(feature)


def _logit(net: Any, z: Array) -> Array:
    p = np.clip(net.predict_proba(z)[:, 1], 1e-9, 1 - 1e-9)
    return np.log(p / (1 - p))


def _draw(distribution: Distribution, seed: int) -> Tensor:
    """One draw of each point; the global random state is left as it was."""
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())), torch.no_grad():
        torch.manual_seed(seed)
        return distribution.sample()
