# Copyright ppl-disent contributors.
# SPDX-License-Identifier: Apache-2.0
"""Data sets: the renderer against its closed form, then what every data set promises, then what is refused."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from ppl_disent.data import LOADERS, Arrays, Dataset, Subset, load
from ppl_disent.data.dsprites import FILE, SIZES
from ppl_disent.errors import ArgumentError, DataError

SQUARE, ELLIPSE, HEART = 87040, 332800, 578560  # the examples of the authors' notebook


@pytest.fixture(scope="module")
def sprites() -> Dataset:
    return load("dsprites")


def arrays(n: int = 20, **options: object) -> Arrays:
    given = {
        "likelihood": "gaussian",
        "factors": torch.arange(n)[:, None] % 4,
        "factor_names": ("a",),
        "factor_sizes": (4,),
        "labels": torch.arange(n)[:, None] % 2,
    }
    return Arrays(torch.arange(2 * n).view(n, 2).float(), **(given | options))  # type: ignore[arg-type]


# --- rendered dSprites


def closed_form(shape: int, scale: int, orientation: int, pos_x: int, pos_y: int) -> np.ndarray:
    """One image, pixel by pixel: the centre of the pixel in the sprite's own coordinates, then inside or outside."""
    s, o = 0.5 + 0.1 * scale, 2 * np.pi * orientation / 39
    dx = np.arange(64)[None, :] + 0.5 - (16 + 32 * pos_x / 31)
    dy = np.arange(64)[:, None] + 0.5 - (16 + 32 * pos_y / 31)
    u = (np.cos(o) * dx - np.sin(o) * dy) / s
    v = (np.sin(o) * dx + np.cos(o) * dy) / s
    if shape == 0:
        return (abs(u) <= 9.6) & (abs(v) <= 9.6)
    if shape == 1:
        return (u / 12.77) ** 2 + (v / 7.21) ** 2 <= 1
    t = 2 * np.pi * np.arange(129) / 128
    x = 0.6 * 16 * np.sin(t) ** 3
    y = -0.662 * (13 * np.cos(t) - 5 * np.cos(2 * t) - 2 * np.cos(3 * t) - np.cos(4 * t)) - 1.44
    inside = np.zeros((64, 64), bool)
    for i in range(128):  # a ray to the right of the pixel meets the outline an odd number of times
        meets = (v < y[i]) != (v < y[i + 1])
        inside ^= meets & (u < x[i] + (v - y[i]) * (x[i + 1] - x[i]) / (y[i + 1] - y[i] or 1))
    return inside


def test_sprites_are_their_closed_form(sprites: Dataset) -> None:
    rng = np.random.default_rng(0)
    factors = np.stack([rng.integers(size, size=1500) for size in SIZES], axis=1)
    factors[:32, 3:] = [(x, y) for x in (0, 31) for y in (0, 31)] * 8  # the corners, at which arithmetic is widest
    index = factors @ [245760, 40960, 1024, 32, 1]
    (x,) = sprites.batch(torch.from_numpy(index))
    for image, row in zip(x, factors):
        np.testing.assert_array_equal(image[0].numpy(), closed_form(*row))


@pytest.mark.parametrize(
    ("index", "factors"),
    [(SQUARE, (0, 2, 5, 0, 0)), (ELLIPSE, (1, 2, 5, 0, 0)), (HEART, (2, 2, 5, 0, 0))],
    ids=["square", "ellipse", "heart"],
)
def test_published_examples(sprites: Dataset, index: int, factors: tuple[int, ...]) -> None:
    assert sprites.factors is not None
    assert tuple(sprites.factors[index].tolist()) == factors
    image = sprites.batch([index])[0][0, 0]
    np.testing.assert_array_equal(image.numpy(), closed_form(*factors))
    rows, columns = image.nonzero().double().mean(0) + 0.5
    assert abs(rows - 16) < 1.5
    assert abs(columns - 16) < 1.5


def test_sprites_order_and_sizes(sprites: Dataset) -> None:
    assert len(sprites) == 737_280
    assert sprites.shape == (1, 64, 64)
    assert sprites.likelihood == "bernoulli"
    assert sprites.factor_names == ("shape", "scale", "orientation", "pos_x", "pos_y")
    assert sprites.factor_sizes == (3, 6, 40, 32, 32)
    assert sprites.labels is None
    assert sprites.factors is not None
    assert sprites.factors.dtype == torch.int64
    order = (sprites.factors * torch.tensor([245760, 40960, 1024, 32, 1])).sum(1)
    assert torch.equal(order, torch.arange(737_280))


