# Copyright ppl-disent contributors.
# SPDX-License-Identifier: Apache-2.0
"""Fréchet and sliced Wasserstein distances, against closed forms and plainly written references."""

from __future__ import annotations

import math
import sys
import types
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import linalg, ndimage, stats
from torch import Tensor

from ppl_disent import fid, frechet_distance, swd
from ppl_disent.errors import ArgumentError, DataError
from ppl_disent.metrics.inception import inception
from ppl_disent.metrics.swd import double, laplacian_pyramid, sliced_wasserstein

# --- Fréchet distance of Gaussians


def rotation(d: int, seed: int = 0) -> np.ndarray:
    return stats.ortho_group.rvs(d, random_state=seed)


def covariance(d: int, rank: int, seed: int) -> np.ndarray:
    factor = np.random.default_rng(seed).normal(size=(d, rank))
    return factor @ factor.T


def test_one_dimension() -> None:
    for mean_a, sd_a, mean_b, sd_b in [(0, 1, 3, 1), (1, 2, -1, 0.5), (0, 0, 4, 3), (5, 1e-9, 5, 1e3)]:
        got = frechet_distance([mean_a], [[sd_a**2]], [mean_b], [[sd_b**2]])
        assert got == pytest.approx((mean_a - mean_b) ** 2 + (sd_a - sd_b) ** 2, rel=1e-12)


def test_commuting_covariances() -> None:
    q, rng = rotation(6), np.random.default_rng(0)
    a, b, mean = rng.uniform(0, 5, 6), rng.uniform(0, 5, 6), rng.normal(size=6)
    a[:2] = b[1:3] = 0
    got = frechet_distance(mean, q @ np.diag(a) @ q.T, np.zeros(6), q @ np.diag(b) @ q.T)
    assert got == pytest.approx(mean @ mean + np.square(np.sqrt(a) - np.sqrt(b)).sum(), rel=1e-9)


def test_the_roots_of_matrices_of_full_rank() -> None:
    a, b = covariance(5, 9, 1), covariance(5, 9, 2)
    root = linalg.sqrtm(a)
    expected = np.trace(a + b - 2 * linalg.sqrtm(root @ b @ root)).real
    assert frechet_distance(np.ones(5), a, np.ones(5), b) == pytest.approx(expected, rel=1e-10)


def test_equal_gaussians_of_any_rank() -> None:
    mean = np.random.default_rng(0).normal(size=40)
    for rank in (0, 1, 12, 40, 80):
        a = covariance(40, rank, rank)
        assert 0 <= frechet_distance(mean, a, mean, a) <= 1e-8
        assert 0 <= frechet_distance(mean, 1e4 * a, mean, 1e4 * a) <= 1e-8 * 1e4


def test_singular_covariances_on_orthogonal_subspaces() -> None:
    q = rotation(40)
    a, b = (q[:, part] @ covariance(20, 5, seed) @ q[:, part].T for seed, part in ((0, slice(20)), (1, slice(20, 40))))
    # (A B)^(1/2) = 0.
    assert frechet_distance(np.zeros(40), a, np.zeros(40), b) == pytest.approx(np.trace(a + b), rel=1e-12)


def test_two_lines_at_an_angle() -> None:
    # Rank one each: the overlap is |cos| times the standard deviations.
    u, v = np.array([1.0, 0, 0]), np.array([np.cos(0.3), 0, -np.sin(0.3)])
    got = frechet_distance(np.zeros(3), 4 * np.outer(u, u), np.zeros(3), 9 * np.outer(v, v))
    assert got == pytest.approx(4 + 9 - 2 * 2 * 3 * np.cos(0.3), rel=1e-12)


