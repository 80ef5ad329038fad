# Copyright ppl-disent contributors.
# SPDX-License-Identifier: Apache-2.0
"""3D Shapes, Cars3D, 3D Chairs, SmallNORB, MNIST, Fashion-MNIST and SVHN, from small files in the published formats."""

from __future__ import annotations

import gzip
import hashlib
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.io import savemat

from ppl_disent.data import LOADERS, Dataset, load
from ppl_disent.errors import ArgumentError, DataError


def pixels(data: Dataset) -> np.ndarray:
    """All images as bytes, (N, height, width, channels)."""
    (x,) = data.batch(slice(None))
    assert x.dtype == torch.float32
    assert tuple(x.shape[1:]) == data.shape
    assert 0 <= x.min() <= x.max() <= 1
    return (255 * x).round().byte().permute(0, 2, 3, 1).numpy()


def lanczos(images: np.ndarray, size: int) -> np.ndarray:
    return np.stack([np.array(Image.fromarray(v).resize((size, size), Image.Resampling.LANCZOS)) for v in images])


# --- 3D Shapes

VALUES = (*[np.arange(10) / 10] * 3, np.linspace(0.75, 1.25, 8), np.arange(4.0), np.linspace(-30, 30, 15))


def shapes(path: Path, **changes: object) -> tuple[np.ndarray, np.ndarray]:
    """5,000 rooms whose first pixels are their factors; returns images and factors."""
    h5py = pytest.importorskip("h5py")
    rng = np.random.default_rng(0)
    classes = np.stack([rng.integers(len(v), size=5000) for v in VALUES], axis=1)
    images = np.repeat(rng.integers(256, size=(5000, 8, 8, 3), dtype=np.uint8), 8, axis=1).repeat(8, axis=2)
    images[:, 0, :6, 0] = classes
    held = {"images": images, "labels": np.stack([v[c] for v, c in zip(VALUES, classes.T)], axis=1)} | changes
    with h5py.File(path, "w") as file:
        for name, value in held.items():
            if value is not None:
                file.create_dataset(name, data=value)
    return images, classes


def test_shapes3d(tmp_path: Path) -> None:
    images, classes = shapes(tmp_path / "3dshapes.h5")
    data = load("shapes3d", root=tmp_path)
    assert (len(data), data.shape, data.likelihood) == (5000, (3, 64, 64), "bernoulli")
    assert data.factor_names == ("floor_hue", "wall_hue", "object_hue", "scale", "shape", "orientation")
    assert data.factor_sizes == (10, 10, 10, 8, 4, 15)
    np.testing.assert_array_equal(data.factors, classes)
    index = [0, 4095, 4096, 4999, 17]
    x = (255 * data.batch(index)[0]).round().byte().permute(0, 2, 3, 1).numpy()
    np.testing.assert_array_equal(x, images[index])
    np.testing.assert_array_equal(x[:, 0, :6, 0], classes[index])
    assert load("shapes3d", root=tmp_path / "3dshapes.h5").fingerprint == data.fingerprint


