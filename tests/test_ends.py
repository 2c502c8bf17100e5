"""Solutions at an end of the domain as far as floats tell, and duals that keep their digits under large weights."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from by_value import GByValue, MyEntropy, PhiByValue

import bilevelnet as bln
from bilevelnet import legendre, regularizers

F64 = torch.float64
TINY = torch.finfo(F64).tiny
BARRIERS = [regularizers.NegEntropy(1e-12), GByValue(regularizers.NegEntropy(1e-12))]
FAR = [
    legendre.Tanh(),
    legendre.Cosh(),
    legendre.Symlog(),
    legendre.NormalCdf(),
    legendre.FermiDirac(),
    MyEntropy(),
    PhiByValue(legendre.Cosh()),
]


@pytest.mark.parametrize("g", BARRIERS, ids=["stated", "by_value"])
@pytest.mark.parametrize("phi", FAR, ids=lambda p: p.label)
def test_a_solution_below_the_floats_is_zero(phi: Any, g: Any) -> None:
    """∇φ(z) + 1e-12 log z = −900 has its root below the least number: z rounds to 0, where the residual is 0 too."""
    v = torch.tensor([-900.0, -0.3], dtype=F64, requires_grad=True)
    found = bln.solve_prox(phi, g, v, solver="scalar")
    assert found.status.tolist() == [0, 0]
    assert found.z[0] == 0
    assert found.residual.max() <= 4 * torch.finfo(F64).eps  # of terms of size 0.3
    assert torch.autograd.grad(found.z.sum(), v)[0].isfinite().all()
    assert torch.equal(torch.vmap(lambda x: bln.bregman_prox(phi, g, x, solver="scalar"))(v), found.z)


def test_the_residual_of_a_value_near_the_end_of_its_domain_is_a_number() -> None:
    """z = e^{−600}: some ulp of the kink's search lie beyond 0, where the value is NaN."""
    g = 0.5 * GByValue(regularizers.NegEntropy(1.0))
    found = bln.solve_prox(legendre.FermiDirac(), g, torch.tensor([-900.0], dtype=F64))
    assert torch.allclose(found.z.log(), torch.tensor([-600.0], dtype=F64), rtol=1e-12)
    assert found.residual[0] <= 1e-12  # the rounding of terms of size 900


@pytest.mark.parametrize(
    "g",
    [
        regularizers.Simplex(1.0),
        regularizers.L1(0.5) + regularizers.Simplex(1.0),
        regularizers.CappedSimplex(1.0, 1.0),
        regularizers.AffineSet([1.0], 1.0),
    ],
    ids=lambda g: g.label,
)
def test_a_set_that_meets_an_open_end_alone_is_infeasible(g: Any) -> None:
    """Σ z = 1 with one entry asks z = 1, which (−1, 1) does not hold, and [0, 1] does."""
    v = torch.tensor([[3.0], [-2.0]], dtype=F64)
    found = bln.solve_prox(legendre.Softsign(), g, v, on_failure="ignore")
    assert found.status.tolist() == [bln.Status.infeasible] * 2
    assert bln.solve_prox(legendre.FermiDirac(), g, v).z.tolist() == [[1.0], [1.0]]


def test_an_element_at_an_open_end_spoils_no_other() -> None:
    """Two entries of three masked: the one that is left would be 1, the end of (−1, 1)."""
    v = torch.tensor([[0.3, -torch.inf, -torch.inf], [0.3, 0.1, -0.2]], dtype=F64)
    found = bln.solve_prox(legendre.Softsign(), regularizers.Simplex(1.0), v, on_failure="nan")
    assert found.status.tolist() == [bln.Status.infeasible, bln.Status.converged]
    alone = bln.bregman_prox(legendre.Softsign(), regularizers.Simplex(1.0), v[1])
    assert torch.allclose(found.z[1], alone, rtol=1e-15)


DUALS = [
    (legendre.Burg(), regularizers.NegEntropy(1e12), [-700.0, -1.0, 0.0, 1.0, 700.0]),
    (legendre.Burg(), regularizers.SquaredL2(1e-12), [1.0, 700.0]),
    (legendre.Softsign(), regularizers.SquaredL2(1e12), [-700.0, -1.0, 1.0, 700.0]),
    (legendre.Elu(), regularizers.SquaredL2(1e12) + regularizers.L1(0.1), [-700.0, -1.0, 1.0, 700.0]),
    (legendre.LeakyRelu(), regularizers.SquaredL2(1e12), [-700.0, -1.0, 1.0, 700.0]),
]


@pytest.mark.parametrize(("phi", "g", "v"), DUALS, ids=lambda x: getattr(x, "label", ""))
def test_the_dual_of_a_closed_form_is_that_of_its_point(phi: Any, g: Any, v: list[float]) -> None:
    """u = v − h'(z) has the rounding of terms of size 1e12; ∇φ(z) has not, and has the derivatives too."""
    at = torch.tensor(v, dtype=F64, requires_grad=True)
    found = bln.solve_prox(phi, g, at, solver="closed_form")
    assert torch.allclose(found.dual, phi.grad(found.z), rtol=1e-14, atol=TINY)
    (slope,) = torch.autograd.grad(found.dual.sum(), at)
    (expected,) = torch.autograd.grad(phi.grad(bln.bregman_prox(phi, g, at, solver="closed_form")).sum(), at)
    assert torch.allclose(slope, expected, rtol=1e-12, atol=TINY)