def test_symmetry_translation_rotation_and_units() -> None:
    rng = np.random.default_rng(3)
    m, n, a, b, q = rng.normal(size=7), rng.normal(size=7), covariance(7, 3, 1), covariance(7, 9, 2), rotation(7)
    there = frechet_distance(m, a, n, b)
    assert there > 1
    assert frechet_distance(n, b, m, a) == pytest.approx(there, rel=1e-12)
    shift = rng.normal(size=7)
    assert frechet_distance(m + shift, a, n + shift, b) == pytest.approx(there, rel=1e-12)
    assert frechet_distance(q @ m, q @ a @ q.T, q @ n, q @ b @ q.T) == pytest.approx(there, rel=1e-9)
    assert frechet_distance(3 * m, 9 * a, 3 * n, 9 * b) == pytest.approx(9 * there, rel=1e-12)
    assert frechet_distance(m, a, m + shift, a) == pytest.approx(shift @ shift, rel=1e-9)
    tensors = [torch.tensor(v, requires_grad=True) for v in (m, a, n, b)]
    assert frechet_distance(*tensors) == there


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([0.0], [[1.0]], [0.0, 1.0], np.eye(2)), r"mean_a, mean_b: got \(\(1,\), \(2,\)\), expected one shape"),
        (([], np.eye(0), [], np.eye(0)), "mean_a, mean_b: got"),
        (([0.0, 0.0], np.eye(3), [0.0, 0.0], np.eye(2)), r"cov_a: got \(3, 3\), expected the shape \(2, 2\)"),
        (
            ([0.0, 0.0], np.eye(2), [0.0, 0.0], [[1.0, 0.5], [0.0, 1.0]]),
            "cov_b: got .*asymmetric by 0.5', expected a symmetric",
        ),
        (([0.0, 0.0], np.diag([1.0, -0.1]), [0.0, 0.0], np.eye(2)), "cov_a: got .*eigenvalues from -0.1 to 1"),
        (([float("nan")], [[1.0]], [0.0], [[1.0]]), "mean_a: got '1 of 1 values NaN"),
    ],
)
def test_gaussians_that_are_none(arguments: tuple, message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        frechet_distance(*arguments)


# --- FID


def flat(images: Tensor) -> Tensor:
    return images.flatten(1)


def test_fid_of_images_whose_moments_are_known() -> None:
    # Corners of a cube: means 1/2, covariances diagonal, by n - 1 = 7.
    corners = torch.cartesian_prod(*[torch.tensor([0.0, 1.0])] * 3)[:, None, None, :]
    narrow = 0.5 + (corners - 0.5) / 4
    variance = 2 / 7
    score = fid(corners, narrow, features=flat)
    assert score.value == pytest.approx(3 * variance * (1 - 1 / 4) ** 2, rel=1e-12)
    assert score.detail["mean"] == 0
    moved = narrow + torch.tensor([0.25, 0.0, -0.125])
    score = fid(corners, moved, features=flat)
    assert score.detail["mean"] == pytest.approx(0.25**2 + 0.125**2, rel=1e-12)
    assert score.value == pytest.approx(score.detail["mean"] + 3 * variance * 9 / 16, rel=1e-12)
    assert score.estimator == "3 features of flat, n = 8 real and 8 generated"
    assert "too few" in fid(corners[:3], corners, features=flat).estimator


def test_fid_of_gaussian_features() -> None:
    # The features undo the squashing to [0, 1]: they are Gaussian, with moments that are known.
    rng = np.random.default_rng(0)
    mean, scale = np.array([0.5, -0.5, 0.0, 0.0]), np.array([1.4, 1.0, 0.5, 1.0])
    a, b = rng.normal(size=(200_000, 4)), mean + scale * rng.normal(size=(200_000, 4))
    images = [torch.from_numpy(stats.norm.cdf(v)).view(-1, 1, 2, 2) for v in (a, b)]
    score = fid(*images, features=lambda x: torch.special.ndtri(x).flatten(1), batch_size=10_000)
    assert float(score) == pytest.approx(0.5 + np.square(scale - 1).sum(), abs=0.02)


def test_moments_do_not_depend_on_batches_or_containers() -> None:
    # Features far from 0: their squares would swamp their variances.
    a, b = torch.rand(101, 3, 4, 4), torch.rand(57, 3, 4, 4) ** 2

    def far(images: Tensor) -> Tensor:
        return images.flatten(1)[:, :9] + 1e6

    x, y = (v.flatten(1)[:, :9].numpy() for v in (a, b))
    expected = frechet_distance(x.mean(0), np.cov(x.T), y.mean(0), np.cov(y.T))

    def stream(images: Tensor, size: int) -> Iterator[tuple[Tensor, Tensor]]:
        for batch in images.split(size):
            yield batch.requires_grad_(), torch.zeros(len(batch))

    loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(a), batch_size=10)
    for real, generated in [(a, b), (stream(a, 1), list(b.split(20))), (loader, stream(b, 57))]:
        assert float(fid(real, generated, features=far, batch_size=7)) == pytest.approx(expected, rel=1e-7)


