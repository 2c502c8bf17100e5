"""The sets on which φ and g are finite, as plain objects.

A domain never is a Module: a class default ``domain = Positive()`` would be shadowed by one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from .errors import InputError

Scalar = float | Tensor
Rounding = Callable[[Tensor, Scalar], Tensor]


class Domain:
    """A set. ``event_ndim`` is the number of last dimensions that make one point of it."""

    event_ndim = 0

    def contains(self, z: Tensor, off: Scalar = 0.0) -> Tensor:
        """Whether each point lies in the set, up to entries wrong by ``off``; shape z.shape[:-event_ndim]."""
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

    def contains(self, z: Tensor, off: Scalar = 0.0) -> Tensor:
        low, high = z + off, z - off
        return (low >= self.lo if self.closed[0] else low > self.lo) & (
            high <= self.hi if self.closed[1] else high < self.hi
        )

    def interior(self, z: Tensor) -> Tensor:
        return (z > self.lo) & (z < self.hi)

    def holds(self, low: float, high: float) -> bool:
        return self.constant and bool(low > self.lo and high < self.hi)

    def inner(self) -> float:
        """A number inside, where the ends are numbers."""
        lo, hi = float(self.lo), float(self.hi)
        if lo == -math.inf or hi == math.inf:
            return 0.0 if lo < 0 < hi else (lo + 1 if lo != -math.inf else hi - 1)
        return (lo + hi) / 2

    def intersect(self, other: Interval) -> Interval:
        lo, hi = _larger(self.lo, other.lo), -_larger(-self.hi, -other.hi)  # type: ignore[operator]
        both = (self, other)
        if any(not d.constant for d in both):
            return Interval(lo, hi)
        closed = (all(d.closed[0] or d.lo < lo for d in both), all(d.closed[1] or d.hi > hi for d in both))
        return Interval(lo, hi, closed)

    def __eq__(self, other: Any) -> bool:
        return type(other) is type(self) and self.constant and (self.lo, self.hi) == (other.lo, other.hi)

    def __hash__(self) -> int:
        return hash((self.lo, self.hi))

    def __repr__(self) -> str:
        lo, hi = (
            t if not isinstance(t, Tensor) else (t.item() if t.numel() == 1 else "tensor") for t in (self.lo, self.hi)
        )
        left = "(" if lo == -math.inf or not self.closed[0] else "["
        right = ")" if hi == math.inf or not self.closed[1] else "]"
        return f"{left}{lo}, {hi}{right}".replace("inf", "∞")


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

    def contains(self, z: Tensor, off: Scalar = 0.0) -> Tensor:
        # The sum of n rounded terms is off by at most n eps Σ|z| (Higham, Accuracy and Stability, 4.2).
        slack = (z.shape[self.dim] * torch.finfo(z.dtype).eps * z.abs() + off).sum(self.dim, keepdim=True)
        excess = (z.sum(self.dim, keepdim=True) - self.radius).abs()
        return ((z + off >= 0) & (excess <= slack)).all(self.dim)

    def interior(self, z: Tensor) -> Tensor:
        return self.contains(z) & (z > 0).all(self.dim)

    def __repr__(self) -> str:
        return f"simplex(radius={self.radius})"


class CappedSimplex(Domain):
    """{z : 0 ≤ z ≤ cap, Σ z = radius} along ``dim``; its interior is relative."""

    event_ndim = 1

    def __init__(self, radius: Scalar, cap: Scalar, dim: int = -1):
        self.radius, self.cap, self.dim = radius, cap, dim

    def contains(self, z: Tensor, off: Scalar = 0.0) -> Tensor:
        return Simplex(self.radius, self.dim).contains(z, off) & (z - off <= self.cap).all(self.dim)

    def interior(self, z: Tensor) -> Tensor:
        return self.contains(z) & ((z > 0) & (z < self.cap)).all(self.dim)

    def __repr__(self) -> str:
        return f"capped simplex(radius={self.radius}, cap={self.cap})"


class NormBall(Domain):
    """{z : ‖z‖_p ≤ radius} along ``dim``."""

    event_ndim = 1

    def __init__(self, p: float, radius: Scalar, dim: int = -1):
        self.p, self.radius, self.dim = p, radius, dim

    def contains(self, z: Tensor, off: Scalar = 0.0) -> Tensor:
        # A norm of n rounded terms is off by n eps of itself at most.
        slack = 1 + z.shape[self.dim] * torch.finfo(z.dtype).eps
        return (self._norm(z) <= self.radius * slack + self._norm(off + 0 * z)).squeeze(self.dim)

    def interior(self, z: Tensor) -> Tensor:
        return (self._norm(z) < self.radius).squeeze(self.dim)

    def _norm(self, z: Tensor) -> Tensor:
        return torch.linalg.vector_norm(z, self.p, dim=self.dim, keepdim=True)

    def __repr__(self) -> str:
        return f"{{‖z‖_{self.p:g} ≤ {self.radius}}}"


class AffineSubspace(Domain):
    """{z : A z = b} for A with rows in ``rows`` (k, n); its interior is relative."""

    event_ndim = 1

    def __init__(self, rows: Tensor, level: Scalar):
        self.rows, self.level = rows, level

    def contains(self, z: Tensor, off: Scalar = 0.0) -> Tensor:
        rows, level = self.rows.to(z), torch.as_tensor(self.level).to(z)
        size = 2 * z.shape[-1] * torch.finfo(z.dtype).eps
        slack = (size * z.abs() + off) @ rows.abs().mT + size * level.abs()
        return ((z @ rows.mT - level).abs() <= slack).all(-1)

    def interior(self, z: Tensor) -> Tensor:
        return self.contains(z)

    def __repr__(self) -> str:
        return f"{{Az = b}}, {self.rows.shape[0]} equations"


class Eigenvalues(Domain):
    """{Z : Z symmetric, its eigenvalues in ``interval``}."""

    event_ndim = 2
    symmetric = True

    def __init__(self, interval: Interval):
        self.interval = interval

    def contains(self, z: Tensor, off: Scalar = 0.0) -> Tensor:
        values, slack, good = _eigenvalues(z, off)
        return (self.interval.contains(values - slack) | self.interval.contains(values + slack)).all(-1) & good

    def interior(self, z: Tensor) -> Tensor:
        values, slack, good = _eigenvalues(z)
        return (self.interval.interior(values - slack) & self.interval.interior(values + slack)).all(-1) & good

    def __repr__(self) -> str:
        return f"{{Z : eigenvalues in {self.interval}}}"


def PositiveSemidefinite() -> Eigenvalues:
    """{Z ⪰ 0}."""
    return Eigenvalues(Nonnegative())


def PositiveDefinite() -> Eigenvalues:
    """{Z ≻ 0}."""
    return Eigenvalues(Positive())


def NegativeDefinite() -> Eigenvalues:
    """{Z ≺ 0}."""
    return Eigenvalues(Negative())


class Preimage(Domain):
    """{z : K(z) ∈ domain} for a map K of events to events that says how far its rounded image may be ``off``.

    ``event_ndim`` is that of z.
    """

    def __init__(self, domain: Domain, map: Callable[[Tensor], Tensor], event_ndim: int, off: Rounding | None = None):
        self.domain, self.map, self.event_ndim, self.off = domain, map, event_ndim, off
        self.symmetric = getattr(domain, "symmetric", False)

    def contains(self, z: Tensor, off: Scalar = 0.0) -> Tensor:
        return self._events(self.domain.contains(self.map(z), off if self.off is None else self.off(z, off)), z)

    def interior(self, z: Tensor) -> Tensor:
        return self._events(self.domain.interior(self.map(z)), z)

    def _events(self, inside: Tensor, z: Tensor) -> Tensor:
        return _all_last(inside, inside.ndim - z.ndim + self.event_ndim)

    def __repr__(self) -> str:
        return f"{{z : K(z) ∈ {self.domain!r}}}"


class Intersection(Domain):
    """The points of every part; entry-by-entry parts hold for all entries of an event."""

    def __init__(self, parts: Sequence[Domain]):
        self.parts = tuple(parts)
        self.event_ndim = max(p.event_ndim for p in parts)
        self.symmetric = any(getattr(p, "symmetric", False) for p in parts)

    def contains(self, z: Tensor, off: Scalar = 0.0) -> Tensor:
        return self._every([p.contains(z, off) for p in self.parts])

    def interior(self, z: Tensor) -> Tensor:
        return self._every([p.interior(z) for p in self.parts])

    def _every(self, masks: list[Tensor]) -> Tensor:
        reduced = [_all_last(m, self.event_ndim - p.event_ndim) for m, p in zip(masks, self.parts, strict=True)]
        inside = reduced[0]
        for mask in reduced[1:]:
            inside = inside & mask
        return inside

    def __repr__(self) -> str:
        return " ∩ ".join(repr(p) for p in self.parts)


def _eigenvalues(z: Tensor, off: Scalar = 0.0) -> tuple[Tensor, Tensor, Tensor]:
    """Eigenvalues, the n eps of the largest one to which they are right, and whether z is finite and symmetric."""
    finite = z.isfinite().all(-1).all(-1)
    values = torch.linalg.eigvalsh(torch.where(finite[..., None, None], z, 0.0))
    largest = (off + 0 * z).amax((-2, -1)).unsqueeze(-1)
    slack = z.shape[-1] * (torch.finfo(z.dtype).eps * values.abs().amax(-1, keepdim=True) + largest)
    return values, slack, ((z - z.mT).abs().amax((-2, -1)) <= slack.squeeze(-1)) & finite


def _larger(a: Scalar, b: Scalar) -> Scalar:
    if not isinstance(a, Tensor) and not isinstance(b, Tensor):
        return max(a, b)
    return torch.maximum(*torch.broadcast_tensors(torch.as_tensor(a), torch.as_tensor(b)))


def _all_last(mask: Tensor, n: int) -> Tensor:
    return mask.flatten(-n).all(-1) if n > 0 else mask
