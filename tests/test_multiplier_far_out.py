"""The multiplier solver: arguments far out, saturated and underflowing entries."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from by_value import MyEntropy
from catalog import Spec
from multiplier_pairs import PAIRS

import bilevelnet as bln

F64 = torch.float64
R = bln.regularizers


@pytest.mark.parametrize("v", [700.0, -700.0, 1e-300])
def test_extremes(v: float) -> None:
    """z to 1e-9 of its largest entry beside a bisection on the multiplier of the simplex in plain Python."""
    row = torch.tensor([v, 0.0, 1.0], dtype=F64)
    phi = bln.legendre.FermiDirac()
    z = bln.bregman_prox(phi, R.Simplex(0.7), row)
    lo, hi = -2000.0, 2000.0
    for _ in range(200):
        mid = (lo + hi) / 2
        lo, hi = (mid, hi) if float(torch.sigmoid(row - mid).sum()) > 0.7 else (lo, mid)
    assert torch.allclose(z, torch.sigmoid(row - lo), rtol=1e-9, atol=1e-12)


# Far out, beside one another, of both signs, tiny, and where float32 over- or underflows.
FAR = [
    [700.0, 0.0, 1.0, -700.0],
    [-700.0] * 4,
    [50.0, -50.0, 0.0, 1.0],
    [100.0, 1.0, 0.0, 0.0],
    [-95.0, -80.0, -1.0, -2.0],
    [1e-300, 0.0, -1e-300, 1e-30],
    [15.0, -15.0, 15.0, -15.0],
]


def far_cases() -> list[Any]:
    first = [(p, g) for p, g in PAIRS if g.first]
    return [
        pytest.param(p, g, id=f"{p.name}-{g.name}", marks=() if k % 6 == 0 else pytest.mark.heavy)
        for k, (p, g) in enumerate(first)
    ]


@pytest.mark.parametrize(("phi", "g"), far_cases())
@pytest.mark.parametrize("dtype", [F64, torch.float32])
def test_far_out(phi: Spec, g: Spec, dtype: torch.dtype) -> None:
    """Where ∇φ takes every value nothing is unbounded; what converged has finite gradients and misses the inclusion
    by its rounding, a few hundred eps of its terms at most (1e4 eps leaves room for the sums).
    """
    phi, g = phi.build().to(dtype), g.build().to(dtype)
    v = torch.tensor(FAR, dtype=F64).to(dtype).requires_grad_()
    found = bln.solve_prox(phi, g, v, solver="multiplier", on_failure="ignore")
    (slope,) = torch.autograd.grad(found.z.sum(), v)
    if phi.dual_domain == bln.domains.Reals():
        assert not (found.status == bln.Status.unbounded).any()
        assert not (found.status == bln.Status.infeasible).any()
    for i in range(len(FAR)):
        if not found.converged[i]:
            continue
        assert not found.z[i].isnan().any()
        if found.z[i].isfinite().all():
            terms = sum(t[i].detach().nan_to_num(0, 0, 0).abs().sum() for t in (v, found.dual, found.z))
            assert slope[i].isfinite().all(), FAR[i]
            assert found.residual[i] <= 1e4 * torch.finfo(dtype).eps * (1 + terms), FAR[i]


def test_the_largest_entry_of_a_saturated_entropy() -> None:
    """z = 1 to rounding while u = 49.6 still is v − λ."""
    found = bln.solve_prox(bln.legendre.FermiDirac(), R.LinfNorm(0.4), torch.tensor([50.0, -50.0, 0.0], dtype=F64))
    assert found.converged
    assert float(found.dual[0]) == pytest.approx(49.6, rel=1e-15)
    assert found.dual[1:].tolist() == [-50.0, 0.0]
    both = bln.solve_prox(bln.legendre.Tanh(), R.LinfNorm(0.4), torch.tensor([50.0, -50.0, 0.0], dtype=F64))
    assert torch.allclose(both.dual, torch.tensor([49.8, -49.8, 0.0], dtype=F64), rtol=1e-15)


def test_entries_that_underflow_under_a_value_alone() -> None:
    v = torch.tensor([700.0, -700.0, 3.0, -3.0], dtype=F64)
    sol = bln.solve_prox(MyEntropy(), R.Simplex(radius=1.5), v)
    s = 700 - torch.tensor(1.5, dtype=F64).log().item() - 0.75  # the first entry has all the mass
    torch.testing.assert_close(sol.z, torch.tensor([1.5, 0.0, 0.0, 0.0], dtype=F64))
    torch.testing.assert_close(sol.dual, v - s)
    a = torch.tensor([1.0, -2.0, 0.5, 1.5], dtype=F64)
    sol = bln.solve_prox(MyEntropy(), R.AffineSet(a=a, b=0.3), torch.full_like(v, -700.0))
    torch.testing.assert_close(sol.z, torch.tensor([0.0, 0.0, 0.0, 0.2], dtype=F64))
    s = (-700 - (torch.tensor(0.2, dtype=F64).log().item() + 0.1)) / 1.5
    torch.testing.assert_close(sol.dual, -700 - s * a)  # of z = e^−1631, which no float holds, too


def test_a_ball_under_hypentropy_far_out() -> None:
    v = torch.full((4,), 700.0, dtype=F64)
    z = bln.bregman_prox(bln.legendre.Hypentropy(beta=1.0), R.L2Ball(radius=0.8), v)
    torch.testing.assert_close(z, torch.full_like(v, 0.4))


@pytest.mark.parametrize("phi", [MyEntropy(), bln.legendre.BoltzmannShannon(), bln.legendre.Softplus()])
def test_a_norm_below_the_range_of_floats(phi: Any) -> None:
    """z = e^−1000 and less is 0, u = ∇φ(z) is as far down as v − u in ∂g(0) lets it be, all of it in any shape."""
    v = torch.tensor([[-700.0, -760.0, -1.0]], dtype=F64, requires_grad=True)  # one event: its weights have a shape too
    for lam in (1e3, 1e12):
        for g in (R.L2Norm(lam), R.GroupLasso(lam, groups=((0, 1, 2),))):
            sol = bln.solve_prox(phi, g, v)
            assert sol.z.tolist() == [[0.0] * 3]
            assert float((v - sol.dual).detach().norm()) <= lam * (1 + 4 * torch.finfo(F64).eps)
            assert (sol.dual < -700).all()
            assert sol.residual.tolist() == [0.0]
            (slope,) = torch.autograd.grad(sol.z.sum(), v)
            assert slope.tolist() == [[0.0] * 3]


def test_tiny_entries_of_groups_have_a_gradient() -> None:
    """An entry in no group is e^−700, and 1/z² overflows. Beside z dz/dv = z, as λ is 1e-12 of 1."""
    v = torch.full((1, 3), -700.0, dtype=F64, requires_grad=True)
    sol = bln.solve_prox(MyEntropy(), R.GroupLasso(1e-12, groups=((0, 1),)), v)
    (slope,) = torch.autograd.grad(sol.z.sum(), v)
    torch.testing.assert_close(slope, sol.z.detach(), rtol=1e-11, atol=0.0)


def test_a_dual_point_beyond_the_range_of_floats_is_invalid_not_infeasible() -> None:
    """∇φ = sinh(1e12/3) where Σ z = 1e12; the entropy of [0, 1] does not reach Σ z = 5 with 3 entries."""
    v = torch.zeros(2, 3, dtype=F64)
    far = bln.solve_prox(bln.legendre.Cosh(), R.Simplex(1e12), v, on_failure="nan")
    assert far.status.tolist() == [bln.Status.invalid] * 2
    for g in (R.Simplex(5.0), R.AffineSet(a=torch.ones(3, dtype=F64), b=-0.1)):
        none = bln.solve_prox(bln.legendre.FermiDirac(), g, v, on_failure="nan")
        assert none.status.tolist() == [bln.Status.infeasible] * 2, g


@pytest.mark.parametrize("phi", [bln.legendre.Power(p=3.0), bln.legendre.Burg(), bln.legendre.Cosh()], ids=str)
@pytest.mark.parametrize("radius", [1e-12, 1e6])
def test_simplices_of_any_size_far_from_zero(phi: Any, radius: float) -> None:
    """Equal entries share r, which no float s at 700 tells; v is measured from its largest entry."""
    v = torch.full((2, 4), 700.0, dtype=F64)
    v[1] = torch.tensor([700.0, 0.0, -700.0, 1.0])
    sol = bln.solve_prox(phi, R.Simplex(radius), v, on_failure="nan")
    if phi.label == "cosh" and radius == 1e6:  # sinh(1e6) is no float
        assert sol.status.tolist() == [bln.Status.invalid] * 2
        return
    torch.testing.assert_close(sol.z[0], torch.full((4,), radius / 4, dtype=F64), rtol=1e-12, atol=0.0)
    torch.testing.assert_close(sol.z.sum(-1), torch.full((2,), radius, dtype=F64), rtol=1e-12, atol=0.0)
    torch.testing.assert_close(sol.dual[:, 0], 700 - sol.multipliers["simplex"], rtol=1e-15, atol=2e-13)  # eps of 700


@pytest.mark.parametrize("far", [700.0, -700.0, 1.0])
@pytest.mark.parametrize(
    "phi", [bln.legendre.Cosh(), bln.legendre.Power(p=3.0), bln.legendre.Tanh(), bln.legendre.Softsign()], ids=str
)
def test_small_balls_and_hyperplanes_far_from_zero(phi: Any, far: float) -> None:
    """max|v| has all of a small ball, and of v along a all entries take part: z to its own digits, as is the dual."""
    v = torch.tensor([far, 0.3 * far, -0.2 * far], dtype=F64)
    ball = bln.solve_prox(phi, R.L1Ball(1e-12), v)
    torch.testing.assert_close(ball.z, torch.tensor([math.copysign(1e-12, far), 0, 0], dtype=F64), rtol=1e-14, atol=0)
    plane = bln.solve_prox(phi, R.AffineSet(a=(2.0,), b=1e-12), v[:1])
    torch.testing.assert_close(plane.z, torch.tensor([0.5e-12], dtype=F64), rtol=1e-14, atol=0)
    torch.testing.assert_close(plane.multipliers["affine_set"], v[0] / 2, rtol=1e-12, atol=0.0)
    for found in (ball, plane):
        torch.testing.assert_close(found.dual, phi.grad(found.z), rtol=1e-12, atol=0.0)


def test_a_gradient_of_exp_near_one_keeps_the_digits_of_a_small_sum() -> None:
    """∇φ = e^z is 1 + z, which no float holds to more than four digits of z; Σ z = r tells the rest."""
    for g in (R.Simplex(1e-12), R.L1Ball(1e-12), R.CappedSimplex(1e-12, 1.5e-12)):
        z = bln.bregman_prox(bln.legendre.Exponential(), g, torch.tensor([[700.0, 700.0], [2.0, 2.0]], dtype=F64))
        torch.testing.assert_close(z, torch.full((2, 2), 0.5e-12, dtype=F64), rtol=1e-14, atol=0.0)


def test_a_set_out_of_reach_of_a_bounded_domain_is_infeasible() -> None:
    """|z| < π/2, where tan z at the largest float is 1.6e16 and not infinite; a cap met by all entries is feasible."""
    for g in (R.Simplex(1e12), R.Simplex(1.6), R.L1(0.5) + R.Simplex(2.0), R.AffineSet(a=(1.0,), b=1.6)):
        found = bln.solve_prox(bln.legendre.Atan(), g, torch.zeros(1, dtype=F64), on_failure="nan")
        assert found.status == bln.Status.infeasible, g
    found = bln.solve_prox(bln.legendre.FermiDirac(), R.CappedSimplex(1e-12, 1e-12), torch.full((1,), 700.0, dtype=F64))
    assert found.z.tolist() == [1e-12]


def test_what_leaps_over_its_set_is_invalid() -> None:
    """√(v − s) at 1e-12 beside v = 1, where floats are 1e-16 apart, and artanh that ends at 18: no finite Σ z is r."""
    v = torch.tensor([0.3, 1.0, -0.2], dtype=F64)
    for phi, g in (
        (bln.legendre.Power(p=3.0), R.CappedSimplex(1e-12, 0.7e-12)),
        (bln.legendre.LogCosh(), R.Simplex(1e12)),
        (bln.legendre.Tsallis(3.0), R.L1(0.5) + R.Simplex(1e-12)),
    ):
        assert bln.solve_prox(phi, g, v, on_failure="nan").status == bln.Status.invalid


@pytest.mark.parametrize("phi", [bln.legendre.Exponential(), bln.legendre.Burg(), bln.legendre.LogCosh()], ids=str)
def test_an_entry_in_no_group_is_the_mirror_map(phi: Any) -> None:
    """The short group is padded, and the padding lies in the range of ∇φ, which 0 may not: dz/dv = 1/φ''(z)."""
    v = phi.grad(torch.tensor([[0.3, 0.4, 0.5]], dtype=F64)).requires_grad_()
    z = bln.bregman_prox(phi, R.GroupLasso(0.1, groups=((0, 1),)), v)
    (slope,) = torch.autograd.grad(z.sum(), v)
    assert slope.isfinite().all()
    torch.testing.assert_close(z[0, 2].item(), 0.5, rtol=1e-14, atol=0.0)
    torch.testing.assert_close(slope[0, 2], 1 / phi.hessian(z.detach())[0, 2], rtol=1e-13, atol=0.0)


def test_backward_holds_the_same_memory_whatever_the_iterations() -> None:
    """Bytes that autograd saves: of the attached steps alone."""
    g, v = R.Simplex(1.0) + R.SquaredL2(1.0), torch.linspace(-1, 1, 50, dtype=F64, requires_grad=True)
    found: dict[int, int] = {}
    for scale in (1.0, 300.0):
        sizes: list[int] = []

        def keep(t: torch.Tensor, sizes: list[int] = sizes) -> torch.Tensor:
            sizes.append(t.nbytes)
            return t

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda t: t):
            sol = bln.solve_prox(bln.legendre.FermiDirac(), g, scale * v)
        found[int(sol.iterations)] = sum(sizes)
    assert len(found) == 2
    assert len(set(found.values())) == 1, found
