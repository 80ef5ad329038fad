# Copyright ppl-disent contributors.
# SPDX-License-Identifier: Apache-2.0
"""Matrices with orthonormal columns as parameters: how to make one, step one, and see how far it went.

Importing it imports geoopt, which takes a second: ``ppl_disent.manifold`` is loaded at first use.
"""

from __future__ import annotations

import functools
import math
import warnings
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

from ppl_disent.errors import ArgumentError

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # geoopt 0.5.1 compiles with torch.jit, which newer torch calls deprecated
    import geoopt

DTYPES = (torch.float32, torch.float64)
# (1 + d)^(-1/2) = 1 + sum of these times d^5, d^4, ...; the next term is below 0.23 d^6.
_INVERSE_ROOT = (-63 / 256, 35 / 128, -5 / 16, 3 / 8, -1 / 2)


def stiefel(l: int, m: int, *, generator: torch.Generator | None = None) -> geoopt.ManifoldParameter:  # noqa: E741
    """A parameter with orthonormal columns, drawn uniformly: the Q of a normal matrix, with R's diagonal positive.

    "How to generate random matrices from the classical compact groups" (Mezzadri, 2007),
    https://arxiv.org/abs/math-ph/0609050, section 5.

    Args:
        l: Rows, at least ``m``.
        m: Columns, at least 1.
        generator: Where the random numbers come from, on its device; by default torch's own on the CPU.

    Returns:
        A contiguous ``(l, m)`` parameter of torch's default dtype on ``geoopt.EuclideanStiefel``.

    Raises:
        ArgumentError: Unless ``l >= m >= 1``.

    Example:
        >>> from ppl_disent import manifold
        >>> U = manifold.stiefel(50, 10)
        >>> U.shape, bool(manifold.orthonormality_error(U) < 1e-5)
        (torch.Size([50, 10]), True)
    """
    _check_count("l", l)
    _check_count("m", m)
    if m > l:
        raise ArgumentError("m", got=m, expected=f"at most l = {l}: there are no more orthonormal columns")
    # In float64, so that it is orthonormal to the last digit of either dtype.
    device = getattr(generator, "device", None)
    q, r = torch.linalg.qr(torch.randn(l, m, generator=generator, dtype=torch.float64, device=device))
    return as_stiefel(torch.where(r.diagonal() < 0, -q, q).to(torch.get_default_dtype()).contiguous())


def as_stiefel(matrix: Tensor) -> geoopt.ManifoldParameter:
    """A parameter on ``geoopt.EuclideanStiefel`` that starts at a copy of a matrix with orthonormal columns.

    geoopt's own constructor checks the shape only, and trains what is off the manifold without a word.

    Args:
        matrix: A contiguous ``(l, m)`` tensor, float32 or float64, with ``||U'U - I||_F`` at most ``sqrt(m)`` times
            2e-5 in float32, 4e-11 in float64.

    Raises:
        ArgumentError: For any other matrix.

    Example:
        >>> from ppl_disent import manifold
        >>> directions = torch.linalg.qr(torch.randn(50, 10)).Q.contiguous()
        >>> U = manifold.as_stiefel(directions)
    """
    _check_orthonormal("matrix", matrix)
    if not matrix.is_contiguous():
        raise ArgumentError("matrix", got=f"strides {matrix.stride()}", expected="a contiguous tensor")
    return geoopt.ManifoldParameter(matrix.detach().clone(), manifold=geoopt.EuclideanStiefel())