def test_sprites_are_small_and_binary(sprites: Dataset) -> None:
    sprites.batch(range(128))
    held = sum(v.untyped_storage().nbytes() for v in vars(sprites).values() if isinstance(v, Tensor))
    assert held < 40e6
    (x,) = sprites.batch(range(0, 737_280, 5000))
    assert x.dtype == torch.float32
    assert x.unique().tolist() == [0, 1]
    assert (x.sum((1, 2, 3)) > 50).all()


def test_first_and_last_orientation_are_one(sprites: Dataset) -> None:
    grid = torch.arange(737_280).view(SIZES)
    for x in (0, 7, 31):
        first, last = grid[:, :, 0, x, ::5].flatten(), grid[:, :, 39, x, ::5].flatten()
        assert torch.equal(sprites.batch(first)[0], sprites.batch(last)[0])
        other = grid[:, :, 1, x, ::5].flatten()
        assert (sprites.batch(first)[0] != sprites.batch(other)[0]).any(3).any(2).any(1).all()


def test_sprites_move_and_grow(sprites: Dataset) -> None:
    corner, right, below = (sprites.batch([HEART + step])[0][0, 0] for step in (0, 31 * 32, 31))
    assert torch.equal(right, corner.roll(32, dims=1))
    assert torch.equal(below, corner.roll(32, dims=0))
    areas = [float(sprites.batch([HEART % 40960 + 2 * 245760 + 40960 * s])[0].sum()) for s in range(6)]
    assert areas == sorted(areas)
    assert areas[5] / areas[0] == pytest.approx(4, rel=0.05)


def test_every_nth_value(sprites: Dataset) -> None:
    few = load("dsprites", every=(2, 5, 13, 10, 31))
    assert few.factor_sizes == (2, 2, 4, 4, 2)
    assert len(few) == 128
    assert few.factors is not None
    kept = (few.factors * torch.tensor([2, 5, 13, 10, 31]) * torch.tensor([245760, 40960, 1024, 32, 1])).sum(1)
    assert torch.equal(few.batch(range(128))[0], sprites.batch(kept)[0])
    assert few.fingerprint != sprites.fingerprint


@pytest.mark.parametrize("every", [(1, 1, 1, 1), (1, 1, 1, 1, 0), (1, 1, 1, 1, 2.0), 2])
def test_every_is_five_positive_integers(every: object) -> None:
    with pytest.raises(ArgumentError, match=r"every: got .* five positive integers"):
        load("dsprites", every=every)


# --- the published file


def publish(path: Path, **changes: object) -> np.ndarray:
    """A small file with the keys and types of the published one; returns its images."""
    rng = np.random.default_rng(1)
    classes = np.stack([rng.integers(size, size=5000) for size in (1, *SIZES)], axis=1)
    images = np.zeros((5000, 64, 64), np.uint8)
    images[:, 20:40] = rng.integers(2, size=(5000, 20, 64), dtype=np.uint8)
    given = {
        "imgs": images,
        "latents_classes": classes,
        "latents_values": classes.astype(np.float64),
        "metadata": np.array({"executed": "never"}, dtype=object),
    }
    np.savez_compressed(path, **(given | changes))  # type: ignore[arg-type]
    return images


def test_published_file(tmp_path: Path) -> None:
    images = publish(tmp_path / FILE)
    data = load("dsprites", root=tmp_path)
    assert len(data) == 5000
    index = torch.randperm(5000, generator=torch.Generator().manual_seed(0))
    (x,) = data.batch(index)
    assert x.dtype == torch.float32
    assert torch.equal(x[:, 0], torch.from_numpy(images).float()[index])
    with np.load(tmp_path / FILE) as file:
        assert data.factors is not None
        assert np.array_equal(data.factors.numpy(), file["latents_classes"][:, 1:])
    assert data.fingerprint == load("dsprites", root=tmp_path / FILE).fingerprint


