# Copyright ppl-disent contributors.
# SPDX-License-Identifier: Apache-2.0
"""Attribute transfer: data with one attribute changed, as each family of models does it.

Each function decodes n data at P edits, ``(P, n, *x_shape)``, all else at the guide's means; one edit a call is P = 1.
:func:`ppl_disent.attribute_transfer` judges the result and :func:`ppl_disent.plots.transfer` shows it.

The edits are those that "Learning Latent Subspaces in Variational Autoencoders" (Klys et al., 2018),
https://arxiv.org/abs/1812.06190, defines for its baselines and for itself.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ppl_disent.errors import ArgumentError, DataError, SiteError
from ppl_disent.posterior import Posterior

Batch = Sequence[Tensor]


def attribute_shift(q: Posterior, batch: Batch, labels: Tensor, attribute: int = 0, *, site: str = "z") -> Tensor:
    """The way from data without an attribute to data with it: the difference of their mean codes.

    Args:
        q: The posterior.
        batch: The fields that the guide takes, n data.
        labels: Their attributes, ``(n, k)`` of 0 and 1.
        attribute: Which of them.
        site: A latent site.

    Returns:
        A ``(latent,)`` tensor, for :func:`shift`.

    Raises:
        DataError: If all data have the attribute, or none has it.

    Example:
        >>> from ppl_disent import transfer
        >>> x, y = load("digits_bars").batch(range(200))
        >>> q = vae((1, 8, 8), latent_dim=4).fit(x, steps=3, progress=False).posterior
        >>> transfer.attribute_shift(q, (x,), y).shape
        torch.Size([4])
    """
    codes = _encoded(q, batch, site)[site]
    on = _column(labels, attribute, len(codes)).to(codes.device) == 1
    if on.all() or not on.any():
        raise DataError(f"labels: got {int(on.sum())} of {len(on)} data with attribute {attribute}, expected of both.")
    return codes[on].mean(0) - codes[~on].mean(0)


def shift(q: Posterior, batch: Batch, direction: Tensor, strengths: Tensor, *, site: str = "z") -> Tensor:
    """Moves the codes: what a model without labels, a VAE, can do. All data along one direction.

    Args:
        q: The posterior.
        batch: The fields that the guide takes, n data.
        direction: ``(latent,)``, of :func:`attribute_shift`.
        strengths: How far, ``(P,)`` or ``(P, n)``: 1 puts the attribute on, -1 takes it off.
        site: A latent site.

    Example:
        >>> from ppl_disent import transfer
        >>> x, y = load("digits_bars").batch(range(200))
        >>> q = vae((1, 8, 8), latent_dim=4).fit(x, steps=3, progress=False).posterior
        >>> direction = transfer.attribute_shift(q, (x,), y)
        >>> transfer.shift(q, (x[:5],), direction, torch.tensor([-1.0, 0.0, 1.0])).shape
        torch.Size([3, 5, 1, 8, 8])
    """
    sites = _encoded(q, batch, site)
    code = sites[site]
    if direction.shape != code.shape[1:]:
        raise ArgumentError("direction", got=tuple(direction.shape), expected=f"{tuple(code.shape[1:])}, as {site!r}")
    amounts = _per_datum("strengths", strengths, len(code), 0).to(code)
    moved = code + amounts.unsqueeze(-1) * direction.to(code)
    return torch.stack([q.decode(*batch, **(sites | {site: at})).mean for at in moved])


def relabel(q: Posterior, batch: Batch, attribute: int, values: Tensor) -> Tensor:
    """Decodes with another label y': what CVAE and CVAE-IF do.

    Args:
        q: The posterior of a model that takes ``(x, y)``.
        batch: ``(x, y)``, n data; they are encoded with these labels.
        attribute: Column of y.
        values: What it is set to, ``(P,)`` or ``(P, n)``: 1 is on, 0 is off; beyond them the edit is exaggerated.

    Example:
        >>> from ppl_disent import transfer
        >>> data = load("digits_bars")
        >>> q = cvae(data.shape, labels=1).fit(data, steps=3, progress=False).posterior
        >>> transfer.relabel(q, data.batch(range(5)), 0, torch.tensor([0.0, 1.0])).shape  # off, on
        torch.Size([2, 5, 1, 8, 8])
    """
    if len(batch) < 2:
        raise ArgumentError("batch", got=f"{len(batch)} field", expected="(x, y)")
    sites, (x, y) = _encoded(q, batch), batch[:2]
    _column(y, attribute, len(x))
    edits = []
    for value in _per_datum("values", values, len(x), 0):
        changed = y.clone()
        changed[:, attribute] = value.to(y)
        edits.append(q.decode(x, changed, **sites).mean)
    return torch.stack(edits)


def place(q: Posterior, batch: Batch, points: Tensor, *, site: str = "w_0") -> Tensor:
    """Puts points of a subspace in the place of the data's own: what CSVAE does with W_i.

    A donor's value is :meth:`ppl_disent.Posterior.swap`, a picture of a whole plane :func:`ppl_disent.plots.subspace`.

    Args:
        q: The posterior.
        batch: The fields that the guide takes, n data.
        points: ``(P, dim)`` or ``(P, n, dim)``.
        site: The site of the subspace.

    Example:
        >>> from ppl_disent import transfer
        >>> data = load("digits_bars")
        >>> q = csvae(data.shape, labels=1).fit(data, steps=3, progress=False).posterior
        >>> transfer.place(q, data.batch(range(5)), torch.tensor([[0.0, 0.0], [3.0, 3.0]])).shape  # without, with
        torch.Size([2, 5, 1, 8, 8])
    """
    sites = _encoded(q, batch, site)
    own = sites[site]
    given = _per_datum("points", points, len(own), own.dim() - 1)
    if given.shape[2:] != own.shape[1:]:
        raise ArgumentError("points", got=tuple(points.shape), expected=f"(P, {', '.join(map(str, own.shape[1:]))})")
    return torch.stack([q.decode(*batch, **(sites | {site: at.to(own)})).mean for at in given])


def _encoded(q: Posterior, batch: Batch, site: str | None = None) -> dict[str, Tensor]:
    if not isinstance(batch, (tuple, list)):
        raise ArgumentError("batch", got=batch, expected="a tuple of the tensors that the guide takes")
    sites = {name: distribution.mean for name, distribution in q.encode(*batch).items()}
    if site is not None and site not in sites:
        raise SiteError(f"no latent site {site!r}; there are {sorted(sites)}.")
    return sites


def _column(labels: Tensor, attribute: int, n: int) -> Tensor:
    if labels.dim() != 2 or len(labels) != n:
        raise ArgumentError("labels", got=tuple(labels.shape), expected=f"({n}, k)")
    if not isinstance(attribute, int) or not 0 <= attribute < labels.shape[1]:
        raise ArgumentError("attribute", got=attribute, expected=f"a column of the labels, 0 to {labels.shape[1] - 1}")
    return labels[:, attribute]


def _per_datum(name: str, given: Tensor, n: int, event: int) -> Tensor:
    """``(P, *event)`` or ``(P, n, *event)`` as the latter."""
    given = torch.as_tensor(given)
    if given.dim() == 1 + event and len(given):
        return given.unsqueeze(1).expand(len(given), n, *given.shape[1:])
    if given.dim() == 2 + event and len(given) and given.shape[1] == n:
        return given
    rest = ", dim" * event
    raise ArgumentError(name, got=tuple(given.shape), expected=f"(P{rest}) or (P, {n}{rest})")
