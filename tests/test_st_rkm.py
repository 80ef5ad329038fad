# Copyright ppl-disent contributors.
# SPDX-License-Identifier: Apache-2.0
"""St-RKM: its objectives against formulas written out, its final rotation, and its map in other methods."""

import math
import warnings

import pyro.distributions as dist
import pytest
import torch
from torch import nn
from torch.distributions import MultivariateNormal, kl_divergence

import ppl_disent as pd
from guides import Span, Stiefel
from ppl_disent import manifold, plots
from ppl_disent.methods.principal import principal
from ppl_disent.methods.st_rkm import StRKM, Subspace, pca_residual

D, L, M, N = 6, 5, 3, 9
VARIANTS = pytest.mark.parametrize("variant", ["deterministic", "noisy", "split"])


def method(variant="deterministic", m=M, **options):
    options = {
        "latent_dim": m,
        "feature_dim": L,
        "network": "mlp",
        "noise": 0.3,
        "manifold_lr": 1e-2,
        "lr": 1e-2,
    } | options
    return pd.st_rkm((D,), variant=variant, **options)


def evaluated(made, x, seed=3):
    torch.manual_seed(seed)
    return made.elbo.evaluate(made.model, made.guide, x)


def parts(made, x):
    """Centred features, U and the decoder."""
    phi = made.guide.encoder(x)
    return phi - phi.mean(0), made.guide.span.U, made.model.decoder


# ---------------------------------------------------------------- objective


