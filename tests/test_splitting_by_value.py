"""The splitting solver on pieces that state little: a separable φ or g by its value, a φ that is flat at 0."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from by_value import GByValue, PhiByValue
from draws import K, V
from torch import Tensor

import bilevelnet as bln

L, R = bln.legendre, bln.regularizers
GRAPH = (0.4 * R.L1().translate(0.2)).precompose(K) + R.SquaredL2(0.3)


@pytest.mark.parametrize(
    ("phi", "g", "stated"),
    [
        (PhiByValue(L.BoltzmannShannon()), GRAPH, (L.BoltzmannShannon(), GRAPH)),
        (L.Energy(), GByValue(R.L1(0.1)).precompose(K), (L.Energy(), R.L1(0.1).precompose(K))),
    ],
)
def test_a_separable_piece_by_value_does(phi: Any, g: Any, stated: Any) -> None:
    """1e-8, the issue's figure between two solvers."""
    found = bln.solve_prox(phi, g, V)
    assert found.solver == "splitting"
    assert found.converged.all()
    assert (found.z - bln.bregman_prox(*stated, V)).abs().max() <= 1e-8


@pytest.mark.parametrize("phi", [L.Power(4.0) + L.Energy(0.5), L.Power(4.0)], ids=["in φ", "in g"])
def test_a_square_bends_a_power(phi: Any) -> None:
    """(λ/2)‖z‖² in φ or in g is one problem."""
    want = bln.bregman_prox(L.Power(4.0), R.L1(0.3).precompose(K) + R.SquaredL2(0.5), V)
    g = R.L1(0.3).precompose(K) + (R.SquaredL2(0.5) if isinstance(phi, L.Power) else R.Zero())
    found = bln.solve_prox(phi, g, V)
    assert found.solver == "splitting"
    assert torch.allclose(found.z, want, rtol=1e-10, atol=1e-12)


def test_a_search_inside_that_fails_is_not_infeasible() -> None:
    """‖z‖ by its value has a kink at the solution 0, which Newton's method takes for smooth."""

    class Length(R.Regularizer):
        event_ndim = 1

        def value(self, z: Tensor) -> Tensor:
            return 100 * torch.linalg.vector_norm(z, dim=-1)

    found = bln.solve_prox(L.Energy(), Length() + R.TV1d(0.1), V, on_failure="nan")
    assert (found.status == bln.Status.invalid).all()
    with pytest.raises(bln.SolveError, match="it has a kink"):
        bln.bregman_prox(L.Energy(), Length() + R.TV1d(0.1), V)


def test_a_piece_by_value_with_a_weight_for_each_entry_of_the_image() -> None:
    weights = torch.linspace(0.05, 0.2, len(K), dtype=V.dtype)
    found = bln.bregman_prox(L.Energy(), GByValue(R.L1(weights)).precompose(K), V)
    assert torch.allclose(found, bln.bregman_prox(L.Energy(), R.L1(weights).precompose(K), V), rtol=1e-8, atol=1e-10)


class Fold(R.Separable):
    def value(self, z: Tensor) -> Tensor:
        return -0.5 * z.abs()


@pytest.mark.parametrize("g", [Fold().precompose(K), 2.0 * Fold() + R.L2Ball(1.0) + R.TV1d(0.1)], ids=["image", "z"])
def test_a_piece_that_is_not_convex_is_refuted(g: Any) -> None:
    """Away from its kink it is convex, so that nothing is seen at a solution."""
    with pytest.raises(bln.InputError, match="Fold is not convex: at two points"):
        bln.solve_prox(L.Energy(), g, V, on_failure="ignore")
