"""The hypentropy, an entropy of both signs: ρ is the hyperbolic sine."""

from __future__ import annotations

from torch import Tensor

from ..numerics import hypotenuse
from ..piece import Scalar, Weight
from .base import Separable


class Hypentropy(Separable):
    """φ(z) = z asinh(z/β) − √(z² + β²) on ℝ; ∇φ = asinh(z/β), ∇φ* = β sinh u, φ* = β cosh u, σ = 0.

    Beyond the root of the largest number of the dtype torch's asinh has the derivative 0, so that the one of ``value``
    by autograd is off by 1 there; ``grad`` is not.
    Ghai, Hazan & Singer, Exponentiated gradient meets gradient descent, 2020. Raises InputError unless β > 0.
    """

    key = "hypentropy"
    examples = ({}, {"beta": 0.5})
    beta = Weight(low=0)

    def __init__(self, beta: Scalar = 1.0):
        super().__init__()
        self.beta = beta

    def value(self, z: Tensor) -> Tensor:
        return z * (z / self.beta).asinh() - self._root(z)

    def grad(self, z: Tensor) -> Tensor:
        return (z / self.beta).asinh()

    def grad_conjugate(self, u: Tensor) -> Tensor:
        return self.beta * u.sinh()

    def conjugate(self, u: Tensor) -> Tensor:
        return self.beta * u.cosh()

    def hessian(self, z: Tensor) -> Tensor:
        return 1 / self._root(z)

    def _root(self, z: Tensor) -> Tensor:
        return self.beta * hypotenuse(z / self.beta)
