"""Newton directions of the splitting solver by conjugate gradients beside those by a factor of the whole system."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from bilevelnet import legendre as L
from bilevelnet import regularizers as R
from bilevelnet.solvers.dual_problem import Dual
from bilevelnet.solvers.split import Split

F64 = torch.float64
FIVES = [list(range(i, i + 5)) for i in range(0, 30, 5)]


def _randn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=F64, generator=torch.Generator().manual_seed(seed))


def _metric() -> Tensor:
    a = _randn(30, 30, seed=1) / 6
    return a @ a.mT + torch.eye(30, dtype=F64)


PAIRS: dict[str, tuple[L.Legendre, list[Any]]] = {
    "one matrix for all": (L.Mahalanobis(_metric()), [R.GroupLasso(0.5, groups=FIVES)]),
    "a diagonal inside": (L.Tanh(), [R.L1(0.2).precompose(_randn(30, 30, seed=2) / 6), 0.7 * R.L2Norm(0.5)]),
    "entries in no group": (
        L.Energy(),
        [R.SparseGroup(0.2, 0.3, groups=FIVES[1:]).precompose(_randn(30, 30, seed=6) / 6)],
    ),
}


@pytest.mark.parametrize("pair", PAIRS)
def test_products_give_the_direction_of_the_system(pair: str) -> None:
    phi, terms = PAIRS[pair]
    dual = Dual(Split(phi, *terms), 2 * _randn(4, 30, seed=3))
    y = 0.3 * _randn(4, sum(dual.sizes), seed=4)
    step = dual.first_step(y)
    x, r, shifts = y + step * dual.smooth(y)[1], _randn(*y.shape, seed=5), torch.full_like(step, 1e-3)
    curvature, tight = dual.curvature(y), torch.full_like(step, 1e-13)
    d, found = dual._by_products(curvature, x, step, r, shifts, tight, 200)
    assert found
    system = dual.system(curvature, x, step, shifts)
    # the solver's own tolerance, times the condition of systems with eigenvalues from 1e-3 to 2
    assert torch.allclose(d, -torch.linalg.solve(system, r.unsqueeze(-1)).squeeze(-1), rtol=0, atol=1e-9)


def test_what_products_do_not_solve_is_factored() -> None:
    dual = Dual(Split(L.Energy(), R.TV1d(0.5), R.L2Norm(0.2)), _randn(4, 30, seed=3))
    y = torch.zeros(4, sum(dual.sizes), dtype=F64)
    step = dual.first_step(y)
    r, curvature = _randn(*y.shape, seed=5), dual.curvature(y)
    loose = torch.full_like(step, 1e-3)
    d = dual.direction(curvature, y, step, r, shift=loose, tol=loose)
    assert not dual.patient
    system = dual.system(curvature, y, step, loose)
    assert torch.allclose(
        (system @ d.unsqueeze(-1)).squeeze(-1), -r, atol=1e-12
    )  # rounding of 60 terms of some hundreds
