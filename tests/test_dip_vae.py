# Copyright ppl-disent contributors.
# SPDX-License-Identifier: Apache-2.0
"""DIP-VAE's penalties against plain loops, closed forms and finite differences."""

import math

import pytest
import torch

import ppl_disent as pd
from ppl_disent.methods import CovariancePenalty
from tests.test_beta_tcvae import step_at

VARIANTS = pytest.mark.parametrize("variant", ["i", "ii"])


def plain(loc, scale, variant):
    """Both sums by loops over plain numbers."""
    loc, scale = loc.tolist(), scale.tolist()
    n, d = len(loc), len(loc[0])
    mean = [sum(row[j] for row in loc) / n for j in range(d)]
    off = on = 0.0
    for i in range(d):
        for j in range(d):
            c = sum((row[i] - mean[i]) * (row[j] - mean[j]) for row in loc) / n
            if i == j and variant == "ii":
                c += sum(row[i] ** 2 for row in scale) / n
            off, on = (off, on + (c - 1) ** 2) if i == j else (off + c**2, on)
    return off, on


@VARIANTS
def test_penalties_are_those_of_a_plain_loop(variant):
    loc, scale = torch.randn(8, 3), torch.rand(8, 3) + 0.2
    step = step_at(loc, scale, torch.randn(8, 3))
    got = [CovariancePenalty(part, variant=variant)(step).item() for part in ("od", "d")]
    assert got == pytest.approx(plain(loc, scale, variant), rel=1e-10)


def test_the_identity_costs_nothing():
    """Means at the corners of a cube of half side a, variances 1 - a^2: the covariance of z is the identity."""
    corners = torch.cartesian_prod(*[torch.tensor([-1.0, 1.0])] * 3)
    for variant, a in (("i", 1.0), ("ii", 0.6)):
        step = step_at(a * corners, torch.full((8, 3), 0.8), corners)
        values = [CovariancePenalty(part, variant=variant)(step).item() for part in ("od", "d")]
        assert values == pytest.approx([0.0, 0.0], abs=1e-20)


@VARIANTS
def test_gradients_are_those_of_finite_differences(variant):
    loc, scale = torch.randn(5, 3, requires_grad=True), (torch.rand(5, 3) + 0.2).requires_grad_()

    def value(loc, scale):
        step = step_at(loc, scale, torch.zeros(5, 3))
        parts = [CovariancePenalty(part, variant=variant)(step) for part in ("od", "d")]
        # A variance that variant i does not look at must still be an input of what is checked.
        return parts[0] + 1.7 * parts[1] + 0.1 * scale.sum()

    assert torch.autograd.gradcheck(value, (loc, scale))


@VARIANTS
def test_builder_makes_the_objective(variant):
    ratio = {"i": 10, "ii": 1}[variant]
    method = pd.dip_vae((6,), lambda_od=2.0, variant=variant, likelihood="gaussian", network="mlp")
    step = method.elbo.evaluate(method.model, method.guide, torch.randn(9, 6))
    q = step.guide_trace.nodes["z"]["fn"]
    off, on = plain(q.mean, q.stddev, variant)
    bound = -step.log_lik["x"].item() + step.kl["z"].item()
    assert step.loss.item() == pytest.approx(bound + 2 * off + 2 * ratio * on, rel=1e-10)
    assert pd.dip_vae((6,), lambda_d=0.0, variant=variant).elbo.terms["dip_d"][0] == 0.0
    # Variant i leaves the variances alone: no gradient for their half of the last layer.
    layer = method.guide.networks["z"].net[-1]
    (gradient,) = torch.autograd.grad(step.extra["dip_od"] + step.extra["dip_d"], layer.weight, retain_graph=True)
    means, variances = gradient.chunk(2)
    assert means.any()
    assert bool(variances.any()) == (variant == "ii")
    grads = torch.autograd.grad(step.extra["dip_d"], list(method.model.parameters()), allow_unused=True)
    assert all(g is None for g in grads)


def test_training_brings_the_covariance_to_the_identity():
    x = torch.randn(256, 2) @ torch.tensor([[1.0, 0.8], [0.0, 0.6]])
    off = {}
    for weight in (0.0, 50.0):
        torch.manual_seed(1)
        method = pd.dip_vae((2,), lambda_od=weight, latent_dim=2, likelihood="gaussian", sigma=0.3, lr=1e-2)
        run = method.fit(x, steps=150, batch_size=256, progress=False, device="cpu", log_every=10)
        off[weight] = run.history["extra.dip_od"].iloc[-1] + run.history["extra.dip_d"].iloc[-1]
    assert off[50.0] < 0.2 * off[0.0]


@pytest.mark.parametrize(
    ("bad", "name"),
    [({"variant": "iii"}, "variant"), ({"lambda_od": math.nan}, "lambda_od"), ({"lambda_d": math.inf}, "lambda_d")],
)
def test_arguments_out_of_range(bad, name):
    with pytest.raises(pd.ArgumentError, match=f"^{name}: got"):
        pd.dip_vae((6,), **bad)
