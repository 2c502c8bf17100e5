"""λ‖z‖₂, the group lasso, and the sparse group lasso: g(z) = λ₁‖z‖₁ + λ₂ Σ_G ‖z_G‖₂."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ..errors import InputError
from ..numerics import group_norms, norm
from ..piece import Scalar, Strength
from .base import Regularizer


class GroupNorms(Regularizer):
    """Base of the three: λ₁ = ``_weights()[0]`` (0: none), λ₂ = ``_weights()[1]``, groups of indices along ``dim``.

    prox: with s = soft(v, λ₁), z_G = s_G (1 − λ₂/‖s_G‖)₊ (Yu, On decomposing the proximal map, 2013). Conjugate: the
    indicator of ‖soft(y, λ₁)_G‖ ≤ λ₂ for every G. Without groups z is one group; entries in no group have λ₁ alone.
    """

    event_ndim = 1
    homogeneous = True
    groups: tuple[tuple[int, ...], ...] | None = None

    def __init__(self, groups: Sequence[Sequence[int]] | None, dim: int):
        super().__init__()
        self.groups, self.dim = None if groups is None else _checked(self.key, groups), dim

    def _weights(self) -> tuple[Scalar, Scalar]:
        raise NotImplementedError

    @property
    def width(self) -> int | None:  # type: ignore[override]
        return None if self.groups is None else 1 + max(i for group in self.groups for i in group)

    def _norms(self, z: Tensor) -> Tensor:
        """‖z_G‖ for every group, along ``dim``."""
        if self.groups is None:
            return norm(z, (self.dim,))
        count = len(self.groups)
        return group_norms(z, self._membership(z), count + 1, self.dim).narrow(self.dim, 0, count)

    def _spread(self, x: Tensor, z: Tensor, rest: float) -> Tensor:
        """One number a group, at each entry of the group; ``rest`` at entries in no group."""
        if self.groups is None:
            return x
        end = torch.full_like(x.narrow(self.dim, 0, 1), rest)
        return torch.cat([x, end], self.dim).index_select(self.dim, self._membership(z))

    def _membership(self, z: Tensor) -> Tensor:
        groups, n = self.groups or (), z.shape[self.dim]
        if (largest := max(i for group in groups for i in group)) >= n:
            raise InputError(f"{self.label}: index {largest} in groups, but z has {n} entries along dim {self.dim}")
        index = [len(groups)] * n
        for k, group in enumerate(groups):
            for i in group:
                index[i] = k
        return torch.tensor(index, device=z.device)

    def value(self, z: Tensor) -> Tensor:
        lam1, lam2 = self._weights()
        total = (lam2 * self._norms(z)).sum(self.dim)
        return total if _is_zero(lam1) else total + (lam1 * z.abs()).sum(self.dim)

    def prox(self, v: Tensor, step: Scalar = 1.0) -> Tensor:
        lam1, lam2 = self._weights()
        s, c = v if _is_zero(lam1) else _soft(v, step * lam1), step * lam2
        n = self._norms(s)
        kept = n > c
        factor = torch.where(kept, (n - c) / torch.where(kept, n, 1.0), torch.where(n <= c, n.new_zeros(()), torch.nan))
        # λ₂ = 0 is no norm: 0 stays with the derivative 1
        factor = torch.where((n == 0) & torch.as_tensor(c == 0, device=v.device), 1.0, factor)
        return s * self._spread(factor, s, 1.0)

    def prox_jacobian(self, v: Tensor, step: Scalar = 1.0, batch_ndim: int = 0) -> Tensor:
        if (found := self._slopes(v, step, batch_ndim)) is None:
            return super().prox_jacobian(v, step, batch_ndim)
        scale, radial, s, members = found
        jacobian = ((radial * s).unsqueeze(-1) * s.unsqueeze(-2)).mul_(
            members @ members.mT
        )  # its size is what it costs
        jacobian.diagonal(dim1=-2, dim2=-1).add_(scale)
        return jacobian

    def prox_product(self, v: Tensor, step: Scalar = 1.0, batch_ndim: int = 0) -> Any:
        if (found := self._slopes(v, step, batch_ndim)) is None:
            return super().prox_product(v, step, batch_ndim)
        scale, radial, s, members = found
        return lambda x: scale * x + radial * s * ((s * x) @ members @ members.mT)

    def _slopes(self, v: Tensor, step: Scalar, batch_ndim: int) -> tuple[Tensor, Tensor, Tensor, Tensor] | None:
        """(a, r, s, P): the derivative of s_G(1 − c/n), with n = ‖s_G‖, is (1 − c/n) I + c s s'/n³ where n > c, times
        the slope of s: diag(a) + diag(r s) P P' diag(s), P the groups as columns of 0 and 1.
        """
        lam1, lam2 = self._weights()
        if v.ndim - batch_ndim != 1 or self.dim not in (-1, v.ndim - 1) or _is_zero(lam2):
            return None
        s, c = v if _is_zero(lam1) else _soft(v, step * lam1), step * lam2
        n = self._norms(s)
        kept = n > c
        shrunk = torch.where(kept, c / torch.where(kept, n, 1.0), 1.0)
        radial = self._spread(torch.where(kept, shrunk / torch.where(kept, n, 1.0) ** 2, 0.0), s, 0.0)
        count = 1 if self.groups is None else len(self.groups)
        index = s.new_zeros(s.shape[-1], dtype=torch.int64) if self.groups is None else self._membership(s)
        members = (index.unsqueeze(-1) == torch.arange(count, device=s.device)).to(s)
        moves = s.new_ones(()) if _is_zero(lam1) else (s != 0).to(s)
        return (1 - self._spread(shrunk, s, 0.0)) * moves, radial, s, members

    def conjugate(self, y: Tensor) -> Tensor:
        lam1, lam2 = self._weights()
        s = _soft(y, lam1)
        inside = (self._norms(s) <= lam2).all(self.dim)
        if self.groups is not None:
            inside = inside & ((self._spread(torch.zeros_like(self._norms(s)), s, 1.0) * s) == 0).all(self.dim)
        return torch.where(inside, y.new_zeros(()), torch.inf)

    def distance(self, z: Tensor, y: Tensor) -> Tensor:
        # Where z_G ≠ 0 the gradient of ‖z_G‖ is fixed, and z_i = 0 leaves [−λ₁, λ₁]; where z_G = 0 the set is the sum
        # of a box and a ball.
        lam1, lam2 = self._weights()
        n = self._norms(z)
        moving = self._spread(n, z, 1.0) > 0
        gradient = z / torch.where(moving, self._spread(n, z, 1.0), 1.0) * self._spread(lam2 + 0 * n, z, 0.0)
        gap = torch.where(z != 0, y - lam1 * z.sign() - gradient, _soft(y, lam1))
        still = (self._norms(_soft(y, lam1)) - lam2).clamp(min=0)
        square = (torch.where(moving, gap, 0.0) ** 2).sum(self.dim)
        return (square + torch.where(n > 0, 0.0, still**2).sum(self.dim)).sqrt()

    def expression(self, z: Any) -> Any:
        import cvxpy as cp

        lam1, lam2 = self._weights()
        norms = [cp.norm2(z if self.groups is None else z[list(group)]) for group in self.groups or ((),)]
        if getattr(lam2, "size", 1) not in (1, len(norms)):
            raise InputError(f"{self.label}: the conic solver takes one number for λ, not one a group")
        total = cp.sum(cp.multiply(lam2, cp.hstack(norms)))
        return total if _is_zero(lam1) else total + cp.sum(cp.multiply(lam1, cp.abs(z)))


class L2Norm(GroupNorms):
    """g(z) = λ‖z‖₂ along ``dim``; prox v(1 − λ/‖v‖)₊, conjugate the indicator of ‖y‖₂ ≤ λ. InputError where λ < 0."""

    key = "l2_norm"
    examples = ({"lam": 0.5},)
    lam = Strength()

    def __init__(self, lam: Scalar = 1.0, dim: int = -1):
        super().__init__(None, dim)
        self.lam = lam

    def _weights(self) -> tuple[Scalar, Scalar]:
        return 0.0, self.lam


class GroupLasso(GroupNorms):
    """g(z) = λ Σ_G ‖z_G‖₂ for disjoint groups of indices along ``dim``; prox z_G = v_G(1 − λ/‖v_G‖)₊.

    λ: one number, or a tensor with one a group. Raises InputError where λ < 0, or groups overlap or are empty.
    (Yuan & Lin, 2006.)
    """

    key = "group_lasso"
    examples = ({"lam": 0.5, "groups": ((0, 1), (2, 3))}, {"lam": 0.5, "groups": ((0, 3), (2,))})
    lam = Strength()

    def __init__(self, lam: Scalar = 1.0, groups: Sequence[Sequence[int]] = ((0, 1),), dim: int = -1):
        super().__init__(groups, dim)
        self.lam = lam

    def _weights(self) -> tuple[Scalar, Scalar]:
        return 0.0, self.lam


class SparseGroup(GroupNorms):
    """g(z) = λ‖z‖₁ + λ₂ Σ_G ‖z_G‖₂; prox: the block rule after soft thresholding. One group where none are given.

    Raises InputError where λ or λ₂ < 0, or groups overlap or are empty. (Simon, Friedman, Hastie & Tibshirani, 2013.)
    """

    key = "sparse_group"
    examples = ({"lam": 0.3, "lam2": 0.4}, {"lam": 0.2, "lam2": 0.5, "groups": ((0, 2), (1, 3))})
    lam, lam2 = Strength(), Strength()

    def __init__(
        self, lam: Scalar = 1.0, lam2: Scalar = 1.0, groups: Sequence[Sequence[int]] | None = None, dim: int = -1
    ):
        super().__init__(groups, dim)
        self.lam, self.lam2 = lam, lam2

    def _weights(self) -> tuple[Scalar, Scalar]:
        return self.lam, self.lam2


def _checked(key: str, groups: Sequence[Sequence[int]]) -> tuple[tuple[int, ...], ...]:
    fixed = tuple(tuple(int(i) for i in group) for group in groups)
    every = [i for group in fixed for i in group]
    if not fixed or not all(fixed) or min(every) < 0 or len(set(every)) < len(every):
        raise InputError(f"{key}: groups must be disjoint nonempty lists of indices from 0, not {fixed}")
    return fixed


def _soft(v: Tensor, c: Scalar) -> Tensor:
    if _is_zero(c):
        return v
    return torch.where(v > c, v - c, torch.where(v < -c, v + c, 0.0 * v))


def _is_zero(c: Scalar) -> bool:
    return isinstance(c, float) and c == 0
