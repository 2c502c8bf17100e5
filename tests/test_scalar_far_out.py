"""The scalar solver: arguments and weights far out, beside the ends of the domain, and of other sizes."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from catalog import SEPARABLE, Spec
from scipy.optimize import brentq

import bilevelnet as bln

F64 = torch.float64


@pytest.mark.parametrize("lam", [1e-12, 1.0, 1e12])
def test_extremes_of_v_and_lam(lam: float) -> None:
    """Residual at the rounding of the terms of the inclusion, some eps (|u| + λz + |v|)."""
    v = torch.tensor([-700.0, -30.0, 0.0, 30.0, 700.0], dtype=F64)
    for key in ("boltzmann_shannon", "fermi_dirac", "tanh", "softplus"):
        phi, g = bln.legendre.get(key), bln.regularizers.SquaredL2(lam)
        found = bln.solve_prox(phi, g, v, solver="scalar")
        terms = found.dual.abs() + lam * found.z.abs() + v.abs()
        assert (found.dual + lam * found.z - v).abs().le(16 * torch.finfo(F64).eps * terms).all(), key


FAR = [s * m for m in (700.0, 400.0, 95.0, 50.0, 15.0, 1e-300, 1e4) for s in (1.0, -1.0)]


@pytest.mark.parametrize("phi", [pytest.param(p, id=p.name) for p in SEPARABLE if p.cls.key != "tanh_mixture"])
@pytest.mark.parametrize("dtype", [F64, torch.float32])
def test_far_out(phi: Spec, dtype: torch.dtype) -> None:
    """Where ∇φ takes every value nothing is unbounded; what converged is no NaN, and where finite so is its slope."""
    phi = phi.build().to(dtype)
    for g in (bln.regularizers.Huber(0.7, 0.5), bln.regularizers.LogBarrier(0.6), bln.regularizers.NegEntropy(0.6)):
        v = torch.tensor(FAR, dtype=F64).to(dtype).requires_grad_()
        found = bln.solve_prox(phi, g.to(dtype), v, solver="scalar", on_failure="ignore")
        (slope,) = torch.autograd.grad(found.z.sum(), v)
        good = found.converged
        assert not found.z[good].isnan().any()
        assert slope[good & found.z.isfinite()].isfinite().all()
        if phi.dual_domain == bln.domains.Reals():
            assert not (found.status == bln.Status.unbounded).any()


def test_the_dual_point_beside_the_end_of_the_domain() -> None:
    """u + h'(z) = v where z = 1 to rounding: u = v + 0.6/z for the barrier, v − 0 for what is flat there."""
    v = torch.tensor([50.0, 100.0, 700.0], dtype=F64)
    for key in ("fermi_dirac", "tanh"):
        found = bln.solve_prox(bln.legendre.get(key), bln.regularizers.LogBarrier(0.6), v, solver="scalar")
        assert found.z.tolist() == pytest.approx([1.0] * 3, abs=1e-15)
        assert torch.allclose(found.dual, v + 0.6, rtol=1e-14)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("v", [99.0, -40.0, 1e3, 1e5])
def test_roots_beside_a_steep_end_are_not_taken_for_its_rounding(v, dtype):
    """tan z + z = v: the search starts far out, where z rounds to ±π/2 and ∇φ to anything. Tolerance: 4 eps of z."""
    sol = bln.solve_prox(
        bln.legendre.Atan() + bln.legendre.Energy(), bln.regularizers.Zero(), torch.tensor(v, dtype=dtype)
    )
    end = math.pi / 2 * (1 - 1e-16)
    root = brentq(lambda z: math.tan(z) + z - v, -end, end, xtol=1e-15, rtol=1e-15)
    assert sol.converged
    assert abs(float(sol.z) - root) <= 4 * torch.finfo(dtype).eps * abs(root)


@pytest.mark.parametrize(("dtype", "v"), [(F64, 700.0), (torch.float32, 80.0)], ids=["double", "single"])
def test_terms_whose_size_overflows_are_no_rounding(dtype: torch.dtype, v: float) -> None:
    # asinh z + λ z = v from u = v, where λ cosh(u) u is beyond the range of floats and a Newton step moves u by 1.
    for lam in (148.0, 1e3, 1e5):
        sol = bln.solve_prox(
            bln.legendre.Hypentropy(beta=1.0), bln.regularizers.SquaredL2(lam), torch.tensor([v], dtype=dtype), "scalar"
        )
        z = brentq(lambda z, lam=lam: math.asinh(z) + lam * z - v, 0, v, xtol=1e-300, rtol=1e-15)
        assert sol.z.item() == pytest.approx(z, rel=64 * torch.finfo(dtype).eps)  # what v, large beside z, rounds


def test_a_high_power_and_a_large_weight() -> None:
    # z² + λ z = v: u = z² is far below any step that tells z.
    sol = bln.solve_prox(
        bln.legendre.Power(p=3.0), bln.regularizers.Huber(lam=1e12, delta=1.0), torch.tensor([0.5, -700.0], dtype=F64)
    )
    torch.testing.assert_close(sol.z, sol.z.new_tensor([5e-13, -7e-10]), rtol=1e-14, atol=0)  # z² is 1e-21 of λ z


def test_a_z_below_the_range_of_floats_is_0() -> None:
    """λ log z = −7e2 − ∇φ(0) at z = e^{−7e14}, which is 0 to the least float, by every solver and in float32 too."""
    for phi, v in ((bln.legendre.Tanh(), -700.0), (bln.legendre.Cosh(), -1e-3)):
        at = torch.tensor([v, 0.5], dtype=F64)
        found = bln.solve_prox(phi, bln.regularizers.NegEntropy(1e-12), at)
        assert not found.status.any(), phi
        assert 0 <= float(found.z[0]) < torch.finfo(F64).tiny
    g = bln.regularizers.Box(0.0, 0.01) + bln.regularizers.NegEntropy(0.05)
    assert g.prox(torch.tensor([-7.0])).item() < torch.finfo(torch.float32).tiny  # e^{−141}


@pytest.mark.parametrize("phi", [bln.legendre.Cosh(), bln.legendre.Tanh(1.7, 0.6), bln.legendre.LogCosh()], ids=str)
@pytest.mark.parametrize("far", [700.0, 1e-3, 0.0])
def test_the_dual_point_beside_a_large_barrier(phi: Any, far: float) -> None:
    """u = v − λ log z is a difference of 1e12 times the rounding of z: ∇φ(z) has the digits, with its derivative."""
    v = torch.tensor([far], dtype=F64, requires_grad=True)
    found = bln.solve_prox(phi, bln.regularizers.NegEntropy(1e12), v)
    torch.testing.assert_close(found.dual, phi.grad(found.z), rtol=1e-14, atol=0.0)
    (slope,) = torch.autograd.grad(found.dual.sum(), v)
    bend = phi.hessian(found.z.detach())
    torch.testing.assert_close(slope, bend / (bend + 1e12 / found.z.detach()), rtol=1e-9, atol=0.0)
