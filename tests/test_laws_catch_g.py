"""Every law of a g catches the fault that it is there for."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from faults import assert_caught, bump
from torch import Tensor

from bilevelnet import domains, regularizers
from bilevelnet.piece import Strength
from bilevelnet.testing import check_regularizer
from bilevelnet.testing import regularizer as of_g


class Faulty(regularizers.L1):
    """λ|z|, with one thing after another done wrongly."""

    key = ""

    def __init__(self, **faults: Any):
        super().__init__(0.5)
        for name, f in faults.items():
            object.__setattr__(self, name, f)


class Bump(regularizers.Smooth):
    """−z²/4: not convex."""

    def value(self, z: Tensor) -> Tensor:
        return -(z**2) / 4

    def grad(self, z: Tensor) -> Tensor:
        return -z / 2

    def prox(self, v: Tensor, step: Any = 1.0) -> Tensor:
        return v / (1 - step / 2)


def soft(v: Tensor, lam: float) -> Tensor:
    return v.sign() * (v.abs() - lam).clamp(min=0)


class Leaves(regularizers.Nonneg):
    key = ""

    def prox(self, v: Tensor, step: Any = 1.0) -> Tensor:
        return torch.where(v > 0, v, 1e-12 * v)


class Drawn(regularizers.Simplex):
    """A prox onto the simplex that is not the nearest point."""

    key = ""

    def prox(self, v: Tensor, step: Any = 1.0) -> Tensor:
        return v.softmax(-1)


class NoMultiple(regularizers.L1):
    key = ""

    def __mul__(self, weight: Any) -> Any:
        return regularizers.L1(0.5)

    __rmul__ = __mul__


class ExpressedG(regularizers.L1):
    key = ""

    def expression(self, z: Any) -> Any:
        return 2 * super().expression(z)


class Known(regularizers.Separable):
    """z²/4, known by its value, with one wrong declaration after another."""

    def __init__(self, **faults: Any):
        super().__init__()
        for name, f in faults.items():
            object.__setattr__(self, name, f)

    def value(self, z: Tensor) -> Tensor:
        return z**2 / 4


class Weighted(Known):
    """λ z² + z⁴: a strength that leaves a term."""

    lam = Strength()

    def __init__(self, lam: float = 1.0):
        super().__init__()
        self.lam = lam

    def value(self, z: Tensor) -> Tensor:
        return self.lam * z**2 + z**4


G: dict[str, tuple[Any, str]] = {
    "not convex": (Bump, "g lies below its chords"),
    "wrong derivative": (
        lambda: Faulty(derivatives=lambda z: (0.49 * z.sign(), 0.49 * z.sign())),
        "derivatives(z) bound the secants",
    ),
    "kink without its two sides": (
        lambda: Faulty(derivatives=lambda z: (torch.where(z > 0, 0.5, -0.5),) * 2),
        "distance is 0 at the prox",
    ),
    "prox leaves the domain": (Leaves, "prox(v) lies in dom g"),
    "wrong prox": (
        lambda: Faulty(prox=lambda v, step=1.0: soft(v, 0.5 * step * (1 + 1e-6))),
        "(v − prox(v))/step ∈ ∂g(prox(v))",
    ),
    "wrong prox of a vector": (Drawn, "(v − prox(v))/step ∈ ∂g(prox(v))"),
    "step ignored": (
        lambda: Faulty(prox=lambda v, step=1.0: soft(v, 0.5)),
        "the minimiser is within 8 ulp of prox(v)",
    ),
    "wrong conjugate": (
        lambda: Faulty(conjugate=lambda y: torch.where(y.abs() <= 0.5, 1e-6, torch.inf)),
        "Moreau: g(z) + g*(v − z) = ⟨z, v − z⟩",
    ),
    "conjugate too small": (lambda: Faulty(conjugate=lambda y: 0 * y), "g(z) + g*(y) ≥ ⟨z, y⟩"),
    "prox expands": (lambda: Faulty(prox=lambda v, step=1.0: 1.1 * v), "prox is firmly nonexpansive"),
    "multiple ignored": (NoMultiple, "c·g scales value and prox"),
    "prox detached": (
        lambda: Faulty(prox=lambda v, step=1.0: soft(v.detach(), 0.5 * step) + 0 * v),
        "autograd of prox is its slope",
    ),
    "dtype lost": (
        lambda: Faulty(prox=lambda v, step=1.0: soft(v.double(), 0.5 * step)),
        "float32 agrees with float64",
    ),
    "wrong expression": (ExpressedG, "the cvxpy expression is g"),
    "not convex around 20": (lambda: Known(value=bump(20.0, 1.0)), "g lies below its chords"),
    "span with a wrong coefficient": (lambda: Known(span=lambda: {"linear": 1.0}), "span() is g'"),
    "not homogeneous": (lambda: Known(homogeneous=True), "homogeneous: g(cz) = c g(z), cz ∈ dom g"),
    "homogeneous on no cone": (
        lambda: Known(homogeneous=True, value=lambda z: 0 * z, domain=domains.Interval(-1.0, 1.0)),
        "homogeneous: g(cz) = c g(z), cz ∈ dom g",
    ),
    "no indicator": (
        lambda: Known(indicator=True, value=lambda z: (z - 100).clamp(min=0)),
        "an indicator and a g of strength 0 are 0",
    ),
    "a strength that leaves a term": (Weighted, "an indicator and a g of strength 0 are 0"),
    "wrong knot": (lambda: Faulty(pieces=lambda: ((0.01,), (-0.5, 0.5))), "pieces() are the slopes of g"),
    "a slope too many": (lambda: Faulty(pieces=lambda: ((), (-0.5, 0.5))), "pieces() are the slopes of g"),
    "another's terms": (lambda: Known(terms=lambda: (regularizers.L1(0.2),)), "terms() sum to g"),
    "distance 0": (lambda: Faulty(distance=lambda z, y: 0 * z), "distance(z, y) is dist(y, ∂g(z))"),
    "half the distance": (
        lambda: Faulty(distance=lambda z, y: regularizers.L1(0.5).distance(z, y) / 2),
        "distance(z, y) is dist(y, ∂g(z))",
    ),
    "wrong derivative of the prox": (
        lambda: Faulty(prox_jacobian=lambda v, step=1.0, batch_ndim=0: torch.ones_like(v).unsqueeze(-1)),
        "prox_jacobian, prox_product: derivatives of prox",
    ),
    "wrong second derivative": (lambda: Known(hessian=lambda z: 0.501 + 0 * z), "grad and hessian are g' and g''"),
}


@pytest.mark.parametrize("fault", G)
def test_g(fault: str) -> None:
    make, law = G[fault]
    assert_caught(check_regularizer(make(), raises=False), law)


def test_every_law_of_g_has_a_fault() -> None:
    assert {law for _, law in G.values()} == {law.name for law in of_g.LAWS}
