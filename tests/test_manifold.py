# Copyright ppl-disent contributors.
# SPDX-License-Identifier: Apache-2.0
"""Stiefel parameters and Cayley ADAM, against the authors' dense algorithm written plainly, and against theory."""

import copy
import subprocess
import sys

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import scipy.linalg
import torch
from torch import nn

import ppl_disent as pd
from ppl_disent import manifold

NAMES = ("cayley_adam", "cayley", "riemannian_adam")


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def start(rows, columns, seed=0, dtype=torch.float64):
    return manifold.as_stiefel(manifold.stiefel(rows, columns, generator=seeded(seed)).detach().to(dtype))


class Dense:
    """Cayley ADAM in numpy, line by line as in the authors' code, with l x l matrices; exact: by a dense solve."""

    def __init__(self, x, lr, *, iterations=5, q=0.5, exact=False):
        self.x, self.lr, self.iterations, self.q, self.exact = x.copy(), lr, iterations, q, exact
        self.m, self.v, self.t = np.zeros_like(x), 0.0, 0
        self.capped = 0

    def step(self, g):
        x, self.t = self.x, self.t + 1
        self.m = 0.9 * self.m + 0.1 * g
        self.v = 0.99 * self.v + 0.01 * (g**2).sum()
        mh, vh = self.m / (1 - 0.9**self.t), self.v / (1 - 0.99**self.t)
        w = mh @ x.T - 0.5 * x @ (x.T @ mh @ x.T)
        w = (w - w.T) / np.sqrt(vh + 1e-8)
        cap = 2 * self.q / (np.abs(w).sum(0).max() + 1e-8)
        self.capped += cap < self.lr
        alpha, one = min(self.lr, cap), np.eye(len(x))
        if self.exact:
            self.x = np.linalg.solve(one + alpha / 2 * w, (one - alpha / 2 * w) @ x)
        else:
            y = x - alpha * self.m
            for _ in range(self.iterations):
                y = x - alpha * w @ (x + y) / 2
            self.x = y
        self.m = np.sqrt(vh + 1e-8) * (1 - 0.9**self.t) * w @ x
        return w


def gradients(rows, columns, steps, seed=1):
    """Noisy, of growing size, with a constant part that gives the momentum a direction."""
    rng = np.random.default_rng(seed)
    drift = rng.standard_normal((rows, columns))
    return [(1 + i / 10) * (drift + rng.standard_normal((rows, columns))) for i in range(steps)]


def step(optim, u, g):
    u.grad = torch.as_tensor(g, dtype=u.dtype)
    optim.step()


# ---------------------------------------------------------------- the update


@pytest.mark.parametrize("exact", [False, True])
@pytest.mark.parametrize("shape", [(50, 10), (7, 2), (5, 1), (6, 6), (6, 5)])
@pytest.mark.parametrize("lr", [1e-4, 0.01, 0.3, 5.0])
def test_the_update_is_the_dense_algorithms(shape, lr, exact):
    u = start(*shape)
    dense, optim = (
        Dense(u.detach().numpy(), lr, exact=exact),
        manifold.CayleyAdam([u], lr, exact=exact, stabilize=exact),
    )
    for g in gradients(*shape, 50):
        dense.step(g)
        step(optim, u, g)
        np.testing.assert_allclose(u.detach().numpy(), dense.x, rtol=0, atol=1e-12 if exact else 1e-10)
        np.testing.assert_allclose(optim.state[u]["exp_avg"].numpy(), dense.m, rtol=1e-9, atol=1e-9)
    assert optim.state[u]["exp_avg_sq"].item() == pytest.approx(dense.v, rel=1e-12)
    assert (dense.capped > 0) == (lr == 5.0)


@pytest.mark.parametrize("lr", [1e-4, 0.01])
def test_stabilizing_does_not_spoil_the_recorded_update(lr):
    u = start(50, 10)
    dense, optim = Dense(u.detach().numpy(), lr), manifold.CayleyAdam([u], lr)
    for g in gradients(50, 10, 50):
        dense.step(g)
        step(optim, u, g)
    np.testing.assert_allclose(u.detach().numpy(), dense.x, rtol=0, atol=1e-10)


