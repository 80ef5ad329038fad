# Copyright ppl-disent contributors.
# SPDX-License-Identifier: Apache-2.0
"""Attribute transfer decodes what it says, and its pictures show it."""

import pytest
import torch
from matplotlib.figure import Figure
from torch.distributions import Normal, kl_divergence

import ppl_disent as pd
from ppl_disent import plots, transfer

N, SHAPE = 30, (1, 4, 4)
OPTIONS = {"latent_dim": 3, "network": "mlp"}


@pytest.fixture(scope="module")
def fitted():
    """Posteriors of the four families, and `(x, y)` with k = 2."""
    default = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        batch = torch.rand(N, *SHAPE), torch.stack([torch.arange(N) % 2, torch.arange(N) // 2 % 2], 1).double()
        runs = {"vae": pd.vae(SHAPE, **OPTIONS).fit(batch[:1], steps=5, progress=False, device="cpu")}
        for name in ("cvae", "cvae_if", "csvae"):
            method = getattr(pd, name)(SHAPE, labels=2, **OPTIONS)
            runs[name] = method.fit(batch, steps=5, progress=False, device="cpu")
    torch.set_default_dtype(default)
    return {name: run.posterior for name, run in runs.items()}, batch


def test_prior_is_the_models(fitted):
    q, (x, y) = fitted[0]["csvae"], fitted[1]
    p = q.prior(x, y)
    assert list(p) == ["z", "w_0", "w_1"]
    torch.testing.assert_close(p["z"].mean, torch.zeros(N, 3))
    for i in range(2):
        on = y[:, i : i + 1].expand(-1, 2)
        torch.testing.assert_close(p[f"w_{i}"].mean, 3.0 * on)
        torch.testing.assert_close(p[f"w_{i}"].stddev, 0.1 + 0.9 * on)
    run_kl = pd.TermELBO().evaluate(q.model, q.guide, x, y).kl
    for site, each in q.encode(x, y).items():
        by_hand = kl_divergence(Normal(each.mean, each.stddev), Normal(p[site].mean, p[site].stddev))
        torch.testing.assert_close(by_hand.sum(1).mean(), run_kl[site].detach())
        torch.testing.assert_close(plots.latent_kl(q, x, y, site=site), by_hand.mean(0))


def test_shift_moves_the_code_along_the_difference_of_means(fitted):
    q, (x, y) = fitted[0]["vae"], fitted[1]
    codes = q.encode(x)["z"].mean
    direction = transfer.attribute_shift(q, (x,), y, 1)
    torch.testing.assert_close(direction, codes[y[:, 1] == 1].mean(0) - codes[y[:, 1] == 0].mean(0))
    edits = transfer.shift(q, (x,), direction, torch.tensor([0.0, 1.0, -2.0]))
    torch.testing.assert_close(edits[0], q.reconstruct(x))
    torch.testing.assert_close(edits[2], q.decode(x, z=codes - 2 * direction).mean)
    each = torch.where(y[:, 1] == 1, -1.0, 1.0)[None]
    torch.testing.assert_close(
        transfer.shift(q, (x,), direction, each)[0], q.decode(x, z=codes + each[0][:, None] * direction).mean
    )


@pytest.mark.parametrize("name", ["cvae", "cvae_if"])
def test_relabel_decodes_with_the_other_label(fitted, name):
    q, (x, y) = fitted[0][name], fitted[1]
    z = q.encode(x, y)["z"].mean
    edits = transfer.relabel(q, (x, y), 0, torch.tensor([0.0, 1.0, 1.7]))
    for edit, value in zip(edits, (0.0, 1.0, 1.7)):
        changed = torch.stack([torch.full((N,), value), y[:, 1]], 1)
        torch.testing.assert_close(edit, q.decode(x, changed, z=z).mean)
    torch.testing.assert_close(transfer.relabel(q, (x, y), 0, y[:, 0][None])[0], q.reconstruct(x, y))
    assert set(y[:, 0].tolist()) == {0.0, 1.0}, "the labels are left as they were"


def test_place_replaces_one_subspace(fitted):
    q, (x, y) = fitted[0]["csvae"], fitted[1]
    at = {site: d.mean for site, d in q.encode(x, y).items()}
    points = torch.tensor([[3.0, 3.0], [0.0, 0.0]])
    edits = transfer.place(q, (x, y), points, site="w_1")
    for edit, p in zip(edits, points):
        torch.testing.assert_close(edit, q.decode(x, y, **(at | {"w_1": p.repeat(N, 1)})).mean)
    torch.testing.assert_close(transfer.place(q, (x, y), at["w_1"][None], site="w_1")[0], q.reconstruct(x, y))
    donor = at["w_1"].flip(0)
    swapped = q.swap("w_1", (x, y), (x.flip(0), y.flip(0))).mean
    torch.testing.assert_close(transfer.place(q, (x, y), donor[None], site="w_1")[0], swapped)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda q, b: transfer.attribute_shift(q["vae"], b[:1], b[1][:, 0]), pd.ArgumentError, "labels: got"),
        (lambda q, b: transfer.attribute_shift(q["vae"], b[:1], b[1], 2), pd.ArgumentError, "attribute: got 2"),
        (lambda q, b: transfer.attribute_shift(q["vae"], b[:1], b[1] * 0), pd.DataError, "got 0 of 30"),
        (lambda q, b: transfer.attribute_shift(q["vae"], b[0], b[1]), pd.ArgumentError, "batch: got tensor"),
        (lambda q, b: transfer.shift(q["vae"], b[:1], torch.ones(2), torch.ones(1)), pd.ArgumentError, "direction"),
        (lambda q, b: transfer.shift(q["vae"], b[:1], torch.ones(3), torch.ones(1, 4)), pd.ArgumentError, "strengths"),
        (lambda q, b: transfer.relabel(q["cvae"], b[:1], 0, torch.ones(1)), pd.ArgumentError, r"expected \(x, y\)"),
        (lambda q, b: transfer.relabel(q["cvae"], b, 5, torch.ones(1)), pd.ArgumentError, "attribute: got 5"),
        (lambda q, b: transfer.place(q["csvae"], b, torch.ones(2, 2), site="w"), pd.SiteError, "no latent site 'w'"),
        (lambda q, b: transfer.place(q["csvae"], b, torch.ones(2, 3)), pd.ArgumentError, "points: got"),
        (lambda q, b: transfer.place(q["csvae"], b, torch.ones(2)), pd.ArgumentError, "points: got"),
        (lambda q, b: plots.transfer(b[0], {}), pd.ArgumentError, "edits"),
        (lambda q, b: plots.transfer(b[0], {"a": b[0][:3]}), pd.ArgumentError, "edits"),
        (lambda q, b: plots.transfer(b[0], {"a": b[0]}, points=["1", "2"]), pd.ArgumentError, "points"),
        (lambda q, b: plots.subspace(q["csvae"], *b, dims=(0, 2)), pd.ArgumentError, "dims: got"),
        (lambda q, b: plots.subspace(q["csvae"], *b, site="w"), pd.SiteError, "no latent site 'w'"),
        (lambda q, b: plots.joint(q["csvae"], *b, paths={"w_0": torch.ones(2, 2)}), pd.ArgumentError, "two sites"),
        (
            lambda q, b: plots.joint(q["csvae"], *b, paths={"w_0": torch.ones(2, 2), "z": torch.ones(2, 2)}),
            pd.ArgumentError,
            r"paths\['z'\]",
        ),
        (lambda q, b: plots.scatter({}, {"y": b[1][:, 0]}), pd.ArgumentError, "codes, colours"),
        (lambda q, b: plots.scatter({"z": b[1]}, {"y": b[1]}), pd.ArgumentError, "codes, colours"),
    ],
)
def test_bad_input(fitted, call, error, message):
    with pytest.raises(error, match=message):
        call(*fitted)


