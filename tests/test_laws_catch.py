"""Every law of a φ and a g catches the fault that it is there for: one planted fault a law."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from faults import assert_caught
from torch import Tensor

from bilevelnet import domains, legendre, regularizers
from bilevelnet.testing import check_legendre, check_regularizer
from bilevelnet.testing import legendre as of_phi
from bilevelnet.testing import regularizer as of_g


class Half(legendre.Energy):
    """The energy, with one thing after another done wrongly."""

    key = ""

    def __init__(self, **faults: Any):
        super().__init__(2.0)
        for name, f in faults.items():
            object.__setattr__(self, name, f)


class Square(legendre.Separable):
    """z²/2 on [0, ∞): not steep."""

    domain = domains.Interval(0.0)

    def value(self, z: Tensor) -> Tensor:
        return z**2 / 2

    def grad(self, z: Tensor) -> Tensor:
        return 1.0 * z

    def grad_conjugate(self, u: Tensor) -> Tensor:
        return 1.0 * u


class Wave(legendre.Separable):
    """z²/2 + cos 3z: not convex."""

    def value(self, z: Tensor) -> Tensor:
        return z**2 / 2 + (3 * z).cos()

    def grad(self, z: Tensor) -> Tensor:
        return z - 3 * (3 * z).sin()

    def grad_conjugate(self, u: Tensor) -> Tensor:
        return 1.0 * u


class Claims(legendre.Energy):
    """The energy with a σ that is too large."""

    key = ""

    @property
    def strong_convexity(self) -> float:
        return 1.01


class Expressed(legendre.Energy):
    key = ""

    def expression(self, z: Any) -> Any:
        import cvxpy as cp

        return cp.sum_squares(z)


# fault: (φ, the law that must find it)
PHI: dict[str, tuple[Any, str]] = {
    "inverse off by 1e-9": (lambda: Half(grad_conjugate=lambda u: u / 2 * (1 + 1e-9)), "∇φ*(∇φ(z)) = z"),
    "gradient off by 1e-9": (lambda: Half(grad=lambda z: 2 * z * (1 + 1e-9)), "∇φ(∇φ*(u)) = u"),
    "value off by a constant": (lambda: Half(value=lambda z: z**2 + 1e-6), "φ(z) + φ*(u) = ⟨z, u⟩"),
    "wrong conjugate": (lambda: Half(conjugate=lambda u: u**2 / 4.0001), "φ(z) + φ*(u) = ⟨z, u⟩"),
    "conjugate with a dead derivative": (
        lambda: Half(conjugate=lambda u: u.detach() ** 2 / 4 + 0 * u),
        "∇φ* is the derivative of φ*",
    ),
    "wrong gradient": (lambda: Half(grad=lambda z: 2 * z + 0.01 * z**3), "∇φ is the derivative of φ"),
    "value detached": (lambda: Half(value=lambda z: z.detach() ** 2 + 0 * z), "∇φ is the derivative of φ"),
    "wrong gradient, by secants": (lambda: Half(grad=lambda z: 2 * z * 1.001), "secants of φ lie between its slopes"),
    "not convex": (Wave, "secants of φ lie between its slopes"),
    "wrong hessian": (lambda: Half(hessian=lambda z: 2.01 + 0 * z), "φ'' is the derivative of ∇φ"),
    "hessian 0 at 0": (lambda: Half(hessian=lambda z: torch.where(z == 0, 0.0, 2.0)), "φ'' is the derivative of ∇φ"),
    "inverse with a dead derivative at 0": (
        lambda: Half(grad_conjugate=lambda u: u.sign() * u.abs() / 2),
        "∇²φ* = (∇²φ)⁻¹",
    ),
    "inverse detached": (lambda: Half(grad_conjugate=lambda u: u.detach() / 2), "∇²φ* = (∇²φ)⁻¹"),
    "σ too large": (Claims, "⟨∇φ(x) − ∇φ(y), x − y⟩ ≥ σ‖x − y‖²"),
    "not steep": (Square, "|∇φ| → ∞ at the ends of dom φ"),
    "overflow to NaN": (
        lambda: Half(grad_conjugate=lambda u: u / 2 * u.exp() / u.exp()),
        "no NaN at |u| up to 1e4, dtype kept",
    ),
    "dtype lost": (lambda: Half(grad_conjugate=lambda u: u.double() / 2), "no NaN at |u| up to 1e4, dtype kept"),
    "digits lost in float32": (
        lambda: Half(grad_conjugate=lambda u: (u / 2 + 1e3) - 1e3),
        "float32 agrees with float64",
    ),
    "wrong expression": (Expressed, "the cvxpy expression is φ"),
}


@pytest.mark.parametrize("fault", PHI)
def test_phi(fault: str) -> None:
    make, law = PHI[fault]
    assert_caught(check_legendre(make(), raises=False), law)


def test_every_law_of_phi_has_a_fault() -> None:
    assert {law for _, law in PHI.values()} == {law.name for law in of_phi.LAWS}


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
}


@pytest.mark.parametrize("fault", G)
def test_g(fault: str) -> None:
    make, law = G[fault]
    assert_caught(check_regularizer(make(), raises=False), law)


def test_every_law_of_g_has_a_fault() -> None:
    assert {law for _, law in G.values()} == {law.name for law in of_g.LAWS}
