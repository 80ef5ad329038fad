# Copyright ppl-disent contributors.
# SPDX-License-Identifier: Apache-2.0
"""What both PI controllers share: set point, error, limits, trace and warnings."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ppl_disent.control.base import KLScale, require

if TYPE_CHECKING:
    from ppl_disent.svi import SVI

# Steps over which the slope of KL against beta is estimated: it changes slowly.
_MARGIN_WINDOW = 2000.0


class Feedback(KLScale):
    """What both PI controllers share: a rising set point, error, limits, trace, and warnings.

    A subclass computes beta from the error in ``_law``.
    """

    set_point: Tensor
    kl: Tensor
    proportional: Tensor
    integral: Tensor
    stuck: Tensor
    moments: Tensor

    def __init__(self, site: str, **settings: Any) -> None:
        super().__init__(site, **settings)
        target, start, step = settings["target"], settings["start"], settings["step"]
        require("target", target, target > 0 and math.isfinite(target), "a positive number of nats")
        require("start", start, start >= 0 and math.isfinite(start), "a number of nats of at least 0")
        require("step", step, step >= 0 and math.isfinite(step), "a number of nats of at least 0")
        for name in ("every", "patience"):
            whole = float(settings[name]).is_integer() and settings[name] >= 1
            require(name, settings[name], whole, "a whole number of steps, at least 1")
        ramp = settings["ramp"]
        require("ramp", ramp, 1 <= ramp <= settings["every"], f"1 to every={settings['every']} steps")
        require("kp", settings["kp"], 0 <= settings["kp"] < math.inf, "a number of at least 0")
        require("ki", settings["ki"], 0 < settings["ki"] < math.inf, "a positive number")
        low, high = settings["beta_min"], settings["beta_max"]
        require("beta_max", high, high is None or high > low, f"None or a number above beta_min={low}")
        self.target, self.step, self.every, self.ramp = target, step, settings["every"], ramp
        self.kp, self.ki, self.exact = settings["kp"], settings["ki"], settings["exact"]
        self.low, self.high = low, math.inf if high is None else high
        self.patience = settings["patience"]
        self._state("set_point", float(start))
        for name in ("beta", "kl", "proportional", "integral", "stuck"):
            self._state(name, 0.0)
        self._state("moments", [0.0] * 5)
        self._warned: set[str] = set()

    def update(self, kl: float | Tensor) -> Tensor:
        if not isinstance(kl, Tensor):
            kl = self.set_point.new_tensor(kl)
        kl = kl.detach().double()
        self.count += 1
        rising = (self.count >= self.every) & (self.count % self.every < self.ramp)
        # A sum, not a formula in `count`: the authors' codes accumulate, and so agree to the last digit.
        self.set_point += rising.double() * (self.step / self.ramp)
        self.set_point.clamp_(max=self.target)
        self.kl.copy_(self._smooth(kl))
        self._observe_slope()
        error = self.set_point - self.kl
        self.beta.copy_(self._law(error))
        outward = ((self.beta >= self.high) & (error < 0)) | ((self.beta <= self.low) & (error > 0))
        self.stuck.copy_(torch.where(outward, self.stuck + 1, 0.0))
        return self.beta.clone()

    def _smooth(self, kl: Tensor) -> Tensor:
        return kl

    def _law(self, error: Tensor) -> Tensor:
        raise NotImplementedError

    def _observe_slope(self) -> None:
        """Exponentially weighted moments of (beta, KL) for the least-squares slope; beta is the last step's."""
        now = torch.stack((torch.ones_like(self.beta), self.beta, self.kl, self.beta * self.beta, self.beta * self.kl))
        seen = (self.count > 1).double()  # the first KL was not produced under any beta of ours
        self.moments.mul_(1 - 1 / _MARGIN_WINDOW).add_(now * (seen / _MARGIN_WINDOW))

    def margin(self) -> Tensor:
        """How near the linearised loop is to its local stability limit: ``g (kp / 2 + ki) / 2``, stable below 1.

        ``g`` is minus the least-squares slope of the smoothed KL against beta over the last few thousand steps (nats
        per unit of beta). NaN while beta has moved by less than 1 % of itself. From the local stability condition of
        the linearised loop, ``g (kp / 2 + ki) < 2``, which is necessary, not sufficient: a model that follows beta
        slowly can oscillate well below 1, and ``g`` is a mean over steps in which it may have changed.
        """
        _, b, k, bb, bk = self.moments / self.moments[0]
        variance = bb - b * b
        slope = (bk - b * k) / variance
        moved = variance.clamp(min=0.0).sqrt() > 0.01 * b.abs()
        return torch.where(moved, (-slope).clamp(min=0.0) * (self.kp / 2 + self.ki) / 2, math.nan)

    def record(self) -> dict[str, Tensor]:
        saturated = (self.beta >= self.high).double() - (self.beta <= self.low).double()
        values = {
            "set_point": self.set_point,
            "smoothed_kl": self.kl,
            "p": self.proportional,
            "i": self.integral,
            "saturation": saturated,
            "beta": self.beta,
            "margin": self.margin(),
            "stuck": self.stuck,
        }
        return {f"{name}.{self.site}": value for name, value in values.items()}

    def after_record(self, svi: SVI, row: Mapping[str, float]) -> None:
        """Warns, once each, of a set point out of reach and of a loop near its stability limit."""
        self._warn_of_reach(row, self.patience)
        if row[f"margin.{self.site}"] > 0.5 and "margin" not in self._warned:
            self._warned.add("margin")
            warnings.warn(
                f"{type(self).__name__}({self.site!r}): stability margin {row[f'margin.{self.site}']:.2f} (unstable "
                "from 1): the KL reacts so strongly to beta that the loop may oscillate. Lower ki and kp, or raise "
                "beta_min.",
                stacklevel=2,
            )

    def after_fit(self, run: object, data: object) -> None:
        """Warns of a set point out of reach at the end of a run too short for ``patience``."""
        row = {name: float(value) for name, value in self.record().items()}
        self._warn_of_reach(row, min(self.patience, max(1.0, 0.1 * float(self.count))))

    def _warn_of_reach(self, row: Mapping[str, float], patience: float) -> None:
        beta, kl, set_point, stuck = (row[f"{k}.{self.site}"] for k in ("beta", "smoothed_kl", "set_point", "stuck"))
        if stuck < patience or "reach" in self._warned:
            return
        self._warned.add("reach")
        limit, reach, cure = (
            ("beta_min", "above what the KL reaches", "Lower the target or beta_min")
            if beta <= self.low
            else ("beta_max", "below what the KL can be pressed to", "Raise the target or beta_max")
        )
        warnings.warn(
            f"{type(self).__name__}({self.site!r}): for {stuck:.0f} steps beta has been at {limit}={beta:.4g}, with "
            f"the KL at {kl:.4g} and the set point at {set_point:.4g} nats: the set point is {reach}. {cure}.",
            stacklevel=2,
        )
