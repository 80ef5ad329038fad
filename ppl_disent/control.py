# Copyright ppl-disent contributors.
# SPDX-License-Identifier: Apache-2.0
"""Callbacks that set the weight of a KL divergence while a pair trains: annealing, PI, incremental PI.

Each works on any latent site, by itself (``beta = controller.update(kl)``, one call an optimisation step) or inside
``fit(..., callbacks=[controller])``, where it sets beta for the very batch whose KL it has just seen, as the papers'
codes do. All state is float64 and lives on the device in buffers, so that a step needs no host synchronisation and
``state_dict`` holds everything.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from ppl_disent.elbo import Step
from ppl_disent.errors import ArgumentError, SiteError

if TYPE_CHECKING:
    from ppl_disent.svi import SVI

# Steps over which the slope of KL against beta is estimated (facts of the loop change slowly).
_MARGIN_WINDOW = 2000.0


class KLScale(nn.Module):
    """Base of the callbacks here: writes ``update(kl)`` into ``kl_scale[site]`` before the terms are summed.

    Args:
        site: The latent site whose KL divergence is weighted.
        **settings: What the callback was made with; compared when a run is resumed.
    """

    count: Tensor
    beta: Tensor

    def __init__(self, site: str, **settings: float | bool | None) -> None:
        super().__init__()
        self.site, self.settings = site, settings
        self._state("count", 0.0)

    def _state(self, name: str, value: float | list[float]) -> None:
        self.register_buffer(name, torch.tensor(value, dtype=torch.float64))

    def update(self, kl: float | Tensor) -> Tensor:
        """Advances by one optimisation step.

        Args:
            kl: Unscaled KL divergence of this step's batch, nats per datum; a number or a 0-dim tensor.

        Returns:
            beta, the weight of the KL divergence in this step: a 0-dim float64 tensor.
        """
        raise NotImplementedError

    def before_fit(self, svi: SVI, data: object) -> None:
        """Checks the site."""
        if self.site not in svi.elbo.kl_scale:
            sites = sorted(svi.elbo.kl_scale)
            raise SiteError(f"{type(self).__name__}: no latent site {self.site!r}; the model has {sites}.")

    def before_backward(self, svi: SVI, step: Step) -> None:
        """Sets this step's weight."""
        svi.elbo.kl_scale[self.site].copy_(self.update(step.kl[self.site].detach()))

    def record(self) -> dict[str, Tensor]:
        """Columns of the history: 0-dim tensors on the device."""
        return {}

    def extra_repr(self) -> str:
        return ", ".join([repr(self.site), *(f"{k}={v}" for k, v in self.settings.items())])


class LinearAnnealing(KLScale):
    """beta from ``start`` to ``stop`` in equal increments over ``steps`` steps, then constant.

    Source: Bowman et al., "Generating Sentences from a Continuous Space" (2016), https://arxiv.org/abs/1511.06349,
    section 3.1 (there a sigmoid; linear is what is commonly used). Step 1 has ``start``, step ``steps + 1`` ``stop``.
    """

    def __init__(self, site: str, *, steps: int, start: float = 0.0, stop: float = 1.0) -> None:
        super().__init__(site, steps=steps, start=start, stop=stop)
        _require("steps", steps, steps >= 1, "at least 1")
        _require("start", start, math.isfinite(start), "a finite number")
        _require("stop", stop, math.isfinite(stop), "a finite number")
        self.steps, self.start, self.stop = steps, start, stop

    def update(self, kl: float | Tensor = 0.0) -> Tensor:
        part = (self.count / self.steps).clamp(max=1.0)
        self.count += 1
        return self.start + (self.stop - self.start) * part