@pytest.mark.parametrize(("iterations", "q"), [(1, 0.5), (2, 0.5), (5, 0.1)])
def test_other_iterations_and_caps(iterations, q):
    u = start(9, 3)
    dense = Dense(u.detach().numpy(), 1.0, iterations=iterations, q=q)
    optim = manifold.CayleyAdam([u], 1.0, iterations=iterations, q=q, stabilize=False)
    for g in gradients(9, 3, 5):
        dense.step(g)
        step(optim, u, g)
    assert dense.capped
    np.testing.assert_allclose(u.detach().numpy(), dense.x, rtol=0, atol=1e-11)


def test_many_iterations_are_exact():
    one, other = start(12, 4), start(12, 4)
    iterated = manifold.CayleyAdam([one], 0.5, iterations=80, stabilize=False)
    exact = manifold.CayleyAdam([other], 0.5, exact=True, stabilize=False)
    for g in gradients(12, 4, 20):
        step(iterated, one, g)
        step(exact, other, g)
    torch.testing.assert_close(one.detach(), other.detach(), rtol=0, atol=1e-12)


@pytest.mark.parametrize("shape", [(50, 10), (6, 6), (5, 1)])
def test_the_momentum_becomes_its_projection_onto_the_tangent_space(shape):
    """W X = M - X sym(X'M), the Euclidean projection: after one step, with M = 0.1 G."""
    u, g = start(*shape), torch.randn(*shape)
    x, momentum = u.detach().clone(), 0.1 * g
    optim = manifold.CayleyAdam([u], 1e-2)
    step(optim, u, g)
    inner = x.T @ momentum
    torch.testing.assert_close(optim.state[u]["exp_avg"], momentum - x @ (inner + inner.T) / 2, rtol=0, atol=1e-13)


def test_the_cap_is_left_out_only_where_it_cannot_bind():
    """The worst gradients: all tangent, of sizes that make |m| / sqrt(v) as large as the betas allow."""
    growth, x = 0.9 / 0.99, np.eye(2)[:, :1]
    lowest = 1 / (1.01 * 0.1 / np.sqrt((1 - 0.81 / 0.99) * 0.01) * np.sqrt(2))
    for lr, can in ((lowest * 0.999, False), (lowest * 1.001, True)):
        assert manifold._cap_can_bind(lr, 0.5, 0.9, 0.99, 2) == can
    # At lr 0 the point stays, so every gradient is along one tangent; |w| is what bounds the cap.
    dense = Dense(x, 0.0)
    for i in range(60):
        dense.t, w = 10_000, dense.step(growth ** (60 - i) * np.array([[0.0], [1.0]]))
    assert 2.3 < np.abs(w).sum(0).max() <= 0.1 / np.sqrt((1 - 0.81 / 0.99) * 0.01)
    rng, dense = np.random.default_rng(0), Dense(start(30, 4).detach().numpy(), 1e-3)
    largest = max(np.abs(dense.step(rng.standard_normal((30, 4)) * rng.exponential())).sum(0).max() for _ in range(300))
    assert largest <= 2.3453 * np.sqrt(30)


def test_without_a_gradient_a_parameter_stays_and_a_closure_is_called():
    u, other = start(5, 2), start(5, 2, seed=1)
    before = other.detach().clone()
    optim = manifold.CayleyAdam([u, other], 0.1)

    def closure():
        optim.zero_grad()
        loss = u.sum()
        loss.backward()
        return loss

    first = optim.step(closure)
    assert optim.step(closure) < first
    assert torch.equal(other, before)
    assert other not in optim.state


def test_a_step_draws_no_random_numbers():
    before, u = torch.get_rng_state(), start(5, 2)
    step(manifold.CayleyAdam([u], 0.1), u, np.ones((5, 2)))
    assert torch.equal(torch.get_rng_state(), before)


