"""Newton's method far out: starts, overflows, objectives without a floor, sharp functions."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

import bilevelnet as bln

F64 = torch.float64
L, R = bln.legendre, bln.regularizers


class LogSumExp(R.Regularizer):
    event_ndim = 1

    def __init__(self, a: Tensor):
        super().__init__()
        self.a = a

    def value(self, z: Tensor) -> Tensor:
        return torch.logsumexp(z @ self.a.mT, -1)


ROWS = torch.randn(7, 5, dtype=F64, generator=torch.Generator().manual_seed(0))


def test_a_gradient_that_overflows_is_no_solution() -> None:
    """Burg at v = −10⁶: z = 1e-216 with ‖∇φ‖ = ∞ ≤ ∞ was once taken for one."""
    v = -1e6 * torch.rand(3, 5, dtype=F64, generator=torch.Generator().manual_seed(1))
    found = bln.solve_prox(L.Burg(), LogSumExp(ROWS), v)
    assert found.converged.all()
    slope = torch.softmax(found.z @ ROWS.mT, -1) @ ROWS
    assert torch.allclose(-1 / found.z + slope, v, rtol=1e-13)


def test_an_objective_without_a_floor() -> None:
    v = torch.rand(2, 5, dtype=F64, generator=torch.Generator().manual_seed(1)) + 3
    found = bln.solve_prox(L.Burg(), LogSumExp(ROWS), torch.cat([v, -v]), on_failure="nan")
    assert found.status.tolist() == [4, 4, 0, 0]  # 4: unbounded


@pytest.mark.parametrize("where", [torch.nan, 7.0])
def test_a_start_that_is_no_point_of_the_domain(where: float) -> None:
    v = torch.rand(2, 5, dtype=F64, generator=torch.Generator().manual_seed(2))
    init = torch.full_like(v, 0.5)
    init[1, 2] = where
    found = bln.solve_prox(L.FermiDirac(), LogSumExp(ROWS), v, init=init)
    assert torch.allclose(found.z, bln.bregman_prox(L.FermiDirac(), LogSumExp(ROWS), v), rtol=1e-13)


def test_a_hundred_times_larger() -> None:
    """Almost the largest of linear functions; max_iter stands for gradients, here of 200."""
    v = torch.randn(4, 5, dtype=F64, generator=torch.Generator().manual_seed(3))
    assert bln.solve_prox(L.Energy(), LogSumExp(100 * ROWS), v).converged.all()