@VARIANTS
def test_objective_is_the_formula(variant):
    """c_accu / 2 SSE / n + tr(C - P C) / n, with the authors' two sums for the split loss."""
    x, c = torch.randn(N, D), 1.7
    made = method(variant, lik_scale=c)
    step = evaluated(made, x)
    phi, U, psi = parts(made, x)
    torch.manual_seed(3)
    eps = torch.randn(N, M)
    P, C = U @ U.T, phi.T @ phi
    f1 = torch.trace(C - P @ C) / N
    exact, noisy = phi @ P, phi @ P + 0.3 * eps @ U.T
    sse = (x - psi(noisy if variant == "noisy" else exact)).square().sum()
    if variant == "split":
        sse = sse + (psi(exact) - psi(noisy)).square().sum()
    constant = c * D / 2 * math.log(2 * math.pi)
    torch.testing.assert_close(step.loss, f1 + c / 2 * sse / N + constant, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(step.extra["pca"], f1, rtol=1e-12, atol=1e-12)


def test_it_is_an_elbo():
    """2 gamma^2 times the negative bound is the objective with lambda = gamma^2 / sigma_0^2, up to a constant."""
    x, sigma, delta, gamma, sigma_0 = torch.randn(N, D), 0.3, 0.05, 0.8, 1.3
    lam = gamma**2 / sigma_0**2
    made = method("noisy", lik_scale=2 * lam)
    step = evaluated(made, x)
    phi, U, psi = parts(made, x)
    P, eye = U @ U.T, torch.eye(L)
    q_U = MultivariateNormal(phi @ P, sigma**2 * P + delta**2 * (eye - P))
    second = kl_divergence(q_U, MultivariateNormal(phi, gamma**2 * eye)).mean()
    first = dist.Normal(psi(step["h"] @ U.T), sigma_0).log_prob(x).sum(1).mean()
    spread = L + M * math.log(sigma**2 / gamma**2) + (L - M) * math.log(delta**2 / gamma**2)
    constant = M * sigma**2 + (L - M) * delta**2 - gamma**2 * spread + gamma**2 * D * math.log(2 * math.pi * sigma_0**2)
    ours = step.loss - lam * D * math.log(2 * math.pi)
    torch.testing.assert_close(-2 * gamma**2 * (first - second), ours + constant, rtol=1e-10, atol=1e-10)


@VARIANTS
def test_gradients_reach_both_networks_and_the_subspace(variant):
    made = method(variant)
    evaluated(made, torch.randn(N, D)).loss.backward()
    named = dict(made.model.named_parameters()) | {f"q.{k}": v for k, v in made.guide.named_parameters()}
    # Centring takes the last bias of the encoder out of the objective.
    assert all(p.grad.abs().max() > 1e-12 for k, p in named.items() if k != "q.encoder.net.4.bias")
    assert named["q.encoder.net.4.bias"].grad.abs().max() < 1e-12
    assert made.model.span.U is made.guide.span.U


def test_a_rotation_within_the_span_changes_nothing():
    made, x = method(), torch.randn(N, D)
    before = evaluated(made, x).loss
    R = torch.linalg.qr(torch.randn(M, M)).Q
    with torch.no_grad():
        made.guide.span.U.copy_(made.guide.span.U @ R)
    torch.testing.assert_close(evaluated(made, x).loss, before, rtol=1e-12, atol=1e-12)


def test_with_all_directions_there_is_no_residual_and_no_way_to_go():
    made, x = method(m=L), torch.randn(N, D)
    step = evaluated(made, x)
    assert step.extra["pca"] < 1e-24
    step.loss.backward()
    U = made.guide.span.U
    assert U.manifold.egrad2rgrad(U, U.grad).norm() < 1e-12


def test_decoder_noise_is_what_the_split_loss_sees():
    """For an affine decoder the expectation of the split term is noise^2 ||J U||_F^2 / 2."""
    U = manifold.stiefel(L, M)
    guide = Stiefel(pd.MLP(D, L, hidden=()), U, noise=0.2, deterministic=True)
    model = StRKM(pd.MLP(L, D, hidden=()), guide.span)
    from ppl_disent.methods.st_rkm import Split

    elbo = pd.TermELBO(kl_scale={"h": 0.0}, terms={"split": (1.0, Split(model, 0.2))}, num_particles=4000)
    with torch.no_grad():
        value = elbo.evaluate(model, guide, torch.randn(N, D)).extra["split"]
    expected = 0.5 * 0.2**2 * (model.decoder.net[0].weight @ U).square().sum()
    torch.testing.assert_close(value, expected, rtol=0.03, atol=0.0)


# ---------------------------------------------------------------- after training


@pytest.fixture(scope="module")
def fitted(tmp_path_factory):
    default = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        x, made = torch.randn(300, D) @ torch.randn(D, D), method("noisy")
        path = tmp_path_factory.mktemp("run") / "checkpoint.pt"
        run = made.fit(x, steps=60, batch_size=50, log_every=5, progress=False, device="cpu", checkpoint=path)
    torch.set_default_dtype(default)
    return made, run, x, path


def test_codes_have_the_covariance_of_the_prior(fitted):
    _, run, x, _ = fitted
    q = run.posterior
    h, p = q.encode(x)["h"].mean, q.prior(x)["h"]
    covariance = h.T @ h / len(h)
    torch.testing.assert_close(h.mean(0), torch.zeros(M, dtype=h.dtype), rtol=0, atol=1e-12)
    torch.testing.assert_close(covariance, torch.diag(p.variance[0] - 0.3**2), rtol=1e-9, atol=1e-9)
    assert p.variance[0].tolist() == sorted(p.variance[0].tolist(), reverse=True)
    error = (q.reconstruct(x) - x).square().mean().sqrt()
    torch.testing.assert_close(q.decode(x, h=h).stddev, error.expand_as(x))


def test_rotation_in_the_span_changes_no_reconstruction(fitted):
    made, run, x, _ = fitted
    with torch.no_grad():
        phi = made.guide.encoder(x)
        U = made.guide.span.U
        expected = made.model.decoder((phi - phi.mean(0)) @ U @ U.T)
    torch.testing.assert_close(run.posterior.reconstruct(x), expected, rtol=1e-10, atol=1e-10)
    assert not torch.allclose(made.guide.span.basis, U)


def test_principal_directions_are_those_of_a_singular_value_decomposition(fitted):
    made, _, x, _ = fitted
    made.guide.eval()
    with torch.no_grad():
        phi = made.guide.encoder(x)
    U = made.guide.span.U.detach()
    centred = phi - phi.mean(0)
    _, s, vh = torch.linalg.svd(centred, full_matrices=False)
    for size in (7, 1000):
        for data in ((x,), list(x.split(70)), (x, torch.ones(300, 1))):
            found = principal(made.guide.encoder, U, data, rotation="official", batch_size=size)
            torch.testing.assert_close(found.mean, phi.mean(0))
            torch.testing.assert_close(found.variance, s[:M].square() / 300)
            torch.testing.assert_close((found.basis * vh[:M].T).sum(0).abs(), torch.ones(M))
            angle = manifold.principal_angles(U, vh[:M].T).max().item()
            assert found.angle == pytest.approx(angle, rel=1e-6)
    within = principal(made.guide.encoder, U, (x,))
    _, s, vh = torch.linalg.svd(centred @ U, full_matrices=False)
    torch.testing.assert_close(within.variance, s.square() / 300)
    torch.testing.assert_close(within.basis.abs(), (U @ vh.T).abs())
    torch.testing.assert_close(within.basis.abs().amax(0), within.basis.amax(0), msg="a sign is chosen")


def test_official_rotation_leaves_the_span():
    x = torch.randn(200, D) @ torch.randn(D, D)
    made = method(rotation="official")
    run = made.fit(x, steps=5, batch_size=50, progress=False, device="cpu")
    span, U = made.guide.span.basis, made.guide.span.U.detach()
    assert manifold.principal_angles(span, U).max() > 1e-3
    h = run.posterior.encode(x)["h"].mean
    torch.testing.assert_close(h.T @ h / 200, torch.diag(h.square().mean(0)), rtol=1e-9, atol=1e-9)


def test_a_run_that_is_opened_again_is_settled(fitted):
    _, run, x, path = fitted
    again = pd.Run.load(path)
    torch.testing.assert_close(again.posterior.reconstruct(x), run.posterior.reconstruct(x), rtol=0, atol=0)
    assert again.model.span.U is again.guide.span.U or torch.equal(again.model.span.U, again.guide.span.U)
    assert hasattr(again.guide.span.U, "manifold")


def test_traversals_in_standard_deviations(fitted):
    _, run, x, _ = fitted
    q = run.posterior
    sd = q.prior(x[:2])["h"].stddev[0, 1]
    values = torch.tensor([-2.0, 1.0], dtype=x.dtype)
    torch.testing.assert_close(q.traverse("h", 1, values, x[:2], units="sd"), q.traverse("h", 1, values * sd, x[:2]))
    torch.testing.assert_close(q.traverse("h", 1, values, units="sd"), q.traverse("h", 1, values * sd))
    with pytest.raises(pd.ArgumentError, match="units: got 'nats'"):
        q.traverse("h", 1, values, x[:2], units="nats")


def test_history_says_where_the_subspace_is(fitted):
    made, run, _, _ = fitted
    assert run.history["orthonormality.U"].max() < 1e-12
    assert run.history["travel.U"].iloc[0] > 0
    spectrum = run.history[[f"spectrum.h.{k}" for k in range(M)]]
    assert (spectrum.diff(axis=1).iloc[:, 1:] <= 0).all(axis=None)
    log = Subspace(made.model, made.guide)
    R = torch.linalg.qr(torch.randn(M, M)).Q
    with torch.no_grad():
        made.guide.span.U.copy_(made.guide.span.U @ R)
    assert log.record()["travel.U"] < 1e-12, "the same span is no travel"
    with torch.no_grad():
        made.guide.span.U.copy_(made.guide.span.U @ R.T)


def test_evaluation_has_the_noise_for_every_variant():
    for variant in ("deterministic", "noisy", "split"):
        made = method(variant)
        run = made.fit(torch.randn(20, D), steps=2, progress=False, device="cpu")
        torch.testing.assert_close(run.posterior.encode(torch.randn(4, D))["h"].stddev, torch.full((4, M), 0.3))
    assert evaluated(method(), torch.randn(N, D))["h"].shape == (N, M)


# ---------------------------------------------------------------- networks


@pytest.mark.parametrize(
    ("shape", "encoder", "decoder"),
    [
        ((1, 28, 28), 2_078_962, 2_085_057),
        ((3, 28, 28), 2_081_010, 2_087_107),
        ((1, 64, 64), 4_864_242, 4_880_321),
        ((3, 64, 64), 4_866_290, 4_882_371),
    ],
)
def test_networks_have_the_official_sizes(shape, encoder, decoder):
    made = pd.st_rkm(shape)
    count = [sum(p.numel() for p in net.parameters()) for net in (made.guide.encoder, made.model.decoder)]
    assert count == [encoder, decoder]
    assert made.guide.span.U.shape == (50, 10)


@pytest.mark.parametrize("side", [4, 5, 8, 11, 13, 16, 18, 27, 28, 29, 30, 32, 35, 64, 65, 66, 67])
def test_images_of_other_sizes_go_through(side):
    encoder, decoder = (
        pd.RKMEncoder((3, side, side), 7, capacity=2, hidden=4),
        pd.RKMDecoder(7, (3, side, side), capacity=2, hidden=4),
    )
    assert decoder(encoder(torch.rand(2, 3, side, side))).shape == (2, 3, side, side)


# ---------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("shape", "bad", "message"),
    [
        ((D,), {"latent_dim": 51}, "latent_dim: got 51, expected an integer from 1 to feature_dim = 50"),
        ((D,), {"latent_dim": 0}, "latent_dim: got 0"),
        ((D,), {"variant": "loud"}, "variant: got 'loud'"),
        ((D,), {"rotation": "none"}, "rotation: got 'none'"),
        ((D,), {"noise": 0.0}, "noise: got 0.0"),
        ((1, 8, 8), {"network": "gan"}, "network: got 'gan'"),
        ((D,), {"manifold_optim": "sgd"}, "name: got 'sgd'"),
        ((D,), {"manifold_lr": -1.0}, "lr: got -1.0"),
        ((1, 3, 3), {"network": "rkm"}, r"shape: got \(1, 3, 3\)"),
        ((6,), {"network": "rkm"}, r"shape: got \(6,\)"),
        ((1, 28, 32), {"network": "rkm"}, r"shape: got \(1, 28, 32\)"),
    ],
)
def test_arguments_out_of_range(shape, bad, message):
    with pytest.raises(pd.ArgumentError, match=message):
        pd.st_rkm(shape, **bad)


