# Copyright ppl-disent contributors.
# SPDX-License-Identifier: Apache-2.0
"""FactorVAE's metric: which latent varies least when one factor is held?"""

from __future__ import annotations

import numpy as np

from ppl_disent.metrics.bootstrap import check_bootstrap, with_interval
from ppl_disent.metrics.information import Array, Indices, varying
from ppl_disent.metrics.rows import Encode, Factored, Rows, check_counts, encode_drawn
from ppl_disent.metrics.score import Score


def factor_vae_score(
    encode: Encode,
    dataset: Factored,
    *,
    votes: int = 10_000,
    eval_votes: int = 5_000,
    batch_size: int = 64,
    variance_points: int = 10_000,
    threshold: float = 0.05,
    encode_batch: int = 512,
    bootstrap: int = 0,
    seed: int = 0,
) -> Score:
    """The FactorVAE score: images share the value of one factor; does the latent that varies least tell which factor?

    A vote: one of the K factors at random, one value of it, a batch of images that have this value and are random in
    all else; it counts for the latent with the least variance, each latent in units of its variance over the whole
    data. Latents whose standard deviation is below ``threshold`` have no vote. Every latent is then taken for the
    factor that gave it most of ``votes``; the score is the share of ``eval_votes`` fresh ones for which that is right.
    The counts are those of disentanglement_lib (evaluation/metrics/factor_vae.py and its study's configuration).

    The definition asks for 970,000 encodings; here an image that is drawn twice is encoded once, so ``encode`` must
    give the same code each time (the mean of q(z|x)).

    Pitfalls:
        *A high score is easy*: a random rotation of a perfect code keeps about 0.77, a code without one of five factors
        scores 0.8, noise 1 / K, collapsed latents only 0. The threshold is in the unit of the codes, made for latents
        with a prior of variance 1.

    Args:
        encode: From a batch of n images, on the data set's device, to their codes: an ``(n, L)`` tensor or array, or a
            distribution of batch shape ``(n,)`` and event shape ``(L,)``, of which the mean is taken.
        dataset: A data set whose ``factors`` are known; those with one value only are left out. Where it is not a full
            grid of factors, these have their frequencies in it.
        votes: Votes that say which factor a latent is about.
        eval_votes: Votes that are counted.
        batch_size: Images a vote.
        variance_points: Images, drawn at random, for the variance over the whole data.
        threshold: The least standard deviation of a latent that counts.
        encode_batch: Images handed to ``encode`` at once.
        bootstrap: Resamples, of those ``eval_votes``, for ``detail["interval"]``, see
            :mod:`ppl_disent.metrics.bootstrap`; 0 for none. Whom a latent is taken for stays as it is.
        seed: Of all draws.

    Returns:
        The accuracy, in [0, 1], with a standard error of at most ``0.5 / sqrt(eval_votes)``. ``detail`` has
        ``train_accuracy``; ``votes`` ``(K, L)``; ``active`` ``(L,)``, the latents that count; ``chance``, 1 / K; the
        ``factor_names``; and ``interval`` where it was asked for.

    Raises:
        ArgumentError: If fewer than two factors are known that vary, a count is not an integer of at least 2, or a code
            is NaN, infinite or of the wrong shape.

    Example:
        >>> import torch
        >>> from ppl_disent.data import Arrays
        >>> v = torch.cartesian_prod(torch.arange(3), torch.arange(4))
        >>> data = Arrays(v.float(), likelihood="gaussian", factors=v, factor_names=["a", "b"], factor_sizes=(3, 4))
        >>> f"{factor_vae_score(lambda x: x, data, votes=200, eval_votes=100):.2f}"
        '1.00'

    References:
        Disentangling by Factorising (Kim & Mnih, 2018), section 4, https://arxiv.org/abs/1802.05983; Challenging Common
        Assumptions in the Unsupervised Learning of Disentangled Representations (Locatello et al., 2019), whose counts
        these are, https://arxiv.org/abs/1811.12359.
    """
    check_counts(votes=votes, eval_votes=eval_votes, batch_size=batch_size, variance_points=variance_points)
    check_counts(encode_batch=encode_batch)
    check_bootstrap(bootstrap)
    rows, rng = Rows(dataset), np.random.default_rng(seed)
    width = len(rows.factors.names)
    fixed = rng.integers(width, size=votes + eval_votes)
    batches = rows.like(rng.integers(rows.points, size=len(fixed)), fixed, batch_size, rng)
    anywhere = rng.integers(rows.points, size=variance_points)
    everywhere, codes = encode_drawn(encode, dataset, [anywhere, batches], encode_batch)

    spread = everywhere.var(0, ddof=1)
    active = varying(everywhere) & (np.sqrt(spread) >= threshold)
    detail = {"active": active, "chance": 1 / width, "factor_names": rows.factors.names}
    how = f"{votes} + {eval_votes} votes of {batch_size}, threshold {threshold:g}, seed {seed}"
    right, learned = np.zeros(len(fixed), dtype=bool), np.zeros((width, len(active)), np.int64)
    if active.any():
        least = least_varying(codes, spread, active)
        np.add.at(learned, (fixed[:votes], least[:votes]), 1)
        right = learned.argmax(0)[least] == fixed
    detail |= {"train_accuracy": float(right[:votes].mean()), "votes": learned}
    counted = right[votes:]
    score = Score(float(counted.mean()), {}, detail, how)
    return with_interval(score, lambda some: float(counted[some].mean()), eval_votes, bootstrap=bootstrap, seed=seed)


def least_varying(codes: Array, spread: Array, active: Array) -> Indices:
    """The active latent with the least variance in units of ``spread`` ``(L,)`` in each ``(batch, L)`` of codes."""
    ratio = codes.var(-2, ddof=1)[..., active] / spread[active]
    return active.nonzero()[0][ratio.argmin(-1)]
