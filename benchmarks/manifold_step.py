# Copyright ppl-disent contributors.
# SPDX-License-Identifier: Apache-2.0
"""One step on the Stiefel manifold: ours, geoopt's, and Cayley ADAM with dense matrices, side by side in one process.

    python -m benchmarks.manifold_step [--rounds 15] [--threads 1]

"dense" is the algorithm as the authors' code has it (row norms, a QR by chance, l x l matrices), written plainly;
"ours" and "exact" are ``CayleyAdam``; "geoopt" is ``RiemannianAdam`` on ``EuclideanStiefel``. At a learning rate of
1e-4 the cap of the step cannot bind, at 0.1 it can, and ours makes the l x l matrix for its norm. Each round times a
few steps of each, in an order of its own; the table gives the median over rounds of the ratios within a round, with
the quartiles. Only the ratios mean something: the milliseconds belong to the machine.
"""

from __future__ import annotations

import argparse
import random
import time
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from ppl_disent import manifold

Stepper = Callable[[], object]
SHAPES = ((50, 10, 100), (256, 32, 30), (1024, 64, 3))


def dense(u: Tensor, grad: Tensor, lr: float) -> Stepper:
    """Cayley ADAM as in JunLi-Galios/Optimization-on-Stiefel-Manifold-via-Cayley-Transform, stiefel_optimizer.py."""
    momentum, second, steps = torch.zeros_like(u), torch.zeros((), device=u.device), 0

    def step() -> None:
        nonlocal momentum, second, steps
        x, steps = u / u.norm(dim=0), steps + 1
        if random.randint(1, 101) == 1:
            q, r = torch.linalg.qr(x)
            x = q * r.diagonal().sign()
        momentum = 0.9 * momentum + 0.1 * grad
        second = 0.99 * second + 0.01 * grad.norm() ** 2
        scaled, root = momentum / (1 - 0.9**steps), (second / (1 - 0.99**steps) + 1e-8).sqrt()
        inner = scaled @ x.mT
        half = inner - 0.5 * x @ (x.mT @ inner)
        w = (half - half.mT) / root
        size = (1 / (w.abs().sum(0).max() + 1e-8)).clamp(max=lr)
        y = x - size * momentum
        for _ in range(5):
            y = x - size * (w @ (0.5 * (x + y)))
        u.copy_(y)
        momentum = root * (1 - 0.9**steps) * (w @ x)

    return step


def steppers(rows: int, columns: int, lr: float, device: str) -> dict[str, Stepper]:
    """Each with a U and a gradient of its own, all alike."""
    start = manifold.stiefel(rows, columns).detach().to(device)
    grad = torch.randn(rows, columns, device=device)
    made: dict[str, Stepper] = {"dense": dense(start.clone(), grad, lr)}
    for label, name in (("ours", "cayley_adam"), ("exact", "cayley"), ("geoopt", "riemannian_adam")):
        u = manifold.as_stiefel(start)
        u.grad = grad.clone()
        made[label] = manifold.optimizer(name, lr)([u]).step
    return made


def seconds(step: Stepper, steps: int, device: str) -> float:
    """Time of `steps` steps."""
    start = time.perf_counter()
    for _ in range(steps):
        step()
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start


def compare(rows: int, columns: int, lr: float, device: str, rounds: int, steps: int) -> None:
    """Prints one line of the table."""
    made = steppers(rows, columns, lr, device)
    for step in made.values():
        seconds(step, 3, device)
    times = {name: np.empty(rounds) for name in made}
    for i in range(rounds):
        for name in np.random.default_rng(i).permutation(list(made)):
            times[name][i] = seconds(made[name], steps, device)
    cells = [f"{rows:>5} x {columns:<3} {lr:>6g} {device:>5}", f"{np.median(times['dense']) / steps * 1e3:8.3f} ms"]
    for name in ("ours", "exact", "geoopt"):
        low, middle, high = np.percentile(times[name] / times["dense"], [25, 50, 75])
        cells.append(f"{middle:6.3f} ({low:.3f}-{high:.3f})")
    cells.append(f"{np.median(times['ours']) / steps * 1e3:8.3f} ms")
    print("  ".join(cells), flush=True)


def main() -> None:
    """Runs the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    print(f"torch {torch.__version__}, {args.threads} threads, float32; ratios to the dense step")
    print("    l x m       lr device       dense         ours / dense          exact / dense         geoopt / dense")
    for device in ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]:
        for rows, columns, steps in SHAPES:
            for lr in (1e-4, 0.1):
                compare(rows, columns, lr, device, args.rounds, steps)


if __name__ == "__main__":
    main()