def test_shapes3d_sizes_and_selections(tmp_path: Path) -> None:
    images, classes = shapes(tmp_path / "3dshapes.h5")
    some = load("shapes3d", root=tmp_path, limit=60, seed=4)
    x = pixels(some)
    np.testing.assert_array_equal(some.factors, x[:, 0, :6, 0])
    # Which they are, by all of their pixels: different ones, in the published order, from the whole file.
    known = {image.tobytes(): place for place, image in enumerate(images)}
    index = [known[image.tobytes()] for image in x]
    assert index == sorted(set(index))
    assert index[0] < 1000 < 4096 < index[-1]
    assert load("shapes3d", root=tmp_path, limit=60, seed=4).fingerprint == some.fingerprint
    assert load("shapes3d", root=tmp_path, limit=60, seed=5).fingerprint != some.fingerprint
    small = load("shapes3d", root=tmp_path, size=28, limit=60, seed=4)
    np.testing.assert_array_equal(pixels(small), lanczos(images[index], 28))
    np.testing.assert_array_equal(small.factors, classes[index])
    assert len(load("shapes3d", root=tmp_path, size=8, limit=5000)) == 5000


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"images": None}, "images.*Expected images .* MD5 is 099a2078d58cec4daad0702c55d06868"),
        ({"labels": None}, "labels.*Expected images"),
        ({"images": np.zeros((5, 32, 32, 3), np.uint8)}, r"has uint8 images \(5, 32, 32, 3\) and labels \(5000, 6\)"),
        ({"images": np.zeros((5000, 64, 64, 3), np.float16)}, "has float16 images"),
        ({"labels": np.zeros((5000, 5))}, r"labels \(5000, 5\), expected"),
        ({"labels": np.zeros((5000, 6))}, r"\(1, 1, 1, 1, 1, 1\) different values, expected \(10, 10, 10, 8, 4, 15\)"),
    ],
)
def test_a_shapes3d_file_of_another_form(tmp_path: Path, changes: dict, message: str) -> None:
    shapes(tmp_path / "3dshapes.h5", **changes)
    with pytest.raises(DataError, match=rf"3dshapes.h5: .*{message}"):
        load("shapes3d", root=tmp_path)


