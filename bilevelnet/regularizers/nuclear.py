"""g(Z) = λ Σ σ_i(Z), the nuclear norm, and g(Z) = λ tr Z on Z ⪰ 0, what it is on the cone."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..domains import PositiveSemidefinite
from ..numerics import positive_part
from ..numerics.half import in_float32
from ..piece import Scalar, Strength
from .base import Regularizer


class Nuclear(Regularizer):
    """g(Z) = λ Σ σ_i(Z) on the last two dimensions; prox U soft(S, λ) Vᵀ, conjugate the indicator of σ_1(Y) ≤ λ.

    By the symmetric lift L = [[0, Z], [Zᵀ, 0]] with eigenvalues ±σ_i: the prox is twice the upper right block of
    (L − λI)₊ and Σ σ_i = tr L₊, so derivatives are exact at equal and at zero singular values. Weights have size 1 in
    both dimensions. Raises InputError where λ < 0.
    """

    key = "nuclear"
    event_ndim = 2
    homogeneous = True
    examples = ({"lam": 0.5},)
    lam = Strength()

    def __init__(self, lam: Scalar = 1.0):
        super().__init__()
        self.lam = lam

    def value(self, z: Tensor) -> Tensor:
        trace = positive_part(_lift(self._matrix(z))).diagonal(dim1=-2, dim2=-1).sum(-1)
        return self.drop(self.lam * self.keep(trace))

    def prox(self, v: Tensor, step: Scalar = 1.0) -> Tensor:
        x, c = self._matrix(v), self._weight(torch.as_tensor(step * self.lam, dtype=v.dtype, device=v.device))
        m, n = x.shape[-2:]
        lifted = positive_part(_lift(x) - c * torch.eye(m + n, dtype=v.dtype, device=v.device))
        z = torch.where(c == 0, x, 2 * lifted[..., :m, m:])
        return z if self.event_ndim == 2 else z.flatten(-2)

    @in_float32
    def conjugate(self, y: Tensor) -> Tensor:
        largest = self.keep(torch.linalg.matrix_norm(self._matrix(y), 2))
        return self.drop(torch.where(largest <= self.lam, largest.new_zeros(()), torch.inf))

    @in_float32
    def distance(self, z: Tensor, y: Tensor) -> Tensor:
        # ∂g(Z) = λ(U Vᵀ + W), Uᵀ W = 0, W V = 0, σ_1(W) ≤ 1, with U, V of the singular values that are not 0.
        z, y, lam = self._matrix(z), self._matrix(y), self._weight(self.lam)
        finite = (z + y).isfinite().all(-1).all(-1)
        z, y = (torch.where(finite[..., None, None], t, 0.0) for t in (z, y))
        u, s, vh = torch.linalg.svd(z, full_matrices=False)
        positive = s > 4 * max(z.shape[-2:]) * torch.finfo(z.dtype).eps * s[..., :1]
        u, vh = u * positive.unsqueeze(-2), vh * positive.unsqueeze(-1)
        free = y - u @ (u.mT @ y)
        free = free - (free @ vh.mT) @ vh
        fixed = y - free - lam * (u @ vh)
        beyond = (torch.linalg.svdvals(free).unsqueeze(-2) - lam).clamp(min=0)
        square = fixed.square().sum((-2, -1)) + beyond.square().sum((-2, -1))
        return torch.where(finite, square.sqrt(), torch.nan)

    def expression(self, z: Any) -> Any:
        import cvxpy as cp

        return cp.multiply(self.lam, cp.normNuc(z))

    def _matrix(self, x: Tensor) -> Tensor:
        return x

    def _weight(self, c: Any) -> Any:
        return c


class Nuclear2x2(Nuclear):
    """The nuclear norm of a 2 × 2 matrix given as the vector of its entries, row by row, on the last dimension."""

    key = "nuclear_2x2"
    event_ndim = 1
    width = 4

    def expression(self, z: Any) -> Any:
        import cvxpy as cp

        return super().expression(cp.reshape(z, (2, 2), order="C"))

    def _matrix(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (2, 2))

    def _weight(self, c: Any) -> Any:
        return c.unsqueeze(-1) if isinstance(c, Tensor) and c.ndim else c


class PsdTrace(Regularizer):
    """g(Z) = λ tr Z on symmetric Z ⪰ 0; prox (V − λI)₊, conjugate the indicator of Y ⪯ λI.

    Only the symmetric part of an argument counts. Weights have size 1 in both dimensions. InputError where λ < 0.
    """

    key = "psd_trace"
    event_ndim = 2
    homogeneous = True
    domain = PositiveSemidefinite()
    examples = ({"lam": 0.7},)
    lam = Strength()

    def __init__(self, lam: Scalar = 1.0):
        super().__init__()
        self.lam = lam

    def value(self, z: Tensor) -> Tensor:
        return self.drop(self.lam * self.keep(z.diagonal(dim1=-2, dim2=-1).sum(-1)))

    def prox(self, v: Tensor, step: Scalar = 1.0) -> Tensor:
        return positive_part((v + v.mT) / 2 - step * self.lam * _eye(v))

    @in_float32
    def conjugate(self, y: Tensor) -> Tensor:
        values = torch.linalg.eigvalsh((y + y.mT) / 2)
        # A rounded Y lies in the cone up to half of its digits.
        slack = torch.finfo(y.dtype).eps ** 0.5 * values.abs().amax(-1)
        return self.drop(torch.where(self.keep(values[..., -1] - slack) <= self.lam, y.new_zeros(()), torch.inf))

    @in_float32
    def distance(self, z: Tensor, y: Tensor) -> Tensor:
        # ∂g(Z) = λI − {W ⪰ 0 : W Z = 0}
        rest = (y + y.mT) / 2 - self.lam * _eye(y)
        finite = (z + rest).isfinite().all(-1).all(-1)
        z, rest = (torch.where(finite[..., None, None], t, 0.0) for t in (z, rest))
        values, basis = torch.linalg.eigh((z + z.mT) / 2)
        largest = values.abs().amax(-1, keepdim=True)
        null = basis * (values <= 4 * z.shape[-1] * torch.finfo(z.dtype).eps * largest).unsqueeze(-2)
        free = null @ (null.mT @ rest @ null) @ null.mT
        beyond = torch.linalg.eigvalsh(free).clamp(min=0)
        square = (rest - free).square().sum((-2, -1)) + beyond.square().sum(-1)
        return torch.where(finite, square.sqrt() - values.clamp(max=0).sum(-1), torch.nan)

    def expression(self, z: Any) -> Any:
        import cvxpy as cp

        return cp.multiply(self.lam, cp.trace(z)), [z >> 0]


def _lift(z: Tensor) -> Tensor:
    """[[0, Z], [Zᵀ, 0]]."""
    m, n = z.shape[-2:]
    top = torch.cat([z.new_zeros(*z.shape[:-1], m), z], -1)
    return torch.cat([top, torch.cat([z.mT, z.new_zeros(*z.shape[:-2], n, n)], -1)], -2)


def _eye(z: Tensor) -> Tensor:
    return torch.eye(z.shape[-1], dtype=z.dtype, device=z.device)