class CayleyAdam(torch.optim.Optimizer):
    """Cayley ADAM for parameters with orthonormal columns.

    "Efficient Riemannian Optimization on the Stiefel Manifold via the Cayley Transform" (Li, Fuxin, Todorovic, 2020),
    https://arxiv.org/abs/2002.01113, as its authors' code has it (``AdamG`` of JunLi-Galios,
    Optimization-on-Stiefel-Manifold-via-Cayley-Transform) and St-RKM uses it. With X the ``(l, m)`` parameter, G its
    Euclidean gradient, t the step::

        M = b1 M + (1 - b1) G              v = b2 v + (1 - b2) ||G||_F^2     (a scalar)
        m = M / (1 - b1^t)                 r = sqrt(v / (1 - b2^t) + eps)
        W = (m X' - X X' m X' / 2 - its transpose) / r                       (skew, so r W X is m projected)
        a = min(lr, 2 q / (||W||_1 + 1e-8))                                  (1-norm: largest column sum)
        Y = X - a M, then `iterations` times Y = X - a W (X + Y) / 2;        X = Y
        M = (1 - b1^t) r W X, at the old X                                   (implicit vector transport)

    W = P Q' has rank 2m and all iterates lie in X + range(P), so an iteration is the product of a ``(2m, 2m)`` with a
    ``(2m, m)`` matrix, the step O(l m^2). Only the cap on a needs W itself; the betas alone bound it, so W is made, at
    O(l^2 m), only where ``lr`` is above ``0.84 q / sqrt(l)`` (for the default betas): elsewhere the cap cannot bind.
    No host synchronisation; no random numbers, unlike the authors' code, which rescales the columns and draws a QR by
    chance: see ``stabilize``. Keep TF32 products off: with them U is orthonormal to three digits only.

    U moves by ``lr`` or less a step in Frobenius norm (2.35 ``lr`` at the very most), less than with the same ``lr``
    of ``geoopt.optim.RiemannianAdam``: v is of the whole gradient, its part normal to the manifold included.

    Args:
        params: Each a ``geoopt.ManifoldParameter`` on a Stiefel manifold, 2-dim; or groups of them.
        lr: Learning rate, positive.
        betas: Decay of the first and second moment, each in [0, 1). Keep them while training.
        eps: Added to the second moment, positive.
        q: Cap of the step, in (0, 1): the iteration contracts by q at least.
        iterations: Of the fixed point, at least 1. The paper's default is 2, the code's 5.
        exact: The limit of infinitely many iterations, the Cayley transform itself, by a ``(2m, 2m)`` solve.
        stabilize: End each step at the nearest orthonormal matrix; mends rounding, and what the iterations left over.

    Raises:
        ArgumentError: For a value out of its range, or parameters that are not on a Stiefel manifold.

    Example:
        >>> from ppl_disent import manifold
        >>> U, target = manifold.stiefel(5, 2), torch.eye(5, 2)
        >>> optimizer = manifold.CayleyAdam([U], lr=0.1)
        >>> for step in range(100):
        ...     optimizer.zero_grad()
        ...     (U - target).square().sum().backward()
        ...     optimizer.step()
        >>> bool((U - target).norm() < 0.1), bool(manifold.orthonormality_error(U) < 1e-5)
        (True, True)
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-4,
        *,
        betas: tuple[float, float] = (0.9, 0.99),
        eps: float = 1e-8,
        q: float = 0.5,
        iterations: int = 5,
        exact: bool = False,
        stabilize: bool = True,
    ) -> None:
        _check_positive("lr", lr)
        _check_positive("eps", eps)
        _check_positive("q", q, below=1)
        _check_count("iterations", iterations)
        if len(betas) != 2 or not all(_is_number(b) and 0 <= b < 1 for b in betas):
            raise ArgumentError("betas", got=betas, expected="two numbers of at least 0 and below 1")
        defaults = {"lr": lr, "betas": betas, "eps": eps, "q": q, "iterations": iterations}
        super().__init__(params, defaults | {"exact": exact, "stabilize": stabilize})

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Adds parameters; raises :class:`ArgumentError` if they are not on a Stiefel manifold."""
        super().add_param_group(param_group)
        try:
            for p in self.param_groups[-1]["params"]:
                if not isinstance(getattr(p, "manifold", None), geoopt.Stiefel):
                    raise ArgumentError("params", got=type(p).__name__, expected="what manifold.stiefel(l, m) makes")
                _check_orthonormal("params", p)
        except ArgumentError:
            self.param_groups.pop()
            raise

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restores ``state_dict()``."""
        super().load_state_dict(state_dict)
        for p, state in self.state.items():
            state["step"] = state["step"].to(p.device, p.dtype)  # torch leaves this one where it was saved

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One step; parameters without a gradient stay. Returns what ``closure`` returns."""
        with torch.enable_grad():
            loss = None if closure is None else closure()
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is not None:
                    self._update(p.detach(), p.grad, self.state[p], group)
        return loss

    def _update(self, x: Tensor, grad: Tensor, state: dict[str, Tensor], group: dict[str, Any]) -> None:
        if not state:
            state["step"], state["exp_avg_sq"] = x.new_zeros(()), x.new_zeros(())
            state["exp_avg"] = torch.zeros_like(x)
        (beta1, beta2), lr, m = group["betas"], group["lr"], x.shape[1]
        step, momentum = state["step"].add_(1), state["exp_avg"].lerp_(grad, 1 - beta1)
        second = state["exp_avg_sq"].lerp_(grad.square().sum(), 1 - beta2)
        scale = (1 - beta1**step) * (second / (1 - beta2**step) + group["eps"]).sqrt()

        # W = left right' with left = [a, X], right = [X, -a].
        a = torch.addmm(momentum, x, x.mT @ momentum, alpha=-0.5) / scale
        left, right = torch.cat((a, x), 1), torch.cat((x, -a), 1).mT
        core = right @ left
        size: float | Tensor = lr
        if _cap_can_bind(lr, group["q"], beta1, beta2, len(x)):
            size = (2 * group["q"] / (torch.linalg.matrix_norm(left @ right, 1) + 1e-8)).clamp(max=lr)

        # Y = X + left k, and Y <- X - size W (X + Y) / 2 is k <- start + half k.
        half = core * (-0.5 * size)
        start = 2 * half[:, m:]
        if group["exact"]:
            half.neg_().diagonal().add_(1)
            k = torch.linalg.solve_ex(half, start).result
        else:
            k = start + (right @ momentum) * (0.5 * size * size)
            for _ in range(group["iterations"] - 1):
                k = torch.addmm(start, half, k)
        y = torch.addmm(x, left, k)
        momentum.copy_(left @ core[:, m:] * scale)
        x.copy_(_nearest(y) if group["stabilize"] else y)


