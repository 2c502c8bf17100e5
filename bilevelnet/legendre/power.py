"""φ(z) = |z|^p/p: ρ is the power of the conjugate exponent."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from ..errors import InputError
from ..numerics import signed_power
from ..piece import Scalar, Weight
from .base import Separable


class Power(Separable):
    """φ(z) = |z|^p/p on ℝ, p > 1; with 1/p + 1/q = 1: ∇φ = sign(z)|z|^{p−1}, ∇φ* = sign(u)|u|^{q−1}, φ* = |u|^q/q.

    σ is 1 for p = 2, else 0. At 0 the slope of ∇φ is infinite for p < 2, that of ∇φ* for p > 2; √max of the dtype
    stands for it. Raises InputError unless p > 1.
    """

    key = "power"
    examples = ({"p": 3.0}, {"p": 1.5}, {"p": 2.0})
    p = Weight(low=1)

    def __init__(self, p: Scalar = 2.0):
        super().__init__()
        self.p = p

    def value(self, z: Tensor) -> Tensor:
        return z * self.grad(z) / self.p

    def grad(self, z: Tensor) -> Tensor:
        return signed_power(z, self.p - 1)

    def grad_conjugate(self, u: Tensor) -> Tensor:
        return signed_power(u, 1 / (self.p - 1))

    def conjugate(self, u: Tensor) -> Tensor:
        return u * self.grad_conjugate(u) * ((self.p - 1) / self.p)

    def hessian(self, z: Tensor) -> Tensor:
        return (self.p - 1) * z.abs() ** (self.p - 2)

    @property
    def strong_convexity(self) -> Scalar:
        return 1.0 if isinstance(self.p, float) and self.p == 2 else 0.0

    def span(self) -> dict[str, Scalar] | None:
        return {"linear": 1.0} if isinstance(self.p, float) and self.p == 2 else None

    def expression(self, z: Any) -> Any:
        import cvxpy as cp

        if not isinstance(self.p, float):
            raise InputError("power with a tensor for p has no cvxpy expression: give a number")
        return cp.sum(cp.power(cp.abs(z), self.p)) / self.p