def test_shapes3d_files_that_are_missing_or_damaged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DataError, match=r"3dshapes.h5: no such file. Put .*MD5 is 099a2078"):
        load("shapes3d", root=tmp_path)
    path = tmp_path / "3dshapes.h5"
    shapes(path)
    content = path.read_bytes()
    for damaged in (content[: len(content) // 2], b"", b"version https://git-lfs.github.com/spec/v1\n"):
        path.write_bytes(damaged)
        with pytest.raises(DataError, match=r"3dshapes.h5: .*Expected images"):
            load("shapes3d", root=tmp_path)
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(DataError, match=r"h5py, .* is not installed: pip install 'ppl-disent\[data\]'"):
        load("shapes3d", root=tmp_path)


# --- Cars3D


def cars(folder: Path, numbers: tuple[int, ...] = (3, 1, 12)) -> None:
    """Cars that say what they are: number in red, elevation in green, azimuth in blue; list.txt in order."""
    folder.mkdir(parents=True, exist_ok=True)
    for n in numbers:
        image = np.zeros((128, 128, 3, 24, 4), np.uint8)
        for azimuth in range(24):
            for elevation in range(4):
                image[:, :, :, azimuth, elevation] = (10 * n, 50 * elevation, 10 * azimuth)
        image[:64, :, 0] = 0
        savemat(folder / f"car_{n:03d}_mesh.mat", {"im": image, "mask": np.zeros(3)}, do_compression=True)
    (folder / "list.txt").write_text("".join(f"car_{n:03d}_mesh\n" for n in numbers))


def test_cars3d_labels_are_those_of_the_images(tmp_path: Path) -> None:
    cars(tmp_path / "data" / "cars")
    data = load("cars3d", root=tmp_path)
    assert (len(data), data.shape, data.likelihood) == (288, (3, 64, 64), "bernoulli")
    assert data.factor_names == ("elevation", "azimuth", "object")
    assert data.factor_sizes == (4, 24, 3)
    x = pixels(data)
    shown = np.stack([x[:, 60, 5, 1] // 50, x[:, 60, 5, 2] // 10, x[:, 60, 5, 0] // 10], axis=1)
    factors = data.factors.numpy()
    np.testing.assert_array_equal(factors[:, :2], shown[:, :2])
    # Objects count list.txt.
    np.testing.assert_array_equal(np.array([3, 1, 12])[factors[:, 2]], shown[:, 2])
    # The order of disentanglement_lib: elevation slowest, then azimuth, then object.
    np.testing.assert_array_equal(factors @ [72, 3, 1], np.arange(288))
    # The upper half has no red.
    assert x[:, :30, :, 0].max() == 0 < x[:, 34:, :, 0].min()


def test_cars3d_pixels_are_resized_as_by_pillow(tmp_path: Path) -> None:
    cars(tmp_path, (1,))
    image = np.random.default_rng(0).integers(256, size=(128, 128, 3, 24, 4)).astype(np.uint8)
    savemat(tmp_path / "car_001_mesh.mat", {"im": image})
    whole, half = load("cars3d", root=tmp_path, size=128), load("cars3d", root=tmp_path)
    for place in (0, 5, 24, 95):
        elevation, azimuth, _ = whole.factors[place].tolist()
        view = image[:, :, :, azimuth, elevation]
        np.testing.assert_array_equal(pixels(whole)[place], view)
        np.testing.assert_array_equal(pixels(half)[place], lanczos(view[None], 64)[0])


def test_cars3d_without_a_list_are_counted_by_name(tmp_path: Path) -> None:
    cars(tmp_path / "cars")
    (tmp_path / "cars" / "list.txt").unlink()
    for root in (tmp_path, tmp_path / "cars"):
        x = pixels(load("cars3d", root=root, size=16))
        assert x[:3, 15, 5, 0].tolist() == [10, 30, 120]


def test_cars3d_files_that_are_missing_or_damaged(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"has no car_\*\*\*_mesh.mat. Unpack .*scottreed.*MD5 is 4e866a7919c1beed"):
        load("cars3d", root=tmp_path)
    cars(tmp_path, (1, 2))
    path = tmp_path / "car_002_mesh.mat"
    content = path.read_bytes()
    for damaged in (content[:3000], b"", b"version https://git-lfs.github.com/spec/v1\n" * 9):
        path.write_bytes(damaged)
        with pytest.raises(DataError, match=r"car_002_mesh.mat: .*Expected a MATLAB file with im"):
            load("cars3d", root=tmp_path)
    savemat(path, {"im": np.zeros((128, 128, 3, 4, 24), np.uint8)})
    with pytest.raises(DataError, match=r"car_002_mesh.mat: im is uint8 \(128, 128, 3, 4, 24\), expected"):
        load("cars3d", root=tmp_path)
    path.unlink()
    with pytest.raises(DataError, match=r"car_002_mesh.mat: no such file, though list.txt names it"):
        load("cars3d", root=tmp_path)


# --- 3D Chairs

ANGLES = [(20, 0), (20, 11), (20, 232), (30, 11), (30, 232)]


def chairs(root: Path) -> Path:
    """Three chairs on white, seen from 5 directions; their inner 300 pixels say which: (80 m, 3 elevation, azimuth)."""
    folder = root / "rendered_chairs"
    for m, model in enumerate(("1a6f", "b663", "ff12")):
        renders = folder / model / "renders"
        renders.mkdir(parents=True)
        for i, (elevation, azimuth) in enumerate(ANGLES):
            image = np.full((600, 600, 3), 255, np.uint8)
            image[150:450, 150:450] = (80 * m, 3 * elevation, azimuth)
            # Numbered backwards, so that the order of the files is not the order of the angles.
            name = f"image_{60 - i:03d}_p{elevation:03d}_t{azimuth:03d}_r096.png"
            Image.fromarray(image).save(renders / name)
        (renders / "thumbs.png").write_bytes(b"")
    return folder


def test_chairs3d(tmp_path: Path) -> None:
    folder = chairs(tmp_path)
    data = load("chairs3d", root=tmp_path)
    assert (len(data), data.shape, data.likelihood) == (15, (3, 64, 64), "bernoulli")
    assert data.factor_names == ("model", "elevation", "azimuth")
    assert data.factor_sizes == (3, 2, 3)
    x = pixels(data)
    centre = x[:, 32, 32].astype(int)
    model, elevation, azimuth = data.factors.numpy().T
    np.testing.assert_array_equal(centre[:, 0], 80 * model)
    np.testing.assert_array_equal(centre[:, 1], 3 * np.array([20, 30])[elevation])
    np.testing.assert_array_equal(centre[:, 2], np.array([0, 11, 232])[azimuth])
    np.testing.assert_array_equal((18 * model + 3 * elevation + azimuth).argsort(), np.arange(15))
    assert (x[:, 2, 2] == 255).all()
    assert load("chairs3d", root=folder).fingerprint == data.fingerprint


def test_chairs3d_crops_greys_and_selections(tmp_path: Path) -> None:
    chairs(tmp_path)
    # Of 60 pixels, 30 show the chair in the whole image, 36 in the inner 500.
    for crop, side in ((600, 30), (500, 36), (300, 60)):
        x = pixels(load("chairs3d", root=tmp_path, size=60, crop=crop))
        assert (abs(x[0, 30, :, 0].astype(int) - 255) > 128).sum() == side
    grey = load("chairs3d", root=tmp_path, grey=True, size=32)
    assert grey.shape == (1, 32, 32)
    colour = pixels(load("chairs3d", root=tmp_path, size=32))[:, 16, 16]
    np.testing.assert_allclose(pixels(grey)[:, 16, 16, 0], colour @ [0.299, 0.587, 0.114], atol=1)
    some = load("chairs3d", root=tmp_path, limit=6, seed=1)
    assert (len(some), some.factor_sizes) == (6, (3, 2, 3))
    np.testing.assert_array_equal(pixels(some)[:, 32, 32, 0], 80 * some.factors[:, 0])
    assert load("chairs3d", root=tmp_path, limit=6, seed=2).fingerprint != some.fingerprint


def test_chairs3d_a_full_turn_is_none(tmp_path: Path) -> None:
    folder = chairs(tmp_path)
    renders = folder / "b663" / "renders"
    (renders / "image_060_p020_t000_r096.png").rename(renders / "image_031_p020_t360_r096.png")
    assert load("chairs3d", root=tmp_path).factor_sizes == (3, 2, 3)
    assert load("chairs3d", root=tmp_path).factors[5].tolist() == [1, 0, 0]


def test_chairs3d_files_that_are_missing_or_damaged(tmp_path: Path) -> None:
    with pytest.raises(
        DataError, match=r"has no MODEL/renders/image_.*Unpack https://www.di.ens.fr/.*chairs.tar there"
    ):
        load("chairs3d", root=tmp_path)
    folder = chairs(tmp_path)
    path = folder / "b663" / "renders" / "image_058_p020_t232_r096.png"
    content = path.read_bytes()
    for damaged in (content[:200], b""):
        path.write_bytes(damaged)
        with pytest.raises(DataError, match=r"image_058_p020_t232_r096.png: .*Unpack .* again"):
            load("chairs3d", root=tmp_path)
    Image.fromarray(np.zeros((64, 64, 3), np.uint8)).save(path)
    with pytest.raises(DataError, match=r"image_058_p020_t232_r096.png: has \(64, 64\) pixels, expected \(600, 600\)"):
        load("chairs3d", root=tmp_path)


# --- SmallNORB

TRAIN, TEST = "smallnorb-5x46789x9x18x6x2x96x96-training", "smallnorb-5x01235x9x18x6x2x96x96-testing"


def matrix(path: Path, values: np.ndarray) -> None:
    """The published format: magic number, number of axes, at least three sizes, values."""
    magic = {"uint8": 0x1E3D4C55, "int32": 0x1E3D4C54, "float32": 0x1E3D4C51}[values.dtype.name]
    sizes = [*values.shape, 1, 1][: max(3, values.ndim)]
    content = np.array([magic, values.ndim, *sizes], "<i4").tobytes() + values.tobytes()
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)


def norb(folder: Path, part: str, instances: tuple[int, ...], packed: str = "", **changes: np.ndarray) -> dict:
    """20 unsorted photographs; returns what was written."""
    rng = np.random.default_rng(len(instances) + instances[0])
    info = np.stack([rng.choice(instances, 20), rng.integers(9, size=20), 2 * rng.integers(18, size=20)], axis=1)
    held = {
        "dat": rng.integers(256, size=(20, 2, 96, 96)).astype(np.uint8),
        "cat": rng.integers(5, size=20).astype(np.int32),
        "info": np.column_stack([info, rng.integers(6, size=20)]).astype(np.int32),
    } | changes
    for kind, values in held.items():
        matrix(folder / f"{part}-{kind}.mat{packed}", values)
    return held


def test_smallnorb(tmp_path: Path) -> None:
    folder = tmp_path / "small_norb"
    folder.mkdir()
    train, test = norb(folder, TRAIN, (4, 6, 7, 8, 9)), norb(folder, TEST, (0, 1, 2, 3, 5), packed=".gz")
    data = load("smallnorb", root=tmp_path, size=96)
    assert (len(data), data.shape, data.likelihood) == (40, (1, 96, 96), "bernoulli")
    assert data.factor_names == ("category", "elevation", "azimuth", "lighting", "instance")
    assert data.factor_sizes == (5, 9, 18, 6, 10)
    images, category, info = (np.concatenate([train[k], test[k]]) for k in ("dat", "cat", "info"))
    np.testing.assert_array_equal(pixels(data)[..., 0], images[:, 0])
    expected = [category, info[:, 1], info[:, 2] / 2, info[:, 3], info[:, 0]]
    np.testing.assert_array_equal(data.factors.numpy().T, expected)
    second = load("smallnorb", root=folder, part="train", camera=1, size=96)
    np.testing.assert_array_equal(pixels(second)[..., 0], train["dat"][:, 1])
    half = load("smallnorb", root=folder, part="test")
    assert half.shape == (1, 64, 64)
    np.testing.assert_array_equal(pixels(half)[..., 0], lanczos(test["dat"][:, 0], 64))
    assert set(half.factors[:, 4].tolist()) <= {0, 1, 2, 3, 5}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"dat": np.zeros((20, 96, 96), np.uint8)}, r"uint8 \(\(20, 96, 96\), \(20,\), \(20, 4\)\), expected bytes"),
        ({"dat": np.zeros((20, 2, 96, 96), np.int32)}, "dat, cat and info are int32"),
        ({"cat": np.zeros(19, np.int32)}, "dat, cat and info are"),
        ({"cat": np.full(20, 5, np.int32)}, "cat and info have other values"),
        ({"info": np.ones((20, 4), np.int32)}, "cat and info have other values, .* azimuths doubled"),
        (
            {"cat": np.zeros(20, np.float32)},
            r"training-cat.mat: KeyError .*cat.mat.gz of .*MD5 is 23c8b86101fbf0904a00",
        ),
    ],
)
def test_smallnorb_files_of_another_form(tmp_path: Path, changes: dict, message: str) -> None:
    norb(tmp_path, TRAIN, (4, 6), **changes)
    with pytest.raises(DataError, match=message):
        load("smallnorb", root=tmp_path, part="train")


