# Copyright ppl-disent contributors.
# SPDX-License-Identifier: Apache-2.0
"""The total correlation of latent values, as a term that trains the discriminator by which it is estimated."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from pyro import poutine
from torch import Tensor, nn
from torch.nn.functional import softplus

from ppl_disent.batches import Batches, Data
from ppl_disent.elbo import Step
from ppl_disent.errors import ArgumentError, DataError, SiteError
from ppl_disent.opponent import Opponent

if TYPE_CHECKING:
    from ppl_disent.svi import SVI


# Seed of the second batches' order: another one than that of the generator's batches, if no one takes just this seed.
_ORDER = 3_141_592_653


class TotalCorrelation(Opponent):
    """An estimate of KL(q(z) || prod_j q(z_j)) by a density ratio, nats per datum; of several sites, of their groups.

    A discriminator D tells draws of q(z) from the same with each coordinate permuted over a batch, which are draws of
    the product; its logit is the log ratio of the densities, and the term its mean over the batch. With several sites
    each site is permuted as a whole: what is estimated is the total correlation between the sites, not within.

    "Disentangling by Factorising" (Kim & Mnih, 2018), https://arxiv.org/abs/1802.05983, equation 3 and algorithm 2. The
    permuted draws are of a second batch, drawn by the term from the data that ``fit`` was given, in an order of its own
    that a checkpoint holds; of the same batch where the data are not known, as under ``SVI`` alone (and in
    disentanglement_lib). D learns from draws of the guide after its step. The history has ``discriminator.z``, its
    loss: ln 2, 0.693 nats, where it cannot tell, and then the term is blind.

    Args:
        network: Maps the sites' values side by side, ``(batch, latent)``, to ``(batch, 2)`` logits.
        sites: One site of at least two values, or several.
        steps: Its steps for one of the generator.
        lr: Its learning rate; the default, and Adam's betas, are those of 1Konny/FactorVAE and the paper.
        warmup: Steps at the beginning in which it trains and its term is zero.

    Raises:
        ArgumentError: For an argument out of its range.

    Example:
        >>> method = csvae((1, 8, 8), labels=1, latent_dim=4)
        >>> apart = TotalCorrelation(MLP(4 + 2, 2), sites=("z", "w_0"))  # between the two, not within
        >>> method.elbo = TermELBO(terms={"tc": (6.0, apart)})
        >>> run = method.fit(load("digits_bars"), steps=3, progress=False)
        >>> list(run.history.filter(regex="tc|discriminator"))
        ['extra.tc', 'discriminator.z_w_0']
    """

    count: Tensor
    loss: Tensor

    def __init__(
        self,
        network: nn.Module,
        *,
        sites: Sequence[str] = ("z",),
        steps: int = 1,
        lr: float = 1e-4,
        warmup: int = 0,
    ) -> None:
        for name, got, fits, expected in (
            ("sites", sites, bool(sites) and not isinstance(sites, str), "a tuple of site names"),
            ("steps", steps, steps >= 1, "at least 1"),
            ("lr", lr, 0 < lr < math.inf, "a positive number"),
            ("warmup", warmup, warmup >= 0, "at least 0 steps"),
        ):
            if not fits:
                raise ArgumentError(name, got=got, expected=expected)
        super().__init__(network, torch.optim.Adam(network.parameters(), lr=lr, betas=(0.5, 0.9), fused=True))
        self.sites, self.steps, self.warmup = tuple(sites), steps, warmup
        self.settings = {"sites": self.sites, "steps": steps, "lr": lr, "warmup": warmup}
        self._data: Data | None = None
        self._batches: Batches | None = None
        self._waiting: dict[str, Any] = {}
        for name in ("count", "loss"):
            self.register_buffer(name, torch.zeros((), dtype=torch.float64))

    def fool(self, step: Step) -> Tensor:
        """The mean log ratio that D sees, with gradients for the latent values alone."""
        joint, other = self._logits(self.frozen(torch.cat(self._values(step), 1))).unbind(1)
        term = (joint - other).mean()
        if self.warmup:
            term = torch.where(self.count < self.warmup, 0.0, term)
        return term.to(step[self.sites[0]].dtype)

    def learn(self, step: Step, second: Step | None = None) -> Tensor:
        """D's loss, the mean cross-entropy in nats: ``step`` against ``second``, by default itself, permuted."""
        values = torch.cat([z.detach() for z in self._values(step)], 1)
        permuted = self._permuted([z.detach() for z in self._values(second or step)])
        real, product = (self._logits(self.network(z)) for z in (values, permuted))
        return 0.5 * (softplus(real[:, 1] - real[:, 0]).mean() + softplus(product[:, 0] - product[:, 1]).mean())

    def before_fit(self, svi: SVI, data: Any) -> None:
        """Remembers the data, for the second batch."""
        super().before_fit(svi, data)
        self._data, self._batches = data, None

    def after_step(self, svi: SVI, step: Step) -> None:
        """Trains D, by ``steps`` steps of its own optimizer."""
        for _ in range(self.steps):
            with torch.no_grad():
                again, second = (self._drawn(svi, step, batch) for batch in (step.batch, self._second(step)))
            loss = self.learn(again, second)
            self.descend(loss)
        self.count += 1
        self.loss.copy_(loss.detach())

    def after_fit(self, run: object, data: object) -> None:
        """Lets go of the data."""
        if self._batches is not None:
            self._waiting = self._batches.state_dict()
        self._data = self._batches = None

    def record(self) -> dict[str, Tensor]:
        """``discriminator.<sites>``, D's last loss in nats."""
        return {f"discriminator.{'_'.join(self.sites)}": self.loss}

    def get_extra_state(self) -> dict[str, Any]:
        """The states of optimizer and second batches."""
        batches = self._waiting if self._batches is None else self._batches.state_dict()
        return {"optimizer": super().get_extra_state(), "batches": batches}

    def set_extra_state(self, state: dict[str, Any]) -> None:
        """Restores ``get_extra_state()``."""
        super().set_extra_state(state["optimizer"])
        self._batches, self._waiting = None, dict(state["batches"])

    def _second(self, step: Step) -> tuple[Tensor, ...]:
        if self._data is None:
            return step.batch
        if self._batches is None:
            self._batches = Batches(self._data, len(step.batch[0]), _ORDER, step.batch[0].device)
            self._batches.load_state_dict(self._waiting)
        return next(self._batches)

    @staticmethod
    def _drawn(svi: SVI, step: Step, batch: tuple[Tensor, ...]) -> Step:
        return replace(step, batch=batch, guide_trace=poutine.trace(svi.guide).get_trace(*batch), model_trace=None)

    def _values(self, step: Step) -> list[Tensor]:
        try:
            values = [step[site] for site in self.sites]
        except KeyError as error:
            raise SiteError(f"TotalCorrelation: {error.args[0]}.") from None
        if any(z.dim() != 2 for z in values) or (len(values) == 1 and values[0].shape[1] < 2):
            got = [tuple(z.shape) for z in values]
            raise DataError(f"TotalCorrelation: got values {got}, expected (batch, latent), one site at least 2 wide.")
        dtype = next((p.dtype for p in self.network.parameters()), values[0].dtype)
        return [z.to(dtype) for z in values]

    def _permuted(self, values: list[Tensor]) -> Tensor:
        groups = values[0].split(1, 1) if len(values) == 1 else values
        return torch.cat([z[torch.randperm(len(z), device=z.device)] for z in groups], 1)

    def _logits(self, logits: Tensor) -> Tensor:
        if logits.dim() != 2 or logits.shape[1] != 2:
            raise DataError(f"TotalCorrelation: its network gives {tuple(logits.shape)}, expected (batch, 2).")
        return logits