def test_a_batch_of_one_cannot_be_centred():
    with pytest.raises(ValueError, match="got a batch of one, expected at least two"):
        method().fit(torch.randn(1, D), steps=1, progress=False, device="cpu")
    made = method()
    run = made.fit(torch.randn(20, D), steps=2, progress=False, device="cpu")
    assert run.posterior.encode(torch.randn(1, D))["h"].mean.shape == (1, M), "but it can be encoded"


def test_a_matrix_that_is_not_orthonormal_is_refused():
    with pytest.raises(pd.ArgumentError, match="matrix: got"):
        Stiefel(nn.Linear(D, L), manifold.as_stiefel(torch.randn(L, M)))


# ---------------------------------------------------------------- its parts in other methods


def quiet(pair, data, **options):
    with warnings.catch_warnings(action="ignore"):
        return pd.fit(*pair, data, steps=30, batch_size=20, progress=False, device="cpu", log_every=10, **options)


def test_a_controller_on_st_rkms_site():
    made, x = method("noisy"), torch.randn(60, D)
    control = pd.IncrementalPI("h", target=2.0, start=2.0, beta_init=1.0, kp=0.1, ki=0.05)
    run = made.fit(x, steps=30, batch_size=20, callbacks=[control], log_every=10, progress=False, device="cpu")
    assert run.history["beta.h"].iloc[-1] != 1.0
    torch.testing.assert_close(
        torch.tensor(run.history["kl_scale.h"].iloc[-1]), torch.tensor(run.history["beta.h"].iloc[-1])
    )
    assert run.history["orthonormality.U"].iloc[-1] < 1e-12
    assert {"travel.U", "extra.pca", "set_point.h"} <= set(run.history)


