# Copyright ppl-disent contributors.
# SPDX-License-Identifier: Apache-2.0
"""beta-VAE's metric: can a linear classifier tell which factor two images share?"""

from __future__ import annotations

import numpy as np

from ppl_disent.metrics.bootstrap import check_bootstrap, with_interval
from ppl_disent.metrics.rows import Encode, Factored, Rows, check_counts, encode_drawn
from ppl_disent.metrics.score import Score


def beta_vae_score(
    encode: Encode,
    dataset: Factored,
    *,
    points: int = 10_000,
    eval_points: int = 5_000,
    batch_size: int = 64,
    encode_batch: int = 512,
    bootstrap: int = 0,
    seed: int = 0,
) -> Score:
    """The beta-VAE score: pairs of images share the value of one factor; can a linear classifier tell which?

    A point: one of the K factors at random; ``batch_size`` pairs of images, the two of a pair alike in this factor and
    random in all else; the feature is the mean of ``|z_1 - z_2|`` over the pairs, for each latent. A logistic
    regression learns the factor from ``points`` features; the score is its accuracy on ``eval_points`` fresh ones. The
    counts, and scikit-learn's regression with its default penalty, are those of disentanglement_lib
    (evaluation/metrics/beta_vae.py and its study's configuration).

    The definition asks for 1,920,000 encodings; here an image that is drawn twice is encoded once, so ``encode`` must
    give the same code each time (the mean of q(z|x)).

    Pitfalls:
        *A high score is easy*: K - 1 factors known are enough for 1, since the absence of the others tells the last;
        linear mixtures are tolerated; chance is 1 / K, not 0. The penalty is not in the unit of the codes: codes scaled
        down score less.

    Args:
        encode: As for :func:`factor_vae_score`.
        dataset: As for :func:`factor_vae_score`.
        points: Features to learn from.
        eval_points: Features to judge.
        batch_size: Pairs a feature.
        encode_batch: Images handed to ``encode`` at once.
        bootstrap: Resamples, of those ``eval_points``, for ``detail["interval"]``, see
            :mod:`ppl_disent.metrics.bootstrap`; 0 for none. The classifier stays as it is.
        seed: Of all draws.

    Returns:
        The accuracy, in [0, 1], with a standard error of at most ``0.5 / sqrt(eval_points)``. ``detail`` has
        ``train_accuracy``; ``weights`` ``(K, L)`` (``(1, L)`` for two factors); ``chance``, 1 / K; the
        ``factor_names``; and ``interval`` where it was asked for.

    Raises:
        ArgumentError: As for :func:`factor_vae_score`.

    Example:
        >>> import torch
        >>> from ppl_disent.data import Arrays
        >>> v = torch.cartesian_prod(torch.arange(3), torch.arange(4))
        >>> data = Arrays(v.float(), likelihood="gaussian", factors=v, factor_names=["a", "b"], factor_sizes=(3, 4))
        >>> f"{beta_vae_score(lambda x: x, data, points=200, eval_points=100):.2f}"
        '1.00'

    References:
        beta-VAE: Learning Basic Visual Concepts with a Constrained Variational Framework (Higgins et al., 2017),
        section 3, https://openreview.net/forum?id=Sy2fzU9gl; Challenging Common Assumptions in the Unsupervised
        Learning of Disentangled Representations (Locatello et al., 2019), whose counts these are,
        https://arxiv.org/abs/1811.12359.
    """
    from sklearn.linear_model import LogisticRegression

    check_counts(points=points, eval_points=eval_points, batch_size=batch_size, encode_batch=encode_batch)
    check_bootstrap(bootstrap)
    rows, rng = Rows(dataset), np.random.default_rng(seed)
    fixed = rng.integers(len(rows.factors.names), size=points + eval_points)
    first = rng.integers(rows.points, size=(len(fixed), batch_size))
    second = rows.like(first.ravel(), fixed.repeat(batch_size), 1, rng).reshape(first.shape)
    one, other = encode_drawn(encode, dataset, [first, second], encode_batch)
    feature = np.abs(one - other).mean(1)
    known = np.unique(fixed[:points])
    if len(known) < 2:  # possible only with a handful of points
        guess, weights = np.full(len(fixed), known[0]), np.zeros((1, feature.shape[1]))
    else:
        model = LogisticRegression(max_iter=1000).fit(feature[:points], fixed[:points])
        guess, weights = model.predict(feature), model.coef_
    right = guess == fixed
    detail = {
        "train_accuracy": float(right[:points].mean()),
        "weights": weights,
        "chance": 1 / len(rows.factors.names),
        "factor_names": rows.factors.names,
    }
    how = f"logistic regression on {points} + {eval_points} features of {batch_size} pairs, seed {seed}"
    counted = right[points:]
    score = Score(float(counted.mean()), {}, detail, how)
    return with_interval(score, lambda some: float(counted[some].mean()), eval_points, bootstrap=bootstrap, seed=seed)