def test_rendered_equals_the_same_images_from_a_file(tmp_path: Path, sprites: Dataset) -> None:
    index = torch.randint(len(sprites), (50,), generator=torch.Generator().manual_seed(0))
    assert sprites.factors is not None
    classes = torch.cat([torch.zeros(50, 1, dtype=torch.int64), sprites.factors[index]], 1)
    (x,) = sprites.batch(index)
    publish(tmp_path / FILE, imgs=x[:, 0].to(torch.uint8).numpy(), latents_classes=classes.numpy())
    data = load("dsprites", root=tmp_path)
    assert torch.equal(data.batch(range(50))[0], x)
    assert data.factors is not None
    assert torch.equal(data.factors, sprites.factors[index])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"imgs": np.zeros((4999, 64, 64), np.uint8)}, r"imgs .*\(4999, 64, 64\), expected uint8 \(5000, 64, 64\)"),
        ({"imgs": np.zeros((5000, 64, 64), np.float32)}, "imgs are float32"),
        ({"imgs": np.full((5000, 64, 64), 255, np.uint8)}, "imgs have values up to 255"),
        ({"latents_classes": np.zeros((5000, 5), np.int64)}, "latents_classes are int64"),
        ({"latents_classes": np.full((5000, 6), 1)}, "latents_classes are not all"),
        ({"latents_classes": np.full((5000, 6), None)}, "Object arrays cannot be loaded"),
    ],
    ids=["number", "type", "grey", "columns", "range", "pickle"],
)
def test_a_file_that_is_not_as_published(tmp_path: Path, changes: dict[str, np.ndarray], message: str) -> None:
    publish(tmp_path / FILE, **changes)
    with pytest.raises(DataError, match=message):
        load("dsprites", root=tmp_path)


