"""The equations of balls and norms: one multiplier s > 0, x = log s."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ..errors import InputError
from ..legendre import Legendre
from ..maps import Map
from ..numerics import norm
from ..regularizers import L1, SquaredL2, Sum
from ..regularizers.calculus import Scaled
from ..regularizers.compose import uniform
from ..values import readable, tracked
from .equation import Equation
from .l1_ball import at_zero


class L2BallEquation(Equation):
    """‖z‖₂ = r: g gains (s/2) z², and r − ‖z‖₂ increases with s."""

    compact = True

    def __init__(self, term: Any):
        super().__init__(term)
        self.piece: Any = SquaredL2(torch.zeros(()))

    def _size(self, z: Tensor) -> Tensor:
        return norm(z, (self.dim,))

    def set(self, x: Tensor) -> None:
        self.piece._buffers["lam_value"] = x.exp()

    def last(self, x: Tensor) -> Tensor:
        return x.clamp(max=math.log(_largest(x)) / 2)  # beyond it s z may overflow

    def target(self, v: Tensor) -> Tensor:
        return torch.as_tensor(self.constraint.radius, dtype=v.dtype, device=v.device)

    def normal(self, z: Tensor, v: Tensor) -> Any:
        return unit(z, self._size(z))

    def residual(self, x: Tensor, z: Tensor, u: Tensor, v: Tensor) -> Tensor:
        return self.constraint.radius - self._size(z)

    def size(self, value: Tensor, slope: Tensor, x: Tensor, z: Tensor, v: Tensor) -> Tensor:
        return 2 * self.constraint.radius - value

    def slope(self, x: Tensor, z: Tensor, gain: Tensor, v: Tensor) -> Tensor:
        return x.exp() * self._sum(self.normal(z, v) * z * gain)  # dz/ds = −z dz/dv

    def inactive(self, free: Any, v: Tensor, keep: Tensor) -> Tensor | None:
        with torch.no_grad():
            return self._size(free.gain(v)[0]) <= self.constraint.radius

    def guess(self, z: Tensor, u: Tensor, v: Tensor, keep: Tensor) -> Tensor:
        return (norm(v - u, (self.dim,)) / norm(z, (self.dim,))).log()


class Norm(Equation):
    """λ₁‖z‖₁ + λ₂ N(z) for a norm N: where 0 solves the problem, no multiplier is needed."""

    bounded = False

    def weights(self, like: Tensor) -> tuple[Any, Any]:
        """(λ₁, λ₂)."""
        raise NotImplementedError

    def _dual_norm(self, gap: Tensor) -> Tensor:
        """The dual norm of N."""
        raise NotImplementedError

    @torch.no_grad()
    def inactive(self, free: Any, v: Tensor, keep: Tensor) -> Tensor | None:
        """z = 0, where ∇φ(0) is finite: dist(v − ∇φ(0), Σ ∂h(0)) is at most the weight, in the dual norm."""
        domain = self.phi.domain
        starts_at_0 = not self.phi.steep and domain.constant and domain.lo == 0  # z ≥ 0 is then part of dom φ
        if not starts_at_0 and domain.constant and not domain.holds(0.0, 0.0):
            return None
        low, high = at_zero(self.phi, self.separable, v)
        lam1, lam2 = self.weights(v)
        low, high = low - lam1, high + lam1
        gap = torch.where(v < low, low - v, torch.where(v > high, v - high, 0.0))
        return self._dual_norm(torch.where(keep, gap, 0.0)) <= lam2

    def resting(self, free: Any, v: Tensor) -> tuple[Tensor, Tensor]:
        zero = torch.zeros_like(v)
        return zero, self.phi.grad(zero)


class NormEquation(Norm):
    """λ₁‖z‖₁ + λ₂‖z‖₂ at z ≠ 0: with s = ‖z‖₂, g gains λ₁|z| + (λ₂/2s) z², and log s − log ‖z(s)‖ increases."""

    def __init__(self, term: Any):
        super().__init__(term)
        self.piece: Any = Sum(L1(torch.zeros(())), SquaredL2(torch.zeros(())))

    def weights(self, like: Tensor) -> tuple[Any, Any]:
        """(λ₁, λ₂)."""
        lam1, lam2 = self.constraint._weights()
        c = self.term.factor.c if isinstance(self.term, Scaled) else 1.0
        return c * lam1, c * lam2

    def set(self, x: Tensor) -> None:
        lam1, lam2 = self.weights(x)
        first, second = self.piece.parts
        first._buffers["lam_value"] = torch.as_tensor(lam1, dtype=x.dtype, device=x.device)
        second._buffers["lam_value"] = (lam2 * (-x).exp()).clamp(max=_largest(x))  # ∞ · 0 on the way; see ``vanishing``

    def fix(self, inner: Any, x: Tensor, v: Tensor) -> None:
        with torch.no_grad():
            self.fixed = x.detach(), inner.point(self.shifted(x, v))[0]

    def point(self, inner: Any, x: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """(z, u) with ∇ψ(z) + μ z = v, μ = λ₂/s.

        The derivative of z in μ has the size of z², which may overflow where z does not. So μ is held at μ₀ and what it
        changes, (λ₂/s − μ₀) z, is taken from v: 0 in value. With z fixed in it z gets its first derivative, and with
        that z in it the second.
        """
        if not tracked(x, v, *self._learned(x)):
            return self._in_range(x, *inner.point(self.shifted(x, v)))
        root, z = self.fixed
        size, shrunk = root.exp(), (root - x).exp()  # z/s as (z/s₀)(s₀/s): no factor is far from 1 in its derivatives
        shifted = self.shifted(root, v)
        rate, lam2 = self.piece.parts[1].lam.detach(), self.weights(x)[1]
        self.piece.parts[1]._buffers["lam_value"] = rate
        for _ in range(2):
            moved = lam2 * (z / size * shrunk) - rate * z
            z, u = inner.point(shifted - (moved - moved.detach()))
        return self._in_range(x, z, u)

    @torch.no_grad()
    def vanishing(self, x: Tensor) -> Tensor:
        """Where s or λ₂/s is beyond the range of floats: z is 0 to rounding, and was held up by the largest weight."""
        return (x <= math.log(2 * torch.finfo(x.dtype).tiny)) | (self.weights(x)[1] * (-x).exp() > _largest(x))

    def _in_range(self, x: Tensor, z: Tensor, u: Tensor) -> tuple[Tensor, Tensor]:
        """(z, u), and (0, u) with v − u in λ₂ times the unit ball where z vanishes: there ∇φ*(u) = 0 in floats."""
        vanishing = self.vanishing(x)
        if readable(vanishing) and not vanishing.is_cuda and not bool(vanishing.any()):
            return z, u
        held = self.piece.parts[1].lam * z
        whole = u + (held - self.weights(x)[1] * unit(z, norm(z, (self.dim,)))).detach()
        return torch.where(vanishing, 0.0, z), torch.where(vanishing, whole, u)

    def _learned(self, like: Tensor) -> list[Tensor]:
        return [w for w in self.weights(like) if isinstance(w, Tensor)]

    def residual(self, x: Tensor, z: Tensor, u: Tensor, v: Tensor) -> Tensor:
        # ‖z‖ may underflow on the way; a tiny floor keeps the sign.
        return x - torch.log(norm(z, (self.dim,)).clamp(min=torch.finfo(z.dtype).tiny))

    def size(self, value: Tensor, slope: Tensor, x: Tensor, z: Tensor, v: Tensor) -> Tensor:
        return x.abs() + (x - value).abs()

    def slope(self, x: Tensor, z: Tensor, gain: Tensor, v: Tensor) -> Tensor:
        # dz/ds = (λ₂/s²) z dz/dv
        shrink = self.weights(x)[1] * (-x).exp()
        return 1 - shrink * self._sum(unit(z, norm(z, (self.dim,))).square() * gain)

    def _dual_norm(self, gap: Tensor) -> Tensor:
        return norm(gap, (self.dim,))

    def guess(self, z: Tensor, u: Tensor, v: Tensor, keep: Tensor) -> Tensor:
        return norm(torch.where(keep, z, 0.0), (self.dim,)).log()


class GroupEquation(NormEquation):
    """The same for every group: v is gathered as (group, …, member), which weights of the batch follow, short groups
    padded with masked entries.

    An entry in no group is a group of its own with λ₂ = 0.
    """

    def __init__(self, term: Any):
        super().__init__(term)
        self.axis, self.dim = self.dim, -1

    def bind(self, phi: Legendre, separable: list[Any], free: Map, make: Callable[[list[Any]], Map]) -> Map:
        if not all(uniform(p, self.axis) for p in (phi, *separable)):
            raise InputError(
                f"weights that differ along the event cannot follow v into the groups of {self.term.label}"
            )
        return super().bind(phi, separable, free, make)

    def weights(self, like: Tensor) -> tuple[Any, Any]:
        lam1, lam2 = super().weights(like)
        if self.constraint.groups is None:
            return lam1, lam2
        count = len(self.constraint.groups)
        lam2 = torch.atleast_1d(torch.as_tensor(lam2, dtype=like.dtype, device=like.device))
        lam2 = lam2.expand(*lam2.shape[:-1], count).movedim(-1, 0)
        lam2 = torch.cat([lam2, lam2.new_zeros(like.shape[0] - count, *lam2.shape[1:])]).unsqueeze(-1)
        return lam1, lam2.reshape(len(lam2), *[1] * (like.ndim - lam2.ndim), *lam2.shape[1:])

    def gather(self, v: Tensor) -> Tensor:
        self.axis_of_v = self.axis if self.axis < 0 else self.axis - v.ndim
        v = v.movedim(self.axis_of_v, -1)
        if self.constraint.groups is None:
            return v
        n = v.shape[-1]
        known = [list(group) for group in self.constraint.groups]
        if max(map(max, known)) >= n:
            raise InputError(f"{self.constraint.label}: index {max(map(max, known))} in groups, but z has {n} entries")
        alone = sorted(set(range(n)) - {i for group in known for i in group})
        groups = known + [[i] for i in alone]
        width = max(map(len, groups))
        self.index = [i for group in groups for i in group + [n] * (width - len(group))]
        self.back = [self.index.index(i) for i in range(n)]
        padded = torch.cat([v, v.new_full((*v.shape[:-1], 1), -torch.inf)], -1)
        return padded[..., self.index].unflatten(-1, (len(groups), width)).movedim(-2, 0)

    def scatter(self, x: Tensor) -> Tensor:
        if self.constraint.groups is not None:
            x = x.expand(*x.shape[:-1], len(self.index) // len(x)).movedim(0, -2).flatten(-2)[..., self.back]
        return x.movedim(-1, self.axis_of_v)


def _largest(x: Tensor) -> float:
    return torch.finfo(x.dtype).max


def unit(z: Tensor, size: Tensor) -> Tensor:
    """z/‖z‖, 0 at 0."""
    return z / torch.where(size > 0, size, 1.0)
