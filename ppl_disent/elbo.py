# Copyright ppl-disent contributors.
# SPDX-License-Identifier: Apache-2.0
"""The one objective: an evidence lower bound whose terms have names, weights and one unit, nats per datum."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from pyro import poutine
from pyro.distributions import Delta
from pyro.distributions.util import scale_and_mask
from pyro.infer import ELBO
from pyro.infer.enum import get_importance_trace
from pyro.infer.util import is_validation_enabled
from pyro.poutine import Trace
from pyro.poutine.util import site_is_subsample
from torch import Tensor
from torch.distributions import kl_divergence

from ppl_disent.errors import ArgumentError, SiteError
from ppl_disent.sites import check_sites, data_size

Term = Callable[["Step"], Tensor]


@dataclass
class Step:
    """What one evaluation of the objective produced. All terms are 0-dim tensors in nats per datum.

    Attributes:
        index: The optimisation step, counted from 1; 0 outside of training.
        batch: What was passed to model and guide.
        kl: Unscaled KL divergence per latent site.
        log_lik: Unscaled log likelihood per observed site.
        extra: Unweighted value per additional term.
        loss: ``sum kl_scale * kl - sum lik_scale * log_lik + sum weight * extra``, once it is known.

    Example:
        >>> method = vae((1, 8, 8), latent_dim=3)
        >>> step = method.elbo.evaluate(method.model, method.guide, torch.rand(5, 1, 8, 8))
        >>> list(step.named()), step["z"].shape
        (['loss', 'kl.z', 'log_lik.x'], torch.Size([5, 3]))
    """

    index: int | Tensor
    batch: tuple[Tensor, ...]
    kl: dict[str, Tensor]
    log_lik: dict[str, Tensor]
    extra: dict[str, Tensor] = field(default_factory=dict)
    loss: Tensor | None = None
    guide_trace: Trace | None = field(default=None, repr=False)
    model_trace: Trace | None = field(default=None, repr=False)

    def __getitem__(self, name: str) -> Any:
        """The value of a site (of the guide first, then of the model), or what the guide returned under that name."""
        traces = [trace for trace in (self.guide_trace, self.model_trace) if trace is not None]
        for trace in traces:
            if name in trace.nodes and trace.nodes[name]["type"] == "sample":
                return trace.nodes[name]["value"]
        returned = self.guide_trace.nodes["_RETURN"]["value"] if self.guide_trace is not None else None
        if isinstance(returned, Mapping) and name in returned:
            return returned[name]
        sites = [n for trace in traces for n, node in trace.nodes.items() if node["type"] == "sample"]
        raise KeyError(f"no site {name!r}, and the guide returned nothing under that name; sites: {sites}")

    def named(self) -> dict[str, Tensor]:
        """Every term under its full name: ``loss``, ``kl.z``, ``log_lik.x``, ``extra.tc``."""
        terms = {} if self.loss is None else {"loss": self.loss}
        for kind in ("kl", "log_lik", "extra"):
            terms.update({f"{kind}.{name}": value for name, value in getattr(self, kind).items()})
        return terms


class TermELBO(ELBO):
    """Negative evidence lower bound with named, separately weighted terms, in nats per datum.

    A latent site contributes its analytic KL divergence where torch knows one, else the sampled ``log q - log p``; an
    auxiliary site of an autoguide its ``log q``, to the site that it drives where their names say so (AutoNormal). An
    observed site contributes its log likelihood. The sums over the batch are
    divided by the size of the plate over the data (its full size where it subsamples), so a weight never depends on
    the batch size. The programs stay the true p and q: scales live here, may be zero or negative, and callbacks may
    rewrite them between two steps.

    Works as a loss of :class:`ppl_disent.SVI` and of Pyro's own ``SVI`` (see :func:`ppl_disent.pyro_pair`), and as
    ``TermELBO()(model, guide)``, a module to be minimised with any torch optimizer. Evaluating it makes no host
    synchronisation.

    Args:
        kl_scale: Weight of the KL divergence, for all latent sites or per site (sites not named keep 1).
        lik_scale: Weight of the log likelihood, for all observed sites or per site (sites not named keep 1).
        terms: ``{name: (weight, term)}``, where ``term`` maps a :class:`Step` to a 0-dim tensor in nats per datum.
            A term that also is a callback (``after_step``, ``before_backward``, ...) is called as one by our SVI.
        num_particles: Monte Carlo samples per datum. Terms are computed for each and averaged.

    Attributes:
        kl_scale: The live weights ``{site: 0-dim tensor}``, complete after the first evaluation; ``fit`` begins with
            those given.

    Raises:
        SiteError: Under validation (the first step of ``fit``; ``pyro.enable_validation``): when model and guide do
            not match; and always when ``kl_scale`` or ``lik_scale`` name a site that does not exist.

    .. warning:: An analytic KL is right only if a latent's parents in the model are not its descendants in the guide
       (as for ``pyro.infer.TraceMeanField_ELBO``); a pair that draws its latents in different orders is warned about.

    Example:
        >>> def sparse(step):  # a term is any function of a step
        ...     return step["z"].abs().sum(1).mean()
        >>> method = vae((1, 8, 8))
        >>> method.elbo = TermELBO(kl_scale={"z": 4.0}, terms={"sparse": (0.1, sparse)})
        >>> list(method.fit(load("digits"), steps=3, progress=False).history)
        ['loss', 'kl.z', 'log_lik.x', 'extra.sparse', 'kl_scale.z']
    """

    def __init__(
        self,
        *,
        kl_scale: float | Mapping[str, float] = 1.0,
        lik_scale: float | Mapping[str, float] = 1.0,
        terms: Mapping[str, tuple[float | Tensor, Term]] | None = None,
        num_particles: int = 1,
    ) -> None:
        if not isinstance(num_particles, int) or num_particles < 1:
            raise ArgumentError("num_particles", got=num_particles, expected="an integer of at least 1")
        super().__init__(num_particles=num_particles)
        for name, term in (terms or {}).items():
            if not (isinstance(term, tuple) and len(term) == 2 and callable(term[1])):
                raise ArgumentError(f"terms[{name!r}]", got=term, expected="a pair (weight, callable)")
            if not isinstance(term[0], Tensor):
                _split_scale(f"terms[{name!r}]", term[0])
        self._kl_default, self._kl_given = _split_scale("kl_scale", kl_scale)
        self.kl_scale: dict[str, Tensor]
        self.reset()
        self._lik_default, self.lik_scale = _split_scale("lik_scale", lik_scale)
        self.terms: dict[str, tuple[float | Tensor, Term]] = dict(terms or {})

    def reset(self) -> None:
        """Puts the live weights back to those given. ``fit`` begins with it: what callbacks wrote was of their run."""
        self.kl_scale = {site: torch.tensor(v, dtype=torch.float64) for site, v in self._kl_given.items()}
        self._bound: object = None

    @property
    def given_kl_scale(self) -> dict[str, float]:
        """The weights of the KL divergences as they were given; ``""`` is that of sites not named."""
        return {"": self._kl_default, **self._kl_given}

    def measure(self, model: Any, guide: Any, *batch: Tensor, index: int | Tensor = 0) -> Step:
        """All terms of one evaluation; their weighted sum is not made yet (``step.loss`` is None)."""
        steps = [self._particle(model, guide, batch, index) for _ in range(self.num_particles)]
        step = steps[-1]
        if len(steps) > 1:
            for kind in ("kl", "log_lik", "extra"):
                means = {k: sum(getattr(s, kind)[k] for s in steps) / len(steps) for k in getattr(step, kind)}
                setattr(step, kind, means)
        return step

    def combine(self, step: Step) -> Tensor:
        """The weighted sum of a step's terms, a 0-dim tensor: the only place where terms get their signs."""
        parts = [self.kl_scale[site] * value for site, value in step.kl.items()]
        parts += [-self.lik_scale.get(site, self._lik_default) * value for site, value in step.log_lik.items()]
        parts += [self.terms[name][0] * value for name, value in step.extra.items()]
        return functools.reduce(torch.add, parts)

    def evaluate(self, model: Any, guide: Any, *batch: Tensor) -> Step:
        """All terms of one evaluation and their weighted sum, ``step.loss``."""
        step = self.measure(model, guide, *batch)
        step.loss = self.combine(step)
        return step

    def differentiable_loss(self, model: Any, guide: Any, *batch: Tensor) -> Tensor:
        """The loss as a 0-dim tensor with gradient (Pyro's interface)."""
        return self.combine(self.measure(model, guide, *batch))

    def loss(self, model: Any, guide: Any, *batch: Tensor) -> Tensor:
        """The loss as a detached 0-dim tensor (Pyro's interface)."""
        return self.differentiable_loss(model, guide, *batch).detach()

    def loss_and_grads(self, model: Any, guide: Any, *batch: Tensor) -> Tensor:
        """The loss as a detached 0-dim tensor; its gradients are added to the parameters (Pyro's interface)."""
        loss = self.differentiable_loss(model, guide, *batch)
        loss.backward()
        return loss.detach()

    def _get_trace(self, model: Any, guide: Any, args: tuple[Tensor, ...], kwargs: dict) -> tuple[Trace, Trace]:
        if not is_validation_enabled():
            # Not get_importance_trace: it computes log p(z) and log q(z), which an analytic KL does not need.
            return _trace(model, guide, args, kwargs)
        with warnings.catch_warnings():
            # Pyro only warns of sites that do not match; `check_sites` raises, with all the reasons.
            warnings.filterwarnings("ignore", "Found ")
            try:
                traces = get_importance_trace("flat", float("inf"), model, guide, args, kwargs)
            except (ValueError, RuntimeError) as error:
                # A guide's value of the wrong shape breaks the model anywhere; say so, if that is the reason.
                try:
                    alone = [poutine.trace(program).get_trace(*args, **kwargs) for program in (model, guide)]
                except Exception:
                    raise error from None
                check_sites(*alone)
                raise
        check_sites(*traces)
        return traces

    def _particle(self, model: Any, guide: Any, batch: tuple[Tensor, ...], index: int | Tensor) -> Step:
        model_trace, guide_trace = self._get_trace(model, guide, batch, {})
        model_trace.compute_log_prob(lambda name, site: site["is_observed"])
        n = data_size(model_trace, batch)
        kl, log_lik = {}, {}
        for name, site in model_trace.nodes.items():
            if site["type"] != "sample" or site_is_subsample(site):
                continue
            if not site["is_observed"]:
                kl[name] = _kl(name, guide_trace, model_trace) / n
            elif not site["infer"].get("_deterministic"):
                log_lik[name] = site["log_prob_sum"] / n
        for name, site in guide_trace.nodes.items():
            if site["type"] == "sample" and site["infer"].get("is_auxiliary"):
                guide_trace.compute_log_prob(lambda other, _, name=name: other == name)
                # AutoNormal draws "m_unconstrained", and m is a Delta at its image: together they are q(m).
                drives = name.removesuffix("_unconstrained")
                kl[drives] = kl.get(drives, 0.0) + site["log_prob_sum"] / n
        self._bind(kl, log_lik)
        step = Step(index, batch, kl, log_lik, guide_trace=guide_trace, model_trace=model_trace)
        step.extra = {name: term(step) for name, (_, term) in self.terms.items()}
        return step

    def _bind(self, kl: dict[str, Tensor], log_lik: dict[str, Tensor]) -> None:
        """Completes the live weights and puts them where the terms are, the first time these are seen."""
        signature = {site: (value.device, value.dtype) for site, value in kl.items()}
        if self._bound == signature:
            return
        for what, given, sites in (("kl_scale", self.kl_scale, kl), ("lik_scale", self.lik_scale, log_lik)):
            if unknown := given.keys() - sites.keys():
                kind = "latent" if what == "kl_scale" else "observed"
                raise SiteError(f"{what}: no {kind} site {sorted(unknown)}; the model has {sorted(sites)}.")
        self.kl_scale = {
            site: torch.as_tensor(self.kl_scale.get(site, self._kl_default), dtype=torch.float64).to(value, copy=True)
            for site, value in kl.items()
        }
        self._bound = signature


