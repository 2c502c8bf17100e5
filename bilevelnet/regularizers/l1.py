"""g(z) = λ|z|, alone and in a box."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ..piece import Scalar, Strength
from .box import Box
from .calculus import Sum
from .piecewise_linear import Piecewise


class L1(Piecewise):
    """g(z) = λ|z|; prox soft(v, λ), conjugate the indicator of |y| ≤ λ. Raises InputError where λ < 0."""

    key = "l1"
    slope_names = ("−λ", "λ")
    homogeneous = True
    examples = ({"lam": 0.5},)
    lam = Strength()

    def __init__(self, lam: Scalar = 1.0):
        super().__init__()
        self.lam = lam

    def pieces(self) -> tuple[Sequence[Scalar], Sequence[Scalar]]:
        return (0.0,), (-self.lam, self.lam)

    def value(self, z: Tensor) -> Tensor:
        return self.lam * z.abs()

    def conjugate(self, y: Tensor) -> Tensor:
        return torch.where(y.abs() <= self.lam, y.new_zeros(()), torch.inf)

    def expression(self, z: Any) -> Any:
        import cvxpy as cp

        return cp.sum(cp.multiply(self.lam, cp.abs(z)))


class L1Box(Sum):
    """g(z) = λ|z| on lo ≤ z ≤ hi; prox clip(soft(v, λ), lo, hi) where lo ≤ 0 ≤ hi, else as the select move says.

    Raises InputError where λ < 0 or lo > hi.
    """

    key = "l1_box"
    examples = ({"lam": 0.5, "lo": -1.0, "hi": 1.0}, {"lam": 0.5, "lo": 0.2, "hi": 0.9})

    def __init__(self, lam: Scalar = 1.0, lo: Scalar = -1.0, hi: Scalar = 1.0):
        super().__init__(L1(lam), Box(lo, hi))
