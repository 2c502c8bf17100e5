"""The splitting solver where φ* is finite on a half-line or an interval only."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from draws import K
from torch import Tensor, nn
from torch.func import hessian, jacfwd, jacrev, vmap

import bilevelnet as bln

F64 = torch.float64
L, R = bln.legendre, bln.regularizers
V = torch.rand(3, 6, dtype=F64, generator=torch.Generator().manual_seed(5)) - 0.3  # on both sides of 0
PHI = {"burg": L.Burg, "tsallis": lambda: L.Tsallis(0.5), "log_cosh": L.LogCosh, "exponential": L.Exponential}


def composite() -> Any:
    return R.L1(0.3).precompose(K) + R.L2Ball(1.0)


def error_of_optimum(phi: Any, z: Tensor, v: Tensor) -> Tensor:
    """‖∇φ(z) + μz + 0.3 Kᵀs − v‖ at the best μ ≥ 0 and |s| ≤ 1, s = sign(Kz) where Kz ≠ 0, by projected gradient."""
    image, force = z @ K.mT, v - phi.grad(z)
    free = image.abs() < 1e-9
    s = torch.where(free, 0.0, image.sign())
    mu = torch.zeros_like(z[:, :1])
    step = 1 / torch.linalg.matrix_norm(torch.cat([0.3 * K, z]), 2) ** 2
    for _ in range(20_000):
        r = force - mu * z - 0.3 * s @ K
        s = torch.where(free, (s + step * 0.3 * r @ K.mT).clamp(-1, 1), s)
        mu = (mu + step * (r * z).sum(-1, keepdim=True)).clamp(min=0)
    return torch.linalg.vector_norm(force - mu * z - 0.3 * s @ K, dim=-1)


@pytest.mark.parametrize("key", PHI)
def test_satisfies_the_optimality_condition(key: str) -> None:
    """1e-9: what 20,000 steps of projected gradient leave of the multipliers, not of z."""
    phi = PHI[key]()
    found = bln.solve_prox(phi, composite(), V)
    assert found.solver == "splitting"
    assert found.converged.all()
    assert (found.z.norm(dim=-1) <= 1 + 1e-12).all()
    assert (error_of_optimum(phi, found.z, V) <= 1e-9).all()


@pytest.mark.parametrize("key", PHI)
def test_derivatives(key: str) -> None:
    phi, g = PHI[key](), composite()
    f = lambda v: bln.bregman_prox(phi, g, v)  # noqa: E731
    assert torch.autograd.gradcheck(f, V[:1].clone().requires_grad_())
    assert torch.allclose(jacfwd(f)(V[0]), jacrev(f)(V[0]), atol=1e-12)
    assert torch.equal(vmap(f)(V), f(V))
    assert hessian(lambda v: f(v).square().sum())(V[0]).isfinite().all()


def test_unbounded_infeasible_and_solved_side_by_side() -> None:
    """−log z falls more slowly than ⟨v, z⟩ grows where v > 0 and K bounds z in no direction."""
    k = torch.tensor([[1.0, -1.0]], dtype=F64)
    v = torch.tensor([[-1.0, -2.0], [1.0, 1.0], [-1.0, torch.nan], [0.1, -1.0]], dtype=F64)
    found = bln.solve_prox(L.Burg(), R.L1(0.2).precompose(k), v, on_failure="nan")
    assert found.status.tolist() == [0, int(bln.Status.unbounded), int(bln.Status.invalid), 0]
    assert found.z[[0, 3]].isfinite().all()
    apart = R.Simplex(1.0) + R.AffineSet((1.0, 1.0), 2.0)
    status = bln.solve_prox(L.Burg(), apart, v[:2], on_failure="ignore").status
    assert (status == int(bln.Status.infeasible)).all()


class Pull(nn.Module):
    """f = Σ softplus(z)/10 − 5⟨z, z⁻⟩: at y = 0 the divergence below has no minimiser, on the ball it has."""

    def forward(self, z: Tensor, z_prev: Tensor) -> Tensor:
        return (nn.functional.softplus(z) / 10 - 5 * z * z_prev).sum(-1)


def test_a_smooth_term_beside_an_f_divergence() -> None:
    reverse = bln.divergences.FDivergence("kl", reverse=True)
    z_prev = V[:, :3].abs() + 0.5
    layer = bln.BilevelLayer(bln.couplings.Function(Pull()), reverse, R.L2Ball(1.0))
    found = layer.solve(z_prev)
    assert found.converged.all()
    # −z⁻/z + 1 + sigmoid(z)/10 − 5z⁻ + μz = 0 with one μ ≥ 0 a sample and ‖z‖ = 1
    mu = (5 * z_prev + z_prev / found.z - 1 - torch.sigmoid(found.z) / 10) / found.z
    assert (mu > 0).all()
    assert torch.allclose(mu, mu.mean(-1, keepdim=True).expand_as(mu), rtol=1e-10)
    assert torch.allclose(found.z.norm(dim=-1), torch.ones(3, dtype=F64), rtol=1e-12)


def test_terms_with_tensors_that_a_twin_does_not_hold_yet() -> None:
    """The split is decided before a search loads tensors into its copy of the pieces."""
    g = R.Simplex(1.0) + R.AffineSet(torch.ones(6, dtype=F64), 1.0)
    for phi in (L.FermiDirac(), L.Hellinger(), L.Mahalanobis(torch.eye(6, dtype=F64))):
        z = bln.bregman_prox(phi, g, V, "splitting")
        assert torch.allclose(z, bln.bregman_prox(phi, R.Simplex(1.0), V), atol=1e-8)


def test_flat_start_of_the_dual() -> None:
    """∇²ψ*(v) = 0 at the start, where no step is short: a first step of 10¹⁵⁴ was taken for a solution."""
    a, b = torch.tensor([[1.0, 2.0, 0.5], [0.3, -1.0, 1.0]], dtype=F64), torch.tensor([0.7, 0.2], dtype=F64)
    found = bln.solve_prox(L.Tsallis(1.5), R.AffineSet(a, b), torch.full((2, 3), -0.5, dtype=F64))
    assert found.converged.all()
    assert (found.z @ a.mT - b).abs().max() <= 1e-14
    assert (found.residual <= 1e-14).all()