def tile(figure: Figure, row: int, column: int) -> torch.Tensor:
    shown = torch.as_tensor(figure.axes[0].images[0].get_array())
    return shown[5 * row : 5 * row + 4, 5 * column : 5 * column + 4, 0]


def words(labels) -> list[str]:
    return [label.get_text() for label in labels]


def test_transfer_grid_has_a_row_a_model_and_a_column_a_point(fitted, tmp_path):
    q, (x, y) = fitted[0], fitted[1]
    batch = (x[:2], y[:2])
    edits = {
        "CVAE": transfer.relabel(q["cvae"], batch, 0, torch.tensor([1.0])),
        "CSVAE": transfer.place(q["csvae"], batch, torch.tensor([[3.0, 3.0], [1.0, 4.0]])),
    }
    figure = plots.transfer(batch[0], edits, points=["a", "b"])
    figure.savefig(tmp_path / "grid.png")
    assert words(figure.axes[0].get_yticklabels()) == ["CVAE", "CSVAE"] * 2
    assert words(figure.axes[0].get_xticklabels()) == ["data", "a", "b"]
    torch.testing.assert_close(tile(figure, 2, 0), x[1, 0].float())
    torch.testing.assert_close(tile(figure, 3, 2), edits["CSVAE"][1, 1, 0].float())
    torch.testing.assert_close(tile(figure, 0, 2), torch.full((4, 4), 0.7).float())
    single = plots.transfer(batch[0], {name: edit[0] for name, edit in edits.items()})
    assert words(single.axes[0].get_yticklabels()) == ["data", "CVAE", "CSVAE"]
    torch.testing.assert_close(tile(single, 2, 1), edits["CSVAE"][0, 1, 0].float())