def test_csvae_with_a_stiefel_map():
    made = pd.csvae((D,), labels=1, latent_dim=2, likelihood="gaussian", network="mlp")
    span = Span(manifold.stiefel(8, 4))
    made.model.decoder = nn.Sequential(span, pd.MLP(8, D))
    before = span.U.detach().clone()
    x, y = torch.randn(60, D), (torch.arange(60) % 2)[:, None].double()
    made.manifold_optim, made.recipe = manifold.optimizer("cayley_adam", 1e-2), None
    with warnings.catch_warnings(action="ignore"):
        run = made.fit((x, y), steps=30, batch_size=20, progress=False, device="cpu")
    assert not torch.allclose(span.U, before)
    assert manifold.orthonormality_error(span.U) < 1e-12
    assert {"adversary.z", "kl.w_0"} <= set(run.history)


def test_st_rkms_loss_with_an_adversary_on_h():
    made = method("noisy")
    spy = pd.Adversary(pd.MLP(M, 1), 1, sites=("h",), kind="reversal")
    made.elbo = pd.TermELBO(kl_scale={"h": 0.0}, terms={"pca": (1.0, pca_residual), "spy": (1.0, spy)})
    x, y = torch.randn(60, D), (torch.arange(60) % 2)[:, None].double()
    run = made.fit((x, y), steps=10, batch_size=20, progress=False, device="cpu")
    assert {"adversary.h", "extra.spy", "travel.U"} <= set(run.history)


