# Copyright ppl-disent contributors.
# SPDX-License-Identifier: Apache-2.0
"""Questions to a fitted pair, each an effect handler over the same two programs."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from pyro import poutine
from pyro.distributions import Distribution
from torch import Tensor, nn

from ppl_disent.errors import ArgumentError, SiteError
from ppl_disent.pair import AtMean, Pair, Shapes, Unobserved, values_of
from ppl_disent.sites import latents, takes_conditions

if TYPE_CHECKING:
    from ppl_disent.calibration import Calibration
    from ppl_disent.diagnosis import Diagnosis
    from ppl_disent.evidence import Evidence


class Posterior:
    """A fitted pair, ready for questions. Every answer is made without gradient and in eval mode; both are restored.

    Batches may be on any device and are moved to the programs'.

    Args:
        model: The program of p.
        guide: The program of q.
        shapes: Shape and dtype of each batch field for one datum, which ``decode`` and ``sample`` need to run the
            model without data; otherwise known from the first batch asked about.

    Example:
        >>> data = load("digits")
        >>> q = vae(data.shape, latent_dim=4).fit(data, steps=3, progress=False).posterior
        >>> (x,) = data.batch(range(100))
        >>> codes = q.encode(x)["z"].mean  # (100, 4)
        >>> strip = q.traverse("z", 0, [-2.0, 0.0, 2.0], x[:1])  # (1, 3, 1, 8, 8)
        >>> q.log_evidence(x, particles=10).value.shape
        torch.Size([100])
    """

    def __init__(self, model: nn.Module, guide: nn.Module, *, shapes: Shapes | None = None) -> None:
        self._pair = Pair(model, guide, shapes=shapes)
        self.model, self.guide = model, guide

    def encode(self, *batch: Tensor) -> dict[str, Distribution]:
        """q of each latent site given the batch, ``{site: distribution of batch shape (n,)}``.

        Where a site's distribution depends on another latent's value, that value is the mean.
        """
        with self._pair.quiet():
            sites = latents(self._pair.guide_at_mean(batch)).items()
            return {name: site["fn"] for name, site in sites if not site["infer"].get("is_auxiliary")}

    def prior(self, *batch: Tensor) -> dict[str, Distribution]:
        """p of each latent site as the model has it for the batch, ``{site: distribution of batch shape (n,)}``.

        What ``encode`` is compared with for a KL divergence per datum or per coordinate. Where a site's prior depends
        on another latent's value, that value is the guide's mean.
        """
        with self._pair.quiet():
            batch = self._pair.on_device(batch)
            values = self._pair.means(batch)
            trace = poutine.trace(poutine.condition(self.model, data=values)).get_trace(*batch)
            return {name: trace.nodes[name]["fn"] for name in values if name in trace.nodes}

    def decode(self, *batch: Tensor, **sites: Tensor) -> Distribution:
        """p(x | latent values), a distribution of batch shape ``(n,)``.

        Args:
            *batch: Conditions of the model, with or without x itself where it has none; may be left out.
            **sites: ``{site: (n, ...) values}``; sites not given are drawn from the prior.

        Raises:
            SiteError: For a site that the model does not have.
            ArgumentError: Without a batch or a value, or if their lengths differ.
        """
        with self._pair.quiet():
            batch, sites = self._pair.on_device(batch), self._pair.on_device_dict(sites)
            lengths = {len(value) for value in (*batch, *sites.values())}
            if len(lengths) != 1:
                got = sorted(lengths) or "nothing"
                raise ArgumentError("batch, sites", got=got, expected="a batch or latent values, of one length")
            model: Any = self.model
            if len(batch) < (fields := len(self._pair.shapes or [None])):
                if not batch and fields > 1 and takes_conditions(self.model):
                    raise ArgumentError("batch", got="nothing", expected="the conditions of the model, beside x")
                # In this order: a condition inside of `Unobserved` would be forgotten.
                blank, model = self._pair.blank(lengths.pop()), Unobserved()(self.model)
                batch = (*blank[: fields - len(batch)], *batch)
            return self._pair.decode(model, batch, sites)

    def reconstruct(self, *batch: Tensor) -> Tensor:
        """The mean of p(x | latents) at the guide's means: ``(n, *x_shape)``."""
        with self._pair.quiet():
            batch = self._pair.on_device(batch)
            return self._pair.decode(self.model, batch, self._pair.means(batch)).mean

    def sample(self, n: int, *conditions: Tensor, noise: bool = False) -> Tensor:
        """Images of the model: latents from the prior, then the mean of p(x | latents): ``(n, *x_shape)``.

        Args:
            n: How many.
            *conditions: What the model takes beside x, ``(n, ...)`` tensors.
            noise: Draw x from p(x | latents), rather than its mean.
        """
        if not isinstance(n, int) or n < 1:
            raise ArgumentError("n", got=n, expected="an integer of at least 1")
        with self._pair.quiet():
            batch = self._pair.generated(n, conditions)
            p = self._pair.decode(Unobserved()(self.model), batch, {})
            return p.sample() if noise else p.mean

    def traverse(
        self, site: str, dim: int, values: Tensor | Sequence[float], *batch: Tensor, units: str = "latent"
    ) -> Tensor:
        """Decodes each datum with one latent coordinate replaced by each of ``values``, all else at the guide's means.

        Args:
            site: A latent site with values of shape ``(n, latent)``.
            dim: The coordinate.
            values: Its values, one-dimensional.
            *batch: The data; without any, all else is at the prior's mean and n is 1.
            units: Of the values: ``"latent"``, as they are, or ``"sd"``, standard deviations of the model's prior.

        Returns:
            Means of p(x | latents), an ``(n, len(values), *x_shape)`` tensor.

        Raises:
            SiteError: For an unknown site.
            ArgumentError: For a ``dim`` that the site does not have, or ``values`` that are no vector.
        """
        with self._pair.quiet():
            if batch:
                batch = self._pair.on_device(batch)
                at_mean = self._pair.means(batch)
            else:
                batch = self._pair.blank(1)
                at_mean = values_of(poutine.trace(AtMean()(self.model)).get_trace(*batch))
            if site not in at_mean:
                raise SiteError(f"no latent site {site!r}; there are {sorted(at_mean)}.")
            at = at_mean[site]
            asked, whole = dim, hasattr(dim, "__index__") and not isinstance(dim, bool)
            dim = operator.index(dim) if whole else -1
            if at.dim() != 2 or not whole or not -at.shape[1] <= dim < at.shape[1]:
                raise ArgumentError(
                    "dim", got=asked, expected=f"a coordinate of {site!r}, which has {tuple(at.shape[1:])}"
                )
            row = torch.as_tensor(values, dtype=at.dtype, device=at.device)
            if row.dim() != 1 or not len(row):
                raise ArgumentError("values", got=values, expected="a vector of at least one value")
            if units not in ("latent", "sd"):
                raise ArgumentError("units", got=units, expected="'latent' or 'sd'")
            n, m = len(at), len(row)
            repeated = {name: value.repeat_interleave(m, 0) for name, value in at_mean.items()}
            repeated[site][:, dim] = row.repeat(n)
            if units == "sd":
                trace = poutine.trace(poutine.condition(self.model, data=at_mean)).get_trace(*batch)
                repeated[site][:, dim] *= trace.nodes[site]["fn"].stddev[:, dim].repeat_interleave(m)
            many = tuple(field.repeat_interleave(m, 0) for field in batch)
            return self._pair.decode(self.model, many, repeated).mean.unflatten(0, (n, m))

    def swap(self, site: str, batch: Sequence[Tensor], donor: Sequence[Tensor]) -> Distribution:
        """p(x | latents) of ``batch`` with one site taken from ``donor``, all else at the guide's means.

        For CSVAE's ``w_i`` this is attribute transfer; a condition, such as CVAE's y, is no site and is changed by
        ``decode(x, y_new, z=codes)``.

        Args:
            site: A latent site.
            batch: The fields that the guide takes, n data.
            donor: The same fields, of n data or of one.

        Returns:
            A distribution of batch shape ``(n,)``.

        Raises:
            SiteError: For an unknown site.
            ArgumentError: For a batch or donor that is no tuple of tensors, or a donor of another length.
        """
        for name, fields in (("batch", batch), ("donor", donor)):
            if not isinstance(fields, (tuple, list)):
                raise ArgumentError(name, got=fields, expected="a tuple of the tensors that the guide takes")
        with self._pair.quiet():
            batch = self._pair.on_device(tuple(batch))
            sites = self._pair.means(batch)
            if site not in sites:
                raise SiteError(f"no latent site {site!r}; there are {sorted(sites)}.")
            given, own = self._pair.means(tuple(donor))[site], sites[site]
            if len(given) not in (1, len(own)):
                raise ArgumentError("donor", got=f"{len(given)} data", expected=f"{len(own)}, as in batch, or one")
            sites[site] = given.expand_as(own)
            return self._pair.decode(self.model, batch, sites)

    def log_evidence(self, *batch: Tensor, particles: int = 1000, rows: int = 10_000) -> Evidence:
        """log p(x) of each datum, given y where the model takes it, by importance sampling from the guide.

        Args:
            *batch: The fields that the guide takes, n data.
            particles: Draws for each datum.
            rows: Data times particles at a time, which bounds the memory.

        Raises:
            SiteError: For a latent without a density for each datum: a point mass, or one that all data share.
            ArgumentError: For a number below 1.

        References:
            Importance Weighted Autoencoders (Burda et al., 2016), https://arxiv.org/abs/1509.00519
        """
        from ppl_disent.evidence import log_evidence

        with self._pair.quiet():
            return log_evidence(self._pair, self._pair.data(batch), particles, rows)

    def diagnose(self, *batch: Tensor, particles: int = 1000, rows: int = 10_000, seed: int = 0) -> Diagnosis:
        """Whether this posterior can be trusted on these data: see :class:`ppl_disent.Diagnosis`.

        Whether it is right on data of the model itself, where the answer is known, is :meth:`calibrate`.

        Args:
            *batch: The fields that the guide takes, n data; some hundreds tell most.
            particles: Draws for each datum, at least 25.
            rows: Data times particles at a time, which bounds the memory.
            seed: Of all draws; generators are left as they were.

        Raises:
            SiteError: For a latent that all data share, or that the guide does not have.
            ArgumentError: For a number below its least, or fewer than two data.

        Example:
            >>> import torch, ppl_disent as pd
            >>> method = pd.vae((1, 4, 4), latent_dim=2)
            >>> q = pd.Posterior(method.model, method.guide)
            >>> q.diagnose(torch.rand(50, 1, 4, 4), particles=100).ok  # it has not been trained
            False
        """
        from ppl_disent.diagnosis import diagnose

        with self._pair.quiet(seed):
            return diagnose(self._pair, self._pair.data(batch), particles, rows, seed)

    def calibrate(
        self, *conditions: Tensor, n: int = 1000, draws: int = 199, rows: int = 10_000, seed: int = 0
    ) -> Calibration:
        """Whether the guide finds the latents that data were made from: see :class:`ppl_disent.Calibration`.

        Draws latents and x from the model and asks how the former rank among draws from the guide. It tells of data of
        the model (black and white from a Bernoulli trained on grey), and of them all together: a guide that is too wide
        here and too narrow there may pass. Whether it is right on data of yours, one by one, is :meth:`diagnose`.

        Args:
            *conditions: What the model takes beside x, ``(n, ...)`` tensors.
            n: Data, at least 100.
            draws: From the guide for each, at least 19; with 199 the intervals are exactly those that are named.
            rows: Data times draws at a time, which bounds the memory.
            seed: Of all draws; generators are left as they were.

        Raises:
            SiteError: For a latent that all data share, or that the guide does not have.
            ArgumentError: For a number below its least, other conditions than the model takes, or before shapes of the
                data are known.

        Example:
            >>> import torch, ppl_disent as pd
            >>> method = pd.vae((1, 4, 4), latent_dim=2)
            >>> q = pd.Posterior(method.model, method.guide, shapes=[((1, 4, 4), torch.float32)])
            >>> q.calibrate(n=100).ok  # it has not been trained
            False
        """
        from ppl_disent.calibration import calibrate

        with self._pair.quiet(seed):
            return calibrate(self._pair, conditions, n, draws, rows, seed)

    def explore(self, *batch: Tensor, label_names: Sequence[str] = ()) -> Any:
        """Latent values moved by hand in a notebook, beside the datum: see :func:`ppl_disent.explore.explore`.

        Args:
            *batch: The fields that the guide takes, some tens of data, x first: images.
            label_names: What the labels are called.

        Raises:
            ArgumentError: For x that are no images, names that are not one a label, or where ipywidgets is missing.

        Example:
            >>> data = load("digits_bars")
            >>> q = csvae(data.shape, labels=1).fit(data, steps=3, progress=False).posterior
            >>> panel = q.explore(*data.batch(range(50)), label_names=data.label_names)
        """
        from ppl_disent.explore import explore

        return explore(self, batch, label_names)

    def to_arviz(self, *batch: Tensor, draws: int = 100, predictive: int | None = None, **options: Any) -> Any:
        """Draws, densities and data for ArviZ: an ``InferenceData``, or from version 1 on a ``DataTree``.

        The groups are ``posterior`` and ``prior`` (given the conditions), ``posterior_predictive`` and
        ``prior_predictive``, ``log_likelihood``, ``sample_stats``, ``observed_data``, and ``constant_data`` for the
        conditions. Axes are ``chain``, ``draw``, ``datum`` and a site's own: ``z_dim``, or ``channel``, ``row`` and
        ``column``. ``sample_stats`` has for each draw and datum, in nats, ``log_lik``, ``log_prior``, their sum ``lp``,
        ``log_q``, and the importance weight ``log_weight``; not the last two for a point mass.

        Args:
            *batch: The fields that the guide takes, n data.
            draws: Of the latents, independent ones in one chain.
            predictive: How many of them x is drawn for; as many as ``memory`` allows by default.
            **options: ``groups``, some of those above; ``constants``, ``{name: (n, ...) values}`` such as factors, for
                ``constant_data``; ``dims`` and ``coords``, names for axes and labels along them, as in ArviZ's
                ``from_dict``; ``history``, a run's, as the group ``training``; ``seed``; ``memory``, bytes that the
                answer may take, 8e8 by default; ``rows``, draws times data made at a time, 1000 by default.

        Raises:
            ArgumentError: For an argument out of its range, or an answer of more bytes than ``memory``.

        Example:
            >>> from ppl_disent import Posterior, vae
            >>> method = vae((6,), latent_dim=2)
            >>> found = Posterior(method.model, method.guide).to_arviz(torch.rand(5, 6), draws=30)
            >>> dict(found.posterior.sizes)
            {'chain': 1, 'draw': 30, 'datum': 5, 'z_dim': 2}
        """
        from ppl_disent.export import to_arviz

        return to_arviz(self._pair, batch, draws=draws, predictive=predictive, **options)

    def refine(
        self, *batch: Tensor, steps: int = 500, lr: float = 0.02, particles: int = 8, seed: int = 0
    ) -> Posterior:
        """The posterior of these data with a Gaussian of its own for each datum and latent site, no longer amortised.

        Means and standard deviations start at the guide's and climb the ELBO of the model, which stays as it is. What
        they gain is the amortisation gap: ``refine(x).log_evidence(x).elbo - log_evidence(x).elbo``.

        Args:
            *batch: The fields that the guide takes, n data; the answer takes no others.
            steps: Of Adam, for all data.
            lr: Its learning rate, which falls to zero.
            particles: Draws for each datum and step.
            seed: Of the draws.

        Raises:
            SiteError: For a site that is no Normal in the guide, or one that all data share.
            ArgumentError: For an argument out of its range.
            NonFiniteError: If a mean or a standard deviation becomes NaN.

        References:
            Semi-Amortized Variational Autoencoders (Kim et al., 2018), https://arxiv.org/abs/1802.02550; Inference
            Suboptimality in Variational Autoencoders (Cremer et al., 2018), https://arxiv.org/abs/1801.03558

        Example:
            >>> from ppl_disent import Posterior, vae
            >>> method, x = vae((6,), latent_dim=2), torch.rand(5, 6)
            >>> Posterior(method.model, method.guide).refine(x, steps=10).encode(x)["z"].mean.shape
            torch.Size([5, 2])
        """
        from ppl_disent.refine import refine

        with self._pair.quiet(seed):
            guide = refine(self._pair, self._pair.on_device(batch), steps, lr, particles)
        return Posterior(self.model, guide, shapes=self._pair.shapes)

    def nuts(
        self,
        *datum: Tensor,
        draws: int = 1000,
        warmup: int = 500,
        chains: int = 2,
        seed: int = 0,
        progress: bool = False,
    ) -> Any:
        """The posterior of one datum by Hamiltonian Monte Carlo, which knows of no guide: a gold standard for one.

        Args:
            *datum: The fields of the model, a batch of one.
            draws: A chain.
            warmup: Draws before them, which adapt step size and mass.
            chains: One after another, each from a draw of the prior.
            seed: Of all of them.
            progress: Show a progress bar.

        Returns:
            As ``to_arviz``; ``sample_stats`` has ``diverging`` and no ``log_q``.

        Raises:
            SiteError: For a latent that all data share.
            ArgumentError: For more data than one, or an argument out of its range.

        References:
            The No-U-Turn Sampler (Hoffman & Gelman, 2014), https://arxiv.org/abs/1111.4246

        Example:
            >>> from ppl_disent import Posterior, vae
            >>> method = vae((6,), latent_dim=2)
            >>> found = Posterior(method.model, method.guide).nuts(torch.rand(1, 6), draws=5, warmup=5)
            >>> dict(found.posterior.sizes)
            {'chain': 2, 'draw': 5, 'datum': 1, 'z_dim': 2}
        """
        from ppl_disent.export import as_arviz
        from ppl_disent.nuts import nuts

        with self._pair.quiet(seed):
            return as_arviz(nuts(self._pair, self._pair.on_device(datum), draws, warmup, chains, progress), {})
