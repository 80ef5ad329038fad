# Copyright ppl-disent contributors.
# SPDX-License-Identifier: Apache-2.0
"""Networks: the papers' parameter counts, shapes, initial values; guides and likelihoods."""

import math

import pytest
import torch
from pyro import poutine

import ppl_disent as pd
from guides import Gaussian


def count(module):
    return sum(p.numel() for p in module.parameters())


@pytest.mark.parametrize(("channels", "encoder", "decoder"), [(1, 382_932, 380_353), (3, 383_956, 381_379)])
def test_network_h_has_the_official_parameter_count(channels, encoder, decoder):
    """shj1987/DynamicVAE-CVPR2022, 2D-sprites/model.py, BetaVAE_H(z_dim=10, nc=channels), counted by running it."""
    method = pd.dynamic_vae((channels, 64, 64))
    assert count(method.guide) == encoder
    assert count(method.model) == decoder


@pytest.mark.parametrize(("channels", "encoder", "decoder"), [(1, 252_052, 249_953), (3, 253_076, 250_979)])
def test_network_b_has_the_official_parameter_count(channels, encoder, decoder):
    """The same file's BetaVAE_B, the network of Burgess et al."""
    method = pd.capacity_vae((channels, 64, 64), network="burgess")
    assert count(method.guide) == encoder
    assert count(method.model) == decoder


@pytest.mark.parametrize("side", [8, 16, 28, 32, 64, 128])
def test_any_size_goes_in_and_comes_out(side):
    shape = (2, side, side)
    x = torch.rand(3, *shape)
    codes = pd.ConvEncoder(shape, 5)(x)
    assert codes.shape == (3, 5)
    assert pd.ConvDecoder(5, shape)(codes).shape == x.shape
    assert pd.ConvDecoder(5, shape, top="linear", hidden=(7, 9))(codes).shape == x.shape


@pytest.mark.parametrize("shape", [(1, 30, 30), (1, 64, 32), (64, 64), (1, 4, 4), (1, 12, 12)])
def test_sizes_that_cannot_be_halved_down(shape):
    for make in (lambda: pd.ConvEncoder(shape, 5), lambda: pd.ConvDecoder(5, shape)):
        with pytest.raises(pd.ArgumentError, match="shape: got"):
            make()


def test_initial_values_are_those_of_the_official_code():
    torch.manual_seed(0)
    encoder, decoder = pd.ConvEncoder((1, 64, 64), 20), pd.ConvDecoder(10, (1, 64, 64))
    conv, deconv, linear = encoder.net[2], decoder.net[5], encoder.net[9]
    assert conv.weight.std().item() == pytest.approx(math.sqrt(2 / (32 * 16)), rel=0.05)
    assert linear.weight.std().item() == pytest.approx(math.sqrt(2 / 1024), rel=0.05)
    assert not conv.bias.any()
    # ConvTranspose2d keeps torch's default: uniform within 1 / sqrt(fan_in), with a bias.
    assert deconv.weight.abs().max().item() <= 1 / math.sqrt(64 * 16)
    assert deconv.bias.any()


def test_mlp_concatenates_its_inputs():
    net = pd.MLP(18, (2, 3), hidden=(4,))
    assert net(torch.rand(5, 1, 4, 4), torch.rand(5, 2)).shape == (5, 2, 3)
    with pytest.raises(pd.DataError, match=r"got shape \(5, 1, 4, 4\), expected 18 values"):
        net(torch.rand(5, 1, 4, 4))


def test_gaussian_guide_sees_what_it_is_told():
    calls = {}

    class Spy(torch.nn.Module):
        def __init__(self, name):
            super().__init__()
            self.name = name

        def forward(self, *fields):
            calls[self.name] = fields
            return torch.zeros(5, 4)

    x, y = torch.rand(5, 3), torch.rand(5, 1)
    guide = Gaussian(sees={"w": (0, 1)}, z=Spy("z"), w=Spy("w"))
    values = guide(x, y)
    assert {k: len(v) for k, v in calls.items()} == {"z": 1, "w": 2}
    assert torch.equal(calls["w"][1], y)
    assert {k: v.shape for k, v in values.items()} == {"z": (5, 2), "w": (5, 2)}


def test_gaussian_guide_reads_log_variances():
    class Fixed(torch.nn.Module):
        def forward(self, x):
            return torch.tensor([[1.0, 2.0, math.log(4.0), math.log(9.0)]]).expand(len(x), 4)

    fn = poutine.trace(Gaussian(z=Fixed())).get_trace(torch.rand(3, 2)).nodes["z"]["fn"]
    torch.testing.assert_close(fn.mean[0], torch.tensor([1.0, 2.0]))
    torch.testing.assert_close(fn.stddev[0], torch.tensor([2.0, 3.0]))
    assert fn.batch_shape == (3,)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Gaussian(), "got none"),
        (lambda: Gaussian(type=torch.nn.Identity()), r"cannot hold the site names \['type'\]"),
        (lambda: Gaussian(**{"a.b": torch.nn.Identity()}), r"\['a.b'\]"),
        (lambda: Gaussian(sees={"w": (0,)}, z=torch.nn.Identity()), r"sees: got sites \['w'\]"),
    ],
)
def test_gaussian_guide_refuses(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_likelihoods_against_plain_formulas():
    x, out = torch.rand(4, 1, 3, 3), torch.randn(4, 1, 3, 3)
    cross_entropy = torch.nn.functional.binary_cross_entropy_with_logits(out, x, reduction="none").sum((1, 2, 3))
    torch.testing.assert_close(pd.Bernoulli()(out).log_prob(x), -cross_entropy)
    gaussian = pd.Gaussian(0.3, learn=True)
    expected = -0.5 * ((x - out) / 0.3).square().sum((1, 2, 3)) - 9 * math.log(0.3 * math.sqrt(2 * math.pi))
    torch.testing.assert_close(gaussian(out).log_prob(x), expected)
    assert [name for name, _ in gaussian.named_parameters()] == ["log_sigma"]
    assert not list(pd.Gaussian(0.3).parameters())


def test_a_learned_sigma_finds_the_residual():
    torch.manual_seed(0)
    x = 0.2 * torch.randn(500, 6)
    method = pd.vae((6,), latent_dim=1, likelihood="gaussian", learn_sigma=True, lr=1e-2)
    with torch.no_grad():  # a decoder that ignores z: all that is left is noise
        method.model.decoder.net[-1].weight.zero_().requires_grad_(False)
    method.fit(x, steps=400, batch_size=500, progress=False, device="cpu")
    sigma = (x - x.mean(0)).square().mean().sqrt().item()
    assert method.model.likelihood.log_sigma.exp().item() == pytest.approx(sigma, rel=0.01)