def _split_scale(name: str, scale: float | Mapping[str, float]) -> tuple[float, dict[str, float]]:
    """A default for the sites not named, and the values of those that are."""
    default, given = (1.0, dict(scale)) if isinstance(scale, Mapping) else (scale, {})
    for value in (default, *given.values()):
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not abs(value) < float("inf"):
            raise ArgumentError(name, got=scale, expected="a finite number, or {site: finite number}")
    return default, given


def _trace(model: Any, guide: Any, args: tuple[Tensor, ...], kwargs: dict) -> tuple[Trace, Trace]:
    guide_trace = poutine.trace(guide).get_trace(*args, **kwargs)
    model_trace = poutine.trace(poutine.replay(model, trace=guide_trace)).get_trace(*args, **kwargs)
    return model_trace, guide_trace


def _kl(name: str, guide_trace: Trace, model_trace: Trace) -> Tensor:
    """KL(q || p) of one latent site, summed over the batch: analytic where torch knows it, else log q - log p."""
    q, p = guide_trace.nodes[name], model_trace.nodes[name]
    base = q["fn"]
    while hasattr(base, "base_dist"):
        base = base.base_dist
    try:
        if isinstance(base, Delta):
            raise NotImplementedError  # Pyro's KL of a Delta forgets its log_density, an autoguide's Jacobian
        kl = kl_divergence(q["fn"], p["fn"])
    except NotImplementedError:
        guide_trace.compute_log_prob(lambda site_name, _: site_name == name)
        model_trace.compute_log_prob(lambda site_name, _: site_name == name)
        return q["log_prob_sum"] - p["log_prob_sum"]
    kl = scale_and_mask(kl, scale=q["scale"], mask=q["mask"])
    return kl.sum() if isinstance(kl, Tensor) else torch.zeros((), device=q["value"].device)
