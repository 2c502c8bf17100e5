"""g(z) = λ max(0, 1 − z), the hinge, and g(z) = λ max(|z| − ε, 0), the dead zone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from ..piece import Scalar, Strength, Weight
from .piecewise_linear import Piecewise


class Hinge(Piecewise):
    """g(z) = λ max(0, 1 − z), a margin of 1; conjugate y on −λ ≤ y ≤ 0. Raises InputError where λ < 0."""

    key = "hinge"
    slope_names = ("−λ", "0")
    examples = ({"lam": 0.5},)
    lam = Strength()

    def __init__(self, lam: Scalar = 1.0):
        super().__init__()
        self.lam = lam

    def pieces(self) -> tuple[Sequence[Scalar], Sequence[Scalar]]:
        return (1.0,), (-self.lam, 0.0)

    def value(self, z: Tensor) -> Tensor:
        return self.lam * (1 - z).clamp(min=0)

    def expression(self, z: Any) -> Any:
        import cvxpy as cp

        return cp.sum(cp.multiply(self.lam, cp.pos(1 - z)))


class Deadzone(Piecewise):
    """g(z) = λ max(|z| − ε, 0), the ε-insensitive loss; conjugate ε|y| on |y| ≤ λ.

    Raises InputError unless λ ≥ 0 and ε > 0. (Vapnik, 1995.)
    """

    key = "deadzone"
    slope_names = ("−λ", "0", "λ")
    examples = ({"lam": 0.5, "eps": 0.4},)
    lam, eps = Strength(), Weight(low=0)

    def __init__(self, lam: Scalar = 1.0, eps: Scalar = 1.0):
        super().__init__()
        self.lam, self.eps = lam, eps

    def pieces(self) -> tuple[Sequence[Scalar], Sequence[Scalar]]:
        return (-self.eps, self.eps), (-self.lam, 0.0, self.lam)

    def value(self, z: Tensor) -> Tensor:
        return self.lam * (z.abs() - self.eps).clamp(min=0)

    def expression(self, z: Any) -> Any:
        import cvxpy as cp

        return cp.sum(cp.multiply(self.lam, cp.pos(cp.abs(z) - self.eps)))