def test_subspace_grid_spans_the_plane(fitted):
    q, (x, y) = fitted[0]["csvae"], fitted[1]
    figure = plots.subspace(q, x, y, site="w_1", rows=[0.0, 3.0], columns=[-1.0, 2.0, 5.0], dims=(1, 0))
    expected = transfer.place(q, (x[:1], y[:1]), torch.tensor([[5.0, 3.0]]), site="w_1")
    torch.testing.assert_close(tile(figure, 1, 2), expected[0, 0, 0].float())
    assert words(figure.axes[0].get_yticklabels()) == ["w_1[1] = 0", "w_1[1] = 3"]
    assert words(figure.axes[0].get_xticklabels()) == ["-1", "2", "5"]


def test_joint_grid_moves_two_sites(fitted):
    q, (x, y) = fitted[0]["csvae"], fitted[1]
    paths = {"w_0": torch.linspace(0, 3, 3)[:, None].repeat(1, 2), "w_1": torch.linspace(0, 3, 4)[:, None].repeat(1, 2)}
    figure = plots.joint(q, x, y, paths=paths)
    z = q.encode(x[:1], y[:1])["z"].mean
    expected = q.decode(x[:1], y[:1], z=z, w_0=paths["w_0"][2:], w_1=paths["w_1"][1:2]).mean
    torch.testing.assert_close(tile(figure, 2, 1), expected[0, 0].float())


def test_scatter_shows_each_pair_in_each_colouring(tmp_path):
    codes = {"z": torch.randn(50, 2), "w_0": torch.randn(50, 1)}
    colours = {"y": torch.arange(50) % 2, "t": torch.linspace(0, 1, 50)}
    figure = plots.scatter(codes, colours)
    figure.savefig(tmp_path / "scatter.png")
    panels = [axes for axes in figure.axes if axes.get_xlabel()]
    assert [(a.get_xlabel(), a.get_ylabel()) for a in panels] == [("z[0]", "z[1]"), ("w_0[0]", "z[0]")] * 2
    off, on = panels[0].collections
    torch.testing.assert_close(torch.as_tensor(on.get_offsets().data).sort(0).values, codes["z"][1::2].sort(0).values)
    assert len(off.get_offsets()) == 25
    (all_points,) = panels[3].collections
    assert len(all_points.get_offsets()) == 50
    assert words(panels[1].get_legend().get_texts()) == ["0", "1"]
    fewer = plots.scatter(codes, colours, points=10)
    assert len(fewer.axes[2].collections[0].get_offsets()) == 10


def test_samples_fill_rows(fitted):
    q, (_, y) = fitted[0]["csvae"], fitted[1]
    figure = plots.samples(q, 5, y[:5], columns=3)
    assert picture_size(figure) == (9, 14)
    torch.testing.assert_close(tile(figure, 1, 2), torch.full((4, 4), 0.7).float())
    with pytest.raises(pd.ArgumentError, match="columns: got 0"):
        plots.samples(q, 5, y[:5], columns=0)


def picture_size(figure: Figure) -> tuple[int, ...]:
    return figure.axes[0].images[0].get_array().shape[:2]


def test_marginals_show_variances_histograms_and_pairs(tmp_path):
    codes = torch.randn(400, 3) * torch.tensor([1.0, 3.0, 0.1])
    figure = plots.marginals(codes, name="h", shown=2)
    figure.savefig(tmp_path / "marginals.png")
    bars, *panels = figure.axes
    heights = torch.tensor([bar.get_height() for bar in bars.patches])
    torch.testing.assert_close(heights, codes.var(0)[[1, 0, 2]])
    assert words(bars.get_xticklabels()) == ["h[1]", "h[0]", "h[2]"]
    shown = [panel for panel in panels if panel.get_visible()]
    assert len(shown) == 3
    pair = shown[1].collections[0].get_offsets().data
    torch.testing.assert_close(torch.as_tensor(pair).sort(0).values, codes[:, [1, 0]].sort(0).values)
    with pytest.raises(pd.ArgumentError, match="codes: got"):
        plots.marginals(torch.ones(3))
