# Copyright ppl-disent contributors.
# SPDX-License-Identifier: Apache-2.0
"""The variational auto-encoder: the program p(z) p(x | z), and the networks that all methods on it share."""

from __future__ import annotations

from collections.abc import Sequence

import pyro
import pyro.distributions as dist
from torch import Tensor, nn

from guides import Gaussian
from ppl_disent.elbo import TermELBO
from ppl_disent.errors import ArgumentError
from ppl_disent.likelihood import likelihood as likelihood_of
from ppl_disent.method import Method, builder
from ppl_disent.nn import MLP, ConvDecoder, ConvEncoder, RKMDecoder, RKMEncoder
from ppl_disent.optim import adam


class VAE(nn.Module):
    """``p(z) p(x | z)`` with a standard normal z.

    Args:
        decoder: Maps ``(batch, latent_dim)`` to what the likelihood takes, ``(batch, *x_shape)``.
        latent_dim: Number of latent values.
        likelihood: Maps the decoder's output to a distribution of batch shape ``(batch,)``.

    Example:
        >>> from ppl_disent.methods import VAE
        >>> model = VAE(MLP(4, (1, 8, 8)), 4, Bernoulli())
        >>> trace = pyro.poutine.trace(model).get_trace(torch.rand(5, 1, 8, 8))  # a plain Pyro program
        >>> trace.nodes["z"]["value"].shape
        torch.Size([5, 4])
    """

    def __init__(self, decoder: nn.Module, latent_dim: int, likelihood: nn.Module) -> None:
        super().__init__()
        self.decoder, self.latent_dim, self.likelihood = decoder, latent_dim, likelihood

    def forward(self, x: Tensor, *_: Tensor) -> Tensor:
        """Generates ``x``, ``(batch, *x_shape)``; further batch fields, such as labels, are not used."""
        with pyro.plate("data", len(x)):
            prior = dist.Normal(x.new_zeros(len(x), self.latent_dim), 1.0).to_event(1)
            z = pyro.sample("z", prior)
            return pyro.sample("x", self.likelihood(self.decoder(z)), obs=x)


@builder
def vae(
    shape: Sequence[int],
    *,
    latent_dim: int = 10,
    likelihood: str = "bernoulli",
    sigma: float = 1.0,
    learn_sigma: bool = False,
    network: str = "auto",
    lr: float = 1e-4,
) -> Method:
    """VAE: Kingma & Welling, "Auto-Encoding Variational Bayes" (2014), https://arxiv.org/abs/1312.6114.

    Args:
        shape: Shape of one x: ``(channels, side, side)``, or any for the MLP.
        latent_dim: Number of latent values.
        likelihood: ``"bernoulli"`` (grey values in [0, 1] allowed) or ``"gaussian"``.
        sigma: Standard deviation of the Gaussian likelihood, in units of x.
        learn_sigma: Learn sigma.
        network: ``"conv"``, that of ControlVAE and DynamicVAE; ``"burgess"``, that of Burgess et al.; ``"rkm"``,
            St-RKM's; ``"mlp"``; ``"auto"``, conv for square images of 28 or a power of two of at least 16 pixels,
            else mlp.
        lr: Learning rate of Adam. The other defaults here, this one too, are of shj1987/DynamicVAE-CVPR2022.

    Raises:
        ArgumentError: For an argument out of its range.

    Example:
        >>> method = vae((1, 8, 8), latent_dim=4)
        >>> run = method.fit(load("digits"), steps=3, progress=False)
        >>> run.posterior.sample(5).shape
        torch.Size([5, 1, 8, 8])
    """
    if not isinstance(latent_dim, int) or latent_dim < 1:
        raise ArgumentError("latent_dim", got=latent_dim, expected="an integer of at least 1")
    encoder, decoder = networks(tuple(shape), latent_dim, network)
    model = VAE(decoder, latent_dim, likelihood_of(likelihood, sigma=sigma, learn_sigma=learn_sigma))
    return Method("vae", model, Gaussian(z=encoder), TermELBO(), optim=adam(lr))


def networks(
    shape: tuple[int, ...], latent_dim: int, network: str, outputs: int | None = None
) -> tuple[nn.Module, nn.Module]:
    """Encoder, to means and log variances or as many ``outputs``, and decoder of the networks of :func:`vae`."""
    outputs = 2 * latent_dim if outputs is None else outputs
    square = len(shape) == 3 and shape[1] == shape[2]
    if network == "auto":
        side = shape[1] if square else 0
        network = "conv" if side == 28 or (side >= 16 and side & (side - 1) == 0) else "mlp"
    if network == "conv":
        return ConvEncoder(shape, outputs), ConvDecoder(latent_dim, shape)
    if network == "burgess":
        channels, hidden = (32, 32, 32, 32), (256, 256)
        return (
            ConvEncoder(shape, outputs, channels=channels, hidden=hidden),
            ConvDecoder(latent_dim, shape, channels=channels, hidden=hidden, top="linear"),
        )
    if network == "rkm":
        return RKMEncoder(shape, outputs), RKMDecoder(latent_dim, shape)
    if network == "mlp":
        return MLP(shape, outputs), MLP(latent_dim, shape)
    raise ArgumentError("network", got=network, expected="'auto', 'conv', 'burgess', 'rkm' or 'mlp'")
