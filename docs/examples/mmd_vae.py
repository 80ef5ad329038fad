# Copyright ppl-disent contributors.
# SPDX-License-Identifier: Apache-2.0
"""MMD-VAE: q(z) is drawn to the prior as a whole, not each q(z | x)."""

from collections.abc import Sequence

from torch import Tensor

from ppl_disent import Method, Step, TermELBO, builder, vae


class MMD:
    """The squared maximum mean discrepancy of q(z) and p(z).

    From a batch of codes and as many draws of the prior, as
    ShengjiaZhao/MMD-Variational-Autoencoder, mmd_vae.py, has it.
    """

    def __init__(self, site: str = "z") -> None:
        self.site = site
        self.settings = {"site": site}  # a run is resumed only with the same

    def __call__(self, step: Step) -> Tensor:
        z, p = step[self.site], step.model_trace.nodes[self.site]["fn"].sample()
        own = kernel(z, z).mean() + kernel(p, p).mean()
        return own - 2 * kernel(z, p).mean()


def kernel(a: Tensor, b: Tensor) -> Tensor:
    """``exp(-|a_i - b_j|^2 / d^2)`` of ``(n, d)`` and ``(m, d)`` tensors."""
    return (-(a[:, None] - b).square().sum(2) / a.shape[1] ** 2).exp()


@builder
def mmd_vae(
    shape: Sequence[int],
    *,
    alpha: float = 1.0,
    lambda_mmd: float = 1000.0,
    latent_dim: int = 10,
    lr: float = 1e-3,
) -> Method:
    """InfoVAE: Zhao et al. (2017), https://arxiv.org/abs/1706.02262:
    ``-log p(x | z) + (1 - alpha) KL + (alpha + lambda - 1) MMD``.

    Args:
        shape: Shape of one x.
        alpha: 1 leaves the KL of each datum out, 0 keeps all of it.
        lambda_mmd: An MMD is at most 2, a reconstruction some hundred nats.
        latent_dim: Number of latent values.
        lr: Learning rate of Adam.
    """
    method = vae(shape, latent_dim=latent_dim, lr=lr)
    terms = {"mmd": (alpha + lambda_mmd - 1, MMD())}
    elbo = TermELBO(kl_scale={"z": 1 - alpha}, terms=terms)
    return Method("mmd_vae", method.model, method.guide, elbo, optim=method.optim)
