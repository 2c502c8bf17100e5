"""λ max|z_i| in the multiplier solver: one sign, weights along the event, ties, over- and underflow."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from by_value import MyEntropy

import bilevelnet as bln

F64 = torch.float64
L, R = bln.legendre, bln.regularizers


@pytest.mark.parametrize("phi", [L.BoltzmannShannon(), L.Hypentropy(beta=1.0)])
def test_an_entry_beyond_the_range_of_floats_is_invalid(phi: Any) -> None:
    """e^700 in float32; the weight that the events share has the gradient of the others alone."""
    rows = torch.tensor([[700.0, 0.5, 1.0], [0.5, 1.0, 2.0]])

    def slope(v: torch.Tensor) -> torch.Tensor:
        lam = torch.tensor(1e-12, requires_grad=True)
        found = bln.solve_prox(phi, R.LinfNorm(lam), v, solver="multiplier", on_failure="nan")
        assert found.status.tolist() == [bln.Status.invalid, bln.Status.converged][-len(v) :]
        return torch.autograd.grad(found.z[-1].sum(), lam)[0]

    assert slope(rows) == slope(rows[1:])
    assert slope(rows) < 0


@pytest.mark.parametrize("lam", [1e6, 1e12])
def test_values_alone_where_all_entries_underflow(lam: float) -> None:
    """log z + z/2 = P, Σ (v_i − P) = λ: z = e^P is 0, its dual point is not."""
    weight = torch.tensor(lam, dtype=F64, requires_grad=True)
    v = torch.tensor([[0.5, 1.0, 2.0], [0.5, -1.0, -2.0]], dtype=F64, requires_grad=True)
    found = bln.solve_prox(MyEntropy(), R.LinfNorm(weight), v)
    assert found.converged.all()
    torch.testing.assert_close(found.dual, ((v.sum(-1, keepdim=True) - lam) / 3).expand_as(v))
    assert (found.z < 1e-300).all()
    slopes = torch.autograd.grad(found.z.sum(), (v, weight))
    assert all((s == 0).all() for s in slopes)


WEIGHTS = torch.tensor([1.0, 2.0, 3.0], dtype=F64)


@pytest.mark.parametrize("phi", [L.Energy(WEIGHTS), L.Squareplus(WEIGHTS), L.Softplus(WEIGHTS), L.Tanh(b=WEIGHTS)])
def test_weights_along_the_event(phi: Any) -> None:
    """One level of z is as many dual points as there are weights; beside splitting, to its 1e-9."""
    v = torch.tensor([[2.0, 1.9, 1.8], [-2.0, 1.9, 0.2]], dtype=F64)
    one, other = (bln.bregman_prox(phi, R.LinfNorm(0.7), v, solver) for solver in ("multiplier", "splitting"))
    torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-12)


class Mirrored(MyEntropy):
    """φ(−z)."""

    domain = bln.domains.Negative()

    def value(self, z: torch.Tensor) -> torch.Tensor:
        return super().value(-z)


def test_a_domain_on_the_negative_side() -> None:
    v = torch.tensor([[2.0, 1.9, -1.0], [-2.0, 0.3, 0.4]], dtype=F64)
    for g in (R.LinfNorm(0.7), R.LinfNorm(0.7) + R.SquaredL2(0.3)):
        one, other = bln.solve_prox(MyEntropy(), g, v), bln.solve_prox(Mirrored(), g, -v)
        torch.testing.assert_close(other.z, -one.z, rtol=1e-14, atol=0)
        torch.testing.assert_close(other.multipliers, one.multipliers, rtol=1e-14, atol=0)


@pytest.mark.parametrize("phi", [L.BoltzmannShannon(), L.Energy(), L.Elu()])
def test_a_tie_has_the_derivative_of_one_of_its_sides(phi: Any) -> None:
    """v₂ = v₃ = P + λ/2 are clipped, v₁ = P exactly: Σ z_i moves with P, by ρ'(P)/3 or ρ'(P)/2 with v₂."""
    v = torch.tensor([1.0, 1.25, 1.25], dtype=F64, requires_grad=True)
    z = bln.bregman_prox(phi, R.LinfNorm(0.5), v, "multiplier")
    torch.testing.assert_close(z, phi.grad_conjugate(torch.ones(3, dtype=F64)), rtol=1e-15, atol=0)
    (slope,) = torch.autograd.grad(z[2], v)
    rate = (1 / phi.hessian(z)[0]).item()
    assert slope[1].item() == pytest.approx(rate / 3) or slope[1].item() == pytest.approx(rate / 2)
    tiny = torch.tensor(1e-12, requires_grad=True)  # below the rounding of v, and its derivative is not 0
    z = bln.bregman_prox(phi, R.LinfNorm(tiny), torch.tensor([0.5, 2.0]), "multiplier")
    (slope,) = torch.autograd.grad(z.sum(), tiny)
    assert slope.item() == pytest.approx(-1 / phi.hessian(z)[1].item(), rel=1e-6)
