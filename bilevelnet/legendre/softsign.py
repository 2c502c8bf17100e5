"""The Legendre function whose mirror map is the softsign."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..domains import Interval
from ..numerics import log1p_minus
from ..piece import Scalar
from .base import Separable


class Softsign(Separable):
    """φ(z) = −|z| − log(1 − |z|) on (−1, 1); ∇φ = z/(1 − |z|), ∇φ* = u/(1 + |u|), φ* = |u| − log(1 + |u|), σ = 1."""

    key = "softsign"
    domain = Interval(-1.0, 1.0, closed=(False, False))

    def value(self, z: Tensor) -> Tensor:
        return -log1p_minus(-_size(z))

    def grad(self, z: Tensor) -> Tensor:
        return z / (1 - _size(z))

    def grad_conjugate(self, u: Tensor) -> Tensor:
        return u / (1 + _size(u))

    def conjugate(self, u: Tensor) -> Tensor:
        return -log1p_minus(_size(u))

    def hessian(self, z: Tensor) -> Tensor:
        return (1 - z.abs()) ** -2

    @property
    def strong_convexity(self) -> Scalar:
        return 1.0

    def expression(self, z: Any) -> Any:
        import cvxpy as cp

        # −s − log(1 − s) = kl_div(1, 1 − s), and the larger one of s = ±z is that of s = |z|
        return cp.sum(cp.maximum(cp.kl_div(1, 1 - z), cp.kl_div(1, 1 + z)))


def _size(x: Tensor) -> Tensor:
    return torch.where(x < 0, -x, x)  # |x| with the slope 1 at 0, where abs has 0