def test_a_file_that_is_missing_or_damaged(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=f"{FILE}: no such file.*google-deepmind/dsprites-dataset"):
        load("dsprites", root=tmp_path)
    publish(tmp_path / FILE)
    content = bytearray((tmp_path / FILE).read_bytes())
    content[len(content) // 3] ^= 255
    for damaged in (content, content[:1000], b"", b"version https://git-lfs.github.com/spec/v1"):
        (tmp_path / FILE).write_bytes(damaged)
        with pytest.raises(DataError, match="as published"):
            load("dsprites", root=tmp_path)
    np.savez(tmp_path / FILE, imgs=np.zeros((3, 64, 64), np.uint8))
    with pytest.raises(DataError, match="latents_classes"):
        load("dsprites", root=tmp_path)
    with pytest.raises(ArgumentError, match="every"):
        load("dsprites", root=tmp_path, every=(1, 1, 2, 1, 1))


# --- digits


def test_digits() -> None:
    data = load("digits")
    assert (len(data), data.shape, data.likelihood) == (1797, (1, 8, 8), "bernoulli")
    assert (data.factor_names, data.factor_sizes, data.labels) == (("digit",), (10,), None)
    (x,) = data.batch(range(1797))
    assert x.dtype == torch.float32
    assert x.unique().tolist() == [level / 16 for level in range(17)]
    assert data.factors is not None
    assert data.factors.shape == (1797, 1)
    assert data.factors[:10, 0].tolist() == list(range(10))


# --- what every data set promises


def test_smaller_sprites_are_means_of_pixels(sprites):
    index = [0, 87040, 332800, 578560, len(sprites) - 1]
    large = sprites.batch(index)[0]
    for size in (32, 16):
        small = load("dsprites", size=size)
        assert small.shape == (1, size, size)
        expected = large.unfold(2, 64 // size, 64 // size).unfold(3, 64 // size, 64 // size).mean((-1, -2))
        assert torch.equal(small.batch(index)[0], expected)
        assert small.fingerprint != sprites.fingerprint
    with pytest.raises(ArgumentError, match="size: got 48"):
        load("dsprites", size=48)


@pytest.fixture(params=["dsprites", "digits", "file", "arrays", "subset"])
def data(request: pytest.FixtureRequest, tmp_path: Path) -> Dataset:
    if request.param == "file":
        publish(tmp_path / FILE)
        return load("dsprites", root=tmp_path)
    if request.param in LOADERS:
        return load(request.param)
    return arrays() if request.param == "arrays" else Subset(arrays(40), range(39, 0, -2))


def test_batches(data: Dataset) -> None:
    index = torch.tensor([3, 0, 11, 3])
    batch = data.batch(index)
    assert len(batch) == (1 if data.labels is None else 2)
    assert batch[0].shape == (4, *data.shape)
    assert batch[0].dtype == torch.float32
    assert batch[0].device == data.device
    if data.labels is not None:
        assert torch.equal(batch[1], data.labels[index])
        assert batch[1].dtype == torch.float32
    if data.likelihood == "bernoulli":
        assert 0 <= batch[0].min() <= batch[0].max() <= 1
    for same in ([3, 0, 11, 3], (3, 0, 11, 3)):
        assert torch.equal(data.batch(same)[0], batch[0])
    for some in (slice(2, 9, 3), range(8, 1, -3), slice(-3, None), slice(5, 2), range(0)):
        whole = list(range(len(data))[some]) if isinstance(some, slice) else list(some)
        expected = data.batch(torch.tensor(whole, dtype=torch.int64))[0]
        assert torch.equal(data.batch(some)[0], expected)
        assert expected.shape == (len(whole), *data.shape)


def test_a_bad_index(data: Dataset) -> None:
    n = len(data)
    bad: list[object] = [[n], [-1], torch.tensor([0, n]), torch.tensor([-1]), range(n - 1, n + 1), range(2, -2, -1)]
    bad += [torch.zeros(2), torch.zeros(2, dtype=torch.bool), torch.zeros(1, 1, dtype=torch.int64), 3, None, [0.5], "a"]
    for index in bad:
        with pytest.raises(ArgumentError, match=f"index: got .*, expected a 1-D int64 tensor.* from 0 to {n - 1}"):
            data.batch(index)  # type: ignore[arg-type]


def test_factors(data: Dataset) -> None:
    assert data.factors is not None
    assert data.factors.shape == (len(data), len(data.factor_names))
    assert data.factors.dtype == torch.int64
    assert (data.factors >= 0).all()
    assert (data.factors < torch.tensor(data.factor_sizes)).all()


def test_splits(data: Dataset) -> None:
    state = torch.get_rng_state()
    parts = data.split((0.5, 0.3, 0.2), seed=3)
    assert torch.equal(torch.get_rng_state(), state)
    bounds = [round(len(data) * share) for share in (0, 0.5, 0.8, 1)]
    assert [len(p) for p in parts] == [b - a for a, b in pairwise(bounds)]
    # Positions are found again through a data set whose x says where it came from.
    twin = arrays(len(data)).split((0.5, 0.3, 0.2), seed=3)
    where = [(p.batch(slice(None))[0][:, 0] / 2).long() for p in twin]
    assert torch.equal(torch.cat(where).sort().values, torch.arange(len(data)))
    assert data.factors is not None
    for part, index in zip(parts, where):
        assert torch.equal(part.batch(slice(0, 5))[0], data.batch(index[:5])[0])
        assert part.factors is not None
        assert torch.equal(part.factors, data.factors[index])
        assert (part.labels is None) == (data.labels is None)
        assert (part.shape, part.likelihood, part.factor_sizes) == (data.shape, data.likelihood, data.factor_sizes)
    again, other = data.split((0.5, 0.3, 0.2), seed=3), data.split((0.5, 0.3, 0.2), seed=4)
    assert [p.fingerprint for p in again] == [p.fingerprint for p in parts]
    names = [data.fingerprint, *(p.fingerprint for p in (*parts, *other))]
    assert len(set(names)) == 7
    assert all(len(name) == 16 and int(name, 16) >= 0 for name in names)


def test_a_split_of_a_split() -> None:
    half, _ = arrays(40).split((0.5, 0.5), seed=0)
    left, right = half.split((0.5, 0.5), seed=0)
    both = torch.cat([left.batch(slice(None))[0], right.batch(slice(None))[0]])
    assert torch.equal(both.sort(0).values, half.batch(slice(None))[0].sort(0).values)


def test_splits_cover_whatever_rounding_does(sprites: Dataset) -> None:
    for fractions in ([1 / 3] * 3, [0.1] * 10, [0.9, 0.0999993], [1.0]):
        assert sum(len(p) for p in sprites.split(fractions, seed=0)) == len(sprites)


@pytest.mark.parametrize("fractions", [(), (0.5, 0.4), (0.5, 0.5, 0.1), (1.5, -0.5), (1.0, 0.0), (float("nan"), 1.0)])
def test_fractions_that_do_not_sum_to_one(fractions: tuple[float, ...]) -> None:
    with pytest.raises(ArgumentError, match=r"fractions: got .*, expected positive numbers that sum to 1"):
        arrays().split(fractions, seed=0)


def test_an_empty_part() -> None:
    with pytest.raises(ArgumentError, match=r"fractions: .*no empty part: there are 20"):
        arrays().split((0.99, 0.01), seed=0)


def test_to_keeps_the_data(data: Dataset) -> None:
    moved = data.to("cpu")
    assert type(moved) is type(data)
    assert moved.device == torch.device("cpu")
    assert torch.equal(moved.batch([1, 2])[0], data.batch([1, 2])[0])
    assert moved.fingerprint == data.fingerprint
    away = data.to("meta")
    tensors = [v for v in vars(away).values() if isinstance(v, Tensor)]
    assert tensors
    assert {v.device.type for v in (*tensors, *away.batch(range(3)))} == {"meta"}
    assert data.device.type == "cpu"


@pytest.mark.cuda
@pytest.mark.filterwarnings("ignore:Synchronization debug mode")
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_cuda_gives_the_same_bits_and_no_synchronisation(data: Dataset) -> None:
    moved = data.to("cuda")
    index = torch.randint(len(data), (256,), generator=torch.Generator().manual_seed(0))
    there = index.cuda()
    moved.batch(there)
    try:
        torch.cuda.set_sync_debug_mode("error")
        batch = moved.batch(there)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    for a, b in zip(batch, data.batch(index)):
        assert a.device == moved.device
        assert torch.equal(a.cpu(), b)
    assert moved.fingerprint == data.fingerprint


# --- Arrays


def test_arrays_fingerprint_follows_the_content() -> None:
    base = arrays()
    assert base.fingerprint == arrays().fingerprint
    changed = torch.arange(40).view(20, 2).float()
    changed[7, 1] += 1
    others = [Arrays(changed, likelihood="gaussian"), arrays(labels=None), arrays(21), arrays(labels=torch.ones(20, 1))]
    assert len({base.fingerprint, *(o.fingerprint for o in others)}) == 5


def test_arrays_keep_their_type() -> None:
    x = torch.rand(6, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    x_batch, y_batch = Arrays(x, likelihood="bernoulli", labels=torch.ones(6, 2, dtype=torch.bool)).batch([0, 5])
    assert torch.equal(x_batch, x[[0, 5]])
    assert y_batch.dtype == torch.float64


@pytest.mark.parametrize(
    ("x", "likelihood", "message"),
    [
        (torch.ones(3, 2, dtype=torch.uint8), "bernoulli", "x: got a uint8 tensor"),
        (torch.ones(3), "gaussian", r"x: got a float\d\d tensor of shape \(3,\)"),
        (torch.ones(0, 2), "gaussian", "not empty"),
        (torch.tensor([[0.0], [1.5]]), "bernoulli", r"x: got values from 0.0 to 1.5, expected values in \[0, 1\]"),
        (torch.tensor([[0.0], [float("nan")]]), "bernoulli", "x: got values from nan"),
        (torch.tensor([[0.0], [float("inf")]]), "gaussian", "x: got values from 0.0 to inf, .* finite"),
        (torch.tensor([[0.0], [float("nan")]]), "gaussian", "x: got values from nan"),
    ],
)
def test_x_that_cannot_be_used(x: Tensor, likelihood: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        Arrays(x, likelihood=likelihood)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"factors": torch.zeros(19, 1, dtype=torch.int64)}, r"factors: got .*\(19, 1\).*expected .*\(20, K\)"),
        ({"factors": torch.zeros(20, 1)}, "factors: got a float"),
        ({"factors": torch.full((20, 1), 4)}, r"factors: got values from \[4\] to \[4\]"),
        ({"factors": torch.full((20, 1), -1)}, r"factors: got values from \[-1\]"),
        ({"factors": None}, "factors: got None"),
        ({"factor_sizes": (4, 4)}, "1 names and 2 sizes"),
        ({"factor_names": ("a", "b")}, "2 names and 1 sizes"),
        ({"factors": [[0]] * 20}, "factors: got a list"),
        ({"labels": [[0]] * 20}, "labels: got a list"),
        ({"labels": torch.zeros(20)}, "labels: got a float"),
        ({"labels": torch.zeros(19, 1)}, "labels: got .*19"),
        ({"labels": torch.full((20, 1), 0.5)}, "labels: got values from 0.5 to 0.5"),
        ({"labels": torch.full((20, 1), float("nan"))}, "labels: got values"),
    ],
)
def test_factors_and_labels_that_cannot_be_used(options: dict[str, object], message: str) -> None:
    with pytest.raises(DataError, match=message):
        arrays(20, **options)


def test_an_unknown_likelihood() -> None:
    with pytest.raises(ArgumentError, match="likelihood: got 'poisson'"):
        arrays(likelihood="poisson")


# --- load


def test_load_refuses_what_it_does_not_know(tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match=r"name: got 'dsprite', expected one of \[.*'dsprites'"):
        load("dsprite")
    with pytest.raises(ArgumentError, match=r"options: got 'seed', .*\['root', 'every', 'size'\]"):
        load("dsprites", seed=0)
    with pytest.raises(ArgumentError, match=r"root: got .*not read from files"):
        load("digits", root=tmp_path)