# ---------------------------------------------------------------- staying on the manifold


@pytest.mark.parametrize("name", NAMES[:2])
@pytest.mark.parametrize("lr", [1e-4, 0.1])
@pytest.mark.parametrize(("dtype", "bound"), [(torch.float32, 1e-6), (torch.float64, 1e-12)])
def test_orthonormal_after_ten_thousand_noisy_steps(name, lr, dtype, bound):
    u, generator = start(50, 10, dtype=dtype), seeded()
    before = u.detach().clone()
    optim = manifold.optimizer(name, lr)([u])
    for i in range(10_000):
        u.grad = torch.randn(50, 10, generator=generator, dtype=dtype)
        optim.step()
        if i % 500 == 499:
            assert manifold.orthonormality_error(u.double()) <= bound
    assert (u - before).norm() > (5e-3 if lr == 1e-4 else 1.0)
    assert u.dtype == optim.state[u]["exp_avg"].dtype == optim.state[u]["exp_avg_sq"].dtype == dtype


def test_without_stabilizing_it_drifts():
    """Else the test above could not fail."""
    u, generator = start(50, 10, dtype=torch.float32), seeded()
    optim = manifold.CayleyAdam([u], 1e-4, stabilize=False)
    for _ in range(3000):
        u.grad = torch.randn(50, 10, generator=generator, dtype=torch.float32)
        optim.step()
    assert manifold.orthonormality_error(u.double()) > 2e-6


def test_stabilizing_finds_the_nearest_orthonormal_matrix():
    """The polar factor, but for the binomial series' next term, 231/1024 d^6 with d = Y'Y - I."""
    near = start(12, 5).detach() + 3e-4 * torch.randn(12, 5)
    np.testing.assert_allclose(manifold._nearest(near), scipy.linalg.polar(near.numpy())[0], rtol=0, atol=1e-14)
    d = 0.02
    longer = manifold._nearest((1 + d) ** 0.5 * torch.ones(1, 1))
    assert longer.item() - 1 == pytest.approx(-231 / 1024 * d**6, rel=0.05)


# ---------------------------------------------------------------- what it finds


def covariance(size, seed=3):
    q = torch.linalg.qr(torch.randn(size, size, generator=seeded(seed))).Q
    return q @ torch.diag(4 * 0.95 ** torch.arange(size)) @ q.T


def residual(u, c):
    """E ||(I - UU') phi||^2 for phi of covariance c."""
    return c.trace() - (u.T @ c @ u).trace()


@pytest.mark.parametrize("name", NAMES)
def test_principal_components(name):
    c = covariance(50)
    best = torch.linalg.eigvalsh(c)[:40].sum()
    u = start(50, 10)
    optim = manifold.optimizer(name, 0.1)([u])
    assert residual(u, c) > 1.2 * best
    for _ in range(3000):
        optim.zero_grad()
        residual(u, c).backward()
        optim.step()
    assert best * (1 - 1e-12) <= residual(u, c) <= best * (1 + 1e-3)
    assert manifold.orthonormality_error(u) < 1e-10
    top = torch.linalg.eigh(c).eigenvectors[:, -10:]
    assert manifold.principal_angles(u, top)[-1] < 0.1


@pytest.mark.parametrize("name", NAMES)
def test_a_step_is_at_most_about_the_learning_rate_long(name):
    c, u = covariance(50), start(50, 10)
    optim = manifold.optimizer(name, 1e-4)([u])
    moves = []
    for _ in range(300):
        optim.zero_grad()
        residual(u, c).backward()
        before = u.detach().clone()
        optim.step()
        moves.append((u - before).norm().item())
    assert min(moves) > 1e-5
    assert max(moves) < 1.05e-4