class CyclicalAnnealing(KLScale):
    """beta rises linearly from 0 to ``stop`` over the first ``ratio`` of each period, then holds until the period ends.

    Source: Fu et al., "Cyclical Annealing Schedule" (2019), https://arxiv.org/abs/1903.10145, equations 6 and 7
    (ratio 0.5, 4 cycles). After ``cycles`` periods beta stays at ``stop``.

    Args:
        site: The latent site.
        period: Steps a cycle.
        cycles: Number of cycles.
        ratio: Part of a cycle in which beta rises, in (0, 1].
        stop: beta at the end of each cycle.
    """

    def __init__(self, site: str, *, period: int, cycles: int = 4, ratio: float = 0.5, stop: float = 1.0) -> None:
        super().__init__(site, period=period, cycles=cycles, ratio=ratio, stop=stop)
        _require("period", period, period >= 1, "at least 1")
        _require("cycles", cycles, cycles >= 1, "at least 1")
        _require("ratio", ratio, 0 < ratio <= 1, "a number in (0, 1]")
        _require("stop", stop, math.isfinite(stop), "a finite number")
        self.period, self.cycles, self.ratio, self.stop = period, cycles, ratio, stop

    def update(self, kl: float | Tensor = 0.0) -> Tensor:
        within = (self.count % self.period) / (self.period * self.ratio)
        part = torch.where(self.count < self.period * self.cycles, within.clamp(max=1.0), 1.0)
        self.count += 1
        return self.stop * part


class _Feedback(KLScale):
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
        _require("target", target, target > 0 and math.isfinite(target), "a positive number of nats")
        _require("start", start, start >= 0 and math.isfinite(start), "a number of nats of at least 0")
        _require("step", step, step >= 0 and math.isfinite(step), "a number of nats of at least 0")
        _require("every", settings["every"], settings["every"] >= 1, "at least 1 step")
        ramp = settings["ramp"]
        _require("ramp", ramp, 1 <= ramp <= settings["every"], f"1 to every={settings['every']} steps")
        _require("kp", settings["kp"], settings["kp"] >= 0, "a number of at least 0")
        _require("ki", settings["ki"], settings["ki"] > 0, "a positive number")
        _require("patience", settings["patience"], settings["patience"] >= 1, "at least 1 step")
        low, high = settings["beta_min"], settings["beta_max"]
        _require("beta_max", high, high is None or high > low, f"None or a number above beta_min={low}")
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
        self.set_point += torch.where(rising, self.step / self.ramp, 0.0)
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
        the linearised loop, ``g (kp / 2 + ki) < 2``.
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


class PI(_Feedback):
    """ControlVAE's positional PI controller of the KL divergence.

    ``beta = kp / (1 + exp(e)) - ki * sum(e) + beta_min``, limited, with ``e = set point - KL``; the set point rises
    from ``start`` by ``step`` nats every ``every`` steps up to ``target``.

    Source: Shao et al., "ControlVAE: Controllable Variational Autoencoder" (2020), https://arxiv.org/abs/2004.05988;
    constants of shj1987/ControlVAE-ICML2020, Disentangling/P_PID.py and solver_light.py (where ki is written -0.001).

    Args:
        site: The latent site.
        target: Final set point, nats.
        start: First set point, nats.
        step: Increment of the set point, nats.
        every: Steps between increments.
        kp: Proportional gain.
        ki: Integral gain, positive.
        beta_min: Lower limit of beta, and its base value.
        beta_max: Upper limit of beta; None for none.
        patience: Steps at a limit, with the error still pushing outward, after which a warning is given.
        exact: The published arithmetic: the integral is frozen whenever the last unlimited value was beyond a limit,
            in both directions, from which it may never recover. Ours freezes it only where it would go further out.

    Raises:
        ArgumentError: For an argument outside of its range.
    """

    last: Tensor

    def __init__(
        self,
        site: str,
        *,
        target: float,
        start: float = 0.5,
        step: float = 0.15,
        every: int = 5000,
        kp: float = 0.01,
        ki: float = 0.001,
        beta_min: float = 1.0,
        beta_max: float | None = None,
        patience: int = 5000,
        exact: bool = False,
    ) -> None:
        settings = {k: v for k, v in locals().items() if k not in ("self", "site", "__class__")}
        super().__init__(site, ramp=1, **settings)
        _require("beta_min", beta_min, beta_min >= 0 and math.isfinite(beta_min), "a number of at least 0")
        self.beta.fill_(beta_min)
        # The authors start at 1, their lower limit: not frozen in the first step.
        self._state("last", float(beta_min))

    def _law(self, error: Tensor) -> Tensor:
        self.proportional.copy_(self.kp * torch.sigmoid(-error))
        change = -self.ki * error
        if self.exact:
            frozen = (self.last < self.low) | (self.last > self.high)
        else:
            value = self.proportional + self.low + (self.integral + change)
            frozen = ((value < self.low) & (change < 0)) | ((value > self.high) & (change > 0))
        self.integral += torch.where(frozen, 0.0, change)
        self.last.copy_(self.proportional + self.low + self.integral)
        return self.last.clamp(self.low, self.high)


