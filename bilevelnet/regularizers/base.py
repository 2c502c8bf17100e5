"""The contract of a convex regularizer g, and its calculus."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from ..domains import Interval, Reals
from ..errors import InputError
from ..piece import Piece, Scalar, Weight


class Regularizer(Piece):
    """g: convex, closed, proper.

    A subclass gives ``domain`` and ``value`` (finite on the domain; a constraint lives in ``domain``), and as far as
    they are known ``prox`` (Euclidean), ``conjugate``, ``distance`` and ``expression``. ``event_ndim`` is the number
    of last dimensions of one point: 0 where g is separable. Calculus: ``0.5 * g``, ``g1 + g2``.
    """

    domain: Any = Reals()
    event_ndim: int = 0

    def value(self, z: Tensor) -> Tensor:
        """g(z) on the domain, with the event dimensions reduced."""
        raise NotImplementedError(f"{self.label} does not state value(z)")

    def prox(self, v: Tensor, step: Scalar = 1.0) -> Tensor:
        """argmin_z g(z) + ‖z − v‖²/(2 step)."""
        raise InputError(f"{self.label} has no Euclidean prox in closed form")

    def conjugate(self, y: Tensor) -> Tensor:
        """g*(y) = sup_z ⟨y, z⟩ − g(z)."""
        raise InputError(f"{self.label} states no conjugate")

    def derivatives(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """For a separable g, the ends g'(z−), g'(z+) of ∂g(z); ∓∞ at the ends of the domain."""
        raise NotImplementedError(f"{self.label} does not state derivatives(z)")

    def distance(self, z: Tensor, y: Tensor) -> Tensor:
        """dist(y, ∂g(z)), one number an event: the optimality residual at z for the dual remainder y = v − ∇φ(z).

        For a g that is not separable, unless a subclass knows better: ‖z − prox_g(z + y)‖, which is 0 exactly where
        y ∈ ∂g(z) and never larger than the distance.
        """
        if self.event_ndim:
            return _norm(z - self.prox(z + y), self.event_ndim)
        left, right = self.derivatives(z)
        gap = torch.maximum(torch.maximum(left - y, y - right), torch.zeros_like(y))
        return torch.where(self.domain.contains(z), gap, torch.inf)

    def pieces(self) -> tuple[Sequence[Scalar], Sequence[Scalar]] | None:
        """(knots t_1 ≤ … ≤ t_K, slopes s_0 ≤ … ≤ s_K) where g is separable and piecewise linear, else None."""
        return None

    def span(self) -> dict[str, Scalar] | None:
        """g' as coefficients over the basis of closed_forms/span.py (z, log z, −1/z), or None."""
        return None

    def expression(self, z: Any) -> Any:
        """g(z) as a cvxpy expression of the variable z, or the pair (expression, list of constraints)."""
        raise InputError(f"{self.label} has no cvxpy expression, so the conic solver cannot take it")

    def terms(self) -> tuple[Regularizer, ...]:
        """The terms of which g is the sum."""
        return (self,)

    @property
    def kind(self) -> type[Regularizer]:
        """The class whose formula g has, whatever the weights: the key of the absorb table."""
        return type(self)

    def __add__(self, other: Any) -> Regularizer:
        if not isinstance(other, Regularizer):
            return NotImplemented
        return Sum(self, other)

    def __mul__(self, weight: Any) -> Regularizer:
        if not isinstance(weight, (int, float, Tensor)):
            return NotImplemented
        factor = Factor(weight)
        parts = [Scaled(t, factor) for t in self.terms()]
        return parts[0] if len(parts) == 1 else Sum(*parts)

    __rmul__ = __mul__


class Separable(Regularizer):
    """g(z) = Σ g(z_i): ``value``, ``derivatives`` and ``prox`` act entry by entry on any shape."""


class Smooth(Separable):
    """A separable g that is differentiable on the interior of its domain: one derivative at each point."""

    def grad(self, z: Tensor) -> Tensor:
        """g'(z), entry by entry."""
        raise NotImplementedError(f"{self.label} does not state grad(z)")

    def derivatives(self, z: Tensor) -> tuple[Tensor, Tensor]:
        return (self.grad(z),) * 2