@pytest.mark.parametrize("name", NAMES[:2])
def test_a_square_u_leaves_no_residual_and_stays(name):
    """With m = l, UU' = I: the residual is zero, its projected gradient too, wherever U is."""
    u, phi = start(6, 6), torch.randn(40, 6)
    before = u.detach().clone()
    optim = manifold.optimizer(name, 0.1)([u])
    for _ in range(50):
        optim.zero_grad()
        loss = (phi.square().sum() - (phi @ u).square().sum()) / 40
        loss.backward()
        optim.step()
        assert abs(loss.item()) < 1e-13
    assert u.grad.norm() > 1, "the gradient itself is not zero: all of it is normal to the manifold"
    torch.testing.assert_close(u.detach(), before, rtol=0, atol=1e-12)


def test_a_square_u_rotates_towards_a_target_of_its_own_orientation():
    """Steps are rotations: the determinant keeps its sign, and the best matrix of that sign is reached (Procrustes)."""
    u = start(4, 4)
    target = torch.randn(4, 4)
    left, _, right = torch.linalg.svd(target)
    same = torch.sign(torch.det(u) * torch.det(left @ right)).item()
    best = left @ torch.diag(torch.tensor([1.0, 1.0, 1.0, same])) @ right
    optim = manifold.CayleyAdam([u], 0.02)
    for _ in range(1500):
        optim.zero_grad()
        (-(target * u).sum()).backward()
        optim.step()
    torch.testing.assert_close(u.detach(), best, rtol=0, atol=1e-2)


# ---------------------------------------------------------------- state


