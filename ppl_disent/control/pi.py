# Copyright ppl-disent contributors.
# SPDX-License-Identifier: Apache-2.0
"""The PI controllers of ControlVAE (positional) and DynamicVAE (incremental)."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ppl_disent.control.base import require
from ppl_disent.control.feedback import Feedback


class PI(Feedback):
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
            in both directions, from which it may never recover. Ours lets it go no further than beta's limits.

    Raises:
        ArgumentError: For an argument outside of its range.

    Example:
        >>> controller = PI("z", target=18.0, start=18.0)
        >>> [round(float(controller.update(kl)), 3) for kl in (30.0, 24.0)]  # the KL is too large: beta rises
        [1.022, 1.028]
        >>> run = vae((1, 8, 8)).fit(load("digits"), steps=3, callbacks=[PI("z", target=5.0)], progress=False)
        >>> list(run.history.filter(regex="beta|set_point"))
        ['set_point.z', 'beta.z']
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
        require("beta_min", beta_min, beta_min >= 0 and math.isfinite(beta_min), "a number of at least 0")
        self.beta.fill_(beta_min)
        # The authors start at 1, their lower limit: not frozen in the first step.
        self._state("last", float(beta_min))

    def _law(self, error: Tensor) -> Tensor:
        self.proportional.copy_(self.kp * torch.sigmoid(-error))
        change = -self.ki * error
        if self.exact:
            frozen = (self.last < self.low) | (self.last > self.high)
            self.integral += torch.where(frozen, 0.0, change)
        else:
            # Up to where beta reaches its limit, never further; a way back is always open.
            lowest = torch.minimum(self.integral, -self.proportional)
            highest = torch.maximum(self.integral, self.high - self.low - self.proportional)
            self.integral.copy_((self.integral + change).clamp(lowest, highest))
        self.last.copy_(self.proportional + self.low + self.integral)
        return self.last.clamp(self.low, self.high)


class IncrementalPI(Feedback):
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

    Example:
        >>> controller = IncrementalPI("z", target=18.0, start=18.0, beta_init=1.0, window=1)
        >>> [round(float(controller.update(kl)), 3) for kl in (30.0, 18.0, 6.0)]  # too much, right, too little
        [1.065, 1.06, 0.995]
        >>> run = csvae((1, 8, 8), labels=1).fit(
        ...     load("digits_bars"), steps=3, callbacks=[IncrementalPI("w_0", target=2.0)], progress=False
        ... )
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
        require("beta_min", beta_min, beta_min > 0 and math.isfinite(beta_min), "a positive number")
        require("beta_init", beta_init, beta_min <= beta_init <= self.high, "a number between beta_min and beta_max")
        require("window", window, isinstance(window, int) and window >= 1, "an integer of at least 1")
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
