# Copyright ppl-disent contributors.
# SPDX-License-Identifier: Apache-2.0
"""St-RKM's guide: features of x, centred, in the coordinates of a subspace."""

from __future__ import annotations

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor, nn


class Span(nn.Module):
    """A subspace of feature space and coordinates in it; a map from ``(batch, m)`` to ``(batch, l)``, h to U h.

    One object serves guide and model, which so share U. While U is trained the coordinates are those of U. Once a basis
    has been chosen (see :meth:`settle`) evaluation mode uses that one, and training mode still U: a run can go on.

    Args:
        U: An ``(l, m)`` parameter with orthonormal columns, such as ``ppl_disent.manifold.stiefel(l, m)``.

    Example:
        >>> from guides import Span
        >>> span = Span(nn.Parameter(torch.eye(3, 2)))
        >>> span(torch.tensor([[1.0, 2.0]])).tolist()
        [[1.0, 2.0, 0.0]]
    """

    basis: Tensor
    settled: Tensor

    def __init__(self, U: nn.Parameter) -> None:
        super().__init__()
        self.U = U
        self.register_buffer("basis", torch.zeros_like(U, requires_grad=False))
        self.register_buffer("settled", torch.tensor(False))

    @property
    def matrix(self) -> Tensor:
        """The ``(l, m)`` basis in use."""
        return self.basis if not self.training and self.settled else self.U

    def settle(self, basis: Tensor) -> None:
        """Chooses the basis, an ``(l, m)`` matrix with orthonormal columns, for evaluation mode."""
        self.basis.copy_(basis)
        self.settled.fill_(True)

    def forward(self, h: Tensor) -> Tensor:
        """Maps coordinates ``(batch, m)`` to features ``(batch, l)``."""
        return h @ self.matrix.mT


class Stiefel(nn.Module):
    """``q(h | x)``: U' phi(x) with phi centred, exactly or with a little noise; the site is ``h``.

    In training features are centred by the batch, so a batch of one has none; in evaluation by ``mean``, a buffer that
    is zero until it is set. Evaluation always has the noise: it is the Gaussian reading of the method.

    Args:
        encoder: Maps x to features ``(batch, l)``.
        U: An ``(l, m)`` parameter with orthonormal columns.
        noise: Standard deviation of q, in units of h.
        deterministic: Leave the noise out in training (a point mass).

    Raises:
        ValueError: For a noise that is not positive.

    Example:
        >>> from guides import Stiefel
        >>> guide = Stiefel(nn.Linear(8, 5), nn.Parameter(torch.eye(5, 2)))
        >>> {name: value.shape[1] for name, value in guide(torch.rand(7, 8)).items()}
        {'h': 2, 'coordinates': 2, 'residual': 5}
    """

    mean: Tensor

    def __init__(
        self, encoder: nn.Module, U: nn.Parameter, *, noise: float = 1e-3, deterministic: bool = False
    ) -> None:
        super().__init__()
        if not 0 < noise < float("inf"):
            raise ValueError(f"noise: got {noise!r}, expected a positive number.")
        self.encoder, self.span, self.noise, self.deterministic = encoder, Span(U), noise, deterministic
        self.register_buffer("mean", torch.zeros(U.shape[0], dtype=U.dtype))

    def features(self, x: Tensor) -> Tensor:
        """Centred features ``(batch, l)``."""
        phi: Tensor = self.encoder(x)
        if not self.training:
            return phi - self.mean
        if len(phi) < 2:
            raise ValueError("x: got a batch of one, expected at least two data: features are centred by the batch.")
        return phi - phi.mean(0)

    def forward(self, x: Tensor, *_: Tensor) -> dict[str, Tensor]:
        """Samples h, ``(batch, m)``; returns it with ``coordinates`` U'phi and ``residual`` phi - U U'phi."""
        phi = self.features(x).to(self.mean)
        coordinates = phi @ self.span.matrix
        exact = self.deterministic and self.training
        q = dist.Delta(coordinates) if exact else dist.Normal(coordinates, self.noise)
        with pyro.plate("data", len(x)):
            h = pyro.sample("h", q.to_event(1))
        return {"h": h, "coordinates": coordinates, "residual": phi - coordinates @ self.span.matrix.mT}
