# Copyright ppl-disent contributors.
# SPDX-License-Identifier: Apache-2.0
"""What the Stiefel part of a St-RKM step costs beside its networks, and the step of a VAE with the same networks.

    python -m benchmarks.st_rkm_step [--rounds 9] [--steps 3] [--batch 64] [--threads N]

"plain" is the same St-RKM with U fixed: no gradient for it and no manifold optimizer. Each round times a few steps of
each, in turn; the table gives the median over rounds of the ratios within a round, with the quartiles.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

import numpy as np
import pyro
import torch

import ppl_disent as pd
from benchmarks.svi_step import seconds


def stepper(method: pd.Method, x: torch.Tensor, *, fixed: bool = False) -> Callable[[], object]:
    """A step of a method, of St-RKM also with U fixed."""
    for program in (method.model, method.guide):
        program.to(x.device)
    if fixed:
        method.guide.get_submodule("span").get_parameter("U").requires_grad_(False)
    optim = None if fixed else method.manifold_optim
    svi = pd.SVI(method.model, method.guide, pd.adam(2e-4), method.elbo, manifold_optim=optim)
    return lambda: svi.step(x)


def compare(shape: tuple[int, ...], batch: int, device: str, rounds: int, steps: int) -> None:
    """Prints the lines of one device."""
    x = torch.rand(batch, *shape, device=device)
    steppers = {"plain": stepper(pd.st_rkm(shape), x, fixed=True)}
    steppers |= {name: stepper(pd.st_rkm(shape, manifold_optim=name), x) for name in ("cayley_adam", "cayley")}
    steppers["riemannian_adam"] = stepper(pd.st_rkm(shape, manifold_optim="riemannian_adam"), x)
    steppers["VAE"] = stepper(pd.vae(shape, network="rkm"), x)
    for step in steppers.values():
        seconds(step, 2, device)
    times = {name: np.empty(rounds) for name in steppers}
    for i in range(rounds):
        for name in np.random.default_rng(i).permutation(list(steppers)):
            times[name][i] = seconds(steppers[name], steps, device)
    print(
        f"{device}, {'x'.join(map(str, shape))}, batch {batch}: plain {np.median(times['plain']) / steps * 1e3:.2f} ms"
    )
    for name in list(steppers)[1:]:
        low, middle, high = np.percentile(times[name] / times["plain"], [25, 50, 75])
        print(f"  {name:>16}  {middle:.3f} ({low:.3f}-{high:.3f})", flush=True)


def main() -> None:
    """Runs the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    with pyro.validation_enabled(False):
        for device in ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]:
            compare((1, 64, 64), args.batch, device, args.rounds, args.steps)


if __name__ == "__main__":
    main()
