"""g = 0."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..piece import Scalar
from .base import Regularizer, Smooth


class Zero(Smooth):
    """g = 0; prox the identity, conjugate the indicator of {0}. The sum of no terms."""

    key = "zero"
    homogeneous = True
    indicator = True

    def terms(self) -> tuple[Regularizer, ...]:
        return ()

    def value(self, z: Tensor) -> Tensor:
        return torch.zeros_like(z)

    def grad(self, z: Tensor) -> Tensor:
        return torch.zeros_like(z)

    def hessian(self, z: Tensor) -> Tensor:
        return torch.zeros_like(z)

    def prox(self, v: Tensor, step: Scalar = 1.0) -> Tensor:
        return v

    def conjugate(self, y: Tensor) -> Tensor:
        return torch.where(y == 0, y.new_zeros(()), torch.inf)

    def expression(self, z: Any) -> Any:
        return 0.0
