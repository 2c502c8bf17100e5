"""The Legendre function whose mirror map is the symmetric logarithm."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..numerics import expm1_minus, log1p_minus
from ..piece import Scalar
from .base import Separable


class Symlog(Separable):
    """φ(z) = e^{|z|} − 1 − |z| on ℝ; ∇φ = sign(z)(e^{|z|} − 1), ∇φ* = sign(u) log(1 + |u|).

    φ* = (1 + |u|) log(1 + |u|) − |u|, σ = 1.
    """

    key = "symlog"

    def value(self, z: Tensor) -> Tensor:
        return expm1_minus(_odd(z, z))

    def grad(self, z: Tensor) -> Tensor:
        return _odd(z, _odd(z, z).expm1())

    def grad_conjugate(self, u: Tensor) -> Tensor:
        return _odd(u, _odd(u, u).log1p())

    def conjugate(self, u: Tensor) -> Tensor:
        size = _odd(u, u)
        return size * size.log1p() + log1p_minus(size)

    def hessian(self, z: Tensor) -> Tensor:
        return z.abs().exp()

    @property
    def strong_convexity(self) -> Scalar:
        return 1.0

    def expression(self, z: Any) -> Any:
        import cvxpy as cp

        # the larger one of s = ±z is that of s = |z|
        return cp.sum(cp.maximum(cp.exp(z) - z, cp.exp(-z) + z) - 1)


def _odd(x: Tensor, size: Tensor) -> Tensor:
    return torch.where(x < 0, -size, size)  # of the slope 1 at 0, where sign and abs have 0