def test_fid_of_a_set_with_itself_and_in_another_order() -> None:
    a, b = torch.rand(40, 1, 8, 8), torch.rand(40, 1, 8, 8)
    assert float(fid(a, a, features=flat)) <= 1e-8
    assert float(fid(a, a[torch.randperm(40)], features=flat)) <= 1e-8
    there = float(fid(a, b, features=flat))
    assert float(fid(b, a, features=flat)) == pytest.approx(there, rel=1e-9)
    assert float(fid(a[torch.randperm(40)], b, features=flat)) == pytest.approx(there, rel=1e-9)


IMAGES = torch.linspace(0, 1, 2 * 3 * 8 * 8).view(2, 3, 8, 8)


@pytest.mark.parametrize(
    ("real", "features", "message"),
    [
        (3, flat, "real: got 3, expected images"),
        (torch.tensor(0.5), flat, r"real: got 'a torch.float32 tensor of shape \(\)'"),
        ((255 * IMAGES).to(torch.uint8), flat, "real: got 'a torch.uint8 tensor"),
        (IMAGES[0], flat, r"real: got 'a .* tensor of shape \(3, 8, 8\)'"),
        (2 * IMAGES, flat, "real: got 'values from 0 to 2', expected values in"),
        (IMAGES * float("nan"), flat, "real: got 'values from nan"),
        (IMAGES[:1], flat, "real: got '1 image', expected at least two"),
        ([], flat, "real: got .* expected at least one image"),
        ([IMAGES, IMAGES[..., :4]], flat, "real: got 'shapes"),
        (IMAGES, lambda x: x, r"features: got '\(2, 3, 8, 8\) for 2 images'"),
        (IMAGES, lambda x: x.flatten(1)[:1], "features: got .* for 2 images"),
        (IMAGES, lambda x: 1 / x.flatten(1), "features: got 'NaN or infinite features of real"),
        (IMAGES[:, :, :4], flat, "features: got '96 and 192 of them'"),
        (IMAGES, 5, "features: got 5, expected a callable, or the path"),
    ],
)
def test_images_and_features_that_cannot_be_used(real: object, features: object, message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        fid(real, IMAGES, features=features)  # type: ignore[arg-type]


def test_batch_sizes_that_cannot_be() -> None:
    with pytest.raises(ArgumentError, match="batch_size: got 0"):
        fid(IMAGES, IMAGES, features=flat, batch_size=0)


# --- weights of Inception-v3


def test_files_that_are_no_weights(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none.pth: no such file.*nothing is downloaded"):
        fid(IMAGES, IMAGES, features=tmp_path / "none.pth")
    path = tmp_path / "weights.pth"
    for held in ({"fc.bias": torch.zeros(1000)}, {"fc.weight": torch.zeros(10, 2048)}, torch.zeros(3)):
        torch.save(held, path)
        with pytest.raises(DataError, match=r"weights.pth: .*Expected weights of torchvision's inception_v3"):
            fid(IMAGES, IMAGES, features=str(path))
    torch.save({"fc.weight": torch.zeros(1000, 2048)}, path)
    with pytest.raises(DataError, match=r"weights.pth: holds something else .*Expected weights"):
        fid(IMAGES, IMAGES, features=path)
    for damaged in (b"", b"version https://git-lfs.github.com/spec/v1\n", path.read_bytes()[:200]):
        path.write_bytes(damaged)
        with pytest.raises(DataError, match=r"weights.pth: holds something else .*Expected weights"):
            fid(IMAGES, IMAGES, features=path)


def test_the_original_network_without_its_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch_fidelity.feature_extractor_inceptionv3", None)
    torch.save({"fc.weight": torch.zeros(1008, 2048)}, tmp_path / "w.pth")
    with pytest.raises(DataError, match=r"torch-fidelity, .* is not installed: pip install 'ppl-disent\[generation\]'"):
        fid(IMAGES, IMAGES, features=tmp_path / "w.pth")


def test_the_original_network_gets_bytes_of_three_channels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    class Network(torch.nn.Module):
        def __init__(self, name: str, features_list: list[str], feature_extractor_weights_path: str) -> None:
            super().__init__()
            asked.append((features_list, feature_extractor_weights_path))

        def forward(self, x: Tensor) -> tuple[Tensor]:
            assert x.dtype == torch.uint8
            return (x[:, :, 0].flatten(1).float(),)

    module = types.ModuleType("torch_fidelity.feature_extractor_inceptionv3")
    module.FeatureExtractorInceptionV3 = Network  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "torch_fidelity", types.ModuleType("torch_fidelity"))
    monkeypatch.setitem(sys.modules, module.__name__, module)
    path = tmp_path / "w.pth"
    torch.save({"fc.weight": torch.zeros(1008, 2048)}, path)
    features, _ = inception(path)
    grey = torch.tensor([[[[0.0, 0.499, 1.0]]]])
    assert features(grey).tolist() == [[0, 127, 255] * 3]
    assert asked == [(["2048"], str(path))]
    assert "the original Inception" in fid(IMAGES, IMAGES, features=path).estimator


def test_the_features_of_torchvisions_network(tmp_path: Path) -> None:
    from torchvision.models import inception_v3

    torch.set_default_dtype(torch.float32)
    network = inception_v3(weights=None, init_weights=False, transform_input=False)
    x = torch.rand(2, 3, 299, 299) * torch.rand(2, 3, 1, 1)
    held = []
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.momentum = 1.0
        network(2 * x - 1)  # so that features are of the order of 1
        torch.save(network.eval().state_dict(), tmp_path / "w.pth")
        network.avgpool.register_forward_hook(lambda module, inputs, output: held.append(output.flatten(1)))
        network(2 * x - 1)
        features, name = inception(tmp_path / "w.pth")
        torch.testing.assert_close(features(x), held[0], rtol=1e-4, atol=1e-5)
        assert features(x[:, :1, :32, :32]).shape == (2, 2048)
    assert held[0].diff(dim=0).abs().max() > 0.1
    assert "not the original" in name
    with pytest.raises(ArgumentError, match=r"images: got .* expected 1 or 3 channels"):
        features(torch.rand(2, 2, 8, 8))


# --- the pyramid


@pytest.mark.parametrize("shape", [(2, 3, 64, 64), (1, 1, 28, 28), (2, 1, 37, 50), (1, 2, 33, 17)])
def test_a_pyramid_adds_up_to_the_images(shape: tuple[int, ...]) -> None:
    images = torch.rand(shape)
    levels = laplacian_pyramid(images, 3)
    assert [v.shape[2] for v in levels] == [shape[2], -(-shape[2] // 2), -(-shape[2] // 4)]
    again = levels[-1]
    for level in levels[-2::-1]:
        again = double(again, level.shape[2:]) + level
    torch.testing.assert_close(again, images, rtol=0, atol=1e-14)


def reference_pyramid(images: np.ndarray, levels: int) -> list[np.ndarray]:
    """scipy's convolution, mirrored at the borders, as in the authors' own code."""
    kernel = np.outer([1, 4, 6, 4, 1], [1, 4, 6, 4, 1])[None, None] / 256
    pyramid = [images]
    for _ in range(1, levels):
        pyramid.append(ndimage.convolve(pyramid[-1], kernel, mode="mirror")[:, :, ::2, ::2])
        n, c, h, w = pyramid[-1].shape
        large = np.zeros((n, c, 2 * h, 2 * w))
        large[:, :, ::2, ::2] = pyramid[-1]
        pyramid[-2] = pyramid[-2] - ndimage.convolve(large, 4 * kernel, mode="mirror")
    return pyramid


def test_the_pyramid_is_the_authors() -> None:
    images = torch.rand(2, 3, 32, 32)
    for ours, theirs in zip(laplacian_pyramid(images, 3), reference_pyramid(images.numpy(), 3)):
        np.testing.assert_allclose(ours.numpy(), theirs, atol=1e-14)


# --- sliced Wasserstein distance


def test_sliced_distance_of_a_shift() -> None:
    # Moved by m, each projection moves by u.m, of which the mean over the sphere is known.
    d, points = 5, torch.randn(300, 5)
    m = torch.tensor([1.0, -2.0, 0.0, 0.5, 3.0])
    expected = m.norm().item() * math.gamma(d / 2) / (math.sqrt(math.pi) * math.gamma((d + 1) / 2))
    got = sliced_wasserstein(points, (points + m)[torch.randperm(300)], projections=20_000)
    assert got == pytest.approx(expected, rel=0.02)
    assert sliced_wasserstein(points, points[torch.randperm(300)], projections=50) == pytest.approx(0, abs=1e-14)


def test_sliced_distance_of_gaussians_in_one_dimension() -> None:
    # Between N(0, 1) and N(1, 1) it is 1; between N(0, 1) and N(0, 9) it is 2 E|z| = 2 sqrt(2 / pi).
    z = torch.from_numpy(stats.norm.ppf((np.arange(100_000) + 0.5) / 100_000))[:, None]
    assert sliced_wasserstein(z, z + 1, projections=3) == pytest.approx(1, rel=1e-12)
    assert sliced_wasserstein(z, 3 * z, projections=3) == pytest.approx(2 * math.sqrt(2 / math.pi), rel=1e-4)


def test_sliced_distance_is_the_mean_of_scipys() -> None:
    a, b = torch.rand(60, 4), torch.rand(60, 4) ** 2
    axes = torch.randn(16, 4, generator=torch.Generator().manual_seed(3), dtype=torch.float64).numpy()
    axes /= np.linalg.norm(axes, axis=1, keepdims=True)
    expected = np.mean([stats.wasserstein_distance(a.numpy() @ u, b.numpy() @ u) for u in axes])
    assert sliced_wasserstein(a, b, projections=16, seed=3) == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize("shape", [(12, 3, 32, 32), (12, 1, 28, 28), (12, 1, 8, 20)])
def test_swd_of_a_set_with_itself(shape: tuple[int, ...]) -> None:
    a = torch.rand(shape)
    score = swd(a, a, patches=16, projections=20)
    assert score.value == 0
    assert set(score.detail["per_level"].values()) == {0}
    assert float(swd(a, a[torch.randperm(12)], patches=16, projections=20)) == pytest.approx(0, abs=1e-9)


def test_swd_does_not_depend_on_order_or_batches() -> None:
    a, b = torch.rand(30, 3, 32, 32), torch.rand(30, 3, 32, 32) ** 4
    a[7] = a[3]
    options = {"patches": 8, "projections": 30}
    there = swd(a, b, **options)
    other = swd(a[torch.randperm(30)].split(7), [(v, 0) for v in b[torch.randperm(30)].split(11)], **options)
    assert other.value == pytest.approx(there.value, rel=1e-9)
    for level, value in there.detail["floor"].items():
        assert other.detail["floor"][level] == pytest.approx(value, rel=1e-9)
    assert float(swd(b, a, **options)) == pytest.approx(there.value, rel=1e-9)
    assert float(swd(a, b, seed=1, **options)) != there.value


def test_swd_levels_are_halved_to_sixteen_pixels() -> None:
    sizes = {(1, 64, 64): [64, 32, 16], (3, 28, 28): [28], (1, 33, 33): [33, 17], (1, 9, 9): [9], (1, 40, 70): [40, 20]}
    for shape, heights in sizes.items():
        score = swd(torch.rand(4, *shape), torch.rand(4, *shape), patches=4, projections=4)
        assert list(score.detail["per_level"]) == list(score.detail["floor"]) == heights
        assert score.value == pytest.approx(np.mean(list(score.detail["per_level"].values())), rel=1e-12)
        assert "patches of 7 x 7" in repr(score)


def test_swd_against_the_authors_algorithm() -> None:
    """7 x 7 images have one patch each, so nothing is drawn but the directions."""
    a, b = torch.rand(50, 2, 7, 7), torch.rand(50, 2, 7, 7) ** 3

    def finalize(images: Tensor) -> np.ndarray:
        x = images.numpy()
        x = x - x.mean((0, 2, 3), keepdims=True)
        x = x / x.std((0, 2, 3), keepdims=True)
        return x.transpose(0, 2, 3, 1).reshape(50, -1)

    axes = torch.randn(8, 98, generator=torch.Generator().manual_seed(0), dtype=torch.float64).numpy()
    axes /= np.linalg.norm(axes, axis=1, keepdims=True)
    differences = np.sort(finalize(a) @ axes.T, axis=0) - np.sort(finalize(b) @ axes.T, axis=0)
    assert float(swd(a, b, patches=3, projections=8)) == pytest.approx(1e3 * np.abs(differences).mean(), rel=1e-10)


def test_swd_sees_the_level_at_which_images_differ() -> None:
    """A checkerboard of single pixels lives in the finest level; at half the size nothing is left of it."""
    plain = torch.rand(64, 1, 64, 64) * 0.1 + 0.4
    board = (torch.arange(64)[:, None] + torch.arange(64)) % 2 - 0.5
    score = swd(plain, plain + 0.3 * board, patches=32, projections=64)
    floor, found = score.detail["floor"], score.detail["per_level"]
    assert found[64] > 5 * floor[64]
    assert found[32] < 2 * floor[32]
    # Brightness and contrast of a whole set are taken out.
    assert float(swd(plain, plain.flip(0), patches=32, projections=64)) == pytest.approx(0, abs=1e-9)


def test_swd_of_a_sample_of_the_same_law_is_at_the_floor() -> None:
    a, b = torch.rand(2, 150, 3, 32, 32)
    score = swd(a, b, patches=16, projections=64)
    for level, value in score.detail["per_level"].items():
        assert 0.5 < value / score.detail["floor"][level] < 2


def test_patches_are_cut_everywhere_and_from_their_own_image() -> None:
    # Image i is constant in channel 1 and shows columns in channel 0: descriptors tell where each patch was cut.
    from ppl_disent.metrics.swd import _descriptors

    columns = torch.arange(20.0).expand(6, 12, 20)
    level = torch.stack([columns, torch.arange(6.0)[:, None, None].expand(6, 12, 20)], dim=1)
    found = _descriptors(level, [(i, 0) for i in range(6)], 200, (0, 0)).view(6, 200, 7, 7, 2)
    assert found[..., 1].flatten(1).std(1).max() < 1e-12
    assert (found[..., 1].flatten(1).mean(1).diff() > 0).all()
    steps = found[0, :, 0, :, 0].diff(dim=-1)
    torch.testing.assert_close(steps, steps[0, 0].expand_as(steps))
    corner = (found[..., 0, 0, 0] / steps[0, 0]).flatten()
    assert len((corner - corner.min()).round().unique()) == 14
    assert (corner.max() - corner.min()).round() == 13


def test_copies_of_one_image_are_cut_at_different_places() -> None:
    # Else a generator that makes one image would be judged by so few patches as that image has.
    from ppl_disent.metrics.swd import _descriptors, _pyramids

    (level,), keys = _pyramids(torch.rand(1, 1, 20, 20).expand(50, 1, 20, 20).split(20))
    assert len(_descriptors(level, keys, 4, (0, 0)).round(decimals=9).unique(dim=0)) > 100


@pytest.mark.parametrize(
    ("generated", "options", "message"),
    [
        (torch.rand(3, 3, 8, 8), {}, r"real, generated: got .*\(3, 3, 8, 8\)\), expected as many images"),
        (torch.rand(2, 1, 8, 8), {}, "real, generated: got .* of one shape"),
        (torch.rand(2, 3, 6, 9), {}, "expected at least 7 x 7 pixels"),
        (IMAGES + 1, {}, "generated: got 'values from 1 to 2'"),
        (IMAGES, {"patches": 0}, "patches: got 0"),
        (IMAGES, {"projections": 1.5}, "projections: got 1.5"),
        (IMAGES, {"batch_size": 0}, "batch_size: got 0"),
    ],
)
def test_sets_that_cannot_be_compared(generated: Tensor, options: dict, message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        swd(IMAGES, generated, **options)
