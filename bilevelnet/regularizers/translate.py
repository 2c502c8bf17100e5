"""g(z − s): the graph of g moved by s."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ..domains import Interval, Preimage
from ..piece import Piece, Scalar, Weight
from .base import Regularizer, as_constant
from .piecewise_linear import Piecewise


class Offset(Piece):
    """A shift s that the terms of a translated sum share."""

    s = Weight()

    def __init__(self, s: Scalar):
        super().__init__()
        self.s = s


class Translated(Regularizer):
    """g(z − s) for one term g that is not piecewise linear; prox s + prox_g(v − s), conjugate g*(y) + ⟨s, y⟩.

    Where g' = m z, so is this one's but for a constant slope: its terms are g and the tilt −m s z + m s²/2, and the
    closed forms of g serve.
    """

    def __init__(self, body: Regularizer, offset: Offset):
        super().__init__()
        self.body, self.offset = body, offset
        span = body.span()
        self.tilt = Tilt(body, offset) if span is not None and set(span) == {"linear"} else None

    def terms(self) -> tuple[Regularizer, ...]:
        return (self,) if self.tilt is None else (self.body, self.tilt)

    @property
    def label(self) -> str:
        return _label(self.body, self.offset)

    @property
    def event_ndim(self) -> int:  # type: ignore[override]
        return self.body.event_ndim

    @property
    def dims(self) -> tuple[int, ...]:
        return self.body.dims

    @property
    def dim(self) -> int:
        """The dimension of a vector g."""
        return self.body.dims[0] if self.event_ndim == 1 else -1

    @property
    def width(self) -> int | None:  # type: ignore[override]
        return self.body.width

    @property
    def indicator(self) -> bool:  # type: ignore[override]
        return self.body.indicator

    @property
    def proximable(self) -> bool:
        return self.body.proximable

    @property
    def vanishes(self) -> bool:
        return self.body.vanishes

    @property
    def domain(self) -> Any:  # type: ignore[override]
        domain, s = self.body.domain, self.offset.s
        if not isinstance(domain, Interval):
            return Preimage(domain, lambda z: z - s, self.event_ndim, self._off)
        lo, hi = (e if not isinstance(e, Tensor) and abs(e) == math.inf else e + s for e in (domain.lo, domain.hi))
        return Interval(lo, hi, domain.closed)

    def _off(self, z: Tensor, off: Scalar) -> Tensor:
        # how far the rounded z − s may be from it, z itself being rounded
        return torch.finfo(z.dtype).eps * (z.abs() + abs(self.offset.s)) + off

    def value(self, z: Tensor) -> Tensor:
        return self.body.value(z - self.offset.s)

    def grad(self, z: Tensor) -> Tensor:
        return self.body.grad(z - self.offset.s)

    def hessian(self, z: Tensor) -> Tensor:
        return self.body.hessian(z - self.offset.s)

    def kinks(self) -> Sequence[Scalar]:
        return [t + self.offset.s for t in self.body.kinks()]

    def derivatives(self, z: Tensor) -> tuple[Tensor, Tensor]:
        return self.body.derivatives(z - self.offset.s)

    def distance(self, z: Tensor, y: Tensor) -> Tensor:
        return self.body.distance(z - self.offset.s, y)

    def prox(self, v: Tensor, step: Scalar = 1.0) -> Tensor:
        return self.offset.s + self.body.prox(v - self.offset.s, step)

    def conjugate(self, y: Tensor) -> Tensor:
        inner = self.offset.s * y
        return self.body.conjugate(y) + (self.drop(inner.sum(self.dims, keepdim=True)) if self.event_ndim else inner)

    def expression(self, z: Any) -> Any:
        return self.body.expression(z - as_constant(self.offset.s))


class MovedKnots(Piecewise):
    """g(z − s) for a piecewise-linear g: its knots move by s, and all else follows from them."""

    def __init__(self, body: Regularizer, offset: Offset):
        super().__init__()
        self.body, self.offset = body, offset

    @property
    def label(self) -> str:
        return _label(self.body, self.offset)

    @property
    def indicator(self) -> bool:  # type: ignore[override]
        return self.body.indicator

    @property
    def vanishes(self) -> bool:
        return self.body.vanishes

    def pieces(self) -> tuple[Sequence[Scalar], Sequence[Scalar]]:
        knots, slopes = self.body.pieces()  # type: ignore[misc]
        return [t + self.offset.s for t in knots], slopes

    def value(self, z: Tensor) -> Tensor:
        return self.body.value(z - self.offset.s)

    def conjugate(self, y: Tensor) -> Tensor:
        return self.body.conjugate(y) + self.offset.s * y

    def expression(self, z: Any) -> Any:
        return self.body.expression(z - as_constant(self.offset.s))


def translated(body: Regularizer, offset: Offset) -> Regularizer:
    """g(z − s) for one term g."""
    return Translated(body, offset) if body.pieces() is None else MovedKnots(body, offset)


def _label(body: Regularizer, offset: Offset) -> str:
    s = offset.s
    return f"{body.label}(z − {s:g})" if isinstance(s, float) else f"{body.label}(z − s)"


class Tilt(Piecewise):
    """−m s z + m s²/2, what a translated (m/2) z² has beside (m/2) z²: one slope, no knots."""

    slope_names = ("−ms",)

    def __init__(self, body: Regularizer, offset: Offset):
        super().__init__()
        self.body, self.offset = body, offset

    @property
    def label(self) -> str:
        return "tilt"

    @property
    def vanishes(self) -> bool:
        return self.body.vanishes

    def _slope(self) -> Scalar:
        return -self.body.span()["linear"] * self.offset.s  # type: ignore[index]

    def pieces(self) -> tuple[Sequence[Scalar], Sequence[Scalar]]:
        return (), (self._slope(),)

    def grad(self, z: Tensor) -> Tensor:
        return self._slope() + torch.zeros_like(z)

    def hessian(self, z: Tensor) -> Tensor:
        return torch.zeros_like(z)

    def value(self, z: Tensor) -> Tensor:
        slope = self._slope()
        return slope * z - slope * self.offset.s / 2

    def expression(self, z: Any) -> Any:
        import cvxpy as cp

        slope, s = self._slope(), self.offset.s
        return cp.sum(cp.multiply(slope, z) - cp.multiply(slope, s) / 2 + 0 * z)
