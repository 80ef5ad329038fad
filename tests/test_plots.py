# Copyright ppl-disent contributors.
# SPDX-License-Identifier: Apache-2.0
"""Pictures show what they say, in the right order, and need neither a screen nor pyplot."""

import subprocess
import sys

import pandas
import pytest
import torch
from matplotlib.figure import Figure

import ppl_disent as pd
from ppl_disent import plots


@pytest.fixture(scope="module")
def fitted():
    """A small run on grey images that are not square, and some of its data."""
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(40, 1, 4, 6, generator=generator, dtype=torch.float64)
    default = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        method = pd.dynamic_vae((1, 4, 6), latent_dim=3, target_kl=2.0, beta_init=2.0, lr=1e-2)
    run = method.fit(x, steps=60, log_every=5, progress=False, device="cpu")
    torch.set_default_dtype(default)
    return run, x


def picture(figure: Figure) -> torch.Tensor:
    """What a grid shows, `(height, width, 3)`."""
    return torch.as_tensor(figure.axes[0].images[0].get_array())


def rows(figure: Figure) -> list[str]:
    return [label.get_text() for label in figure.axes[0].get_yticklabels()]


def save(figure: Figure, folder) -> None:
    figure.savefig(folder / "figure.png")
    assert (folder / "figure.png").stat().st_size > 1000


def legend(panel) -> list[str]:
    return [text.get_text() for text in panel.get_legend().get_texts()]


def test_curves_show_the_history(fitted, tmp_path):
    history = fitted[0].history
    figure = plots.curves(history)
    save(figure, tmp_path)
    loss, kl, beta, margin = figure.axes
    assert legend(loss) == ["loss", "reconstruction, -log p(x | latents)"]
    assert legend(kl) == ["KL of z", "set point of z"]
    shown = {line.get_label(): line for panel in (loss, kl, beta) for line in panel.lines}
    for label, values in {
        "loss": history["loss"],
        "reconstruction, -log p(x | latents)": -history["log_lik.x"],
        "KL of z": history["kl.z"],
        "set point of z": history["set_point.z"],
        "beta of z": history["kl_scale.z"],
    }.items():
        assert (shown[label].get_ydata() == values).all()
        assert (shown[label].get_xdata() == history.index).all()
    assert "nats" in loss.get_ylabel()
    assert "nats" in kl.get_ylabel()
    assert margin.get_xlabel() == "optimisation steps"


def test_curves_without_what_is_not_known():
    history = pandas.DataFrame({"loss": [3.0], "kl.z": [1.0], "log_lik.x": [-2.0], "kl_scale.z": [1.0]}, index=[10])
    assert len(plots.curves(history).axes) == 3
    history["margin.z"] = torch.nan
    figure = plots.curves(history)
    assert len(figure.axes) == 3
    assert figure.axes[0].lines[0].get_marker() == "."  # one row is a point: a line would not be seen


@pytest.mark.parametrize(("beta", "scale"), [([50.0, 1.0], "log"), ([5.0, 1.0], "linear"), ([50.0, 0.0], "linear")])
def test_curves_axis_of_beta(beta, scale):
    history = pandas.DataFrame({"loss": [3.0, 2.0], "kl.z": [1.0, 1.0], "log_lik.x": [-2.0, -1.0], "kl_scale.z": beta})
    assert plots.curves(history).axes[2].get_yscale() == scale


def test_curves_of_two_sites(tmp_path):
    columns = ("loss", "kl.s", "kl.z", "kl_scale.s", "kl_scale.z", "log_lik.x", "set_point.s", "capacity.z")
    figure = plots.curves(pandas.DataFrame({column: [1.0, 2.0] for column in columns}))
    save(figure, tmp_path)
    assert legend(figure.axes[1]) == ["KL of s", "KL of z", "set point of s", "set point of z"]
    assert legend(figure.axes[2]) == ["beta of s", "beta of z"]


@pytest.mark.parametrize("history", [pandas.DataFrame(), pandas.DataFrame({"loss": []}), pandas.DataFrame({"a": [1]})])
def test_curves_refuse_what_is_no_history(history):
    with pytest.raises(pd.ArgumentError, match="history"):
        plots.curves(history)


def test_latent_kl_is_that_of_the_objective(fitted):
    run, x = fitted
    kl = plots.latent_kl(run.posterior, x)
    assert kl.shape == (3,)
    torch.testing.assert_close(kl.sum(), run.elbo.evaluate(run.model, run.guide, x).kl["z"].detach())


def test_latent_kl_names_the_site(fitted):
    with pytest.raises(pd.SiteError, match=r"'w'.*z"):
        plots.latent_kl(fitted[0].posterior, fitted[1], site="w")


