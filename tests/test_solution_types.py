"""The types of what a Solution holds, whichever solver found it; arrays where a piece takes numbers."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import bilevelnet as bln

L, R = bln.legendre, bln.regularizers
PAIRS = {
    "closed_form": (L.FermiDirac, lambda: R.L1(0.3)),
    "scalar": (L.FermiDirac, lambda: R.Huber(0.3, 0.5)),
    "multiplier": (L.FermiDirac, R.Simplex),
    "splitting": (L.Energy, lambda: R.TV1d(0.2) + R.Simplex()),
}


@pytest.mark.parametrize("solver", PAIRS)
def test_status_is_int8_and_a_failed_element_has_no_residual_of_0(solver: str) -> None:
    phi, g = (make() for make in PAIRS[solver])
    v = torch.tensor([[0.3, 0.2, 0.1], [0.1, torch.nan, 0.0]], dtype=torch.float64)
    solution = bln.solve_prox(phi, g, v, solver, on_failure="nan")
    assert solution.status.dtype is torch.int8
    assert bool((solution.residual[~solution.converged] != 0).all())
    assert not bool(solution.converged.all())


def test_unbounded_elements_have_no_residual_of_0() -> None:
    for phi in (L.Burg(), L.Burg() + L.Burg(), L.LogCosh()):
        solution = bln.solve_prox(phi, R.Zero(), torch.tensor([-0.5, 3.0]), on_failure="nan")
        assert solution.status.tolist() == [0, bln.Status.unbounded]
        assert not float(solution.residual[1]) < 1


def test_arrays_are_numbers() -> None:
    sets = R.AffineSet(np.array([1.0, 2.0]), 0.5), R.AffineSet(np.eye(2)), R.PiecewiseLinear(np.zeros(1), np.arange(2))
    for g in sets:
        assert not g.tensors()
