# Copyright ppl-disent contributors.
# SPDX-License-Identifier: Apache-2.0
"""Latent values moved by hand: what :meth:`ppl_disent.Posterior.explore` shows, and what is behind it."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from PIL import Image
from torch import Tensor

from ppl_disent.divergence import coordinate_kl
from ppl_disent.errors import ArgumentError

if TYPE_CHECKING:
    from ppl_disent.posterior import Posterior

_SIDE = 192


class View:
    """Some data and their codes, and the image of any latent values: the explorer without its widgets.

    Args:
        q: The posterior.
        batch: The fields that the guide takes, n data, x first: images ``(n, 1, h, w)`` in grey or ``(n, 3, h, w)`` in
            colour, in [0, 1].

    Attributes:
        codes: The guide's means, ``{site: (n, latent)}``, values of a site of another shape in a row.
        kl: Mean KL divergence of each latent value from the model's prior, ``{site: (latent,)}``, nats.
        order: The latent values of each site, those with the largest KL first.
        low: Where a latent value may begin, ``{site: (latent,)}``: 3 standard deviations below its prior's mean, or
            lower where a code of the data is. Where the prior depends on labels, the least of the data.
        high: Likewise, its end.
        switches: The columns of the labels that p(x | latents, labels) looks at; the labels are the second field.
            CSVAE's are none: its attributes are in the sites ``w_0`` and so on, whose values can be a donor's.

    Raises:
        ArgumentError: If x are no images.
        SiteError: For a site whose KL divergence by coordinate is not known, such as a point mass.
    """

    def __init__(self, q: Posterior, batch: Sequence[Tensor]) -> None:
        shape = tuple(batch[0].shape) if batch and isinstance(batch[0], Tensor) else ()
        if len(shape) != 4 or shape[1] not in (1, 3) or not shape[0]:
            raise ArgumentError("x", got=shape, expected="images: (n, 1, h, w) in grey or (n, 3, h, w) in colour")
        self.q, self.batch, self.n = q, tuple(field.cpu() for field in batch), shape[0]
        encoded, prior = q.encode(*self.batch), q.prior(*self.batch)
        self._shapes = {site: tuple(code.mean.shape[1:]) for site, code in encoded.items()}
        self.codes, self.kl, self.order, self.low, self.high = {}, {}, {}, {}, {}
        for site, code in encoded.items():
            at, p = code.mean.cpu().flatten(1), prior[site]
            mean, sd = p.mean.cpu().flatten(1), p.stddev.cpu().flatten(1)
            self.codes[site], self.kl[site] = at, coordinate_kl(site, code, p).mean(0).cpu()
            self.order[site] = self.kl[site].argsort(descending=True).tolist()
            self.low[site] = torch.minimum(mean - 3 * sd, at).amin(0)
            self.high[site] = torch.maximum(mean + 3 * sd, at).amax(0)
        self.switches = [j for j in range(self._columns()) if self._looks_at(j)]

    def _columns(self) -> int:
        y = self.batch[1] if len(self.batch) > 1 else None
        binary = y is not None and y.dim() == 2 and bool(((y == 0) | (y == 1)).all())
        return y.shape[1] if y is not None and binary else 0

    def _looks_at(self, column: int) -> bool:
        here, there = (self.image(0, self.start(0), {column: value}) for value in (False, True))
        return not torch.equal(here, there)

    def start(self, datum: int) -> dict[str, Tensor]:
        """The codes of one datum, ``{site: (latent,)}``."""
        return {site: code[datum].clone() for site, code in self.codes.items()}

    def labels(self, datum: int) -> dict[int, bool]:
        """The labels of one datum that can be switched, by column."""
        return {j: bool(self.batch[1][datum, j]) for j in self.switches}

    def image(self, datum: int, values: Mapping[str, Tensor], labels: Mapping[int, bool] | None = None) -> Tensor:
        """The mean of p(x | latents, labels), ``(channels, h, w)``.

        Args:
            datum: Whose labels, and other fields, those are that are not given.
            values: Of every site, ``{site: (latent,)}``.
            labels: What columns of the labels are set to.
        """
        batch = [field[datum : datum + 1] for field in self.batch]
        if labels:
            batch[1] = batch[1].clone()
            batch[1][0, list(labels)] = torch.tensor([float(on) for on in labels.values()]).to(batch[1])
        sites = {site: value.reshape(1, *self._shapes[site]) for site, value in values.items()}
        mean: Tensor = self.q.decode(*batch, **sites).mean
        return mean[0].cpu()


def png(image: Tensor, side: int = 0) -> bytes:
    """A PNG file of an image ``(1 or 3, h, w)`` in [0, 1], which is clamped.

    Args:
        image: The image.
        side: Each pixel becomes a square such that height or width reach this many pixels, if they are less.
    """
    pixels = image.detach().cpu().clamp(0, 1).mul(255).round().byte()
    if (times := -(-side // max(pixels.shape[1:]))) > 1:
        pixels = pixels.repeat_interleave(times, 1).repeat_interleave(times, 2)
    array = pixels.permute(1, 2, 0).numpy()
    file = io.BytesIO()
    Image.fromarray(array[..., 0] if array.shape[-1] == 1 else array).save(file, "png", optimize=True)
    return file.getvalue()


def explore(q: Posterior, batch: Sequence[Tensor], label_names: Sequence[str] = ()) -> Any:
    """A widget with the image that is decoded beside the datum.

    There are a slider for each latent value (those with the largest KL first, from -3 to 3 standard deviations about
    the prior's mean, beginning at the datum's code), the datum to start from, for each site a donor whose value it
    takes as in ``q.swap``, and a switch for each binary label that p(x | latents, labels) looks at. Needs ``pip install
    'ppl-disent[notebooks]'``; :class:`View` is the same without widgets.

    Args:
        q: The posterior.
        batch: The fields that the guide takes, some tens of data, x first: images.
        label_names: What the labels are called.

    Returns:
        An ``ipywidgets.VBox``.

    Raises:
        ArgumentError: For x that are no images, names that are not one a label, or where ipywidgets is missing.
        SiteError: For a site whose KL divergence by coordinate is not known, such as a point mass.
    """
    try:
        import ipywidgets as w
    except ImportError:
        hint = "pip install 'ppl-disent[notebooks]'"
        raise ArgumentError("ipywidgets", got="no such package", expected="it to be installed", hint=hint) from None
    view = View(q, batch)
    labels = batch[1].shape[1] if view.switches else len(label_names)
    if label_names and len(label_names) != labels:
        raise ArgumentError("label_names", got=tuple(label_names), expected=f"{labels} names, one a label")

    wide, narrow = {"description_width": "5em"}, w.Layout(width="24em")
    last = view.n - 1
    datum = w.BoundedIntText(0, min=0, max=last, description="datum", style=wide, layout=w.Layout(width="12em"))
    reset = w.Button(description="reset", tooltip="Back to the codes and labels of the datum")
    pictures = {name: w.Image(format="png", tooltip=name) for name in ("data", "decoded")}
    sliders: dict[str, dict[int, Any]] = {}
    donors: dict[str, Any] = {}
    for site, order in view.order.items():
        donors[site] = w.Dropdown(
            options=[("its own", None), *((f"of datum {i}", i) for i in range(view.n))],
            description=site,
            style=wide,
            layout=narrow,
        )
        sliders[site] = {
            i: w.FloatSlider(
                float(view.codes[site][0, i]),
                min=float(view.low[site][i]),
                max=float(view.high[site][i]),
                step=float(view.high[site][i] - view.low[site][i]) / 200,
                description=f"{site}[{i}]",
                readout_format=".2f",
                style=wide,
                layout=narrow,
            )
            for i in order
        }
    names = label_names or [f"y{j}" for j in range(labels)]
    switches = {j: w.Checkbox(description=names[j], indent=False) for j in view.switches}
    moving = False  # many widgets at once: one image, when all are there

    def values() -> dict[str, Tensor]:
        start = view.start(datum.value)
        for site, own in sliders.items():
            for i, slider in own.items():
                start[site][i] = slider.value
        return start

    def show(*_: object) -> None:
        if not moving:
            on = {j: switch.value for j, switch in switches.items()}
            pictures["decoded"].value = png(view.image(datum.value, values(), on), _SIDE)

    def put(site: str, code: Tensor) -> None:
        for i, slider in sliders[site].items():
            slider.value = float(code[i])

    def begin(*_: object) -> None:
        nonlocal moving
        moving = True
        try:
            for site, code in view.start(datum.value).items():
                donors[site].value = None
                put(site, code)
            for j, on in view.labels(datum.value).items():
                switches[j].value = on
            pictures["data"].value = png(view.batch[0][datum.value], _SIDE)
        finally:
            moving = False
        show()

    def take(site: str) -> None:
        nonlocal moving
        if moving:
            return
        moving = True
        try:
            donor = donors[site].value
            put(site, view.codes[site][datum.value if donor is None else donor])
        finally:
            moving = False
        show()

    datum.observe(begin, "value")
    reset.on_click(begin)
    for site, dropdown in donors.items():
        dropdown.observe(lambda _, site=site: take(site), "value")
    for widget in (*(s for own in sliders.values() for s in own.values()), *switches.values()):
        widget.observe(show, "value")
    begin()
    shown = [w.VBox([w.Label(name), picture]) for name, picture in pictures.items()]
    columns = [
        w.VBox([donors[site], *own.values()], layout=w.Layout(margin="0 1em 1em 0")) for site, own in sliders.items()
    ]
    parts = [w.HBox([datum, reset]), w.HBox(shown), w.HBox(list(switches.values()))]
    return w.VBox([*parts, w.HBox(columns, layout=w.Layout(flex_flow="row wrap"))])
