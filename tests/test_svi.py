# Copyright ppl-disent contributors.
# SPDX-License-Identifier: Apache-2.0
"""A manifold's parameter beside Euclidean ones, and what Pyro's param store would do silently."""

import copy
import warnings

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.optim import PyroOptim
from torch import nn

import ppl_disent as pd

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # geoopt 0.5.1 compiles with torch.jit at import
    import geoopt

X = torch.randn(12, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def on_stiefel(rows, columns, seed=0):
    generator = torch.Generator().manual_seed(seed)
    q = torch.linalg.qr(torch.randn(rows, columns, generator=generator)).Q.contiguous()
    return geoopt.ManifoldParameter(q, manifold=geoopt.EuclideanStiefel())


class Decode(nn.Module):
    """h ~ N(0, I), x | h ~ N(psi(U h), I)."""

    def __init__(self, U):
        super().__init__()
        self.U, self.psi = U, nn.Linear(4, 6)

    def forward(self, x):
        with pyro.plate("data", len(x)):
            h = pyro.sample("h", dist.Normal(x.new_zeros(2), 1.0).to_event(1))
            pyro.sample("x", dist.Normal(self.psi(h @ self.U.T), 1.0).to_event(1), obs=x)


class Encode(nn.Module):
    """h = U' phi(x) + noise, with the U of the model."""

    def __init__(self, U):
        super().__init__()
        self.U, self.phi = U, nn.Linear(6, 4)

    def forward(self, x):
        with pyro.plate("data", len(x)):
            pyro.sample("h", dist.Normal(self.phi(x) @ self.U, 0.3).to_event(1))


def pair():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        U = on_stiefel(4, 2)
        return Decode(U), Encode(U)


def riemannian(parameters):
    return geoopt.optim.RiemannianAdam(parameters, lr=1e-2)


def error_of(U):
    return (U.detach().T @ U.detach() - torch.eye(2)).abs().max().item()


def test_two_optimizers_step_on_one_backward_pass():
    model, guide = pair()
    svi = pd.SVI(model, guide, pd.adam(1e-2), pd.TermELBO(), manifold_optim=riemannian)
    assert len(svi.parameters) == 5, "the shared U counts once"
    before = [p.detach().clone() for p in svi.parameters]
    for _ in range(20):
        svi.step(X)
    assert all(not torch.equal(a, b) for a, b in zip(before, svi.parameters, strict=True))
    assert error_of(model.U) < 1e-12
    assert guide.U is model.U


def test_stock_svi_with_a_dispatching_optim_gives_the_same_bits():
    ours, stock = pair(), pair()
    svi = pd.SVI(*ours, pyro.optim.Adam({"lr": 1e-2}), pd.TermELBO(), manifold_optim=riemannian)
    torch.manual_seed(0)
    for _ in range(30):
        svi.step(X)

    def dispatch(parameters, **options):
        manifold = isinstance(parameters[0], geoopt.ManifoldParameter)
        return (riemannian if manifold else torch.optim.Adam)(parameters, **({} if manifold else options))

    svi = pyro.infer.SVI(*pd.pyro_pair(*stock), PyroOptim(dispatch, {"lr": 1e-2}), pd.TermELBO())
    torch.manual_seed(0)
    for _ in range(30):
        svi.step(X)
    for a, b in zip(ours, stock, strict=True):
        assert all(torch.equal(p, q) for p, q in zip(a.parameters(), b.parameters(), strict=True))


def test_deepcopy_keeps_u_shared():
    model, guide = copy.deepcopy(pair())
    assert model.U is guide.U


def test_a_manifold_pair_fits_resumes_and_reads_back_without_code(tmp_path):
    options = {"steps": 10, "batch_size": 5, "progress": False, "device": "cpu", "manifold_optim": riemannian}
    whole, first, second = pair(), pair(), pair()
    pd.fit(*whole, pd.TermELBO(), X, **options)
    path = tmp_path / "run.pt"
    pd.fit(*first, pd.TermELBO(), X, checkpoint=path, **(options | {"steps": 4}))
    pd.fit(*second, pd.TermELBO(), X, checkpoint=path, resume=True, **options)
    assert torch.equal(whole[0].U, second[0].U)
    assert second[0].U is second[1].U
    assert torch.load(path, weights_only=True)["svi"]["model"]["U"].shape == (4, 2)


def test_manifold_parameters_and_optimizer_must_go_together():
    with pytest.raises(pd.ArgumentError, match=r"got None, expected to fit .* parameters on a manifold"):
        pd.SVI(*pair(), pd.adam(1e-2), pd.TermELBO())
    method = pd.vae((6,), latent_dim=2, likelihood="gaussian")
    with pytest.raises(pd.ArgumentError, match="no parameter on a manifold"):
        pd.SVI(method.model, method.guide, pd.adam(1e-2), pd.TermELBO(), manifold_optim=riemannian)


def test_pyro_pair_refuses_what_the_store_would_not_train():
    model, guide = pair()
    model.psi.weight = nn.Parameter(torch.randn(4, 6).T)
    with pytest.raises(pd.ArgumentError, match=r"model.psi.weight.*contiguous"):
        pd.pyro_pair(model, guide)
    first, second = pair(), pair()
    svi = pyro.infer.SVI(*pd.pyro_pair(*first), pyro.optim.Adam({"lr": 1e-2}), pd.TermELBO())
    svi.step(X)
    pd.pyro_pair(*first)
    with pytest.raises(pd.ArgumentError, match=r"pyro\.clear_param_store"):
        pd.pyro_pair(*second)


def test_our_svi_trains_non_contiguous_parameters():
    model, guide = pair()
    model.psi.weight = nn.Parameter(torch.randn(4, 6).T)
    before = model.psi.weight.detach().clone()
    svi = pd.SVI(model, guide, pd.adam(1e-2), pd.TermELBO(), manifold_optim=riemannian)
    svi.step(X)
    assert not torch.equal(before, model.psi.weight)


def test_frozen_parameters_stay():
    method = pd.vae((6,), latent_dim=2, likelihood="gaussian")
    method.model.decoder.requires_grad_(False)
    before = copy.deepcopy(method.model.state_dict())
    method.fit(X, steps=5, progress=False, device="cpu")
    torch.testing.assert_close(method.model.state_dict(), before, rtol=0, atol=0)


def test_wrong_kinds_of_arguments():
    model, guide = pair()
    with pytest.raises(pd.ArgumentError, match="optim: got"):
        pd.SVI(model, guide, torch.optim.Adam(guide.parameters()), pd.TermELBO())
    with pytest.raises(pd.ArgumentError, match="loss: got"):
        pd.SVI(model, guide, pd.adam(1e-2), pyro.infer.Trace_ELBO())