@pytest.mark.parametrize("exact", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_state_comes_back_bit_for_bit(dtype, exact, tmp_path):
    given = gradients(8, 3, 12)
    whole, first, second = (start(8, 3, dtype=dtype) for _ in range(3))
    optim = manifold.CayleyAdam([whole], 0.05, exact=exact)
    for g in given:
        step(optim, whole, g)
    optim = manifold.CayleyAdam([first], 0.05, exact=exact)
    for g in given[:7]:
        step(optim, first, g)
    torch.save({"u": nn.ParameterDict({"u": first}).state_dict(), "optim": optim.state_dict()}, tmp_path / "state.pt")
    state = torch.load(tmp_path / "state.pt", weights_only=True)
    nn.ParameterDict({"u": second}).load_state_dict(state["u"])
    optim = manifold.CayleyAdam([second], 7.0)
    optim.load_state_dict(state["optim"])
    assert {k: (v.dtype, v.shape) for k, v in optim.state[second].items()} == {
        "step": (dtype, ()),
        "exp_avg": (dtype, (8, 3)),
        "exp_avg_sq": (dtype, ()),
    }
    for g in given[7:]:
        step(optim, second, g)
    assert torch.equal(whole, second)


class Decode(nn.Module):
    """h ~ N(0, I), x | h ~ N(psi(U h), I)."""

    def __init__(self, u):
        super().__init__()
        self.u, self.psi = u, nn.Linear(4, 6)

    def forward(self, x):
        with pyro.plate("data", len(x)):
            h = pyro.sample("h", dist.Normal(x.new_zeros(2), 1.0).to_event(1))
            pyro.sample("x", dist.Normal(self.psi(h @ self.u.T), 1.0).to_event(1), obs=x)


class Encode(nn.Module):
    """h = U' phi(x) + noise, with the U of the model."""

    def __init__(self, u):
        super().__init__()
        self.u, self.phi = u, nn.Linear(6, 4)

    def forward(self, x):
        with pyro.plate("data", len(x)):
            pyro.sample("h", dist.Normal(self.phi(x) @ self.u, 0.3).to_event(1))


def pair(dtype=torch.float64):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        u = start(4, 2)
        return Decode(u).to(dtype), Encode(u).to(dtype)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", NAMES)
def test_fit_resumes_bit_for_bit(name, dtype, tmp_path):
    x, path = torch.randn(12, 6, generator=seeded()).to(dtype), tmp_path / "run.pt"
    options = {"steps": 10, "batch_size": 5, "progress": False, "device": "cpu"}
    whole, first, second = pair(dtype), pair(dtype), pair(dtype)
    before = whole[0].u.detach().clone()
    for programs, more in (
        (whole, {}),
        (first, {"steps": 4, "checkpoint": path}),
        (second, {"checkpoint": path, "resume": True}),
    ):
        pd.fit(*programs, pd.TermELBO(), x, manifold_optim=manifold.optimizer(name, 1e-2), **(options | more))
    assert all(torch.equal(a, b) for a, b in zip(whole[0].parameters(), second[0].parameters(), strict=True))
    assert second[0].u is second[1].u
    assert second[0].u.dtype == dtype
    assert (whole[0].u - before).norm() > 1e-2
    assert manifold.orthonormality_error(whole[0].u) < (1e-6 if dtype == torch.float32 else 1e-13)


def test_a_run_is_not_resumed_with_another_manifold_optimizer(tmp_path):
    x, options = torch.randn(12, 6), {"steps": 2, "progress": False, "device": "cpu", "checkpoint": tmp_path / "run.pt"}
    pd.fit(*pair(), pd.TermELBO(), x, manifold_optim=manifold.optimizer("cayley", 1e-2), **options)
    for name, lr, message in (
        ("cayley", 1e-3, "manifold_optim.lr was 0.01 and is now 0.001"),
        ("cayley_adam", 1e-2, "manifold_optim.exact was True and is now False"),
        ("riemannian_adam", 1e-2, "manifold_optim was 'CayleyAdam' and is now 'RiemannianAdam'"),
    ):
        other = manifold.optimizer(name, lr)
        with pytest.raises(pd.CheckpointError, match=message):
            pd.fit(*pair(), pd.TermELBO(), x, manifold_optim=other, resume=True, **options)


def test_deepcopy_keeps_the_manifold_and_a_shared_u_shared():
    model, guide = copy.deepcopy(pair())
    assert model.u is guide.u
    for u in (model.u, copy.deepcopy(start(5, 2)), model.float().u):
        assert type(u) is manifold.geoopt.ManifoldParameter
        assert isinstance(u.manifold, manifold.geoopt.EuclideanStiefel)
        assert u.is_contiguous()
        assert u.requires_grad
        manifold.CayleyAdam([u])


# ---------------------------------------------------------------- making and measuring


@pytest.mark.parametrize("shape", [(50, 10), (6, 6), (3, 1), (1, 1)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_stiefel_is_orthonormal_contiguous_and_seeded(shape, dtype):
    torch.set_default_dtype(dtype)
    u = manifold.stiefel(*shape, generator=seeded())
    assert u.dtype == dtype
    assert u.shape == shape
    assert u.is_contiguous()
    assert u.requires_grad
    assert isinstance(u.manifold, manifold.geoopt.EuclideanStiefel)
    gram = u.detach().numpy().T.astype(float) @ u.detach().numpy().astype(float)
    assert np.abs(gram - np.eye(shape[1])).max() <= 4 * torch.finfo(dtype).eps
    assert torch.equal(u, manifold.stiefel(*shape, generator=seeded()))
    assert shape == (1, 1) or not torch.equal(u, manifold.stiefel(*shape, generator=seeded(1)))


def test_stiefel_is_uniform():
    """Moments of the uniform law: E u = 0, E u_ij^2 = 1/l, E (tr U)^2 = 1 for m = l; QR without signs fails these."""
    draws = torch.stack([manifold.stiefel(3, 3, generator=seeded(i)).detach() for i in range(2000)])
    assert draws.mean(0).abs().max() < 4 * (1 / 3 / 2000) ** 0.5
    assert (draws.square().mean(0) - 1 / 3).abs().max() < 4 * (4 / 45 / 2000) ** 0.5
    assert draws.diagonal(dim1=1, dim2=2).sum(1).square().mean() == pytest.approx(1, abs=0.15)


def test_as_stiefel_starts_at_a_copy():
    matrix = torch.eye(5)[:, :2].contiguous()
    u = manifold.as_stiefel(matrix)
    step(manifold.CayleyAdam([u], 0.1), u, np.ones((5, 2)))
    assert torch.equal(matrix, torch.eye(5)[:, :2])
    assert not torch.equal(u, matrix)


def test_orthonormality_error():
    assert manifold.orthonormality_error(2 * torch.eye(4)[:, :3]).item() == pytest.approx(3 * 3**0.5)
    error = manifold.orthonormality_error(start(5, 2))
    assert error.shape == ()
    assert not error.requires_grad


@pytest.mark.parametrize("shapes", [((20, 4), (20, 4)), ((20, 3), (20, 5)), ((20, 5), (20, 3)), ((6, 6), (6, 2))])
def test_principal_angles_are_scipys(shapes):
    a, b = (torch.randn(*shape, generator=seeded(i)) for i, shape in enumerate(shapes))
    expected = scipy.linalg.subspace_angles(a.numpy(), b.numpy())[::-1].copy()
    angles = manifold.principal_angles(a, b)
    assert angles.shape == (min(a.shape[1], b.shape[1]),)
    torch.testing.assert_close(angles, torch.as_tensor(expected), rtol=1e-12, atol=1e-14)


def test_small_and_right_angles_keep_their_digits():
    given = torch.tensor([0.0, 1e-12, 1e-9, 1e-5, 0.5, np.pi / 4, 1.5, np.pi / 2])
    q = start(20, 16).detach()
    a, b = q[:, :8], q[:, :8] * given.cos() + q[:, 8:] * given.sin()
    mix = torch.randn(8, 8)
    angles = manifold.principal_angles(a, b @ start(8, 8, seed=2).detach())
    torch.testing.assert_close(angles, given, rtol=0, atol=5e-15)
    torch.testing.assert_close(manifold.principal_angles(b @ mix, a), given, rtol=0, atol=1e-13)
    assert not manifold.principal_angles(start(4, 2), start(4, 2)).requires_grad


# ---------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("rows", "columns", "message"),
    [(3, 4, "m: got 4, expected at most l = 3"), (0, 1, "^l: got 0"), (3, 0, "^m: got 0"), (3, 1.5, "^m: got 1.5")],
)
def test_shapes_that_no_stiefel_matrix_has(rows, columns, message):
    with pytest.raises(pd.ArgumentError, match=message):
        manifold.stiefel(rows, columns)


@pytest.mark.parametrize(
    ("matrix", "message"),
    [
        (torch.ones(3, 2), r"\|\|U'U - I\|\| = .*torch.linalg.qr"),
        (torch.eye(3).double()[:, :2] * (1 + 1e-9), r"\|\|U'U - I\|\|"),
        (torch.full((3, 2), float("nan")), r"\|\|U'U - I\|\| = nan"),
        (torch.eye(2, 3), r"got 'shape \(2, 3\)', expected \(l, m\) with l >= m"),
        (torch.eye(3)[0], r"got 'shape \(3,\)'"),
        (torch.eye(3)[None], r"got 'shape \(1, 3, 3\)'"),
        (torch.eye(3)[:, :2], "got 'strides .*contiguous"),
        (torch.eye(3).half(), "got torch.float16"),
        ([[1.0]], "a tensor"),
    ],
)
def test_matrices_that_are_refused(matrix, message):
    with pytest.raises(pd.ArgumentError, match=f"^matrix: .*{message}"):
        manifold.as_stiefel(matrix)


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({"lr": 0.0}, "lr"),
        ({"lr": float("nan")}, "lr"),
        ({"lr": torch.tensor(0.1)}, "lr"),
        ({"eps": 0.0}, "eps"),
        ({"q": 1.0}, "q"),
        ({"iterations": 0}, "iterations"),
        ({"iterations": True}, "iterations"),
        ({"betas": (0.9, 1.0)}, "betas"),
        ({"betas": (0.9,)}, "betas"),
    ],
)
def test_options_that_are_refused(options, name):
    with pytest.raises(pd.ArgumentError, match=f"^{name}: got"):
        manifold.CayleyAdam([start(4, 2)], **options)


