# Copyright ppl-disent contributors.
# SPDX-License-Identifier: Apache-2.0
"""What the latent values of data look like."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.distributions import Normal

from ppl_disent.divergence import coordinate_kl
from ppl_disent.errors import ArgumentError, SiteError
from ppl_disent.plots.figure import Figure
from ppl_disent.plots.training import COLOURS

if TYPE_CHECKING:
    from ppl_disent.posterior import Posterior


def latent_kl(q: Posterior, *batch: Tensor, site: str = "z") -> Tensor:
    """How much of each latent value is used: the mean KL divergence of q(z_i | x) from the model's p(z_i), in nats.

    Args:
        q: The posterior.
        *batch: The data, ``(n, ...)`` tensors.
        site: A latent site, normal under both programs, or with a known divergence of each of its values.

    Returns:
        A ``(latent,)`` tensor.

    Raises:
        SiteError: For an unknown site, or one whose divergence is not known.

    Example:
        >>> from ppl_disent import plots
        >>> data = load("digits")
        >>> q = vae(data.shape, latent_dim=4).fit(data, steps=3, progress=False).posterior
        >>> plots.latent_kl(q, *data.batch(range(100))).shape
        torch.Size([4])
    """
    encoded = q.encode(*batch)
    if site not in encoded:
        raise SiteError(f"no latent site {site!r}; there are {sorted(encoded)}.")
    return coordinate_kl(site, encoded[site], q.prior(*batch)[site]).mean(0)


def scatter(codes: Mapping[str, Tensor], colours: Mapping[str, Tensor], *, points: int = 3000, seed: int = 0) -> Figure:
    """Codes in the plane: a column of panels for each pair of coordinates, a row for each colouring.

    Args:
        codes: ``{site: (n, latent)}``, means or draws. All coordinates are taken in their order, two a panel; the
            first serves again where their number is odd.
        colours: ``{name: (n,)}`` what to colour by: labels, factors, positions. Up to six different integers are
            colours of their own with a legend, all else a scale.
        points: At most so many, drawn at random.
        seed: Of that draw.

    Raises:
        ArgumentError: For an empty mapping, or shapes that do not fit.

    Example:
        >>> from ppl_disent import plots
        >>> data = load("digits_bars")
        >>> q = csvae(data.shape, labels=1).fit(data, steps=3, progress=False).posterior
        >>> x, y = data.batch(range(500))
        >>> codes = {site: code.mean for site, code in q.encode(x, y).items()}
        >>> plots.scatter({"w_0": codes["w_0"]}, {"bar": y[:, 0]}).savefig("codes.png")
    """
    named = {f"{site}[{i}]": c[:, i] for site, c in codes.items() if c.dim() == 2 for i in range(c.shape[1])}
    lengths = {len(values) for values in (*codes.values(), *colours.values())}
    if not named or not colours or len(lengths) != 1 or any(c.dim() != 1 for c in colours.values()):
        got = [tuple(c.shape) for c in (*codes.values(), *colours.values())]
        raise ArgumentError("codes, colours", got=got, expected="codes (n, latent) and colours (n,), at least one each")
    (n,) = lengths
    kept = torch.randperm(n, generator=torch.Generator().manual_seed(seed))[:points]
    every = [*named]
    pairs = list(zip(every[::2], [*every[1::2], every[0]]))
    figure = Figure(figsize=(3.2 * len(pairs) + 1, 2.8 * len(colours) + 0.2), dpi=150, layout="constrained")
    panels = figure.subplots(len(colours), len(pairs), squeeze=False)
    for row, (what, values) in zip(panels, colours.items()):
        shade = values.detach().cpu()[kept]
        kinds = shade.unique()
        classes = len(kinds) <= len(COLOURS) and bool((kinds == kinds.round()).all())
        for panel, (a, b) in zip(row, pairs):
            x, y = (named[name].detach().cpu()[kept].numpy() for name in (a, b))
            if classes:
                for colour, kind in zip(COLOURS, kinds):
                    own = (shade == kind).numpy()
                    panel.scatter(x[own], y[own], s=3, lw=0, alpha=0.6, color=colour, label=f"{kind:g}")
            else:
                drawn = panel.scatter(x, y, c=shade.numpy(), s=3, lw=0, alpha=0.6, cmap="viridis", rasterized=True)
            panel.set(xlabel=a, ylabel=b)
            panel.spines[["top", "right"]].set_visible(False)
        if classes:
            row[-1].legend(title=what, markerscale=4, loc="center left", bbox_to_anchor=(1, 0.5), frameon=False)
        else:
            figure.colorbar(drawn, ax=row[-1], label=what)
    return figure


def marginals(codes: Tensor, *, name: str = "z", shown: int = 4, points: int = 2000, seed: int = 0) -> Figure:
    """How codes are spread: their variances, and of those with most of it histograms and scatters in pairs.

    Over each histogram lies the normal of its mean and variance, which a Gaussian prior would have it be.

    Args:
        codes: ``(n, latent)``.
        name: What the site is called.
        shown: How many coordinates, those of most variance first.
        points: At most so many points in a scatter, drawn at random.
        seed: Of that draw.

    Raises:
        ArgumentError: For codes of another shape, or fewer than two.

    Example:
        >>> from ppl_disent import plots
        >>> data = load("digits")
        >>> q = vae(data.shape, latent_dim=4).fit(data, steps=3, progress=False).posterior
        >>> plots.marginals(q.encode(*data.batch(range(500)))["z"].mean).savefig("marginals.png")
    """
    if codes.dim() != 2 or len(codes) < 2 or not codes.shape[1]:
        raise ArgumentError("codes", got=tuple(codes.shape), expected="(n, latent), n at least 2")
    z = codes.detach().cpu().double()
    variance = z.var(0)
    order = variance.argsort(descending=True)
    first, m = order[:shown].tolist(), min(shown, len(order))
    kept = torch.randperm(len(z), generator=torch.Generator().manual_seed(seed))[:points]
    figure = Figure(figsize=(1.7 * m + 0.6, 1.7 * m + 2.2), dpi=150, layout="constrained")
    top, bottom = figure.subfigures(2, 1, squeeze=False, height_ratios=(1.6, 1.7 * m))[:, 0]
    bars = top.subplots()
    bars.bar(range(len(order)), variance[order].tolist(), color=COLOURS[0])
    bars.set_xticks(range(len(order)), [f"{name}[{i}]" for i in order.tolist()], fontsize=7)
    bars.set_ylabel("variance")
    bars.spines[["top", "right"]].set_visible(False)
    panels = bottom.subplots(m, m, squeeze=False)
    for r, i in enumerate(first):
        for c, j in enumerate(first):
            panel = panels[r, c]
            panel.tick_params(labelsize=6)
            panel.spines[["top", "right"]].set_visible(False)
            if c > r:
                panel.set_visible(False)
            elif r == c:
                panel.hist(z[:, i].numpy(), bins=40, density=True, color=COLOURS[5])
                normal = Normal(z[:, i].mean(), z[:, i].std().clamp(min=1e-12))
                line = torch.linspace(float(z[:, i].min()), float(z[:, i].max()), 100, dtype=z.dtype)
                panel.plot(line.numpy(), normal.log_prob(line).exp().numpy(), color="black", lw=1)
            else:
                panel.scatter(
                    z[kept, j].numpy(), z[kept, i].numpy(), s=2, lw=0, alpha=0.5, color=COLOURS[0], rasterized=True
                )
            if r == m - 1:
                panel.set_xlabel(f"{name}[{j}]", fontsize=8)
            if c == 0:
                panel.set_ylabel("density" if r == 0 else f"{name}[{i}]", fontsize=8)
    return figure
