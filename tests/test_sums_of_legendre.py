"""Sums of two registered Legendre functions, each pair of them: the range of ∇φ, and its inverse."""

from __future__ import annotations

import itertools
import math
from typing import Any

import pytest
import torch
from catalog import LEGENDRE, Spec

import bilevelnet as bln
from bilevelnet.errors import InputError
from bilevelnet.testing.points import Draw, in_interval


def _pairs() -> list[tuple[Spec, Spec]]:
    separable = [s for s in LEGENDRE if s.first and not s.build().event_ndim]
    found = []
    for a, b in itertools.combinations_with_replacement(separable, 2):
        try:
            a.build() + b.build()
        except InputError:  # their domains do not meet
            continue
        found.append((a, b))
    return found


PAIRS = [pytest.param(a, b, id=f"{a.name}+{b.name}") for a, b in _pairs()]


@pytest.mark.parametrize(("first", "second"), PAIRS)
def test_the_dual_domain_is_the_range_of_the_gradient(first: Spec, second: Spec, device: str) -> None:
    phi = (first.build() + second.build()).to(device)
    z = in_interval(phi.domain, Draw(device=device), near=False)
    z = z[z.abs() <= 8]  # beyond, a gradient that saturates rounds to the end of its range
    z = z[(phi.hessian(z) > 0) & (phi.grad(z).abs() <= 30)]  # where z follows u, and the size of u in the other laws
    u = phi.grad(z)
    assert bool(phi.dual_domain.interior(u).all())
    solution = bln.solve_prox(phi, bln.regularizers.Zero(), u)
    # the rounding of u moves z by eps |u|/φ''; 64 of them for the search, which stops at a few ulp
    slack = 64 * torch.finfo(z.dtype).eps * (z.abs() + u.abs() / phi.hessian(z))
    assert bool(((solution.z - z).abs() <= slack).all())


@pytest.mark.parametrize(("first", "second"), PAIRS)
def test_the_gradient_reaches_the_ends_of_the_dual_domain(first: Spec, second: Spec) -> None:
    phi = first.build() + second.build()
    for end, reached in ((phi.domain.lo, phi.dual_domain.lo), (phi.domain.hi, phi.dual_domain.hi)):
        if math.isfinite(end):  # φ is steep there, or the end is a constraint
            assert math.isinf(reached)
            continue
        limit = float(phi.grad(torch.tensor(math.copysign(1e13, end), dtype=torch.float64)))
        # powers below 1 and reciprocals have vanished at 1e13 up to their root, the slowest growing is log z = 29.9
        assert limit == pytest.approx(reached, abs=1e-5) if math.isfinite(reached) else abs(limit) > 29