def optimizer(name: str, lr: float) -> Callable[[list[Tensor]], torch.optim.Optimizer]:
    """An optimizer by name, as ``fit`` and ``SVI`` take it for ``manifold_optim``.

    Args:
        name: ``"cayley_adam"`` (:class:`CayleyAdam`), ``"cayley"`` (the same with ``exact=True``) or
            ``"riemannian_adam"`` (``geoopt.optim.RiemannianAdam``, projected onto the manifold every 100 steps).
        lr: Learning rate, positive.

    Raises:
        ArgumentError: For an unknown name, or a learning rate that is not a positive number.

    Example:
        >>> from ppl_disent import manifold
        >>> method = st_rkm((1, 8, 8), latent_dim=3, feature_dim=8)
        >>> riemannian = manifold.optimizer("riemannian_adam", lr=1e-3)
        >>> run = method.fit(load("digits"), steps=3, manifold_optim=riemannian, progress=False)
    """
    makers: dict[str, Callable[..., torch.optim.Optimizer]] = {
        "cayley_adam": CayleyAdam,
        "cayley": functools.partial(CayleyAdam, exact=True),
        "riemannian_adam": functools.partial(geoopt.optim.RiemannianAdam, stabilize=100),
    }
    if name not in makers:
        raise ArgumentError("name", got=name, expected=f"one of {list(makers)}")
    _check_positive("lr", lr)
    return functools.partial(makers[name], lr=lr)


def orthonormality_error(u: Tensor) -> Tensor:
    """``||U'U - I||_F`` of an ``(l, m)`` matrix, a 0-dim tensor without gradient.

    Example:
        >>> from ppl_disent import manifold
        >>> manifold.orthonormality_error(2 * torch.eye(3, 2))  # U'U - I is 3 I
        tensor(4.2426)
    """
    gram = u.detach().mT @ u.detach()
    gram.diagonal().sub_(1)
    return gram.norm()