def test_parameters_that_are_refused():
    geoopt = manifold.geoopt
    off = geoopt.ManifoldParameter(torch.randn(4, 2), manifold=geoopt.EuclideanStiefel())
    batch = geoopt.ManifoldParameter(torch.eye(3)[None], manifold=geoopt.EuclideanStiefel())
    sphere = geoopt.ManifoldParameter(torch.eye(3), manifold=geoopt.Sphere())
    for bad, message in (
        (nn.Parameter(torch.eye(3)), r"stiefel\(l, m\)"),
        (sphere, r"stiefel\(l, m\)"),
        (off, r"\|\|U'U - I\|\|"),
        (batch, "shape"),
    ):
        with pytest.raises(pd.ArgumentError, match=f"^params: got .*{message}"):
            manifold.CayleyAdam([start(4, 2), bad])
    optim = manifold.CayleyAdam([start(4, 2)])
    with pytest.raises(pd.ArgumentError, match="params"):
        optim.add_param_group({"params": [nn.Parameter(torch.eye(3))]})
    assert len(optim.param_groups) == 1


def test_optimizer_by_name():
    made = [manifold.optimizer(name, 0.3)([start(4, 2)]) for name in NAMES]
    assert [type(o) for o in made] == [manifold.CayleyAdam] * 2 + [manifold.geoopt.optim.RiemannianAdam]
    assert [o.param_groups[0].get("exact") for o in made] == [False, True, None]
    assert made[2].param_groups[0]["stabilize"] == 100
    assert all(o.param_groups[0]["lr"] == 0.3 for o in made)
    with pytest.raises(pd.ArgumentError, match=r"^name: got 'adam', expected one of .*'cayley_adam'"):
        manifold.optimizer("adam", 0.1)
    with pytest.raises(pd.ArgumentError, match=r"^lr: got -1"):
        manifold.optimizer("cayley", -1)


