"""Constraints entry by entry: z ≥ 0, lo ≤ z ≤ hi, and max |z| ≤ r."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ..domains import Interval, Nonnegative
from ..errors import InputError
from ..piece import Scalar, Weight
from ..values import readable
from .piecewise_linear import Piecewise


class Nonneg(Piecewise):
    """The indicator of z ≥ 0; prox max(v, 0), conjugate the indicator of y ≤ 0."""

    key = "nonneg"
    slope_names = ("−∞", "0")
    homogeneous = True
    indicator = True

    domain = Nonnegative()  # type: ignore[assignment]

    def pieces(self) -> tuple[Sequence[Scalar], Sequence[Scalar]]:
        return (0.0,), (-math.inf, 0.0)

    def conjugate(self, y: Tensor) -> Tensor:
        return torch.where(y <= 0, y.new_zeros(()), torch.inf)


class Box(Piecewise):
    """The indicator of lo ≤ z ≤ hi; prox clip(v, lo, hi), conjugate max(lo y, hi y).

    An infinite end is no constraint. Raises InputError where lo > hi.
    """

    key = "box"
    slope_names = ("−∞", "0", "∞")
    indicator = True
    examples = ({"lo": 0.2, "hi": 0.7}, {"lo": -1.0, "hi": 0.5})
    lo, hi = Weight(), Weight()

    def __init__(self, lo: Scalar = -math.inf, hi: Scalar = math.inf):
        super().__init__()
        self.lo, self.hi = lo, hi

    def check_weights(self) -> None:
        low, high = (torch.as_tensor(t).detach() for t in (self.lo, self.hi))
        if readable(low, high) and bool((low > high).any()):
            raise InputError(f"box: needs lo <= hi, not lo = {self.lo}, hi = {self.hi}")

    @property
    def domain(self) -> Interval:  # type: ignore[override]
        return Interval(self.lo, self.hi)

    @property
    def homogeneous(self) -> bool:  # type: ignore[override]
        return all(not isinstance(t, Tensor) and t in (0, -math.inf, math.inf) for t in (self.lo, self.hi))

    def pieces(self) -> tuple[Sequence[Scalar], Sequence[Scalar]]:
        return (self.lo, self.hi), (-math.inf, 0.0, math.inf)

    def value(self, z: Tensor) -> Tensor:
        return torch.zeros_like(z)

    def conjugate(self, y: Tensor) -> Tensor:
        return torch.where(y == 0, 0.0, torch.maximum(self.lo * y, self.hi * y))

    def expression(self, z: Any) -> Any:
        ends = [(self.lo, z.__ge__), (self.hi, z.__le__)]
        return 0.0, [at(end) for end, at in ends if not (isinstance(end, float) and math.isinf(end))]


class LinfBall(Piecewise):
    """The indicator of max |z| ≤ radius, which is a box; prox clip(v, −r, r), conjugate r|y|.

    Raises InputError unless radius > 0.
    """

    key = "linf_ball"
    slope_names = ("−∞", "0", "∞")
    indicator = True
    examples = ({}, {"radius": 0.4})
    radius = Weight(low=0)

    def __init__(self, radius: Scalar = 1.0):
        super().__init__()
        self.radius = radius

    def pieces(self) -> tuple[Sequence[Scalar], Sequence[Scalar]]:
        return (-self.radius, self.radius), (-math.inf, 0.0, math.inf)

    def value(self, z: Tensor) -> Tensor:
        return torch.zeros_like(z)

    def conjugate(self, y: Tensor) -> Tensor:
        return self.radius * y.abs()

    def expression(self, z: Any) -> Any:
        return 0.0, [z <= self.radius, z >= -self.radius]
