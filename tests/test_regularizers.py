"""The laws of every registered g, and of what the calculus makes of them."""

from __future__ import annotations

import pytest
import torch
from catalog import COMPOSITES, REGULARIZERS, Composite, Spec, cases
from hypothesis import given
from scipy.optimize import minimize_scalar

import bilevelnet as bln
from bilevelnet.piece import Weight
from bilevelnet.testing import check_regularizer, strategies
from bilevelnet.testing.points import Draw, Event, members


@pytest.mark.parametrize("spec", cases(REGULARIZERS))
def test_laws(spec: Spec, device: str) -> None:
    check_regularizer(spec.build().to(device), device=device)


@pytest.mark.parametrize("composite", [pytest.param(c, id=c.name) for c in COMPOSITES])
def test_laws_of_the_calculus(composite: Composite, device: str) -> None:
    check_regularizer(composite.build().to(device), device=device)


@given(strategies.regularizer_pieces())
def test_laws_at_drawn_weights(g: bln.regularizers.Regularizer) -> None:
    check_regularizer(g)


@given(strategies.sums())
def test_laws_of_drawn_sums(g: bln.regularizers.Regularizer) -> None:
    check_regularizer(g)


@pytest.mark.parametrize("spec", cases([s for s in REGULARIZERS if not s.build().event_ndim]))
def test_prox_minimises_by_brute_force(spec: Spec) -> None:
    """scipy's bounded scalar search reads values alone; half the digits is what values can give."""
    import torch

    g = spec.build()
    z = members(g, Event(()), Draw())
    lo, hi = float(z.min()) - 6, float(z.max()) + 6
    lo, hi = max(lo, float(g.domain.lo)), min(hi, float(g.domain.hi))
    for v in (-2.3, -0.4, 0.05, 0.55, 1.9):
        point = torch.tensor(v, dtype=torch.float64)

        def objective(x: float, v: float = v) -> float:
            return float(g.value(torch.tensor(x, dtype=torch.float64))) + (x - v) ** 2 / 2

        best = minimize_scalar(objective, bounds=(lo, hi), method="bounded", options={"xatol": 1e-10})
        assert abs(float(g.prox(point)) - best.x) <= 1e-5, v


class Tilted(bln.regularizers.Separable):
    """λ cosh z + |z − 0.3|: λ = 0 leaves a term."""

    lam = Weight(low=0, closed=True)

    def __init__(self, lam: float) -> None:
        super().__init__()
        self.lam = lam

    def value(self, z: torch.Tensor) -> torch.Tensor:
        return self.lam * z.cosh() + (z - 0.3).abs()


def test_a_weight_0_need_not_mean_that_g_is_0() -> None:
    v = torch.tensor([0.0, 0.5, 2.0], dtype=torch.float64)
    z = bln.bregman_prox(bln.legendre.Energy(), Tilted(0.0) + bln.regularizers.SquaredL2(1.0), v)
    torch.testing.assert_close(z, torch.tensor([0.3, 0.3, 0.5], dtype=torch.float64), rtol=0.0, atol=1e-15)