def _vectors(count: int) -> torch.Tensor:
    return torch.randn(count, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def _positive(count: int) -> torch.Tensor:
    """Positive definite matrices, the last with equal eigenvalues."""
    a = torch.randn(count, 3, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    z = a @ a.mT + 0.3 * torch.eye(3, dtype=torch.float64)
    return torch.cat([z, 0.7 * torch.eye(3, dtype=torch.float64).expand(1, 3, 3)])


Q = [[2.0, 0.5], [0.5, 1.0]]
VECTORS = {
    "two matrices": lambda: bln.legendre.Mahalanobis(Q) + bln.legendre.Mahalanobis([[1.0, -0.2], [-0.2, 3.0]]),
    "an energy": lambda: bln.legendre.Mahalanobis(Q) + bln.legendre.Energy(2.0),
    "an energy with a weight for each entry": lambda: (
        bln.legendre.Energy(torch.tensor([1.0, 2.0], dtype=torch.float64)) + bln.legendre.Mahalanobis(Q)
    ),
    "multiples": lambda: 2.0 * bln.legendre.Mahalanobis(Q) + bln.legendre.Mahalanobis(Q).affine(0.5),
}
MATRICES = {
    "von_neumann + log_det": lambda: bln.legendre.VonNeumann() + bln.legendre.LogDet(),
    "lifts": lambda: (
        bln.legendre.Spectral(bln.legendre.BoltzmannShannon()) + bln.legendre.Spectral(bln.legendre.Cosh())
    ),
    "an energy": lambda: bln.legendre.Energy(0.5) + bln.legendre.LogDet(),
    "multiples": lambda: 2.0 * bln.legendre.VonNeumann() + bln.legendre.LogDet() * 0.5,
    "a multiple": lambda: 3.0 * bln.legendre.VonNeumann(),
    "a shift by a multiple of I": lambda: bln.legendre.VonNeumann().affine(2.0, -0.5),
    "a shift for each matrix": lambda: bln.legendre.LogDet().affine(
        shift=torch.tensor([-0.5, 0.1, 0.0, 0.2], dtype=torch.float64)[:, None, None]
    ),
}
BALLS = {
    "two barriers": lambda: bln.legendre.BallHellinger() + bln.legendre.BallLogBarrier(),
    "a multiple": lambda: 2.0 * bln.legendre.BallHellinger() + bln.legendre.BallLogBarrier(),
    "an energy": lambda: bln.legendre.Energy(2.0) + bln.legendre.BallLogBarrier() + bln.legendre.BallHellinger(),
}
IN_BALL = torch.tensor([[0.0, 0.0], [1e-9, 0.0], [0.1, -0.4], [0.6, 0.7]], dtype=torch.float64)
POINTS = [
    *(pytest.param(make, IN_BALL, id=f"ball: {name}") for name, make in BALLS.items()),
    *(pytest.param(make, _vectors(4), id=f"quadratic: {name}") for name, make in VECTORS.items()),
    *(pytest.param(make, _positive(3), id=f"spectral: {name}") for name, make in MATRICES.items()),
]


@pytest.mark.parametrize(("make", "z"), POINTS)
def test_sums_and_multiples_that_are_not_separable(make: Any, z: torch.Tensor) -> None:
    phi = make()
    u = phi.grad(z)
    # the smallest eigenvalue of these points is near 0.3, so ∇φ and its inverse are of condition 1e3 at most
    assert torch.allclose(phi.grad_conjugate(u), z, rtol=1e-12, atol=1e-12)
    dims = tuple(range(-phi.event_ndim, 0))
    assert torch.allclose(phi.value(z) + phi.conjugate(u), (z * u).sum(dims), rtol=1e-12, atol=1e-11)
    step = torch.randn(z.shape[1:], dtype=z.dtype, generator=torch.Generator().manual_seed(1))
    step = step + step.mT if phi.event_ndim == 2 else step
    slope = (phi.value(z + 1e-5 * step) - phi.value(z - 1e-5 * step)) / 2e-5
    # the third derivative over 6 times h² = 1e-10
    assert torch.allclose(slope, (u * step).sum(dims), rtol=1e-6, atol=1e-6)
    solution = bln.solve_prox(phi, bln.regularizers.Zero(), u)
    assert torch.allclose(solution.z, z, rtol=1e-12, atol=1e-12)
    assert bool(phi.domain.interior(z).all())


def test_a_shift_of_eigenvalues_is_a_multiple_of_the_identity() -> None:
    z, eye = _positive(2), torch.eye(3, dtype=torch.float64)
    for phi in (bln.legendre.VonNeumann(), bln.legendre.Spectral(bln.legendre.Cosh())):
        assert torch.allclose(phi.affine(shift=-0.4).grad(z), phi.grad(z + 0.4 * eye), rtol=1e-13, atol=1e-13)


def test_learned_parts_stay_learned() -> None:
    weight, q = torch.nn.Parameter(torch.tensor(2.0)), torch.nn.Parameter(torch.tensor(Q))
    for phi, z in (
        (weight * bln.legendre.VonNeumann() + bln.legendre.LogDet(), _positive(1).float()),
        (bln.legendre.Mahalanobis(q) + bln.legendre.Energy(), _vectors(3).float()),
    ):
        bln.solve_prox(phi, bln.regularizers.Zero(), phi.grad(z).detach()).z.sum().backward()
        assert all(bool((p.grad != 0).any()) for p in phi.parameters())


@pytest.mark.parametrize("phi", [bln.legendre.BoltzmannShannon, bln.legendre.Cosh, bln.legendre.Energy])
def test_traces_on_the_cone_with_a_function_of_eigenvalues(phi: Any) -> None:
    a = torch.randn(4, 3, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    v, trace = a + a.mT, bln.regularizers.PsdTrace
    values, basis = torch.linalg.eigh(v)
    expected = (basis * phi().grad_conjugate(values - 0.5).clamp(min=0).unsqueeze(-2)) @ basis.mT
    lifts = [bln.legendre.Spectral(phi())] + ([phi()] if phi is bln.legendre.Energy else [])
    for lift, g in itertools.product(lifts, (trace(0.5), trace(0.3) + 2.0 * trace(0.1))):
        z = bln.solve_prox(lift, g, v, solver="closed_form").z
        assert torch.allclose(z, expected, rtol=1e-12, atol=1e-13)  # two eigendecompositions of order 3


def test_the_norm_of_a_sum_on_the_ball_has_derivatives_at_the_centre() -> None:
    phi = bln.legendre.BallHellinger() + bln.legendre.BallLogBarrier()
    u = phi.grad(IN_BALL[[0, 2]]).requires_grad_()
    assert torch.autograd.gradcheck(phi.grad_conjugate, u)


def test_sums_without_a_rule_are_refused() -> None:
    legendre = bln.legendre
    for first, second in (
        (legendre.BallHellinger(), legendre.Mahalanobis(Q)),
        (legendre.VonNeumann(), legendre.Burg()),
        (legendre.Mahalanobis(Q), legendre.Burg()),
        (legendre.Mahalanobis(Q), legendre.Mahalanobis([[1.0]])),
    ):
        with pytest.raises(InputError, match=r"no sum is known|one kind of point|sizes 2 and 1"):
            first + second
