# Copyright ppl-disent contributors.
# SPDX-License-Identifier: Apache-2.0
"""Grids of images: what a posterior makes of data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from ppl_disent.errors import ArgumentError, SiteError
from ppl_disent.plots.codes import latent_kl
from ppl_disent.plots.figure import Figure
from ppl_disent.transfer import place

if TYPE_CHECKING:
    from ppl_disent.posterior import Posterior


def reconstructions(q: Posterior, *batch: Tensor, n: int = 10) -> Figure:
    """Data above their reconstructions.

    Args:
        q: The posterior.
        *batch: The data, x first: images ``(n, 1, h, w)`` in grey or ``(n, 3, h, w)`` in colour, in [0, 1].
        n: How many to show; all where there are fewer.

    Raises:
        ArgumentError: If x are no images, or ``n`` is below 1.

    Example:
        >>> from ppl_disent import plots
        >>> data = load("digits")
        >>> q = vae(data.shape, latent_dim=4).fit(data, steps=3, progress=False).posterior
        >>> plots.reconstructions(q, *data.batch(range(10))).savefig("reconstructions.png")
    """
    _check_images(batch)
    if n < 1:
        raise ArgumentError("n", got=n, expected="at least 1")
    some = tuple(field[:n] for field in batch)
    return _grid(torch.stack((some[0], q.reconstruct(*some).to(some[0]))), ["data", "reconstruction"], [])


def samples(q: Posterior, n: int = 40, *conditions: Tensor, columns: int = 10) -> Figure:
    """Images of the model, in rows.

    Args:
        q: The posterior.
        n: How many; the last row may be short.
        *conditions: What the model takes beside x, ``(n, ...)`` tensors.
        columns: Images in a row.

    Raises:
        ArgumentError: If x are no images, or a number is below 1.

    Example:
        >>> from ppl_disent import plots
        >>> data = load("digits")
        >>> q = vae(data.shape, latent_dim=4).fit(data, steps=3, progress=False).posterior
        >>> plots.samples(q, 20).savefig("samples.png")
    """
    if not isinstance(columns, int) or columns < 1:
        raise ArgumentError("columns", got=columns, expected="at least 1")
    drawn = q.sample(n, *conditions)
    _check_images((drawn,))
    blank = drawn.new_full((-n % columns, *drawn.shape[1:]), 0.7)
    return _grid(torch.cat([drawn, blank]).unflatten(0, (-1, columns)), [""] * (-(-n // columns)), [])


def traversal(
    q: Posterior,
    *batch: Tensor,
    site: str = "z",
    values: Tensor | Sequence[float] | None = None,
    kl: Tensor | None = None,
) -> Figure:
    """What each latent value does to the first datum, in a row for each, those with the largest KL divergence first.

    Args:
        q: The posterior.
        *batch: The data, x first: images ``(n, 1, h, w)`` in grey or ``(n, 3, h, w)`` in colour, in [0, 1].
        site: The latent site, with values of shape ``(n, latent)``.
        values: What the latent value is set to, in standard deviations of the model's prior, one column each; by
            default 11 values from -3 to 3.
        kl: A ``(latent,)`` tensor by which the rows are ordered; by default :func:`latent_kl` of the batch.

    Raises:
        ArgumentError: If x are no images, or ``kl`` does not fit the site.
        SiteError: For an unknown site, or one that is not normal.

    Example:
        >>> from ppl_disent import plots
        >>> data = load("digits")
        >>> q = vae(data.shape, latent_dim=4).fit(data, steps=3, progress=False).posterior
        >>> plots.traversal(q, *data.batch(range(100))).savefig("traversal.png")
    """
    _check_images(batch)
    columns = torch.as_tensor(torch.arange(-5, 6) * 0.6 if values is None else values)
    used = latent_kl(q, *batch, site=site)
    kl = None if kl is None else torch.as_tensor(kl)
    if kl is not None and kl.shape != used.shape:
        raise ArgumentError("kl", got=tuple(kl.shape), expected=f"the shape {tuple(used.shape)}, one number a latent")
    nats = (used if kl is None else kl).tolist()
    order = sorted(range(len(nats)), key=lambda i: -nats[i])
    first = tuple(field[:1] for field in batch)
    rows = torch.cat([q.traverse(site, i, columns, *first, units="sd") for i in order])
    figure = _grid(rows, [f"{site}[{i}]  {nats[i]:.2f} nats" for i in order], [f"{v:.2g}" for v in columns.tolist()])
    about = f"one value of {site} is changed, to so many standard deviations of the prior; rows by mean KL"
    figure.suptitle(about, fontsize=9, wrap=True)
    return figure


def transfer(x: Tensor, edits: Mapping[str, Tensor], *, points: Sequence[str] = ()) -> Figure:
    """Attribute transfer of some data by several models: rows are models, columns the points p of an edit.

    Args:
        x: The originals, ``(n, channels, h, w)`` images in [0, 1].
        edits: ``{model: (P, n, channels, h, w)}``, of :mod:`ppl_disent.transfer`; a row for every model and datum, with
            P columns; or, where all have P = 1 (``(n, channels, h, w)`` is that too), a row a model, a column a datum.
        points: P headings of the columns.

    Raises:
        ArgumentError: If shapes do not fit.

    Example:
        >>> from ppl_disent import plots, transfer
        >>> data = load("digits_bars")
        >>> q = csvae(data.shape, labels=1).fit(data, steps=3, progress=False).posterior
        >>> batch = data.batch(range(3))
        >>> edits = transfer.place(q, batch, torch.tensor([[0.0, 0.0], [3.0, 3.0]]))
        >>> plots.transfer(batch[0], {"CSVAE": edits}, points=["off", "on"]).savefig("transfer.png")
    """
    _check_images((x,))
    every = {name: edit if edit.dim() == 5 else edit[None] for name, edit in edits.items()}
    count = max((len(edit) for edit in every.values()), default=0)
    for name, edit in every.items():
        if edit.dim() != 5 or edit.shape[1:] != x.shape:
            expected = f"(P, *{tuple(x.shape)}) or {tuple(x.shape)}"
            raise ArgumentError(f"edits[{name!r}]", got=tuple(edit.shape), expected=expected)
    if not count:
        raise ArgumentError("edits", got=edits, expected="at least one model with an edit")
    if points and len(points) != count:
        raise ArgumentError("points", got=points, expected=f"{count} headings, one for each column")
    if count == 1:
        return _grid(torch.stack([x.cpu(), *(edit[0].cpu() for edit in every.values())]), ["data", *every], [])
    blank = x.new_full((1, *x.shape[1:]), 0.7).cpu()
    rows, names = [], []
    for i, datum in enumerate(x.cpu()):
        for name, edit in every.items():
            row = torch.cat([datum[None], edit[:, i].cpu().to(x.dtype)])
            rows.append(torch.cat([row, blank.repeat(count + 1 - len(row), 1, 1, 1)]))
            names.append(name)
    return _grid(torch.stack(rows), names, ["data", *points])


def subspace(
    q: Posterior,
    *batch: Tensor,
    site: str = "w_0",
    rows: Tensor | Sequence[float] = (0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0),
    columns: Tensor | Sequence[float] = (0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0),
    dims: tuple[int, int] = (0, 1),
) -> Figure:
    """The first datum on a grid over two coordinates of a site, all else as encoded.

    The defaults span CSVAE's priors: the attribute is absent at 0 and present about 3.

    Args:
        q: The posterior.
        *batch: The data, x first: images ``(n, 1, h, w)`` in grey or ``(n, 3, h, w)`` in colour, in [0, 1].
        site: The latent site, with values of shape ``(n, latent)``.
        rows: Values of the first coordinate, from the top.
        columns: Values of the second.
        dims: Which coordinates.

    Raises:
        ArgumentError: If x are no images, or the site does not have these coordinates.
        SiteError: For an unknown site.

    Example:
        >>> from ppl_disent import plots
        >>> data = load("digits_bars")
        >>> q = csvae(data.shape, labels=1).fit(data, steps=3, progress=False).posterior
        >>> plots.subspace(q, *data.batch([0]), site="w_0").savefig("plane.png")
    """
    _check_images(batch)
    first = tuple(field[:1] for field in batch)
    own = _mean(q, first, site)
    if len(set(dims)) != 2 or not all(0 <= d < own.shape[-1] for d in dims):
        raise ArgumentError("dims", got=dims, expected=f"two coordinates of {site!r}, which has {own.shape[-1]}")
    at = own.repeat(len(rows) * len(columns), 1)
    down, across = (torch.as_tensor(values).to(own) for values in (rows, columns))
    at[:, list(dims)] = torch.cartesian_prod(down, across)
    images = place(q, first, at, site=site)[:, 0].unflatten(0, (len(rows), len(columns)))
    labels = [f"{site}[{dims[0]}] = {v:.2g}" for v in down.tolist()]
    figure = _grid(images, labels, [f"{v:.2g}" for v in across.tolist()])
    figure.suptitle(f"across: {site}[{dims[1]}]", fontsize=9)
    return figure


def joint(
    q: Posterior,
    *batch: Tensor,
    paths: Mapping[str, Tensor],
) -> Figure:
    """The first datum where two sites move together: one goes down, the other across.

    Args:
        q: The posterior.
        *batch: The data, x first: images ``(n, 1, h, w)`` in grey or ``(n, 3, h, w)`` in colour, in [0, 1].
        paths: Two sites with their points, ``{"w_0": (rows, dim), "w_1": (columns, dim)}``, for instance from where an
            attribute is off to where it is on.

    Raises:
        ArgumentError: If x are no images, or for other than two sites, or points that do not fit them.
        SiteError: For an unknown site.

    Example:
        >>> from ppl_disent import plots
        >>> data = load("digits_bars", attributes=2)
        >>> q = csvae(data.shape, labels=2).fit(data, steps=3, progress=False).posterior
        >>> path = torch.linspace(0, 3, 4)[:, None].expand(-1, 2)  # from off to on
        >>> plots.joint(q, *data.batch([0]), paths={"w_0": path, "w_1": path}).savefig("joint.png")
    """
    _check_images(batch)
    if len(paths) != 2:
        raise ArgumentError("paths", got=list(paths), expected="two sites")
    first = tuple(field[:1] for field in batch)
    sites = {name: d.mean for name, d in q.encode(*first).items()}
    for site, path in paths.items():
        own = _mean(q, first, site)
        if path.dim() != 2 or path.shape[1:] != own.shape[1:] or not len(path):
            raise ArgumentError(f"paths[{site!r}]", got=tuple(path.shape), expected=f"(points, {own.shape[-1]})")
    (a, down), (b, across) = paths.items()
    n = len(down) * len(across)
    every = {name: value.repeat(n, *[1] * (value.dim() - 1)) for name, value in sites.items()}
    every[a] = down.to(every[a]).repeat_interleave(len(across), 0)
    every[b] = across.to(every[b]).repeat(len(down), 1)
    images = q.decode(*(field.repeat(n, *[1] * (field.dim() - 1)) for field in first), **every).mean
    heads = [[f"{site} {i + 1}" for i in range(len(path))] for site, path in paths.items()]
    return _grid(images.unflatten(0, (len(down), len(across))), *heads)


def _mean(q: Posterior, batch: tuple[Tensor, ...], site: str) -> Tensor:
    encoded = q.encode(*batch)
    if site not in encoded:
        raise SiteError(f"no latent site {site!r}; there are {sorted(encoded)}.")
    return encoded[site].mean


def _grid(images: Tensor, rows: Sequence[str], columns: Sequence[str]) -> Figure:
    """One picture of ``(rows, columns, channels, h, w)`` images in [0, 1], which are clamped, with their headings."""
    height, width, (h, w) = len(images), images.shape[1], images.shape[-2:]
    gap = max(1, h // 16)
    # One picture, not one panel an image: a hundred panels take seconds to draw.
    framed = F.pad(images.detach().cpu().float().clamp(0, 1), (0, gap, 0, gap), value=0.7)
    joined = framed.permute(0, 3, 1, 4, 2).flatten(2, 3).flatten(0, 1)[:-gap, :-gap]
    figure = Figure(figsize=(1.2 + 0.6 * width, 0.6 + 0.6 * height * h / w), dpi=150, layout="constrained")
    panel = figure.subplots()
    panel.imshow(joined.expand(-1, -1, 3).numpy(), interpolation="nearest")
    panel.set_yticks([(h + gap) * i + (h - 1) / 2 for i in range(height)], rows)
    panel.set_xticks([(w + gap) * i + (w - 1) / 2 for i in range(len(columns))], columns)
    panel.tick_params(length=0, labelsize=8, labeltop=True, labelbottom=False)
    panel.spines[:].set_visible(False)
    return figure


def _check_images(batch: tuple[Tensor, ...]) -> None:
    shape = tuple(batch[0].shape) if batch else ()
    if len(shape) != 4 or shape[1] not in (1, 3) or not shape[0]:
        raise ArgumentError("x", got=shape, expected="images: (n, 1, h, w) in grey or (n, 3, h, w) in colour")
