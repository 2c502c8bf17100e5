"""g(z) = λ|z|."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ..piece import Scalar, Weight
from .piecewise_linear import Piecewise


class L1(Piecewise):
    """g(z) = λ|z|; prox soft(v, λ), conjugate the indicator of |y| ≤ λ. Raises InputError where λ < 0."""

    key = "l1"
    slope_names = ("−λ", "λ")
    examples = ({"lam": 0.5},)
    lam = Weight(low=0, closed=True)

    def __init__(self, lam: Scalar = 1.0):
        super().__init__()
        self.lam = lam

    def pieces(self) -> tuple[Sequence[Scalar], Sequence[Scalar]]:
        return (0.0,), (-self.lam, self.lam)

    def value(self, z: Tensor) -> Tensor:
        return self.lam * z.abs()

    def conjugate(self, y: Tensor) -> Tensor:
        return torch.where(y.abs() <= self.lam, 0.0, torch.inf)

    def expression(self, z: Any) -> Any:
        import cvxpy as cp

        return self.lam * cp.sum(cp.abs(z))
