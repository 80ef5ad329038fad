# Copyright ppl-disent contributors.
# SPDX-License-Identifier: Apache-2.0
"""One optimisation step: ours, stock Pyro's, and the same VAE written by hand in PyTorch, paired in one process.

    python -m benchmarks.svi_step [--rounds 15] [--steps 20] [--threads N]

All three have the same networks, batch and fused Adam; "stock" is ``pyro.infer.SVI`` with ``TraceMeanField_ELBO`` and
one Adam a tensor, as Pyro's examples write it. Each round times a few steps of each, in turn; the table gives the
median over rounds of the ratios within a round, with the quartiles.
"""

from __future__ import annotations

import argparse
import copy
import time
from collections.abc import Callable

import numpy as np
import pyro
import torch
import torch.nn.functional as F
from pyro.infer import TraceMeanField_ELBO

import ppl_disent as pd

Stepper = Callable[[], object]


def by_hand(method: pd.Method, x: torch.Tensor) -> Stepper:
    """The VAE's step in plain PyTorch."""
    encoder, decoder = method.guide.get_submodule("networks.z"), method.model.get_submodule("decoder")
    optim = torch.optim.Adam([*encoder.parameters(), *decoder.parameters()], lr=1e-4, fused=True)

    def step() -> object:
        mean, log_variance = encoder(x).chunk(2, -1)
        std = (0.5 * log_variance).exp()
        z = mean + std * torch.randn_like(std)
        reconstruction = F.binary_cross_entropy_with_logits(decoder(z), x, reduction="sum")
        kl = 0.5 * (mean.square() + std.square() - log_variance - 1).sum()
        loss = (reconstruction + kl) / len(x)
        loss.backward()
        optim.step()
        optim.zero_grad()
        return loss.detach()

    return step


def ours(method: pd.Method, x: torch.Tensor) -> Stepper:
    """Our step, with the method's callbacks."""
    for hook in method.callbacks:
        hook.to(x.device)
    svi = pd.SVI(method.model, method.guide, pd.adam(1e-4), method.elbo, callbacks=method.callbacks)
    return lambda: svi.step(x)


def stock(method: pd.Method, x: torch.Tensor) -> Stepper:
    """Pyro's own step."""
    pyro.clear_param_store()
    pair = pd.pyro_pair(method.model, method.guide)
    svi = pyro.infer.SVI(*pair, pyro.optim.Adam({"lr": 1e-4}), TraceMeanField_ELBO())
    return lambda: svi.step(x)


def seconds(step: Stepper, steps: int, device: str) -> float:
    """Time of `steps` steps."""
    start = time.perf_counter()
    for _ in range(steps):
        step()
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start


def compare(shape: tuple[int, ...], network: str, batch: int, device: str, rounds: int, steps: int) -> None:
    """Prints one line of the table."""
    method = pd.vae(shape, network=network)
    controlled = pd.dynamic_vae(shape, network=network)
    for program in (method.model, method.guide, controlled.model, controlled.guide):
        program.to(device)
    x = (torch.rand(batch, *shape, device=device) > 0.9).float()
    # The stock one last to be made: Pyro's store is global, and knows one pair at a time.
    steppers = {
        "hand": by_hand(copy.deepcopy(method), x),
        "ours": ours(copy.deepcopy(method), x),
        "controlled": ours(controlled, x),
        "stock": stock(copy.deepcopy(method), x),
    }
    for step in steppers.values():
        seconds(step, 3, device)
    times = {name: np.empty(rounds) for name in steppers}
    for i in range(rounds):
        for name in np.random.default_rng(i).permutation(list(steppers)):
            times[name][i] = seconds(steppers[name], steps, device)
    cells = [f"{network:>5} {'x'.join(map(str, shape)):>8} {batch:>5} {device:>6}"]
    cells.append(f"{np.median(times['hand']) / steps * 1e3:9.2f} ms")
    for name in ("ours", "controlled", "stock"):
        low, middle, high = np.percentile(times[name] / times["hand"], [25, 50, 75])
        cells.append(f"{middle:6.3f} ({low:.3f}-{high:.3f})")
    print("  ".join(cells), flush=True)


def main() -> None:
    """Runs the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    print(
        f"torch {torch.__version__}, pyro {pyro.__version__}, {args.threads} threads; ratios to the hand-written step"
    )
    print("  net     data batch device   by hand        ours / hand      DynamicVAE / hand   stock Pyro / hand")
    with pyro.validation_enabled(False):
        for device in ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]:
            for shape, network, batch in (
                ((1, 64, 64), "conv", 64),
                ((1, 64, 64), "conv", 128),
                ((1, 28, 28), "mlp", 64),
                ((1, 28, 28), "mlp", 128),
            ):
                compare(shape, network, batch, device, args.rounds, args.steps)


if __name__ == "__main__":
    main()
