"""φ(z) = log cosh z: ρ is the inverse hyperbolic tangent."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from ..domains import Interval
from ..numerics import log_cosh, two_sided_entropy
from .base import Separable


class LogCosh(Separable):
    """φ(z) = log cosh z on ℝ; ∇φ = tanh z, ∇φ* = artanh u for |u| < 1, φ* = ½[(1+u) log(1+u) + (1−u) log(1−u)], σ = 0.

    dom φ* is [−1, 1]: for |v| ≥ 1 there is no minimiser, unless g grows at infinity. ∇φ saturates: u loses the digits
    of a large z, which z itself keeps.
    """

    key = "log_cosh"
    dual_domain = Interval(-1.0, 1.0)

    def value(self, z: Tensor) -> Tensor:
        return log_cosh(z)

    def grad(self, z: Tensor) -> Tensor:
        # By autograd the slope of tanh is 1 − tanh²: at 20 none of its digits are left.
        e = (-2 * z.abs()).exp()
        far = (1 - e) / (1 + e)
        return torch.where(z.abs() < 1, z.tanh(), torch.where(z < 0, -far, far))

    def grad_conjugate(self, u: Tensor) -> Tensor:
        return u.atanh()

    def conjugate(self, u: Tensor) -> Tensor:
        return two_sided_entropy(u)

    def hessian(self, z: Tensor) -> Tensor:
        e = (-z.abs()).exp()
        return (2 * e / (1 + e * e)) ** 2

    def expression(self, z: Any) -> Any:
        import cvxpy as cp

        return cp.sum(cp.logistic(2 * z) - z - math.log(2))
