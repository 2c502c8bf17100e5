"""g(z) = λ Σ |z_{i+1} − z_i|, the one-dimensional total variation."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from ..numerics import tv_prox
from ..piece import Scalar, Strength
from .base import Regularizer


class TV1d(Regularizer):
    """g(z) = λ Σ |z_{i+1} − z_i| along ``dim``; prox by divide and conquer over levels, exact and batched.

    Conjugate: the indicator of {Σ y = 0, |Σ_{j ≤ i} y_j| ≤ λ for every i}. Raises InputError where λ < 0.
    (Rudin, Osher & Fatemi, 1992; the taut string of Davies & Kovac, 2001.)
    """

    key = "tv1d"
    event_ndim = 1
    homogeneous = True
    examples = ({"lam": 0.4},)
    lam = Strength()

    def __init__(self, lam: Scalar = 1.0, dim: int = -1):
        super().__init__()
        self.lam, self.dim = lam, dim

    def value(self, z: Tensor) -> Tensor:
        return (self.lam * z.diff(dim=self.dim).abs().sum(self.dim, keepdim=True)).squeeze(self.dim)

    def prox(self, v: Tensor, step: Scalar = 1.0) -> Tensor:
        c = step * self.lam
        if isinstance(c, Tensor) and c.ndim:
            c = c.reshape((1,) * (v.ndim - c.ndim) + c.shape).movedim(self.dim, -1)
        return tv_prox(v.movedim(self.dim, -1), c).movedim(-1, self.dim)

    def prox_jacobian(self, v: Tensor, step: Scalar = 1.0, batch_ndim: int = 0) -> Tensor:
        # the mean over each flat piece
        if v.ndim - batch_ndim != 1 or self.dim not in (-1, v.ndim - 1):
            return super().prox_jacobian(v, step, batch_ndim)
        z = self.prox(v.detach(), step)
        piece = functional.pad((z.diff(dim=-1) != 0).cumsum(-1), (1, 0))
        same = (piece.unsqueeze(-1) == piece.unsqueeze(-2)).to(z)
        return same / same.sum(-1, keepdim=True)

    def conjugate(self, y: Tensor) -> Tensor:
        sums = y.cumsum(self.dim)
        total = sums.narrow(self.dim, -1, 1)
        sums = sums.narrow(self.dim, 0, y.shape[self.dim] - 1)
        # A rounded y has the sum 0 up to half of its digits.
        balanced = total.abs() <= torch.finfo(y.dtype).eps ** 0.5 * y.abs().sum(self.dim, keepdim=True)
        inside = (sums.abs() <= self.lam).all(self.dim, keepdim=True) & balanced
        return torch.where(inside, y.new_zeros(()), torch.inf).squeeze(self.dim)

    def expression(self, z: Any) -> Any:
        import cvxpy as cp

        return cp.multiply(self.lam, cp.norm1(cp.diff(z))) if z.shape[-1] > 1 else 0.0
