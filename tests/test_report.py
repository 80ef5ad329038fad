# Copyright ppl-disent contributors.
# SPDX-License-Identifier: Apache-2.0
"""`python -m experiments.report`: one file that says what is true, works in a browser, and asks for nothing else."""

import base64
import io
import json
import shutil
from html.parser import HTMLParser
from pathlib import Path

import numpy
import pytest
import torch
from PIL import Image

import ppl_disent as pd
from experiments import report, train
from experiments.outcome import encode
from experiments.report import command, pictures
from ppl_disent.explore import View

TINY = ["--log-every", "3", "--steps", "6", "--no-progress", "--device", "cpu", "--network", "mlp"]
RUNS = {
    "dynamic_vae": ["--data", "digits", "--latent-dim", "3", "--target-kl", "3", "--every", "3", "--ramp", "3"],
    "st_rkm": ["--data", "digits", "--latent-dim", "2", "--feature-dim", "4"],
    "csvae": ["--data", "digits_bars", "--data-options", "size=16", "part=test", "--latent-dim", "2"],
    "cvae": ["--data", "digits_bars", "--data-options", "size=8", "part=test", "attributes=2", "--latent-dim", "2"],
    "cvae_if": ["--data", "swiss_roll", "--data-options", "n=300", "--latent-dim", "2"],
}