# ---------------------------------------------------------------- orthogonality of directions


def test_orthogonality_of_a_linear_decoder():
    """J is the matrix: of orthogonal columns the share is 0, of two at 60 degrees 2 (1/2)^2 / (2 + 2 (1/2)^2) = 0.2."""
    codes = torch.randn(5, 2)
    apart = torch.tensor([[3.0, 0.0], [0.0, 1.0], [0.0, 0.0]])
    near = torch.tensor([[1.0, 0.5], [0.0, math.sqrt(0.75)], [0.0, 0.0]])
    score = pd.decoder_orthogonality(lambda h: h @ apart.T, codes)
    assert (float(score), score.detail["cosine"]) == (0.0, 0.0)
    assert score.detail["gain"].tolist() == [9.0, 1.0]
    score = pd.decoder_orthogonality(lambda h: h @ near.T, codes)
    assert float(score) == pytest.approx(0.2)
    assert score.detail["cosine"] == pytest.approx(0.5)
    nothing = pd.decoder_orthogonality(lambda h: h @ torch.zeros(2, 3), codes)
    assert (float(nothing), nothing.detail["cosine"]) == (0.0, 0.0)


def test_orthogonality_of_a_curved_decoder_is_that_of_its_jacobian():
    decode, codes = pd.MLP(3, (1, 4, 4)), torch.randn(6, 3)
    shares = []
    for h in codes:
        J = torch.autograd.functional.jacobian(lambda h: decode(h[None]).flatten(), h)
        G = J.T @ J
        shares.append(1 - G.diagonal().square().sum() / G.square().sum())
    score = pd.decoder_orthogonality(decode, codes, rotations=3)
    assert float(score) == pytest.approx(torch.stack(shares).mean().item())
    R = torch.linalg.qr(torch.randn(3, 3, generator=torch.Generator().manual_seed(0))).Q
    turned = pd.decoder_orthogonality(lambda h: decode(h @ R.T), codes @ R)
    assert score.detail["rotated"][0] == pytest.approx(float(turned))
    assert len(score.detail["rotated"]) == 3


def test_orthogonality_refuses():
    with pytest.raises(pd.ArgumentError, match="codes: got"):
        pd.decoder_orthogonality(lambda h: h, torch.ones(3))
    with pytest.raises(pd.ArgumentError, match="rotations: got -1"):
        pd.decoder_orthogonality(lambda h: h, torch.ones(3, 2), rotations=-1)


def test_curves_show_the_terms_and_no_kl(fitted):
    """The objective has no KL; PCA's loss and the travel of U have panels of their own."""
    figure = plots.curves(fitted[1].history)
    labels = [panel.get_ylabel() for panel in figure.axes]
    assert labels == ["nats per datum", "terms, unweighted", "travel of U"]
    assert figure.axes[1].lines[0].get_ydata().tolist() == fitted[1].history["extra.pca"].tolist()
