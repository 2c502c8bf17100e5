"""The sets on which φ and g are finite, as plain objects.

A domain never is a Module: a class default ``domain = Positive()`` would be shadowed by one.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from .errors import InputError

Scalar = float | Tensor


class Domain:
    """A set. ``event_ndim`` is the number of last dimensions that make one point of it."""

    event_ndim = 0

    def contains(self, z: Tensor) -> Tensor:
        """Whether each point lies in the set; shape z.shape[:-event_ndim]."""
        raise NotImplementedError

    def interior(self, z: Tensor) -> Tensor:
        """Whether each point lies in the interior of the set."""
        raise NotImplementedError

    def holds(self, low: float, high: float) -> bool:
        """Whether every tensor with entries in [low, high] lies in the interior, told without a look at them."""
        return False


class Interval(Domain):
    """{z : lo ≤ z ≤ hi}, entry by entry; its ends are numbers or tensors that broadcast with z.

    ``closed`` says which finite ends belong to the set (for messages; the interior is the same).
    """

    def __init__(self, lo: Scalar = -math.inf, hi: Scalar = math.inf, closed: tuple[bool, bool] = (True, True)):
        if not isinstance(lo, Tensor) and not isinstance(hi, Tensor) and not lo <= hi:
            raise InputError(f"an interval needs lo <= hi, not lo = {lo}, hi = {hi}")
        self.lo, self.hi, self.closed = lo, hi, closed

    @property
    def constant(self) -> bool:
        return not isinstance(self.lo, Tensor) and not isinstance(self.hi, Tensor)

    def contains(self, z: Tensor) -> Tensor:
        return (z >= self.lo if self.closed[0] else z > self.lo) & (z <= self.hi if self.closed[1] else z < self.hi)

    def interior(self, z: Tensor) -> Tensor:
        return (z > self.lo) & (z < self.hi)

    def holds(self, low: float, high: float) -> bool:
        return self.constant and bool(low > self.lo and high < self.hi)

    def inner(self) -> float:
        """A number inside, where the ends are numbers."""
        lo, hi = float(self.lo), float(self.hi)
        if math.isinf(lo) or math.isinf(hi):
            return 0.0 if lo < 0 < hi else (lo + 1 if math.isfinite(lo) else hi - 1)
        return (lo + hi) / 2

    def intersect(self, other: Interval) -> Interval:
        return Interval(_larger(self.lo, other.lo), -_larger(-self.hi, -other.hi))  # type: ignore[operator]

    def __eq__(self, other: Any) -> bool:
        return type(other) is type(self) and self.constant and (self.lo, self.hi) == (other.lo, other.hi)

    def __hash__(self) -> int:
        return hash((self.lo, self.hi))

    def __repr__(self) -> str:
        lo, hi = (
            t if not isinstance(t, Tensor) else (t.item() if t.numel() == 1 else "tensor") for t in (self.lo, self.hi)
        )
        shown = [
            "(" if lo == -math.inf or not self.closed[0] else "[",
            ")" if hi == math.inf or not self.closed[1] else "]",
        ]
        return f"{shown[0]}{lo}, {hi}{shown[1]}".replace("inf", "∞")


def Reals() -> Interval:
    """(−∞, ∞)."""
    return Interval()


def Positive() -> Interval:
    """(0, ∞)."""
    return Interval(0.0, math.inf, closed=(False, False))


def Nonnegative() -> Interval:
    """[0, ∞)."""
    return Interval(0.0, math.inf)


def Negative() -> Interval:
    """(−∞, 0)."""
    return Interval(-math.inf, 0.0, closed=(False, False))


class Simplex(Domain):
    """{z : z ≥ 0, Σ z = radius} along ``dim``; its interior is relative."""

    event_ndim = 1

    def __init__(self, radius: Scalar = 1.0, dim: int = -1):
        self.radius, self.dim = radius, dim

    def contains(self, z: Tensor) -> Tensor:
        # The sum of n rounded terms is off by at most n eps Σ|z| (Higham, Accuracy and Stability, 4.2).
        slack = z.shape[self.dim] * torch.finfo(z.dtype).eps * z.abs().sum(self.dim, keepdim=True)
        excess = (z.sum(self.dim, keepdim=True) - self.radius).abs()
        return ((z >= 0) & (excess <= slack)).all(self.dim)

    def interior(self, z: Tensor) -> Tensor:
        return self.contains(z) & (z > 0).all(self.dim)

    def __repr__(self) -> str:
        return f"simplex(radius={self.radius})"


def _larger(a: Scalar, b: Scalar) -> Scalar:
    if not isinstance(a, Tensor) and not isinstance(b, Tensor):
        return max(a, b)
    return torch.maximum(*torch.broadcast_tensors(torch.as_tensor(a), torch.as_tensor(b)))
