# Copyright ppl-disent contributors.
# SPDX-License-Identifier: Apache-2.0
"""St-RKM: an auto-encoder through a subspace of its feature space, with PCA's loss, the subspace on a manifold."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor, nn

from guides.stiefel import Span, Stiefel
from ppl_disent.batches import Data, in_order
from ppl_disent.elbo import Step, TermELBO
from ppl_disent.errors import ArgumentError
from ppl_disent.method import Method, builder
from ppl_disent.methods.principal import principal
from ppl_disent.methods.vae import networks
from ppl_disent.nn import RKMDecoder, RKMEncoder
from ppl_disent.optim import adam

if TYPE_CHECKING:
    from ppl_disent.run import Run
    from ppl_disent.svi import SVI

VARIANTS = ("deterministic", "noisy", "split")


class StRKM(nn.Module):
    """``p(h) p(x | U h)``: both Gaussian, x with one standard deviation for all its values.

    Training has the scales 1. After it, in evaluation mode, p(h) has the scales of the data's codes and p(x | h) that
    of the reconstructions, which a callback of the method sets: this is the model to sample from.

    Args:
        decoder: Maps features ``(batch, l)`` to the mean of x, ``(batch, *x_shape)``.
        span: The subspace, of the guide.

    Example:
        >>> from guides import Span
        >>> from ppl_disent import manifold
        >>> from ppl_disent.methods import StRKM
        >>> StRKM(MLP(8, (1, 8, 8)), Span(manifold.stiefel(8, 3))).decode(torch.zeros(5, 3)).shape
        torch.Size([5, 1, 8, 8])
    """

    scale: Tensor
    x_scale: Tensor

    def __init__(self, decoder: nn.Module, span: Span) -> None:
        super().__init__()
        self.decoder, self.span = decoder, span
        self.register_buffer("scale", torch.ones(span.U.shape[1], dtype=span.U.dtype))
        self.register_buffer("x_scale", torch.ones((), dtype=span.U.dtype))

    def decode(self, h: Tensor) -> Tensor:
        """The mean of x, ``(batch, *x_shape)``, for coordinates ``(batch, m)``."""
        mean: Tensor = self.decoder(self.span(h))
        return mean

    def forward(self, x: Tensor, *_: Tensor) -> Tensor:
        """Generates ``x``, ``(batch, *x_shape)``; further batch fields, such as labels, are not used."""
        ones = self.training
        scale, x_scale = (torch.ones_like(s) if ones else s for s in (self.scale, self.x_scale))
        with pyro.plate("data", len(x)):
            h = pyro.sample("h", dist.Normal(torch.zeros_like(scale), scale).expand([len(x), len(scale)]).to_event(1))
            mean = self.decode(h)
            return pyro.sample("x", dist.Normal(mean, x_scale.expand_as(mean)).to_event(mean.dim() - 1), obs=x)


def pca_residual(step: Step) -> Tensor:
    """PCA's loss in feature space, the mean of ``||phi - U U' phi||^2``; :class:`guides.Stiefel` returns its inside.

    Example:
        >>> method = st_rkm((1, 8, 8), latent_dim=3, feature_dim=8)
        >>> list(method.elbo.terms)
        ['pca']
        >>> step = method.elbo.evaluate(method.model, method.guide, torch.rand(5, 1, 8, 8))
        >>> bool(step.extra["pca"] >= 0)
        True
    """
    residual: Tensor = step["residual"]
    return residual.square().sum(1).mean()


class Split:
    """The second half of the split loss: half the mean of ``||decode(h) - decode(h + noise eps)||^2``, eps normal.

    It makes the decoder smooth along U without asking it to rebuild x from noisy codes.

    Args:
        model: With ``decode``.
        noise: In units of h.
    """

    def __init__(self, model: StRKM, noise: float) -> None:
        self.model, self.noise = model, noise

    def __call__(self, step: Step) -> Tensor:
        h = step["coordinates"]
        assert step.model_trace is not None
        clean, noisy = step.model_trace.nodes["x"]["fn"].mean, self.model.decode(h + self.noise * torch.randn_like(h))
        return 0.5 * (clean - noisy).square().flatten(1).sum(1).mean()


class Subspace:
    """A callback: writes where the subspace is while it is trained, and settles its basis afterwards.

    The history gets ``travel.U``, ``||(I - U0 U0') U||_F``, the way from where it began, 0 for the same span;
    ``orthonormality.U``, ``||U'U - I||_F``; and ``spectrum.h.0`` and so on, the variances of the last batch's codes
    along their principal directions.

    Args:
        model: What is settled: the basis and the scales of p(h) and p(x | h).
        guide: What is settled: the mean of the features.
        rotation: As for :func:`ppl_disent.methods.principal.principal`.

    Example:
        >>> method = st_rkm((1, 8, 8), latent_dim=2, feature_dim=8)
        >>> run = method.fit(load("digits"), steps=3, progress=False)
        >>> list(run.history.filter(regex="U|spectrum"))
        ['travel.U', 'orthonormality.U', 'spectrum.h.0', 'spectrum.h.1']
    """

    def __init__(self, model: StRKM, guide: Stiefel, *, rotation: str = "in_span") -> None:
        if rotation not in ("in_span", "official"):
            raise ArgumentError("rotation", got=rotation, expected="'in_span' or 'official'")
        self.model, self.guide, self.rotation = model, guide, rotation
        self.settings = {"rotation": rotation}
        self._start, self._codes = guide.span.U.detach().clone(), torch.zeros(1, guide.span.U.shape[1])

    def before_fit(self, svi: SVI, data: object) -> None:
        """Moves what is remembered to the device."""
        self._start = self._start.to(self.guide.span.U.device)

    def after_step(self, svi: SVI, step: Step) -> None:
        """Remembers the codes."""
        self._codes = step["coordinates"].detach()

    def record(self) -> dict[str, Tensor]:
        """Travel, orthonormality and spectrum."""
        from ppl_disent.manifold import orthonormality_error

        u = self.guide.span.U.detach()
        travel = (u - self._start @ (self._start.mT @ u)).norm()
        covariance = self._codes.mT @ self._codes / len(self._codes)
        spectrum = torch.linalg.eigvalsh(covariance).flip(0)
        named = {f"spectrum.h.{k}": value for k, value in enumerate(spectrum)}
        return {"travel.U": travel, "orthonormality.U": orthonormality_error(u)} | named

    def state_dict(self) -> dict[str, Tensor]:
        """Where the subspace began."""
        return {"start": self._start}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Restores ``state_dict()``."""
        self._start = state["start"].to(self._start.device)

    def after_fit(self, run: Run, data: Data) -> None:
        """Passes over the data twice: for the features' mean and directions, and for the error of reconstructions."""
        model, guide, device = self.model, self.guide, self.guide.span.U.device
        modes = [(module, module.training) for module in (*model.modules(), *guide.modules())]
        try:
            model.eval(), guide.eval()
            found = principal(guide.encoder, guide.span.U, data, rotation=self.rotation, device=device)
            guide.mean.copy_(found.mean)
            guide.span.settle(found.basis.to(guide.mean))
            model.scale.copy_((found.variance + guide.noise**2).sqrt())
            total, count = torch.zeros((), dtype=torch.float64, device=device), 0
            with torch.no_grad():
                for x, *_ in in_order(data, 1000, device):
                    mean = model.decode(guide.features(x) @ guide.span.matrix)
                    total += (x - mean).double().square().sum()
                    count += x.numel()
            # An exact reconstruction has no Gaussian density.
            model.x_scale.copy_((total / count).sqrt().clamp(min=1e-6))
        finally:
            for module, training in modes:
                module.training = training


@builder
def st_rkm(
    shape: Sequence[int],
    *,
    latent_dim: int = 10,
    feature_dim: int = 50,
    variant: str = "deterministic",
    noise: float = 1e-3,
    lik_scale: float = 1.0,
    rotation: str = "in_span",
    network: str = "auto",
    capacity: int = 64,
    hidden: int = 256,
    lr: float = 2e-4,
    manifold_optim: str = "cayley_adam",
    manifold_lr: float = 1e-4,
) -> Method:
    """St-RKM: Pandey et al., "Disentangled Representation Learning and Generation with Manifold Optimization" (2022),
    https://arxiv.org/abs/2006.07046.

    Minimises ``lik_scale / 2 ||x - psi(U h)||^2 + ||phi - U U' phi||^2`` per datum, up to a constant, with phi the
    encoder's features less their mean over the batch and h = U' phi, over both networks and over U, whose columns are
    orthonormal. The defaults are those of EigenPandey/Stiefel_Restricted_Kernel_Machine.

    After training h is expressed in its principal directions, with p(h) = N(0, diag(variances)): the loss alone does
    not tell one rotation of U from another. In evaluation q(h | x) has the ``noise`` for every variant.

    At the default ``manifold_lr`` U moves by about 1e-4 a step: in short runs the encoder goes to U rather than U to
    the features. See ``travel.U`` in the history.

    Args:
        shape: Shape of one x; images in [0, 1].
        latent_dim: m, number of coordinates of h.
        feature_dim: l, number of features, at least m.
        variant: ``"deterministic"``; ``"noisy"``, h with noise; ``"split"``, the deterministic loss and half the
            squared distance of what is decoded with noise from what is decoded without.
        noise: Its standard deviation, in units of h.
        lik_scale: ``c_accu`` of the authors' code, twice the paper's lambda.
        rotation: Of the final directions: ``"in_span"``, those within the span of U; ``"official"``, as the authors'
            code, those of most variance in all of feature space, which the decoder may not have seen.
        network: ``"rkm"``, that of the authors' code; those of :func:`vae`; ``"auto"``, rkm for square images of at
            least 16 pixels, else mlp.
        capacity: Channels of the first convolution of rkm.
        hidden: Width of its first linear layer beside the convolutions.
        lr: Learning rate of Adam, for the networks.
        manifold_optim: ``"cayley_adam"``, as the authors' code; ``"cayley"``, exact; ``"riemannian_adam"``, geoopt's.
        manifold_lr: Its learning rate, for U.

    Raises:
        ArgumentError: For an argument out of its range.

    Example:
        >>> method = st_rkm((1, 8, 8), latent_dim=3, feature_dim=8)
        >>> run = method.fit(load("digits"), steps=3, progress=False)
        >>> run.history["orthonormality.U"].item() < 1e-5
        True
        >>> run.posterior.traverse("h", 0, [-2.0, 0.0, 2.0], units="sd").shape  # along the first principal direction
        torch.Size([1, 3, 1, 8, 8])
    """
    from ppl_disent import manifold

    if variant not in VARIANTS:
        raise ArgumentError("variant", got=variant, expected=f"one of {VARIANTS}")
    if not isinstance(latent_dim, int) or not 1 <= latent_dim <= feature_dim:
        raise ArgumentError("latent_dim", got=latent_dim, expected=f"an integer from 1 to feature_dim = {feature_dim}")
    if not 0 < noise < math.inf:
        raise ArgumentError("noise", got=noise, expected="a positive number")
    U = manifold.stiefel(feature_dim, latent_dim)
    encoder, decoder = _networks(tuple(shape), feature_dim, network, capacity, hidden)
    guide = Stiefel(encoder, U, noise=noise, deterministic=variant != "noisy")
    model = StRKM(decoder, guide.span)
    terms: dict[str, Any] = {"pca": (1.0, pca_residual)}
    if variant == "split":
        terms["split"] = (lik_scale, Split(model, noise))
    elbo = TermELBO(kl_scale={"h": 0.0}, lik_scale={"x": lik_scale}, terms=terms)
    return Method(
        "st_rkm",
        model,
        guide,
        elbo,
        callbacks=[Subspace(model, guide, rotation=rotation)],
        optim=adam(lr),
        manifold_optim=manifold.optimizer(manifold_optim, manifold_lr),
    )


def _networks(
    shape: tuple[int, ...], features: int, network: str, capacity: int, hidden: int
) -> tuple[nn.Module, nn.Module]:
    if network == "auto":
        side = shape[1] if len(shape) == 3 and shape[1] == shape[2] else 0
        network = "rkm" if side >= 16 else "mlp"
    if network == "rkm":
        sizes = {"capacity": capacity, "hidden": hidden}
        return RKMEncoder(shape, features, **sizes), nn.Sequential(RKMDecoder(features, shape, **sizes), nn.Sigmoid())
    encoder, decoder = networks(shape, features, network, outputs=features)
    return encoder, nn.Sequential(decoder, nn.Sigmoid()) if len(shape) == 3 else decoder