def test_smallnorb_files_that_are_missing_or_damaged(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=rf"{TRAIN}-dat.mat: no such file. Put {TRAIN}-dat.mat.gz .*MD5 is 66054832"):
        load("smallnorb", root=tmp_path)
    norb(tmp_path, TRAIN, (4, 6))
    with pytest.raises(DataError, match=rf"{TEST}-dat.mat: no such file. .*MD5 is e4ad7156"):
        load("smallnorb", root=tmp_path)
    path = tmp_path / f"{TRAIN}-dat.mat"
    content = path.read_bytes()
    for damaged in (content[:1000], content[:5], b"", b"version https://git-lfs.github.com/spec/v1\n"):
        path.write_bytes(damaged)
        with pytest.raises(DataError, match=rf"{TRAIN}-dat.mat: .*Expected {TRAIN}-dat.mat.gz"):
            load("smallnorb", root=tmp_path)
    path.unlink()
    for damaged in (gzip.compress(content)[:500], content):
        path.with_name(path.name + ".gz").write_bytes(damaged)
        with pytest.raises(DataError, match=rf"{TRAIN}-dat.mat: .*Expected {TRAIN}-dat.mat.gz"):
            load("smallnorb", root=tmp_path)


# --- MNIST, Fashion-MNIST


def idx(path: Path, values: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(bytes([0, 0, 8, values.ndim]) + np.array(values.shape, ">i4").tobytes() + values.tobytes())


def handwriting(root: Path, name: str = "MNIST") -> dict[str, tuple[np.ndarray, np.ndarray]]:
    rng, held = np.random.default_rng(0), {}
    for part, prefix, n in (("train", "train", 30), ("test", "t10k", 12)):
        held[part] = rng.integers(256, size=(n, 28, 28)).astype(np.uint8), (np.arange(n) % 10).astype(np.uint8)
        idx(root / name / "raw" / f"{prefix}-images-idx3-ubyte", held[part][0])
        idx(root / name / "raw" / f"{prefix}-labels-idx1-ubyte", held[part][1])
    return held


@pytest.mark.parametrize(
    ("loader", "name", "factor"), [("mnist", "MNIST", "digit"), ("fashion_mnist", "FashionMNIST", "class")]
)
def test_mnist(tmp_path: Path, loader: str, name: str, factor: str) -> None:
    from torchvision.transforms.functional import resize

    held = handwriting(tmp_path, name)
    for part, (images, classes) in held.items():
        data = load(loader, root=tmp_path, part=part)
        assert (len(data), data.shape, data.likelihood) == (len(images), (1, 28, 28), "bernoulli")
        assert (data.factor_names, data.factor_sizes) == ((factor,), (10,))
        np.testing.assert_array_equal(pixels(data)[..., 0], images)
        np.testing.assert_array_equal(data.factors[:, 0], classes)
    assert load(loader, root=tmp_path).fingerprint == load(loader, root=tmp_path, part="train").fingerprint
    whole = load(loader, root=tmp_path, part="all", size=32)
    assert (len(whole), whole.shape) == (42, (1, 32, 32))
    np.testing.assert_array_equal(whole.factors[:, 0], np.concatenate([held["train"][1], held["test"][1]]))
    expected = np.array(resize(Image.fromarray(held["test"][0][0]), [32, 32]))
    np.testing.assert_array_equal(pixels(whole)[30, ..., 0], expected)


def test_mnist_files_that_are_missing_or_damaged(tmp_path: Path) -> None:
    handwriting(tmp_path)
    raw = tmp_path / "MNIST" / "raw"
    path = raw / "train-images-idx3-ubyte"
    content = path.read_bytes()
    for damaged in (content[:500], b"", b"version https://git-lfs.github.com/spec/v1\n"):
        path.write_bytes(damaged)
        with pytest.raises(DataError, match=r"MNIST.raw: .*Expected the files of .*mnist/"):
            load("mnist", root=tmp_path)
    path.unlink()
    message = (
        r"train-images-idx3-ubyte: no such file. Put https.*/train-images-idx3-ubyte.gz there, unpacked, .*download"
    )
    with pytest.raises(DataError, match=rf"{message}=True; the MD5 .* is f68b3c2dcbeaaa9fbdd348bbdeb94873"):
        load("mnist", root=tmp_path)
    with pytest.raises(DataError, match=r"FashionMNIST.raw.train-images.*MD5 .* is 8d4fb7e6c68d591d4c3dfef9ec88bf0d"):
        load("fashion_mnist", root=tmp_path)


# --- SVHN


def house_numbers(root: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Three parts of numbers 1 to 10, with 10 for the digit 0 as published; their checksums become those known."""
    from torchvision.datasets import SVHN

    rng, held, known = np.random.default_rng(0), {}, {}
    for part, n in (("train", 25), ("test", 10), ("extra", 12)):
        held[part] = rng.integers(256, size=(32, 32, 3, n)).astype(np.uint8), (1 + np.arange(n) % 10).astype(np.uint8)
        path = root / f"{part}_32x32.mat"
        savemat(path, {"X": held[part][0], "y": held[part][1][:, None]})
        known[part] = [SVHN.split_list[part][0], path.name, hashlib.md5(path.read_bytes()).hexdigest()]
    monkeypatch.setattr(SVHN, "split_list", known)
    return held


def test_svhn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from torchvision.transforms.functional import resize

    held = house_numbers(tmp_path, monkeypatch)
    for part, (images, numbers) in held.items():
        data = load("svhn", root=tmp_path, part=part)
        assert (len(data), data.shape, data.likelihood) == (len(numbers), (3, 32, 32), "bernoulli")
        assert (data.factor_names, data.factor_sizes) == (("digit",), (10,))
        np.testing.assert_array_equal(pixels(data), images.transpose(3, 0, 1, 2))
        np.testing.assert_array_equal(data.factors[:, 0], numbers % 10)
    assert len(load("svhn", root=tmp_path)) == 25
    whole = load("svhn", root=tmp_path, part="all", size=28)
    assert (len(whole), whole.shape) == (47, (3, 28, 28))
    expected = np.array(resize(Image.fromarray(held["test"][0][..., 0]), [28, 28]))
    np.testing.assert_array_equal(pixels(whole)[25], expected)


def test_svhn_files_that_are_missing_or_damaged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(
        DataError, match=r"train_32x32.mat: no such file. Put http.*MD5 is e26dedcc434d2e4c54c9b2d4a06d8"
    ):
        load("svhn", root=tmp_path)
    with pytest.raises(
        DataError, match=r"extra_32x32.mat: no such file. Put http.*MD5 is a93ce644f1a588dc4d68dda5feec4"
    ):
        load("svhn", root=tmp_path, part="extra")
    house_numbers(tmp_path, monkeypatch)
    (tmp_path / "train_32x32.mat").write_bytes(b"version https://git-lfs.github.com/spec/v1\n")
    with pytest.raises(DataError, match=r"train_32x32.mat: .*corrupted.*its MD5 is"):
        load("svhn", root=tmp_path)


# --- all of them


@pytest.mark.parametrize(("loader", "name"), [("mnist", "MNIST"), ("fashion_mnist", "FashionMNIST"), ("svhn", "SVHN")])
def test_downloads_only_when_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, loader: str, name: str) -> None:
    asked = []

    def refuse(self: object, root: str, **options: object) -> None:
        asked.append((root, options))
        raise RuntimeError("no network")

    monkeypatch.setattr(f"torchvision.datasets.{name}.__init__", refuse)
    with pytest.raises(DataError, match="no such file"):
        load(loader, root=tmp_path)
    assert asked == []
    with pytest.raises(DataError, match="no network"):
        load(loader, root=tmp_path, download=True)
    which = {"split": "train"} if loader == "svhn" else {"train": True}
    assert asked == [(str(tmp_path), which | {"download": True})]


OPTIONS = [
    ("shapes3d", {"size": 0}, "size: got 0, expected a positive integer"),
    ("shapes3d", {"limit": 5001}, "limit: got 5001, expected None, or 1 to 5000"),
    ("shapes3d", {"limit": 0}, "limit: got 0"),
    ("cars3d", {"size": 6.5}, "size: got 6.5"),
    ("chairs3d", {"size": -1}, "size: got -1"),
    ("chairs3d", {"crop": 601}, "crop: got 601, expected 1 to 600"),
    ("chairs3d", {"limit": 16}, "limit: got 16, expected None, or 1 to 15"),
    ("smallnorb", {"part": "training"}, "part: got 'training', expected one of .*'train'"),
    ("smallnorb", {"camera": 2}, "camera: got 2"),
    ("smallnorb", {"size": "64"}, "size: got '64'"),
    ("mnist", {"part": "extra"}, r"part: got 'extra', expected one of \('all', 'train', 'test'\)"),
    ("mnist", {"size": 0}, "size: got 0"),
    ("fashion_mnist", {"part": "valid"}, "part: got 'valid'"),
    ("svhn", {"part": "valid"}, r"part: got 'valid', expected one of \('all', 'train', 'test', 'extra'\)"),
]


@pytest.mark.parametrize(("loader", "options", "message"), OPTIONS)
def test_options_that_cannot_be(tmp_path: Path, loader: str, options: dict, message: str) -> None:
    make: dict[str, Callable[[], object]] = {
        "shapes3d": lambda: shapes(tmp_path / "3dshapes.h5"),
        "chairs3d": lambda: chairs(tmp_path),
    }
    make.get(loader, lambda: None)()
    with pytest.raises(ArgumentError, match=message):
        load(loader, root=tmp_path, **options)


@pytest.mark.parametrize("loader", sorted({loader for loader, _, _ in OPTIONS}))
def test_a_root_is_needed(loader: str) -> None:
    assert loader in LOADERS
    with pytest.raises(ArgumentError, match=r"root: got None, expected .*(that holds|one above)"):
        load(loader)