def test_reconstructions_are_below_their_data(fitted, tmp_path):
    run, x = fitted
    figure = plots.reconstructions(run.posterior, x, n=3)
    save(figure, tmp_path)
    assert rows(figure) == ["data", "reconstruction"]
    shown = picture(figure)
    assert shown.shape == (4 + 1 + 4, 3 * 6 + 2, 3)  # with a gap of one pixel
    torch.testing.assert_close(shown[:4, 7:13, 0], x[1, 0].float())
    torch.testing.assert_close(shown[5:, 14:, 1], run.posterior.reconstruct(x)[2, 0].float())


def test_traversal_is_ordered_by_kl(fitted, tmp_path):
    run, x = fitted
    figure = plots.traversal(run.posterior, x)
    save(figure, tmp_path)
    kl = plots.latent_kl(run.posterior, x)
    order = kl.argsort(descending=True).tolist()
    assert rows(figure) == [f"z[{i}]  {kl[i]:.2f} nats" for i in order]
    headings = [label.get_text() for label in figure.axes[0].get_xticklabels()]
    assert (headings[0], headings[5], headings[-1], len(headings)) == ("-3", "0", "3", 11)
    expected = run.posterior.traverse("z", order[1], [3.0], x[:1])[0, 0, 0]
    torch.testing.assert_close(picture(figure)[5:9, -6:, 0], expected.float())


def test_traversal_with_values_and_kl_of_ones_own(fitted):
    figure = plots.traversal(fitted[0].posterior, fitted[1][:1], values=[-1, 0.25], kl=torch.tensor([0.1, 3.0, 0.2]))
    assert rows(figure) == ["z[1]  3.00 nats", "z[2]  0.20 nats", "z[0]  0.10 nats"]
    assert [label.get_text() for label in figure.axes[0].get_xticklabels()] == ["-1", "0.25"]
    assert picture(figure).shape == (3 * 4 + 2, 2 * 6 + 1, 3)


def test_colour_and_values_out_of_range():
    x = torch.rand(4, 3, 4, 4)
    method = pd.vae((3, 4, 4), latent_dim=2, likelihood="gaussian")
    q = pd.Posterior(method.model, method.guide)
    shown = picture(plots.reconstructions(q, x * 3 - 1))
    assert shown.min() >= 0
    assert shown.max() <= 1
    torch.testing.assert_close(picture(plots.reconstructions(q, x))[:4, :4], x[0].permute(1, 2, 0).float())


@pytest.mark.parametrize("draw", [plots.reconstructions, plots.traversal])
@pytest.mark.parametrize("shape", [(5, 6), (5, 2, 4, 4), (1, 4, 4), (0, 1, 4, 4)])
def test_what_is_no_image_is_refused(fitted, draw, shape):
    with pytest.raises(pd.ArgumentError, match=r"x: .*\(n, 1, h, w\)"):
        draw(fitted[0].posterior, torch.zeros(shape))


def test_bad_arguments_are_named(fitted):
    run, x = fitted
    with pytest.raises(pd.ArgumentError, match="n: got 0"):
        plots.reconstructions(run.posterior, x, n=0)
    with pytest.raises(pd.ArgumentError, match="kl: got"):
        plots.traversal(run.posterior, x, kl=torch.zeros(2))
    with pytest.raises(pd.ArgumentError, match="values"):
        plots.traversal(run.posterior, x, values=[[1.0]])


def test_pyplot_is_not_needed():
    code = "import sys, ppl_disent.plots; sys.exit('matplotlib.pyplot' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_matplotlib_is_handed_no_tensor(fitted, tmp_path, monkeypatch):
    """Whether it can take one depends on the versions of torch and NumPy."""

    def refuse(*_):
        raise AssertionError("a tensor was converted by NumPy")

    run, x = fitted
    codes = torch.randn(50, 3)
    monkeypatch.setattr(torch.Tensor, "__array__", refuse)
    for figure in (
        plots.curves(run.history),
        plots.scatter({"z": codes}, {"y": (codes[:, 0] > 0).double(), "t": codes[:, 1]}),
        plots.marginals(codes),
        plots.reconstructions(run.posterior, x),
        plots.samples(run.posterior, 4),
        plots.traversal(run.posterior, x),
    ):
        save(figure, tmp_path)


def test_notebooks_show_pictures_as_pictures(fitted):
    run, x = fitted
    for figure in (plots.curves(run.history), plots.reconstructions(run.posterior, x)):
        assert figure._repr_png_().startswith(b"\x89PNG")
