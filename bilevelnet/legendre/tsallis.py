"""The Tsallis entropies: ρ is a power, and on the simplex they give entmax."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..domains import Interval, Negative, Reals
from ..errors import InputError
from ..numerics import signed_power
from ..piece import Scalar, Weight
from ..values import underlying
from .base import Separable


class _OneSide(Weight):
    """α in (0, 1) or in (1, ∞); a learned one stays on the side where it starts."""

    def __set_name__(self, owner: type, name: str) -> None:
        super().__set_name__(owner, name)
        self.sides = (Weight(low=0, high=1), Weight(low=1))
        for side in self.sides:
            side.__set_name__(owner, name)

    def __get__(self, piece: Any, owner: type | None = None) -> Any:
        return self if piece is None else self.sides[piece.steep is False].__get__(piece, owner)

    def __set__(self, piece: Any, value: Any) -> None:
        if not piece.__dict__.get("_built") and isinstance(value, (int, float, Tensor)):
            values = underlying(value) if isinstance(value, Tensor) else torch.tensor(value, dtype=torch.float64)
            if bool((values == 1).any()):
                raise InputError("tsallis: alpha = 1 is the entropy z log z − z: use boltzmann_shannon")
            piece.__dict__["steep"] = bool((values < 1).any())
        self.sides[piece.steep is False].__set__(piece, value)

    def check(self, piece: Any, value: Tensor) -> None:
        self.sides[piece.steep is False].check(piece, value)


class Tsallis(Separable):
    """φ(z) = z^α/(α(α − 1)) on [0, ∞); ∇φ = z^{α−1}/(α − 1), σ = 0 (1 for α = 2).

    0 < α < 1: ∇φ* = [(α − 1)u]^{1/(α−1)} for u < 0, φ* = [(α − 1)u]^{α/(α−1)}/α; for v ≥ 0 there is no minimiser,
    unless g grows at infinity. α > 1: ∇φ is finite at 0, so this is the power function with the constraint z ≥ 0:
    z = [(α − 1)v]₊^{1/(α−1)} and u = max(v, 0). Raises InputError unless α > 0, α ≠ 1 (a tensor: on one side of 1).
    """

    key = "tsallis"
    examples = ({"alpha": 1.5}, {"alpha": 0.5}, {"alpha": 3.0})
    domain = Interval(0.0)
    alpha = _OneSide(low=0)

    def __init__(self, alpha: Scalar):
        super().__init__()
        self.alpha = alpha

    @property
    def dual_domain(self) -> Interval:  # type: ignore[override]
        return Negative() if self.steep else Reals()

    def value(self, z: Tensor) -> Tensor:
        a = self.alpha
        power = signed_power(z, a) if self.steep else z * signed_power(z, a - 1)
        return power / (a * (a - 1))

    def grad(self, z: Tensor) -> Tensor:
        a = self.alpha
        return (z ** (a - 1) if self.steep else signed_power(z, a - 1)) / (a - 1)

    def grad_conjugate(self, u: Tensor) -> Tensor:
        a = self.alpha
        if self.steep:
            return ((a - 1) * u) ** (1 / (a - 1))
        return signed_power((a - 1) * torch.where(u > 0, u, 0.0), 1 / (a - 1))

    def conjugate(self, u: Tensor) -> Tensor:
        a = self.alpha
        if self.steep:
            return ((a - 1) * u) ** (a / (a - 1)) / a
        return (a - 1) / a * u * self.grad_conjugate(u)

    def hessian(self, z: Tensor) -> Tensor:
        return z ** (self.alpha - 2)

    @property
    def strong_convexity(self) -> Scalar:
        return 1.0 if isinstance(self.alpha, float) and self.alpha == 2 else 0.0

    def expression(self, z: Any) -> Any:
        import cvxpy as cp

        if not isinstance(self.alpha, float):
            raise InputError("tsallis with a tensor for alpha has no cvxpy expression: give a number")
        a = self.alpha
        # cvxpy takes even powers on all of ℝ; the inner power keeps z ≥ 0.
        power = cp.power(cp.power(z, 4 / 3), a * 3 / 4) if a in (2, 4, 8) else cp.power(z, a)
        return cp.sum(power) / (a * (a - 1))
