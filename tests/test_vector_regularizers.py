"""What the laws of g do not reach: equal singular values, long signals, weights over the batch, other dimensions."""

from __future__ import annotations

from typing import Any

import cvxpy as cp
import pytest
import torch
from torch import Tensor

import bilevelnet as bln
from bilevelnet.regularizers.base import as_pair

R = bln.regularizers
F64 = torch.float64
VECTORS = (
    "simplex",
    "l1_ball",
    "l2_ball",
    "linf_norm",
    "l2_norm",
    "tv1d",
    "group_lasso",
    "sparse_group",
    "capped_simplex",
)
WEIGHTED = ("l1", "huber", "hinge", "deadzone", "squared_l2", "l2_norm", "linf_norm", "tv1d", "nuclear", "nuclear_2x2")


def _randn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=F64, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("values", [(2.0, 2.0, 2.0, 0.1), (2.0, 2.0, 0.0, 0.0), (3.0, 3.0, 3.0, 3.0)])
def test_derivatives_at_equal_singular_values(values: tuple[float, ...]) -> None:
    u, v = (torch.linalg.qr(_randn(4, 4, seed=s)).Q for s in (1, 2))
    x = (u @ torch.diag(torch.tensor(values, dtype=F64)) @ v.mT).requires_grad_()
    nuclear = R.Nuclear(0.5).prox
    assert torch.autograd.gradcheck(nuclear, (x,), check_forward_ad=True)
    assert torch.autograd.gradgradcheck(nuclear, (x,))
    y = (u @ torch.diag(torch.tensor(values, dtype=F64) - 0.7) @ u.mT).detach().requires_grad_()
    psd = R.PsdTrace(0.5).prox
    assert torch.autograd.gradcheck(psd, (y,), check_forward_ad=True)
    assert torch.autograd.gradgradcheck(psd, (y,))


@pytest.mark.parametrize("lam", [0.0, 1e-3, 0.5, 3.0, 100.0])
@pytest.mark.parametrize("kind", ["noise", "walk", "integers", "constant", "growth", "offset", "smooth"])
def test_total_variation_of_long_signals(kind: str, lam: float) -> None:
    x = _randn(3, 200)
    v = {
        "noise": x,
        "walk": x.cumsum(-1),
        "integers": x.round(),
        "constant": torch.ones_like(x),
        "growth": (8 * x).exp(),
        "offset": 1e6 + x,
        "smooth": torch.stack([torch.linspace(0, k, 200, dtype=F64).sin() for k in (3, 6, 9)]),  # in many rounds
    }[kind]
    z = R.TV1d(lam).prox(v)
    # Optimality: v − z = λDᵀs with |s| ≤ 1, and s = sign of the jump where there is one.
    s = -(v - z).cumsum(-1)
    size = v.abs().amax(-1, keepdim=True) * v.shape[-1]
    rounding = 20 * torch.finfo(F64).eps * (size + lam)  # of a sum of n terms
    jump = z.diff()
    assert (s[..., -1:].abs() <= rounding).all()
    assert (s[..., :-1].abs() <= lam + rounding).all()
    assert torch.where(jump != 0, (s[..., :-1] - lam * jump.sign()).abs() <= rounding, True).all()


@pytest.mark.parametrize("key", WEIGHTED)
def test_weights_over_the_batch(key: str) -> None:
    cls = R.registry[key]
    shape = {"nuclear": (3, 2)}.get(key, (4,))
    v, lam = 2 * _randn(5, *shape), _randn(5, *(1,) * len(shape), seed=3).abs()
    for g in (cls(lam=lam), lam * cls()):
        z = g.prox(v)
        single = [cls(lam=float(t)) for t in lam.flatten()]
        assert torch.equal(z, torch.stack([s.prox(x) for s, x in zip(single, v, strict=True)]))
        want = torch.stack([s.value(x) for s, x in zip(single, z, strict=True)])
        assert torch.allclose(g.value(z), want, rtol=1e-14)
        # 0 but for the rounding of v and z
        assert (g.distance(z, v - z) <= 100 * torch.finfo(F64).eps * v.abs().max()).all()


@pytest.mark.parametrize("key", VECTORS)
def test_dim(key: str) -> None:
    example, v = R.registry[key].examples[0], _randn(2, 6, 3)
    last, middle = R.get(key, **example), R.get(key, dim=-2, **example)
    z = last.prox(v.mT).mT
    assert torch.equal(middle.prox(v), z)
    assert torch.equal(middle.value(z), last.value(z.mT))
    assert middle.conjugate(v - z).shape == middle.distance(z, v - z).shape == (2, 3)


@pytest.mark.parametrize(
    "g",
    [
        R.L1(0.2) + R.TV1d(0.3),
        R.Box(-0.3, 0.5) + R.TV1d(0.3),
        R.L1(0.2).translate(0.1) + R.TV1d(0.2) + R.SquaredL2(0.4),
        R.Nonneg() + R.L2Ball(1.0),
        R.L1(0.2) + R.L2Norm(0.3),
    ],
    ids=lambda g: g.label,
)
def test_sums_whose_proxes_compose(g: bln.regularizers.Regularizer) -> None:
    v = 1.5 * _randn(3, 5, seed=4)
    solution = bln.solve_prox(bln.legendre.Energy(), g, v)
    assert solution.solver == "closed_form"
    z = cp.Variable(5)
    for row, got in zip(v.numpy(), solution.z.numpy(), strict=True):
        e, constraints = as_pair(g.expression(z))
        objective = e + 0.5 * cp.sum_squares(z - row)
        problem = cp.Problem(cp.Minimize(objective), constraints)
        problem.solve(solver="CLARABEL", tol_gap_abs=1e-10, tol_gap_rel=1e-10, tol_feas=1e-10)
        least = problem.value
        z.value = got
        # strongly convex: the objective within 1e-9 of the least puts z within 5e-5, the solver's own accuracy
        assert objective.value <= least + 1e-9 * (1 + abs(least))


@pytest.mark.parametrize("a", [[], [[]], torch.zeros(2, 0)])
def test_an_equation_of_no_entries_is_refused(a: Any) -> None:
    with pytest.raises(bln.InputError, match="not empty"):
        R.AffineSet(a)
