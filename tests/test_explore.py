# Copyright ppl-disent contributors.
# SPDX-License-Identifier: Apache-2.0
"""The explorer shows what the posterior says: its view, and its widgets moved by hand."""

import io
import sys

import numpy
import pytest
import torch
from PIL import Image

import ppl_disent as pd
from ppl_disent import plots
from ppl_disent.explore import View, png
from tests.cases import CASES

IMAGES = [case for case in CASES if len(case.shape) == 3]


def fitted(name="csvae", n=6, **options):
    """A posterior after some steps, and data with labels."""
    case = next(c for c in IMAGES if c.name == name and options.items() <= c.options.items())
    batch = case.batch(n)
    run = case.method().fit(batch, steps=3, batch_size=4, progress=False, device="cpu")
    return run.posterior, batch


def pixels(file: bytes):
    return numpy.asarray(Image.open(io.BytesIO(file)))


def walk(widget):
    yield widget
    for child in getattr(widget, "children", ()):
        yield from walk(child)


class Panel:
    """The widgets by what they say."""

    def __init__(self, box):
        every = list(walk(box))
        self.named = {each.description: each for each in every if getattr(each, "description", "")}
        self.data, self.decoded = (each for each in every if hasattr(each, "format"))
        self.sliders = [each.description for each in every if type(each).__name__ == "FloatSlider"]

    def __getitem__(self, name):
        return self.named[name]

    def shows(self, image):
        return self.decoded.value == png(image, 192)


@pytest.mark.parametrize("case", IMAGES, ids=str)
def test_a_view_starts_at_the_reconstruction_and_decodes_what_it_is_given(case):
    batch = case.batch(5)
    q = case.method().fit(batch, steps=2, batch_size=4, progress=False, device="cpu").posterior
    view = View(q, batch)
    rebuilt = q.reconstruct(*batch)
    for datum in (0, 3):
        assert torch.allclose(view.image(datum, view.start(datum)), rebuilt[datum])
    for site, code in view.codes.items():
        assert (view.low[site] <= code).all()
        assert (code <= view.high[site]).all()
        moved = {name: value.mean.clone() for name, value in q.encode(*batch).items()}
        moved[site][2, 0] = 1.5
        start = view.start(2)
        start[site][0] = 1.5
        expected = q.decode(*batch, **moved).mean[2]
        torch.testing.assert_close(view.image(2, start), expected)


def test_latents_are_ordered_by_kl_and_range_about_their_prior():
    q, batch = fitted()
    view = View(q, batch)
    for site in ("z", "w_0"):
        torch.testing.assert_close(view.kl[site], plots.latent_kl(q, *batch, site=site))
        kl = view.kl[site][view.order[site]]
        assert (kl[1:] <= kl[:-1]).all()
    p = q.prior(*batch)["w_0"]
    on = batch[1][:, 0] == 1
    assert on.any()
    assert not on.all()
    ends = torch.stack([p.mean - 3 * p.stddev, q.encode(*batch)["w_0"].mean]).amin((0, 1))
    torch.testing.assert_close(view.low["w_0"], ends)
    assert (view.high["w_0"] >= (p.mean + 3 * p.stddev)[on][0]).all()
    assert (view.low["z"] <= -3).all()


def test_labels_can_be_switched_where_the_model_looks_at_them():
    for name, options, switches in (("cvae", {"labels": 1}, [0]), ("csvae", {"labels": 1}, []), ("vae", {}, [])):
        q, batch = fitted(name, **options)
        assert View(q, batch).switches == switches
    q, (x, y) = fitted("cvae_if")
    view = View(q, (x, y))
    assert view.switches == [0, 1]
    other = y.clone()
    other[1, 1] = 1 - y[1, 1]
    expected = q.decode(x, other, z=q.encode(x, y)["z"].mean).mean[1]
    torch.testing.assert_close(view.image(1, view.start(1), {1: bool(other[1, 1])}), expected)
    assert view.labels(1) == {0: bool(y[1, 0]), 1: bool(y[1, 1])}


