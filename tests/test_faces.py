# Copyright ppl-disent contributors.
# SPDX-License-Identifier: Apache-2.0
"""CelebA and TFD, from small files made in the published formats."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.io import savemat

from ppl_disent.data import Dataset, load
from ppl_disent.data.celeba import ATTRIBUTES, CROPS, IMAGES, PARTITION
from ppl_disent.data.pixels import Pixels
from ppl_disent.data.tfd import EXPRESSIONS
from ppl_disent.errors import ArgumentError, DataError

# --- CelebA

# The 40 names of the published file, in its order.
HEADER = (
    "5_o_Clock_Shadow Arched_Eyebrows Attractive Bags_Under_Eyes Bald Bangs Big_Lips Big_Nose Black_Hair Blond_Hair "
    "Blurry Brown_Hair Bushy_Eyebrows Chubby Double_Chin Eyeglasses Goatee Gray_Hair Heavy_Makeup High_Cheekbones Male "
    "Mouth_Slightly_Open Mustache Narrow_Eyes No_Beard Oval_Face Pale_Skin Pointy_Nose Receding_Hairline Rosy_Cheeks "
    "Sideburns Smiling Straight_Hair Wavy_Hair Wearing_Earrings Wearing_Hat Wearing_Lipstick Wearing_Necklace "
    "Wearing_Necktie Young"
)
NAMES = HEADER.split()
N = 24


def publish(folder: Path) -> np.ndarray:
    """24 faces of one colour each, red 10 i in the upper half; returns their attributes, (24, 40) of -1 and 1."""
    folder.mkdir(exist_ok=True)
    (folder / IMAGES).mkdir()
    values = np.where(np.random.default_rng(0).random((N, 40)) < 0.3, 1, -1)
    files = [f"{i + 1:06d}.jpg" for i in range(N)]
    for i, file in enumerate(files):
        pixels = np.zeros((218, 178, 3), np.uint8)
        pixels[:109] = (10 * i, 100, 0)
        pixels[109:, :, 2] = 10 * i
        Image.fromarray(pixels).save(folder / IMAGES / file, quality=95)
    rows = [f"{file} " + " ".join(f"{v:2d}" for v in row) for file, row in zip(files, values)]
    (folder / ATTRIBUTES).write_text("\n".join([str(N), HEADER + " ", *rows]) + "\n")
    (folder / PARTITION).write_text("\n".join(f"{file} {i // 8}" for i, file in enumerate(files)) + "\n")
    return values


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    publish(tmp_path / "celeba")
    return tmp_path


def labels_of(folder: Path) -> np.ndarray:
    rows = (folder / "celeba" / ATTRIBUTES).read_text().splitlines()[2:]
    return np.array([row.split()[1:] for row in rows], int) == 1


def which(data: Dataset) -> list[int]:
    """Which faces these are, by their red."""
    return (data.batch(slice(None))[0][:, 0, 2, 32] * 25.5).round().int().tolist()


def test_celeba_images_and_labels(folder: Path) -> None:
    data = load("celeba", root=folder, attributes=("Eyeglasses", "Smiling"), crop="none")
    assert (len(data), data.shape, data.likelihood) == (N, (3, 64, 64), "bernoulli")
    assert data.label_names == ("Eyeglasses", "Smiling")
    x, y = data.batch([3, 0, 20])
    assert x.dtype == y.dtype == torch.float32
    np.testing.assert_array_equal(y.numpy() == 1, labels_of(folder)[[3, 0, 20]][:, [15, 31]])
    assert which(data) == list(range(N))
    torch.testing.assert_close(x[2, :, 5, 5], torch.tensor([200, 100, 0], dtype=torch.float32) / 255, atol=0.02, rtol=0)
    torch.testing.assert_close(x[2, :, 60, 5], torch.tensor([0, 0, 200], dtype=torch.float32) / 255, atol=0.02, rtol=0)
    assert (
        load("celeba", root=folder / "celeba", crop="none").fingerprint
        == load("celeba", root=folder, crop="none").fingerprint
    )


def test_celeba_is_decoded_once_or_for_every_batch(folder: Path) -> None:
    kept, made = (load("celeba", root=folder, cache=cache) for cache in (True, False))
    index = torch.tensor([5, 1, 5])
    for a, b in zip(kept.batch(index), made.batch(index)):
        assert torch.equal(a, b)
    part, twin = (d.split((0.5, 0.5), seed=0)[0] for d in (kept, made))
    assert torch.equal(part.batch(range(4))[0], twin.batch(range(4))[0])
    assert made.fingerprint != load("celeba", root=folder, cache=False, size=32).fingerprint
    assert kept.to("meta").batch(range(3))[0].device.type == "meta"
    for path in (folder / "celeba" / IMAGES).iterdir():
        path.unlink()
    kept.batch(index)
    with pytest.raises(DataError, match=r"000006.jpg.*Unpack"):
        made.batch(index)


def test_celeba_crops(folder: Path) -> None:
    # A picture whose brightness says where one is: columns in red, rows in green.
    ramp = np.zeros((218, 178, 3), np.uint8)
    ramp[..., 0], ramp[..., 1] = np.arange(178), np.arange(218)[:, None]
    path = folder / "celeba" / IMAGES / "000001.jpg"
    Image.fromarray(ramp).save(path, quality=100, subsampling=0)

    def corner(**options: Any) -> list[int]:
        x = 255 * load("celeba", root=folder, size=128, **options).batch([0])[0][0]
        red, green = x[0, 64], x[1, :, 64]
        return [round(float(v)) for v in (red[0], green[0], red[-1], green[-1])]

    for name, box in CROPS.items():
        assert corner(crop=name) == pytest.approx([box[0], box[1], box[2] - 1, box[3] - 1], abs=2)
    assert corner(crop=(40, 50, 140, 150)) == pytest.approx([40, 50, 139, 149], abs=2)
    # The proposal's own three steps.
    steps = Image.open(path).resize((256, 256), Image.Resampling.LANCZOS).crop((32, 32, 224, 224))
    expected = np.asarray(steps.resize((64, 64), Image.Resampling.LANCZOS)).transpose(2, 0, 1) / 255
    ours = load("celeba", root=folder).batch([0])[0][0].numpy()
    np.testing.assert_allclose(ours, expected, atol=1.6 / 255)


def test_celeba_parts_and_balance(folder: Path) -> None:
    on = labels_of(folder)
    for place, part in enumerate(("train", "valid", "test")):
        data = load("celeba", root=folder, part=part, crop="none")
        assert which(data) == list(range(8 * place, 8 * place + 8))
    eyeglasses = on[:, 15]
    for ratio in (1, 2, 0.5, 10):
        data = load("celeba", root=folder, balanced=ratio, crop="none", seed=3)
        y = data.labels[:, 0]
        assert (y == 0).sum() == round(ratio * int(y.sum()))
        assert int(y.sum()) == min(eyeglasses.sum(), int((~eyeglasses).sum() / ratio))
        chosen = which(data)
        assert chosen == sorted(set(chosen))
        np.testing.assert_array_equal(y.numpy() == 1, eyeglasses[chosen])
    first, again, other = (load("celeba", root=folder, balanced=1, crop="none", seed=s) for s in (0, 0, 1))
    assert which(first) == which(again) != which(other)
    two = load("celeba", root=folder, attributes=("Eyeglasses", "Bald"), balanced=1, part="train")
    assert int(two.labels.any(1).sum()) * 2 == len(two)


def test_celeba_groups_and_opposites(folder: Path) -> None:
    on = labels_of(folder)
    data = load("celeba", root=folder, attributes=[("not No_Beard", "Mustache", "Goatee"), "not Male"])
    assert data.label_names == ("not No_Beard or Mustache or Goatee", "not Male")
    np.testing.assert_array_equal(data.labels[:, 0].numpy() == 1, ~on[:, 24] | on[:, 22] | on[:, 16])
    np.testing.assert_array_equal(data.labels[:, 1].numpy() == 1, ~on[:, 20])
    assert load("celeba", root=folder, attributes=NAMES).labels.shape == (N, 40)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"attributes": ("Glasses",)}, "attributes: got 'Glasses', expected names among .*5_o_Clock_Shadow"),
        ({"attributes": "Eyeglasses"}, "attributes: got 'Eyeglasses', expected a sequence"),
        ({"attributes": ()}, "attributes: got"),
        ({"part": "val"}, "part: got 'val'"),
        ({"size": 0}, "size: got 0"),
        ({"crop": "face"}, "crop: got 'face', expected one of .*'proposal'"),
        ({"crop": (0, 0, 179, 218)}, r"crop: got \(0, 0, 179, 218\)"),
        ({"balanced": 0}, "balanced: got 0"),
        ({"balanced": 1000}, "balanced: got 1000, expected faces of both kinds: .* have one"),
    ],
)
def test_celeba_options_that_cannot_be(folder: Path, options: dict, message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        load("celeba", root=folder, **options)


def test_celeba_files_that_are_missing_or_damaged(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    with pytest.raises(ArgumentError, match=f"root: got None, expected the folder that holds {ATTRIBUTES}"):
        load("celeba")
    with pytest.raises(DataError, match=f"{ATTRIBUTES}: no such file.*mmlab.*MD5 is 75e246fa4810816ffd6ee81facbd244c"):
        load("celeba", root=tmp_path_factory.mktemp("empty"))
    inner = folder / "celeba"
    (inner / IMAGES / "000007.jpg").rename(inner / IMAGES / "aside.jpg")
    with pytest.raises(DataError, match=r"1 of 24 images are missing, the first is 000007.jpg.*00d2c5bc6d35e252742224"):
        load("celeba", root=folder)
    (inner / IMAGES / "000007.jpg").write_bytes((inner / IMAGES / "aside.jpg").read_bytes()[:500])
    with pytest.raises(DataError, match=r"000007.jpg"):
        load("celeba", root=folder)
    (inner / PARTITION).unlink()
    with pytest.raises(DataError, match=f"{PARTITION}: no such file"):
        load("celeba", root=folder, part="train")
    text = (inner / ATTRIBUTES).read_text()
    for damaged in (
        text[:2000],
        "",
        "version https://git-lfs.github.com/spec/v1\n",
        text.replace(" 1 ", " 2 ", 1),
        text.replace("24", "25", 1),
        text.replace("Young", "", 1),
    ):
        (inner / ATTRIBUTES).write_text(damaged)
        with pytest.raises(DataError, match=f"{ATTRIBUTES}: .*as published; its MD5 is 75e2"):
            load("celeba", root=folder)
    (inner / ATTRIBUTES).unlink()
    with pytest.raises(DataError, match=f"{ATTRIBUTES}: no such file. Put .* beside {IMAGES}"):
        load("celeba", root=folder)


def test_celeba_partition_of_other_images(folder: Path) -> None:
    path = folder / "celeba" / PARTITION
    path.write_text("\n".join(reversed(path.read_text().splitlines())))
    with pytest.raises(DataError, match="does not list the images"):
        load("celeba", root=folder, part="test")


def test_celeba_is_downloaded_only_when_asked(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    monkeypatch.setattr("torchvision.datasets.CelebA.__init__", lambda self, *a, **k: asked.append((a, k)))
    load("celeba", root=folder)
    assert asked == []
    load("celeba", root=folder, download=True)
    assert asked == [((str(folder),), {"split": "all", "download": True})]


# --- TFD


def faces(path: Path, size: int = 48, **changes: object) -> dict[str, Any]:
    """60 faces: 20 unlabelled, then labelled ones with expression 1 + i % 7; returns what was written."""
    rng = np.random.default_rng(0)
    labelled = np.arange(60) >= 20
    folds = np.where(labelled[:, None], 1 + rng.integers(3, size=(60, 5)), 0)
    folds[20:23] = [[1] * 5, [2] * 5, [3] * 5]
    held = {
        "images": rng.integers(256, size=(60, size, size)).astype(np.uint8),
        "labs_ex": np.where(labelled, 1 + np.arange(60) % 7, -1)[:, None].astype(np.int16),
        "labs_id": np.where(np.arange(60) % 3 == 0, -1, 100 + np.arange(60) // 6)[:, None].astype(np.int16),
        "folds": folds.astype(np.uint8),
    } | changes
    savemat(path / f"TFD_{size}x{size}.mat", {name: value for name, value in held.items() if value is not None})
    return held


def test_tfd(tmp_path: Path) -> None:
    held = faces(tmp_path)
    data = load("tfd", root=tmp_path)
    assert (len(data), data.shape, data.likelihood) == (40, (1, 48, 48), "bernoulli")
    x, y = data.batch(slice(None))
    np.testing.assert_array_equal((255 * x[:, 0]).round().numpy(), held["images"][20:])
    assert data.label_names == EXPRESSIONS
    assert torch.equal(y.argmax(1), data.factors[:, 0])
    assert y.sum(1).unique().tolist() == [1]
    np.testing.assert_array_equal(data.factors[:, 0], held["labs_ex"][20:, 0] - 1)
    assert data.factor_names == ("expression", "identity")
    unknown = held["labs_id"][20:, 0] == -1
    np.testing.assert_array_equal(data.factors[:, 1].numpy() == 0, unknown)
    known = data.factors[torch.from_numpy(~unknown), 1].numpy()
    np.testing.assert_array_equal(known - known[0], (held["labs_id"][20:, 0] - 100)[~unknown] - 3)
    assert data.factor_sizes == (7, known.max() + 1)
    assert load("tfd", root=tmp_path / "TFD_48x48.mat").fingerprint == data.fingerprint
    large = faces(tmp_path, 96)
    assert load("tfd", root=tmp_path, size=96).shape == (1, 96, 96)
    assert large["images"].shape == (60, 96, 96)


def test_tfd_parts_and_expressions(tmp_path: Path) -> None:
    held = faces(tmp_path)
    for fold in (0, 4):
        parts = [load("tfd", root=tmp_path, part=part, fold=fold) for part in ("train", "valid", "test")]
        for value, part in enumerate(parts, 1):
            chosen = held["images"][held["folds"][:, fold] == value]
            np.testing.assert_array_equal((255 * part.batch(slice(None))[0][:, 0]).round().numpy(), chosen)
        assert sum(map(len, parts)) == 40
    bare = load("tfd", root=tmp_path, part="unlabelled")
    assert (len(bare), bare.labels, bare.factors) == (20, None, None)
    two = load("tfd", root=tmp_path, expressions=("surprise", "happy"))
    assert two.label_names == ("surprise", "happy")
    np.testing.assert_array_equal(two.labels.numpy() == 1, held["labs_ex"][20:] == [6, 4])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"labs_id": None}, r"has no \['labs_id'\]"),
        ({"images": np.zeros((60, 2304), np.uint8)}, r"have shapes .*expected \(N, 48, 48\), N, N and \(N, 5\)"),
        ({"folds": np.zeros((60, 4))}, "have shapes"),
        ({"labs_ex": np.zeros((59, 1))}, "have shapes"),
        ({"images": np.random.default_rng(0).random((60, 48, 48))}, "images are float64, expected grey levels"),
        ({"labs_ex": np.full((60, 1), 8)}, "labs_ex or folds have values"),
        ({"folds": np.full((60, 5), 4)}, "labs_ex or folds have values"),
        ({"labs_ex": np.full((60, 1), -1)}, "has no labelled faces"),
    ],
)
def test_a_tfd_file_of_another_form(tmp_path: Path, changes: dict, message: str) -> None:
    faces(tmp_path, **changes)
    with pytest.raises(DataError, match=message):
        load("tfd", root=tmp_path)


def test_tfd_files_that_are_missing_or_damaged(tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match=r"root: got None, expected TFD_48x48.mat"):
        load("tfd")
    with pytest.raises(DataError, match=r"TFD_96x96.mat: no such file.*on request"):
        load("tfd", root=tmp_path, size=96)
    faces(tmp_path, labs_ex=np.full((60, 1), -1))
    with pytest.raises(DataError, match="some train faces of fold 0 have no expression"):
        load("tfd", root=tmp_path, part="train")
    faces(tmp_path)
    path = tmp_path / "TFD_48x48.mat"
    content = path.read_bytes()
    for damaged in (
        content[:3000],
        b"",
        b"version https://git-lfs.github.com/spec/v1\n" * 9,
        content[:200] + b"x" * 500,
    ):
        path.write_bytes(damaged)
        with pytest.raises(DataError, match=r"TFD_48x48\.mat: "):
            load("tfd", root=tmp_path)
    for options, message in [
        ({"expressions": ("joy",)}, "expressions: got"),
        ({"expressions": "happy"}, "expressions: got 'happy'"),
        ({"part": "all"}, "part: got 'all'"),
        ({"fold": 5}, "fold: got 5"),
        ({"size": 64}, "size: got 64"),
    ]:
        with pytest.raises(ArgumentError, match=message):
            load("tfd", root=tmp_path, **options)


def test_pixels_refuses_what_is_not_images() -> None:
    for images in (torch.zeros(3, 1, 4, 4), torch.zeros(3, 4, 4, dtype=torch.uint8)):
        with pytest.raises(DataError, match=r"images: got .*expected a uint8 tensor"):
            Pixels(images)