class Sum(Regularizer):
    """g1 + g2 + …, flattened. Where it mixes separable terms with others, those are summed over the event first."""

    def __init__(self, *parts: Regularizer):
        super().__init__()
        if not all(isinstance(p, Regularizer) for p in parts) or not parts:
            raise InputError("a sum of regularizers needs regularizers")
        self.parts = torch.nn.ModuleList(parts)
        domains = [p.domain for p in parts if isinstance(p.domain, Interval)]
        constant = [d for d in domains if d.constant]
        for d in constant:
            lo, hi = max(e.lo for e in constant), min(e.hi for e in constant)
            if lo > hi:
                raise InputError(f"infeasible: the domains of {self.label} do not meet ({lo} > {hi})")

    @property
    def event_ndim(self) -> int:  # type: ignore[override]
        return max(p.event_ndim for p in self.terms())

    @property
    def label(self) -> str:
        return self.key or " + ".join(t.label for t in self.terms())

    def terms(self) -> tuple[Regularizer, ...]:
        return tuple(t for p in self.parts for t in p.terms())  # type: ignore[operator]

    @property
    def domain(self) -> Any:  # type: ignore[override]
        intervals = [t.domain for t in self.terms() if isinstance(t.domain, Interval)]
        others = [t.domain for t in self.terms() if not isinstance(t.domain, Interval)]
        whole = intervals[0] if intervals else Reals()
        for interval in intervals[1:]:
            whole = whole.intersect(interval)
        return Intersection(others, whole) if others else whole

    def value(self, z: Tensor) -> Tensor:
        n = self.event_ndim
        return sum(_reduce(t.value(z), n - t.event_ndim) for t in self.terms())  # type: ignore[return-value]

    def derivatives(self, z: Tensor) -> tuple[Tensor, Tensor]:
        pairs = [t.derivatives(z) for t in self.terms()]
        return sum(p[0] for p in pairs), sum(p[1] for p in pairs)  # type: ignore[return-value]

    def prox(self, v: Tensor, step: Scalar = 1.0) -> Tensor:
        from ..legendre import Energy
        from ..prox import bregman_prox  # reaches up: the three moves know every sum that has a prox

        return bregman_prox(Energy(), step * self, v)

    def expression(self, z: Any) -> Any:
        total, constraints = 0, []
        for t in self.terms():
            e, c = as_pair(t.expression(z))
            total, constraints = total + e, constraints + c
        return total, constraints


class Intersection:
    """The domain of a mixed sum: every part's."""

    event_ndim: ClassVar[int] = 1

    def __init__(self, parts: Sequence[Any], interval: Interval):
        self.parts, self.interval = parts, interval

    def contains(self, z: Tensor) -> Tensor:
        inside = self.interval.contains(z).all(-1)
        for p in self.parts:
            inside = inside & p.contains(z)
        return inside

    def __repr__(self) -> str:
        return " ∩ ".join(repr(p) for p in [*self.parts, self.interval])


class Factor(Piece):
    """A weight c ≥ 0 that the terms of a scaled sum share."""

    c = Weight(low=0, closed=True)

    def __init__(self, c: Scalar):
        super().__init__()
        self.c = c


class Scaled(Regularizer):
    """c g for one term g: c times its weight, slopes and derivatives; its domain stays."""

    def __init__(self, inner: Regularizer, factor: Factor):
        super().__init__()
        self.inner, self.factor = inner, factor

    @property
    def label(self) -> str:
        c = self.factor.c
        return f"{c:g} {self.inner.label}" if isinstance(c, float) else f"c {self.inner.label}"

    @property
    def kind(self) -> type[Regularizer]:
        return self.inner.kind

    @property
    def event_ndim(self) -> int:  # type: ignore[override]
        return self.inner.event_ndim

    @property
    def domain(self) -> Any:  # type: ignore[override]
        return self.inner.domain

    @property
    def lam(self) -> Scalar:
        return self.factor.c * self.inner.lam  # type: ignore[operator, return-value]

    def value(self, z: Tensor) -> Tensor:
        return self.factor.c * self.inner.value(z)

    def derivatives(self, z: Tensor) -> tuple[Tensor, Tensor]:
        left, right = self.inner.derivatives(z)
        return self._times(left), self._times(right)

    def pieces(self) -> tuple[Sequence[Scalar], Sequence[Scalar]] | None:
        pieces = self.inner.pieces()
        return None if pieces is None else (pieces[0], [self._times(s) for s in pieces[1]])

    def span(self) -> dict[str, Scalar] | None:
        span = self.inner.span()
        return None if span is None else {name: self.factor.c * c for name, c in span.items()}

    def prox(self, v: Tensor, step: Scalar = 1.0) -> Tensor:
        return self.inner.prox(v, step * self.factor.c)

    def conjugate(self, y: Tensor) -> Tensor:
        return self.factor.c * self.inner.conjugate(y / self.factor.c)

    def expression(self, z: Any) -> Any:
        e, constraints = as_pair(self.inner.expression(z))
        return self.factor.c * e, constraints

    def _times(self, slope: Scalar) -> Scalar:
        # An infinite slope is a constraint, and stays one at c = 0.
        if isinstance(slope, Tensor):
            return torch.where(slope.isinf(), slope, self.factor.c * slope)
        return slope if math.isinf(slope) else self.factor.c * slope


def as_pair(expression: Any) -> tuple[Any, list[Any]]:
    """(expression, constraints) of what ``Regularizer.expression`` returned."""
    return expression if isinstance(expression, tuple) else (expression, [])


def _reduce(x: Tensor, n: int) -> Tensor:
    return x.sum(tuple(range(-n, 0))) if n else x


def _norm(x: Tensor, n: int) -> Tensor:
    return x.abs() if n == 0 else torch.linalg.vector_norm(x, dim=tuple(range(-n, 0)))
