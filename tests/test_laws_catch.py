"""Every law of a φ catches the fault that it is there for: one planted fault a law."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from faults import assert_caught, bump
from torch import Tensor

from bilevelnet import domains, legendre
from bilevelnet.testing import check_legendre
from bilevelnet.testing import legendre as of_phi


class Half(legendre.Energy):
    """The energy, with one thing after another done wrongly."""

    key = ""

    def __init__(self, **faults: Any):
        super().__init__(2.0)
        for name, f in faults.items():
            object.__setattr__(self, name, f)


class Quadratic(legendre.Separable):
    """z²/2, as a user states it."""

    def value(self, z: Tensor) -> Tensor:
        return z**2 / 2

    def grad(self, z: Tensor) -> Tensor:
        return 1.0 * z

    def grad_conjugate(self, u: Tensor) -> Tensor:
        return 1.0 * u


class Square(Quadratic):
    """z²/2 on [0, ∞): not steep."""

    domain = domains.Interval(0.0)


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


class Declared(Quadratic):
    """z²/2, with one wrong declaration after another."""

    def __init__(self, **faults: Any):
        super().__init__()
        for name, f in faults.items():
            object.__setattr__(self, name, f)


class Stiff(legendre.NormPower):
    key = ""

    def hessian_product(self, z: Tensor, x: Tensor) -> Tensor:
        return (1 + 1e-6) * super().hessian_product(z, x)


class OnBall(legendre.NormPower):
    """‖z‖²/2 on the unit ball: not steep."""

    key, domain = "", domains.NormBall(2, 1.0)


class HalfLine(legendre.Separable):
    """z log z − z + z²/4 on z > 0, found by search."""

    domain = domains.Positive()

    def __init__(self, linear: float):
        super().__init__()
        self.linear = linear

    def value(self, z: Tensor) -> Tensor:
        return z * z.log() - z + z**2 / 4

    def span(self) -> Any:
        return {"log": 1.0, "linear": self.linear}


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
    "not convex around 30": (lambda: Declared(value=bump(30.0, 1.0)), "secants of φ lie between its slopes"),
    "not convex around −5000": (lambda: Declared(value=bump(-5e3, 300.0)), "secants of φ lie between its slopes"),
    "span with a wrong coefficient": (lambda: HalfLine(0.25), "span() is ∇φ"),
    "span of an unknown function": (lambda: Declared(span=lambda: {"square": 1.0}), "span() is ∇φ"),
    "dual_domain too small": (
        lambda: Declared(dual_domain=domains.Interval(-50.0, 50.0)),
        "∇φ maps domain into dual_domain, ∇φ* back",
    ),
    "dual_domain too large": (
        lambda: Declared(domain=domains.Positive()),
        "∇φ maps domain into dual_domain, ∇φ* back",
    ),
    "not steep on a ball": (OnBall, "|∇φ| → ∞ at the ends of dom φ"),
    "not radial": (lambda: Declared(radial=True, grad=lambda z: z**3), "radial: ∇φ(z) = c(‖z‖) z, c > 0"),
    "wrong product with the hessian": (lambda: Stiff(3.0), "hessian_product(z, x) = ∇²φ(z) x"),
    "wrong divergence": (
        lambda: Declared(divergence=lambda z, p: (z - p) ** 2),
        "divergence is φ(z) − φ(z⁻) − ⟨∇φ(z⁻), z − z⁻⟩",
    ),
    "wrong sum": (
        lambda: Declared(plus=lambda other: legendre.Energy(3.0)),
        "φ + φ and φ + ½‖·‖² add values and gradients",
    ),
}


@pytest.mark.parametrize("fault", PHI)
def test_phi(fault: str) -> None:
    make, law = PHI[fault]
    assert_caught(check_legendre(make(), raises=False), law)


def test_every_law_of_phi_has_a_fault() -> None:
    assert {law for _, law in PHI.values()} == {law.name for law in of_phi.LAWS}