class Page(HTMLParser):
    """What a page holds."""

    def __init__(self, text):
        super().__init__()
        self.text, self.tags, self.words = text, [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.words.append(data)

    @property
    def said(self):
        return " ".join(" ".join(self.words).split())

    def all(self, tag):
        return [attrs for name, attrs in self.tags if name == tag]


@pytest.fixture(autouse=True)
def _float32():
    torch.set_default_dtype(torch.float32)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Runs and their reports, made when they are asked for."""
    made = {}

    def make(name):
        if name not in made:
            default = torch.get_default_dtype()
            torch.set_default_dtype(torch.float32)
            made[name] = tmp_path_factory.mktemp(name) / "run"
            train.main([name, *RUNS[name], *TINY, "--out", str(made[name])])
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(report.page, "DIAGNOSED", 20)
                patch.setattr(report.page, "PARTICLES", 30)
                report.main([str(made[name]), "--no-progress", "--bootstrap", "5"])
            torch.set_default_dtype(default)
        return made[name]

    return make


@pytest.fixture
def copy(folder, tmp_path):
    """A run without its report, to be changed."""

    def make(name, *left_out):
        shutil.copytree(folder(name), tmp_path / "copy", ignore=lambda *_: {"report.html", *left_out})
        return tmp_path / "copy"

    return make


def page(folder, *argv):
    report.main([str(folder), "--no-progress", "--bootstrap", "0", *argv])
    return Page((folder / "report.html").read_text(encoding="utf-8"))


def refused(capsys, *argv):
    with pytest.raises(SystemExit) as stop:
        report.main([*map(str, argv), "--no-progress"])
    assert stop.value.code == 2
    said = capsys.readouterr().err
    assert said.startswith("error: ")
    assert said.count("\n") == 1
    return said


def pixels(uri):
    return numpy.asarray(Image.open(io.BytesIO(base64.b64decode(uri.removeprefix("data:image/png;base64,")))))


@pytest.mark.parametrize("name", RUNS)
def test_a_page_needs_nothing_else_and_everything_has_a_name(folder, name):
    found = Page((folder(name) / "report.html").read_text(encoding="utf-8"))
    for tag, attrs in found.tags:
        assert not {"onclick", "onload", "onerror"} & attrs.keys()
        for link in ("src", "href", "xlink:href", "srcset", "action"):
            assert attrs.get(link, "#").startswith(("#", "data:")), (tag, link)
        if tag == "img":
            assert attrs["alt"]
            assert int(attrs["width"]) > 0
            assert int(attrs["height"]) > 0
    ids = [attrs["id"] for _, attrs in found.tags if "id" in attrs]
    assert len(ids) == len(set(ids))
    labels = {attrs["for"] for attrs in found.all("label")}
    assert labels == {attrs["id"] for attrs in found.all("input")}
    assert {"url(#" + part.split(")")[0] for part in found.text.split("url(#")[1:]} <= {f"url(#{i}" for i in ids}
    sections = {attrs["id"] for attrs in found.all("section")}
    images = set() if name == "cvae_if" else {"latents", "reconstructions", "samples"}
    assert sections == {"training", "scores", "diagnosis", "provenance"} | (images or {"codes"})
    assert {attrs["href"][1:] for attrs in found.all("a")} == sections
    assert name in found.said
    assert pd.Run.load(folder(name)).settings["data"] in found.said
    config = json.loads((folder(name) / "config.json").read_text())
    assert config["command"] in found.said
    assert config["machine"]["system"] in found.said


@pytest.mark.parametrize("name", ["dynamic_vae", "csvae", "st_rkm"])
def test_strips_are_traversals_ordered_by_kl(folder, name):
    found = Page((folder(name) / "report.html").read_text(encoding="utf-8"))
    run, config = pd.Run.load(folder(name)), json.loads((folder(name) / "config.json").read_text())["options"]
    data = pd.load(config["data"], **train.assignments(config["data_options"]))
    q, codes = run.posterior, encode(run, data, progress=False)
    order = [(site, i) for site, kl in codes.kl.items() for i in kl.argsort(descending=True, stable=True).tolist()]
    ranges = found.all("input")
    strips = [attrs for attrs in found.all("img") if "goes from" in attrs["alt"]]
    assert [attrs["alt"].split()[3] for attrs in strips] == [f"{site}[{i}]" for site, i in order]
    assert len(ranges) == len(order)
    moved = data.batch(report.page._moved(codes))
    view = View(q, moved)
    for (site, i), attrs, strip in zip(order, ranges, strips):
        low, high = float(attrs["data-low"]), float(attrs["data-high"])
        assert (low, high) == (float(view.low[site][i]), float(view.high[site][i]))
        image = pixels(strip["src"]) / 255
        frames = image.reshape(pictures.FRAMES, -1, image.shape[1])
        side = frames.shape[1]
        times = side // data.shape[-1]
        for k in (0, 17, pictures.FRAMES - 1):
            expected = q.traverse(site, i, [low + (high - low) * k / (pictures.FRAMES - 1)], *moved)[:, 0, 0]
            for j in range(3):
                shown = frames[k][::times, j * (side + pictures.GAP) :][:, :side:times]
                numpy.testing.assert_allclose(shown, expected[j].clamp(0, 1).numpy(), atol=0.6 / 255)
        own = view.codes[site][0, i]
        assert abs(low + (high - low) * int(attrs["value"]) / 24 - own) <= (high - low) / 48 * 1.001


def test_figures_are_those_of_the_metrics(folder):
    found = Page((folder("dynamic_vae") / "report.html").read_text(encoding="utf-8"))
    metrics = json.loads((folder("dynamic_vae") / "metrics.json").read_text())
    for value in (metrics["reconstruction"]["nats_per_datum"], metrics["kl"]["z"]["nats_per_datum"]):
        assert f"{value:.2f}" in found.words
    assert found.words.count(f"{metrics['mig']['value']:.3f}") >= 2
    assert f"{metrics['rmig']['value']:.3f}" in found.words
    assert metrics["mig"]["estimator"] in found.words
    assert "95 % interval" in found.said
    assert "Finished: 6 optimisation steps." in found.said
    assert {"KL of z", "set point of z", "beta of z", "loss"} <= set(found.words)


def test_text_from_outside_stays_text(copy):
    run = copy("dynamic_vae")
    config = json.loads((run / "config.json").read_text())
    bad = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>"
    config |= {"method": bad, "command": bad, bad: bad}
    config["options"] |= {"data": bad, "data_options": [bad]}
    config["versions"] = {bad: bad}
    (run / "config.json").write_text(json.dumps(config))
    found = page(run)
    assert len(found.all("script")) == 1
    assert not [attrs for attrs in found.all("img") if "onerror" in attrs or attrs.get("src") == "x"]
    assert found.said.count(bad) >= 5
    assert "The data could not be loaded" in found.said


def test_without_data_there_are_samples_and_traversals_at_the_mean_of_the_prior(copy):
    run = copy("dynamic_vae", "config.json", "history.csv", "history.jsonl", "metrics.json")
    assert {file.name for file in run.iterdir()} >= {"checkpoint.pt"}
    found = page(run)
    assert "does not say which data" in found.said
    assert {attrs["id"] for attrs in found.all("section")} == {"training", "latents", "samples", "scores", "provenance"}
    q = pd.Run.load(run).posterior
    strip = next(attrs for attrs in found.all("img") if "z[1] goes" in attrs["alt"])
    image = pixels(strip["src"]) / 255
    expected = q.traverse("z", 1, [-3.0, 3.0], units="sd")[0, :, 0]
    times = image.shape[1] // 8
    numpy.testing.assert_allclose(image[: image.shape[1] : times, ::times], expected[0].numpy(), atol=0.6 / 255)
    numpy.testing.assert_allclose(image[-image.shape[1] :: times, ::times], expected[1].numpy(), atol=0.6 / 255)
    with_data = page(run, "--data", "digits")
    assert "reconstructions" in {attrs["id"] for attrs in with_data.all("section")}
    assert "does not say" not in with_data.said


def test_without_data_a_model_that_takes_labels_gives_no_samples(copy):
    run = copy("cvae", "config.json")
    found = page(run)
    assert "There are no samples: the model takes labels" in found.said
    assert "samples" not in {attrs["id"] for attrs in found.all("section")}
    assert len(found.all("input")) == 2


def test_other_data_than_those_of_the_run_are_told(copy):
    run = copy("csvae")
    found = page(run, "--data", "digits_bars", "--data-options", "size=16", "part=train")
    assert "of other data than the run was trained on" in found.said
    assert "of other data" not in page(run).said


def test_an_unfinished_run_says_where_it_is(copy):
    run = copy("dynamic_vae")
    config = json.loads((run / "config.json").read_text())
    config["options"]["steps"] = 12_000
    (run / "config.json").write_text(json.dumps(config))
    assert "Unfinished: at step 6 of 12,000." in page(run).said


def test_the_run_of_a_study(copy):
    run = copy("cvae", "config.json", "metrics.json")
    data = {"name": "digits_bars", "root": None, "options": {"size": 8, "part": "test", "attributes": 2}}
    content = {"task": "experiments.subspaces:run", "arguments": {"steps": 6, "seed": 3, "data": data}}
    (run / "config.json").write_text(json.dumps(content))
    (run / "result.json").write_text(json.dumps({"figures": {"leak": 0.123, "transfer": None}}))
    found = page(run)
    assert {"leak", "0.123", "experiments.subspaces:run", "argument seed"} <= set(found.words)
    assert "reconstructions" in {attrs["id"] for attrs in found.all("section")}


def test_what_is_no_run_is_refused(capsys, tmp_path, copy):
    assert "folder: got" in refused(capsys, tmp_path)
    assert "folder: got" in refused(capsys, tmp_path / "nowhere")
    run = copy("dynamic_vae")
    assert "--bootstrap" not in refused(capsys, run, "--bootstrap", "1")
    assert "data: got 'digits_bars" in refused(capsys, run, "--data", "digits_bars")
    assert "name: got 'nope'" in refused(capsys, run, "--data", "nope")
    (tmp_path / "file").touch()
    assert "out: got" in refused(capsys, run, "--out", tmp_path / "file" / "a.html", "--bootstrap", "0")
    (run / "config.json").write_text("{")
    assert "config.json: damaged" in refused(capsys, run)
    (run / "config.json").unlink()
    (run / "checkpoint.pt").write_text("junk")
    assert "checkpoint.pt: damaged" in refused(capsys, run)
    assert not (run / "report.html").exists()


ARGS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"]
ARGS += ["--disable-background-networking", "--disable-component-update", "--disable-sync"]


@pytest.fixture(scope="module")
def browser():
    sync_api = pytest.importorskip("playwright.sync_api")
    found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if found is None:
        pytest.skip("there is no chromium")
    with sync_api.sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=found, args=ARGS)
        yield opened
        opened.close()


@pytest.mark.parametrize("name", ["csvae", "cvae_if"])
def test_in_a_browser(browser, folder, name):
    wrong, asked = [], []
    file = Path(folder(name), "report.html").resolve().as_uri()
    for width in (375, 1440):
        for scheme in ("light", "dark"):
            shown = browser.new_page(viewport={"width": width, "height": 800}, color_scheme=scheme)
            shown.on("console", lambda message: wrong.append(message.text))
            shown.on("pageerror", lambda error: wrong.append(str(error)))
            shown.on("request", lambda request: asked.append(request.url))
            shown.goto(file)
            assert shown.evaluate("document.documentElement.scrollWidth <= innerWidth")
            background = shown.evaluate("getComputedStyle(document.documentElement).backgroundColor")
            assert (sum(map(int, background[4:-1].split(","))) > 3 * 128) == (scheme == "light")
            shown.close()
    assert not wrong
    assert {url for url in asked if not url.startswith("data:")} == {file}


def test_sliders_move_their_pictures(browser, folder):
    shown = browser.new_page(viewport={"width": 800, "height": 800})
    shown.goto(Path(folder("csvae"), "report.html").resolve().as_uri())
    top = """n => {
        const strip = document.querySelectorAll(".strip")[n];
        const image = strip.querySelector("img").getBoundingClientRect();
        return (strip.querySelector(".frame").getBoundingClientRect().top - image.top) / image.height * 25;
    }"""
    ranges = shown.locator("input[type=range]")
    assert ranges.count() == 4
    for n in range(ranges.count()):
        one = ranges.nth(n)
        assert shown.evaluate(top, n) == pytest.approx(int(one.input_value()), abs=0.02)
        one.focus()
        shown.keyboard.press("Home")
        assert shown.evaluate(top, n) == pytest.approx(0, abs=0.02)
        first = shown.locator(".frame").nth(n).screenshot()
        shown.keyboard.press("End")
        assert shown.evaluate(top, n) == pytest.approx(24, abs=0.02)
        assert shown.locator(".frame").nth(n).screenshot() != first
        shown.keyboard.press("ArrowLeft")
        assert shown.evaluate(top, n) == pytest.approx(23, abs=0.02)
        low, high = (float(one.get_attribute(f"data-{end}")) for end in ("low", "high"))
        said = float(shown.locator(".strip output").nth(n).inner_text())
        assert said == pytest.approx(low + (high - low) * 23 / 24, abs=0.006)
        assert float(one.get_attribute("aria-valuetext")) == said
    shown.close()


def test_help(capsys):
    with pytest.raises(SystemExit) as stop:
        command.main(["--help"])
    assert stop.value.code == 0
    assert "--data-options" in capsys.readouterr().out