def principal_angles(a: Tensor, b: Tensor) -> Tensor:
    """Angles between the column spaces of two matrices, from the smallest on.

    "Numerical Methods for Computing Angles Between Linear Subspaces" (Bjorck and Golub, 1973),
    https://doi.org/10.2307/2005662: from the sines up to pi / 4, so that small angles keep their digits.

    Args:
        a: An ``(l, m)`` matrix with independent columns, not necessarily orthonormal.
        b: An ``(l, k)`` matrix, alike.

    Returns:
        A ``(min(m, k),)`` tensor of radians in [0, pi / 2], ascending, without gradient.

    Raises:
        ArgumentError: Unless both are matrices of one dtype with as many rows and independent columns.

    Example:
        >>> from ppl_disent import manifold
        >>> a, b = torch.eye(3, 2), torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, 1.0]])
        >>> manifold.principal_angles(a, b)  # a shared direction, and one at 45 degrees
        tensor([0.0000, 0.7854])
    """
    for name, matrix in {"a": a, "b": b}.items():
        if matrix.dim() != 2 or matrix.dtype not in DTYPES or matrix.dtype != a.dtype or len(matrix) != len(a):
            got = f"{matrix.dtype} of shape {tuple(matrix.shape)}"
            raise ArgumentError(name, got=got, expected=f"a matrix of one of {DTYPES}, with the dtype and rows of a")
        if int(torch.linalg.matrix_rank(matrix.detach())) < matrix.shape[1]:
            raise ArgumentError(name, got="dependent columns", expected="linearly independent ones")
    wide, narrow = (torch.linalg.qr(u.detach()).Q for u in sorted((a, b), key=lambda u: -u.shape[1]))
    common = wide.mT @ narrow
    cosines = torch.linalg.svdvals(common).clamp(max=1)
    sines = torch.linalg.svdvals(narrow - wide @ common).flip(0).clamp(max=1)
    return torch.where(cosines.square() >= 0.5, sines.asin(), cosines.acos())


def _nearest(y: Tensor) -> Tensor:
    """The polar factor ``Y (Y'Y)^(-1/2)`` of a matrix near the manifold, by the series of the root."""
    d = y.mT @ y
    d.diagonal().sub_(1)
    c = _INVERSE_ROOT[0] * d
    for coefficient in _INVERSE_ROOT[1:]:
        c = torch.addmm(d, d, c, beta=coefficient)
    return torch.addmm(y, y, c)


def _cap_can_bind(lr: float, q: float, beta1: float, beta2: float, rows: int) -> bool:
    """Whether ``lr > 2 q / (||W||_1 + 1e-8)`` is possible at all.

    Projection shortens, so ``||M|| <= (1 - b1) sum_i b1^i ||G_i||``, which Cauchy and Schwarz bound by v: ``||m|| / r``
    is at most ``(1 - b1) / sqrt((1 - b1^2 / b2) (1 - b2))``, 2.35 for the default betas. A column of the skew W is
    at most ``||W||_2 <= ||W||_F / sqrt(2) <= ||m|| / r`` long, and its entries sum to ``sqrt(l)`` times that.
    """
    if beta1 * beta1 >= beta2:
        return True
    length = (1 - beta1) / math.sqrt((1 - beta1 * beta1 / beta2) * (1 - beta2))
    # One percent for rounding, and for an X not quite orthonormal.
    return lr * (1.01 * length * math.sqrt(rows) + 1e-8) > 2 * q


def _check_orthonormal(name: str, u: Tensor) -> None:
    if not isinstance(u, Tensor) or u.dtype not in DTYPES:
        raise ArgumentError(name, got=getattr(u, "dtype", u), expected=f"a tensor with one of {DTYPES}")
    if u.dim() != 2 or not 1 <= u.shape[1] <= u.shape[0]:
        raise ArgumentError(name, got=f"shape {tuple(u.shape)}", expected="(l, m) with l >= m >= 1")
    error, tolerance = float(orthonormality_error(u)), u.shape[1] ** 0.5 * torch.finfo(u.dtype).eps ** (2 / 3)
    if not error <= tolerance:
        hint = "Take torch.linalg.qr(u).Q.contiguous()."
        raise ArgumentError(name, got=f"||U'U - I|| = {error:.3g}", expected=f"at most {tolerance:.2g}", hint=hint)


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _check_positive(name: str, value: float, below: float = math.inf) -> None:
    if not _is_number(value) or not 0 < value < below:
        raise ArgumentError(name, got=value, expected=f"a number above 0 and below {below}")


def _check_count(name: str, value: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ArgumentError(name, got=value, expected="an integer of at least 1")
