"""The splitting solver where sets are tiny beside v, or squares beyond the floats."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import bilevelnet as bln

F64 = torch.float64
L, R = bln.legendre, bln.regularizers


@pytest.mark.parametrize("phi", [L.Energy(), L.FermiDirac(), L.BoltzmannShannon()], ids=lambda phi: phi.label)
@pytest.mark.parametrize("radius", [1e-20, 1e-40])
def test_what_converged_lies_in_sets_that_are_tiny_beside_v(phi: Any, radius: float) -> None:
    """To 1e-9 of the set: the search leaves eps^0.7 of w, here of size 46 to 92. What floats cannot hold is told."""
    v = torch.tensor([[0.3, -0.7, 1.2], [2.0, 0.1, -3.0]], dtype=F64)
    converged = 0
    for lo, hi in [(-1.0, 1.0), (-2 * radius, radius / 2), (0.2 * radius, 1.0), (0.4 * radius, 1.0)]:
        sol = bln.solve_prox(phi, R.L1Ball(radius) + R.Box(lo, hi), v, solver="splitting", on_failure="ignore")
        done, scaled = sol.status == 0, sol.z / radius
        assert (scaled.abs().sum(-1)[done] <= 1 + 1e-9).all()
        assert ((scaled >= lo / radius - 1e-9) & (scaled <= hi / radius + 1e-9))[done].all()
        converged += int(done.sum())
    assert converged or phi.label == "fermi_dirac"


def test_sizes_whose_squares_are_no_floats() -> None:
    sol = bln.solve_prox(
        L.Energy(),
        R.L1(0.1) + R.L2Ball(1.0),
        torch.tensor([[1e300, 1.0], [1.0, 0.5]], dtype=F64),
        solver="splitting",
        on_failure="ignore",
    )
    assert sol.status.tolist() == [5, 0]


def test_a_solution_at_zero_that_two_terms_make() -> None:
    """w = v − Σ y_i cancels to rounding, and z, its image, with it: that is no miss."""
    g = R.TV1d(0.5) + R.Nonneg()
    v = torch.tensor([[-0.9, 0.3, -0.4, -0.2], [1.0, 0.5, -2.0, 0.1]], dtype=F64)
    sol = bln.solve_prox(L.Mahalanobis(torch.eye(4, dtype=F64) + 0.3), g, v, solver="splitting")
    assert sol.z[0].abs().max() <= 1e-15