@pytest.mark.parametrize(
    ("a", "b", "message"),
    [
        (torch.eye(3), torch.eye(4), "^b: got .*rows of a"),
        (torch.eye(3), torch.eye(3).double(), "^b: got .*dtype"),
        (torch.ones(3), torch.eye(3), "^a: got"),
        (torch.ones(3, 2), torch.eye(3), "^a: got 'dependent columns'"),
        (torch.eye(2), torch.eye(2, 3), "^b: got 'dependent columns'"),
    ],
)
def test_spaces_that_are_refused(a, b, message):
    with pytest.raises(pd.ArgumentError, match=message):
        manifold.principal_angles(a, b)


def test_geoopt_is_imported_at_first_use_and_without_its_warning():
    code = """
import sys, ppl_disent
assert "geoopt" not in sys.modules and not hasattr(ppl_disent, "manifolds")
ppl_disent.manifold.stiefel(3, 2)
"""
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.cuda
@pytest.mark.parametrize("exact", [False, True])
@pytest.mark.parametrize("lr", [1e-4, 1.0])
def test_on_cuda_as_on_the_cpu_without_host_synchronisation(lr, exact):
    here = start(50, 10)
    there = manifold.as_stiefel(here.detach().cuda())
    optims = [manifold.CayleyAdam([u], lr, exact=exact) for u in (here, there)]
    torch.cuda.synchronize()
    for i, g in enumerate(gradients(50, 10, 5)):
        step(optims[0], here, g)
        there.grad = torch.as_tensor(g).cuda()
        torch.cuda.set_sync_debug_mode("error" if i else "default")
        try:
            optims[1].step()
        finally:
            torch.cuda.set_sync_debug_mode("default")
    torch.testing.assert_close(there.detach().cpu(), here.detach(), rtol=0, atol=1e-10)
    state = optims[1].state_dict()
    state["state"] = {0: {k: v.cpu() for k, v in state["state"][0].items()}}
    optims[1].load_state_dict(state)
    assert all(v.is_cuda for v in optims[1].state[there].values())
