# Copyright ppl-disent contributors.
# SPDX-License-Identifier: Apache-2.0
"""Every method, small. A new method is one line here, and inherits the whole of test_contract.py."""

from dataclasses import dataclass
from typing import Any

import torch

import ppl_disent as pd


@dataclass(frozen=True)
class Case:
    """A builder with small settings.

    Attributes:
        name: The builder's name in `ppl_disent`.
        shape: Shape of one x.
        options: Builder arguments.
        fields: Shapes of further batch fields for one datum (labels), values in {0, 1}.
        stock: Stock Pyro must give the same bits: no term is a callback too (an adversary, a growing capacity).
    """

    name: str
    shape: tuple[int, ...]
    options: dict[str, Any]
    fields: tuple[tuple[int, ...], ...] = ()
    stock: bool = True

    def __str__(self) -> str:
        return "-".join([self.name, "x".join(map(str, self.shape)), *(f"{f[0]}" for f in self.fields)])

    def method(self, seed: int = 0) -> pd.Method:
        """The method, its initial values given by `seed`."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return getattr(pd, self.name)(self.shape, **self.options)

    def batch(self, n: int = 8, seed: int = 1) -> tuple[torch.Tensor, ...]:
        """Random data in [0, 1], and labels."""
        generator = torch.Generator().manual_seed(seed)
        x = torch.rand(n, *self.shape, generator=generator)
        return (x, *(torch.randint(2, (n, *f), generator=generator).to(x.dtype) for f in self.fields))


SMALL = {"latent_dim": 3, "network": "mlp"}
REAL, ALONE = {"likelihood": "gaussian", "learn_sigma": True}, {"adversary": "none"}
CASES = [
    Case("vae", (1, 4, 4), SMALL),
    Case("vae", (6,), SMALL | {"likelihood": "gaussian", "learn_sigma": True}),
    Case("vae", (1, 8, 8), {"latent_dim": 2, "network": "conv"}),
    Case("beta_vae", (1, 4, 4), SMALL | {"beta": 3.0}),
    Case("capacity_vae", (1, 4, 4), SMALL | {"gamma": 10.0, "capacity": 2.0, "capacity_steps": 30}, stock=False),
    Case("control_vae", (1, 4, 4), SMALL | {"target_kl": 2.0, "every": 10}),
    Case("dynamic_vae", (1, 4, 4), SMALL | {"target_kl": 2.0, "every": 10, "ramp": 5, "beta_init": 2.0}),
    Case("cvae", (1, 4, 4), SMALL | {"labels": 1}, fields=((1,),)),
    Case("cvae", (6,), SMALL | {"labels": 2, "likelihood": "gaussian", "prior": "conditional"}, fields=((2,),)),
    Case("cvae", (1, 8, 8), {"labels": 2, "latent_dim": 2, "network": "conv"}, fields=((2,),)),
    Case("cvae_if", (1, 4, 4), SMALL | {"labels": 2, "adversary_steps": 2}, fields=((2,),), stock=False),
    Case("cvae_if", (6,), SMALL | {"labels": 1, "adversary": "reversal"} | REAL, fields=((1,),), stock=False),
    Case("csvae", (1, 4, 4), SMALL | {"labels": 1, "adversary_warmup": 4}, fields=((1,),), stock=False),
    Case(
        "csvae",
        (6,),
        SMALL | {"labels": 2, "w_dim": (1, 3), "target": "marginal", "adversary": "entropy"} | REAL,
        ((2,),),
        stock=False,
    ),
    Case("csvae", (1, 4, 4), SMALL | {"labels": 2, "learn_prior": True, "z_sees_y": True} | ALONE, fields=((2,),)),
    Case("beta_tcvae", (1, 4, 4), SMALL | {"estimator": "mss", "data_size": 40}),
    Case("dip_vae", (1, 4, 4), SMALL),
    Case("dip_vae", (6,), SMALL | {"variant": "ii", "lambda_d": 3.0} | REAL),
    Case("factor_vae", (1, 4, 4), SMALL | {"discriminator_units": 8, "discriminator_layers": 2}, stock=False),
    Case("st_rkm", (1, 4, 4), SMALL | {"feature_dim": 5, "manifold_lr": 1e-2}),
    Case("st_rkm", (1, 8, 8), {"latent_dim": 2, "feature_dim": 3, "network": "burgess"}),
    Case("st_rkm", (6,), SMALL | {"feature_dim": 3, "variant": "noisy", "manifold_optim": "cayley"}),
    Case("st_rkm", (1, 16, 16), {"latent_dim": 2, "feature_dim": 4, "variant": "split", "capacity": 4, "hidden": 8}),
]