def test_png_files_hold_the_pixels():
    image = torch.tensor([[[-1.0, 0.5], [0.25, 2.0]]])
    assert pixels(png(image)).tolist() == [[0, 128], [64, 255]]
    assert pixels(png(image, 5)).shape == (6, 6)
    assert (pixels(png(image, 5)) == numpy.kron(pixels(png(image)), numpy.ones((3, 3)))).all()
    colour = torch.rand(3, 4, 6)
    assert (pixels(png(colour)) == (colour * 255).round().permute(1, 2, 0).numpy()).all()


def test_sliders_move_the_image():
    pytest.importorskip("ipywidgets")
    q, batch = fitted()
    panel, view = Panel(q.explore(*batch)), View(q, batch)
    assert panel.sliders == [f"{site}[{i}]" for site in view.order for i in view.order[site]]
    assert panel.data.value == png(batch[0][0], 192)
    assert panel.shows(q.reconstruct(*batch)[0])
    codes = {site: value.mean[:1].clone() for site, value in q.encode(*batch).items()}
    before = panel.decoded.value
    for name, at in (("z[1]", 2.0), ("w_0[0]", 3.5)):
        panel[name].value = at
        site, _, i = name.rstrip("]").partition("[")
        codes[site][0, int(i)] = at
        assert panel.shows(q.decode(*(field[:1] for field in batch), **codes).mean[0])
        assert panel.decoded.value != before
        before = panel.decoded.value
    panel["reset"].click()
    assert panel.shows(q.reconstruct(*batch)[0])
    assert panel["z[1]"].value == pytest.approx(float(q.encode(*batch)["z"].mean[0, 1]))


def test_a_donor_gives_its_site_as_in_swap():
    pytest.importorskip("ipywidgets")
    q, batch = fitted()
    panel = Panel(q.explore(*batch))
    panel["datum"].value = 1
    assert panel.data.value == png(batch[0][1], 192)
    assert panel.shows(q.reconstruct(*batch)[1])
    one, four = (tuple(field[i : i + 1] for field in batch) for i in (1, 4))
    panel["w_0"].value = 4
    assert panel.shows(q.swap("w_0", one, four).mean[0])
    assert not panel.shows(q.reconstruct(*batch)[1])
    panel["w_0"].value = None
    assert panel.shows(q.reconstruct(*batch)[1])
    panel["w_0"].value = 4
    panel["datum"].value = 2
    assert panel["w_0"].value is None
    assert panel.shows(q.reconstruct(*batch)[2])


def test_switches_change_the_label():
    pytest.importorskip("ipywidgets")
    q, (x, y) = fitted("cvae", labels=2)
    panel = Panel(q.explore(x, y, label_names=("round", "<b>striped")))
    on = bool(y[0, 1])
    assert panel["<b>striped"].value is on
    panel["<b>striped"].value = not on
    other = y.clone()
    other[0, 1] = float(not on)
    assert panel.shows(q.decode(x, other, z=q.encode(x, y)["z"].mean).mean[0])
    panel["reset"].click()
    assert panel["<b>striped"].value is on
    assert panel.shows(q.reconstruct(x, y)[0])


def test_one_image_is_decoded_for_a_datum_not_one_for_each_slider(monkeypatch):
    pytest.importorskip("ipywidgets")
    q, batch = fitted()
    panel, decoded = Panel(q.explore(*batch)), []
    real = View.image
    monkeypatch.setattr(View, "image", lambda self, *args: decoded.append(1) or real(self, *args))
    panel["datum"].value = 3
    panel["w_0"].value = 1
    panel["reset"].click()
    assert len(decoded) == 3


def test_without_the_extra_it_is_named(monkeypatch):
    q, batch = fitted("cvae", labels=2)
    monkeypatch.setitem(sys.modules, "ipywidgets", None)
    with pytest.raises(pd.ArgumentError, match=r"pip install 'ppl-disent\[notebooks\]'"):
        q.explore(*batch)


def test_bad_questions():
    pytest.importorskip("ipywidgets")
    q, (x, y) = fitted("cvae", labels=2)
    with pytest.raises(pd.ArgumentError, match=r"x: got \(6, 64\), expected images"):
        q.explore(x.flatten(1), y)
    with pytest.raises(pd.ArgumentError, match=r"x: got \(\)"):
        q.explore()
    with pytest.raises(pd.ArgumentError, match="expected 2 names"):
        q.explore(x, y, label_names=("one",))
