# Copyright ppl-disent contributors.
# SPDX-License-Identifier: Apache-2.0
"""CVAE-IF: a CVAE whose encoder does not see y, and an adversary that keeps y out of z."""

from __future__ import annotations

import math
from collections.abc import Sequence

from guides import Gaussian
from ppl_disent.adversary import Adversary
from ppl_disent.elbo import TermELBO
from ppl_disent.errors import ArgumentError
from ppl_disent.likelihood import likelihood as likelihood_of
from ppl_disent.method import Method, builder
from ppl_disent.methods.cvae import CVAE, Labels, encoder, require_sizes
from ppl_disent.methods.vae import networks
from ppl_disent.nn import MLP
from ppl_disent.optim import adam


@builder
def cvae_if(
    shape: Sequence[int],
    *,
    labels: int,
    gamma: float = 1.0,
    adversary: str = "cross_entropy",
    target: str = "uniform",
    exclusive: bool = False,
    adversary_steps: int = 1,
    adversary_lr: float = 1e-3,
    adversary_warmup: int = 0,
    adversary_hidden: Sequence[int] = (64, 64),
    latent_dim: int = 10,
    likelihood: str = "bernoulli",
    sigma: float = 1.0,
    learn_sigma: bool = False,
    network: str = "auto",
    lr: float = 1e-3,
) -> Method:
    """CVAE-IF, or CondVAE-info: ``p(z) p(x | z, y)``, q(z | x), and gamma times an adversary on z; batches ``(x, y)``.

    Source: Creswell et al., "Adversarial Information Factorization" (2017), https://arxiv.org/abs/1711.05175, without
    its GAN, as Klys et al., https://arxiv.org/abs/1812.06190, compare with it. With other labels y':
    ``q.decode(x, y', z=q.encode(x, y)["z"].mean)``.

    The cross-entropy has no upper bound while the adversary lags behind: watch ``adversary.z`` beside
    ``label_entropy.z``, which it exceeds only then.

    Args:
        shape: Shape of one x.
        labels: Number of labels k, values 0 and 1.
        gamma: Weight of the adversary's term; the default is that of ToniCreswell/attribute-cVAEGAN.
        adversary: ``"cross_entropy"``, ``"reversal"`` (the same at the same parameters), ``"entropy"`` or ``"none"``;
            see :class:`ppl_disent.Adversary`.
        target: ``"uniform"`` or ``"marginal"``, for the entropy.
        exclusive: The labels are classes, of which each datum has one.
        adversary_steps: Steps of the adversary for one of the generator.
        adversary_lr: Its learning rate.
        adversary_warmup: Steps at the beginning in which it trains and its term is zero.
        adversary_hidden: Widths of its hidden layers.
        latent_dim: Number of latent values.
        likelihood: As for :func:`vae`, like the four below.
        sigma: Standard deviation of a Gaussian likelihood.
        learn_sigma: Learn it.
        network: Which networks.
        lr: Learning rate of Adam.

    Raises:
        ArgumentError: For an argument out of its range.

    Example:
        >>> run = cvae_if((1, 8, 8), labels=1, gamma=1.0).fit(load("digits_bars"), steps=3, progress=False)
        >>> list(run.history.filter(regex="adversary|entropy"))
        ['extra.adversary', 'adversary.z', 'label_entropy.z']
    """
    require_sizes(labels=labels, latent_dim=latent_dim)
    encode, decode = encoder(shape, 2 * latent_dim, network), networks(tuple(shape), latent_dim + labels, network)[1]
    model = CVAE(decode, latent_dim, labels, likelihood_of(likelihood, sigma=sigma, learn_sigma=learn_sigma))
    terms = adversarial(
        latent_dim,
        labels,
        gamma=gamma,
        adversary=adversary,
        target=target,
        exclusive=exclusive,
        steps=adversary_steps,
        lr=adversary_lr,
        warmup=adversary_warmup,
        hidden=adversary_hidden,
    )
    door = Labels(labels, exclusive=exclusive)
    return Method("cvae_if", model, Gaussian(z=encode), TermELBO(terms=terms), callbacks=[door], optim=adam(lr))


def adversarial(
    latent_dim: int,
    labels: int,
    *,
    gamma: float,
    adversary: str,
    target: str,
    exclusive: bool,
    steps: int,
    lr: float,
    warmup: int,
    hidden: Sequence[int],
    weight: float = 1.0,
) -> dict[str, tuple[float, Adversary]]:
    """The terms of a builder's ``adversary=``: one named ``adversary`` on z, or none."""
    if not math.isfinite(gamma):
        raise ArgumentError("weight of the adversary", got=gamma, expected="a finite number")
    if adversary == "none":
        return {}
    if adversary not in ("entropy", "cross_entropy", "reversal"):
        expected = "'entropy', 'cross_entropy', 'reversal' or 'none'"
        raise ArgumentError("adversary", got=adversary, expected=expected)
    term = Adversary(
        MLP(latent_dim, labels, hidden=tuple(hidden)),
        labels,
        kind=adversary,
        target=target,
        exclusive=exclusive,
        steps=steps,
        lr=lr,
        warmup=warmup,
        weight=weight,
    )
    return {"adversary": (gamma, term)}