class IncrementalPI(_Feedback):
    """DynamicVAE's incremental PI controller with moving average and hybrid annealing.

    ``beta += kp (s(e) - s(e_last)) - ki e``, limited, with ``s(e) = 1 / (1 + exp(e))``, ``e = set point - mean of the
    last `window` KLs``. The set point holds, then rises by ``step`` nats over ``ramp`` steps, once every ``every``
    steps, from ``start`` up to ``target``. It is an integral controller with a trim of ``kp``: the initial beta,
    ``ki`` and the ramp decide.

    Source: Shao et al., "DynamicVAE: Decoupling Reconstruction Error and Disentangled Representation Learning"
    (2020), https://arxiv.org/abs/2009.06795; constants of shj1987/DynamicVAE-CVPR2022, 2D-sprites/I_PID.py,
    solver_dynamic.py and run_dynamic.sh (where ki is written -0.005).

    Args:
        site: The latent site.
        target: Final set point, nats.
        start: First set point, nats.
        step: Rise of the set point a period, nats.
        every: Steps a period; the first rise begins at step ``every``.
        ramp: Steps a rise takes.
        kp: Proportional gain.
        ki: Integral gain, positive.
        window: Number of KLs averaged.
        beta_init: beta before the first step.
        beta_min: Lower limit of beta, positive.
        beta_max: Upper limit of beta; None for none.
        patience: Steps at a limit, with the error still pushing outward, after which a warning is given.
        exact: The published arithmetic: the average starts from zeros, the stored value is not limited, and the
            integral part is zero in both directions while it is below ``beta_min``, from which it may never recover
            (``beta_max`` limits what is returned). Ours averages what it has seen and limits the stored value.

    Raises:
        ArgumentError: For an argument outside of its range.
    """

    last: Tensor
    last_error: Tensor
    recent: Tensor

    def __init__(
        self,
        site: str,
        *,
        target: float,
        start: float = 0.5,
        step: float = 0.15,
        every: int = 6000,
        ramp: int = 1000,
        kp: float = 0.01,
        ki: float = 0.005,
        window: int = 5,
        beta_init: float = 50.0,
        beta_min: float = 0.1,
        beta_max: float | None = None,
        patience: int = 5000,
        exact: bool = False,
    ) -> None:
        settings = {k: v for k, v in locals().items() if k not in ("self", "site", "__class__")}
        super().__init__(site, **settings)
        _require("beta_min", beta_min, beta_min > 0 and math.isfinite(beta_min), "a positive number")
        _require("beta_init", beta_init, beta_min <= beta_init <= self.high, "a number between beta_min and beta_max")
        _require("window", window, window >= 1, "at least 1")
        self.window = window
        self.beta.fill_(beta_init)
        self._state("last", float(beta_init))
        self._state("last_error", 0.0)
        self._state("recent", [0.0] * window)

    def _smooth(self, kl: Tensor) -> Tensor:
        self.recent.copy_(torch.cat((self.recent[1:], kl.reshape(1))))
        # A running sum from the oldest on, in the order in which the authors' mean adds.
        total = self.recent.cumsum(0)[-1]
        return total / (self.window if self.exact else self.count.clamp(max=self.window))

    def _law(self, error: Tensor) -> Tensor:
        self.proportional.copy_(self.kp * (torch.sigmoid(-error) - torch.sigmoid(-self.last_error)))
        change = -self.ki * error
        if self.exact:
            change = torch.where(self.last < self.low, 0.0, change)
        self.integral.copy_(change)
        self.last += self.proportional + self.integral
        if not self.exact:
            self.last.clamp_(self.low, self.high)
        self.last_error.copy_(error)
        return self.last.clamp(self.low, self.high)


def _require(name: str, got: object, condition: bool, expected: str) -> None:
    if not condition:
        raise ArgumentError(name, got=got, expected=expected)
