"""Sums and nonnegative multiples of regularizers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ..domains import Intersection, Interval, Reals
from ..errors import InputError
from ..numerics import select
from ..piece import Scalar
from .base import Regularizer, as_pair
from .factor import Factor, Product
from .piecewise_linear import constraint_pieces, left_slopes, step_slope


class Sum(Regularizer):
    """g1 + g2 + …, flattened. Where it mixes separable terms with others, those are summed over the event first."""

    def __init__(self, *parts: Regularizer):
        super().__init__()
        if not all(isinstance(p, Regularizer) for p in parts) or not parts:
            raise InputError("a sum of regularizers needs regularizers")
        self.parts = torch.nn.ModuleList(parts)
        domains = [p.domain for p in parts if isinstance(p.domain, Interval)]
        constant = [d for d in domains if d.constant]
        if constant:
            lo, hi = max(d.lo for d in constant), min(d.hi for d in constant)
            inside = all((d.closed[0] or d.lo < lo) and (d.closed[1] or d.hi > hi) for d in constant)
            if lo > hi or (lo == hi and not inside):
                shown = ", ".join(str(d) for d in constant)
                raise InputError(f"infeasible: the domains of {self.label} do not meet: {shown}")

    @property
    def event_ndim(self) -> int:  # type: ignore[override]
        return max([0, *(t.event_ndim for t in self.terms())])

    @property
    def homogeneous(self) -> bool:  # type: ignore[override]
        return all(t.homogeneous for t in self.terms())

    @property
    def width(self) -> int | None:  # type: ignore[override]
        return max((t.width for t in self.terms() if t.width is not None), default=None)

    @property
    def dim(self) -> int:
        """The dimension of the vector terms."""
        return next((t.dims[0] for t in self.terms() if t.event_ndim == 1), -1)

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
        return Intersection([*others, whole]) if others else whole

    def value(self, z: Tensor) -> Tensor:
        values = [(t, t.value(z)) for t in self.terms()]
        if self.event_ndim:
            values = [(t, v if t.event_ndim else self.drop(v.sum(self.dims, keepdim=True))) for t, v in values]
        return sum((v for _, v in values[1:]), values[0][1]) if values else torch.zeros_like(z)

    def derivatives(self, z: Tensor) -> tuple[Tensor, Tensor]:
        left = right = torch.zeros_like(z)
        for t in self.terms():
            below, above = t.derivatives(z)
            left, right = left + below, right + above
        return left, right

    def prox(self, v: Tensor, step: Scalar = 1.0) -> Tensor:
        domain = self.domain
        if isinstance(domain, Interval) and domain.constant and domain.lo == domain.hi:
            return torch.where(v == v, domain.lo, v)  # one point, which may be an end of a term's own domain
        composed = self.composed()
        if composed is not None:
            return composed(v, step)
        # Piecewise-linear and quadratic terms: m z + step ∂p(z) ∋ v, decided at m times the knots.
        pairs: list[Any] = [t.pieces() for t in self.terms()]
        spans = [t.span() for t, p in zip(self.terms(), pairs, strict=True) if p is None]
        if any(s is None or set(s) != {"linear"} for s in spans):
            return solved_prox(self, v, step)
        m = sum((step * s["linear"] for s in spans if s), 1.0)
        pieces = [(p[0], [step_slope(s, step) for s in p[1]]) for p in pairs if p is not None]
        end = sum(slopes[-1] for _, slopes in pieces)
        steps = list(left_slopes(pieces))
        if not spans:
            return select(v, end, steps)
        w = select(v, end, ((m * t, left) for t, left in steps))
        z = w / m
        for t, _ in steps:
            z = torch.where(w == m * t, torch.as_tensor(t, dtype=z.dtype, device=z.device), z)
        return z

    @property
    def proximable(self) -> bool:
        return not self.event_ndim or self.composed() is not None

    def composed(self) -> Any:
        """The prox as a function of (v, step), where it is the composition of the terms' proxes; else None."""
        from .compose import composed_prox, prox_of_traces

        linear = [t for t in self.terms() if t.pieces() is not None]
        others = [t for t in self.terms() if t.pieces() is None]
        if len(others) != 1 or not others[0].event_ndim or not linear:
            return None if linear else prox_of_traces(others)
        return composed_prox(Sum(*linear), linear, others[0])

    def conjugate(self, y: Tensor) -> Tensor:
        from .conjugate import conjugate_of_sum

        return conjugate_of_sum(self, y)

    def expression(self, z: Any) -> Any:
        total: Any = 0
        constraints: list[Any] = []
        for t in self.terms():
            e, c = as_pair(t.expression(z))
            total, constraints = total + e, constraints + c
        return total, constraints


class Scaled(Regularizer):
    """c g for one term g: c times its weight, slopes and derivatives; its domain stays."""

    def __init__(self, inner: Regularizer, factor: Factor | Product):
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
    def dims(self) -> tuple[int, ...]:
        return self.inner.dims

    @property
    def width(self) -> int | None:  # type: ignore[override]
        return self.inner.width

    @property
    def homogeneous(self) -> bool:  # type: ignore[override]
        return self.inner.homogeneous

    @property
    def indicator(self) -> bool:  # type: ignore[override]
        return self.inner.indicator

    @property
    def proximable(self) -> bool:
        return self.inner.proximable

    @property
    def domain(self) -> Any:  # type: ignore[override]
        domain = self.inner.domain
        return Interval(domain.lo, domain.hi) if self._vanishes and isinstance(domain, Interval) else domain

    @property
    def vanishes(self) -> bool:
        return self.inner.vanishes or (self._vanishes and self.domain == Reals())

    @property
    def _vanishes(self) -> bool:
        # 0 g is the indicator of the closure of dom g
        return isinstance(self.factor.c, float) and self.factor.c == 0

    @property
    def lam(self) -> Scalar:
        return self.factor.c * self.inner.lam

    def value(self, z: Tensor) -> Tensor:
        inner = self.inner.value(z)
        return torch.zeros_like(inner) if self._vanishes else self.drop(self.factor.c * self.keep(inner))

    def grad(self, z: Tensor) -> Tensor:
        return torch.zeros_like(z) if self._vanishes else self.factor.c * self.inner.grad(z)

    def hessian(self, z: Tensor) -> Tensor:
        return self.factor.c * self.inner.hessian(z)

    def kinks(self) -> Sequence[Scalar]:
        return self.inner.kinks()

    def derivatives(self, z: Tensor) -> tuple[Tensor, Tensor]:
        if self._vanishes:
            flat = torch.zeros_like(z)
            return torch.where(z > self.domain.lo, flat, -torch.inf), torch.where(z < self.domain.hi, flat, torch.inf)
        left, right = self.inner.derivatives(z)
        return self._times(left), self._times(right)

    def distance(self, z: Tensor, y: Tensor) -> Tensor:
        # dist(y, c ∂g(z)) = c dist(y/c, ∂g(z))
        c = self.factor.c
        if self.indicator:
            return self.inner.distance(z, y)
        if not self.event_ndim or self._vanishes:
            return super().distance(z, y)
        return self.drop(c * self.keep(self.inner.distance(z, y / c)))

    def pieces(self) -> tuple[Sequence[Scalar], Sequence[Scalar]] | None:
        pieces = self.inner.pieces()
        if pieces is None and self._vanishes and not self.event_ndim:
            return constraint_pieces(self.domain)
        return None if pieces is None else (pieces[0], [self._times(s) for s in pieces[1]])

    def span(self) -> dict[str, Scalar] | None:
        span = None if self._vanishes else self.inner.span()
        return None if span is None else {name: self.factor.c * c for name, c in span.items()}

    def prox(self, v: Tensor, step: Scalar = 1.0) -> Tensor:
        if self._vanishes and isinstance(self.domain, Interval):
            return select(v, *_end_and_steps(constraint_pieces(self.domain)))
        return self.inner.prox(v, step if self.indicator else step * self.factor.c)

    def prox_jacobian(self, v: Tensor, step: Scalar = 1.0, batch_ndim: int = 0) -> Tensor:
        if self._vanishes or self.indicator:
            return super().prox_jacobian(v, step, batch_ndim)
        return self.inner.prox_jacobian(v, step * self.factor.c, batch_ndim)

    def prox_product(self, v: Tensor, step: Scalar = 1.0, batch_ndim: int = 0) -> Any:
        if self._vanishes or self.indicator:
            return super().prox_product(v, step, batch_ndim)
        return self.inner.prox_product(v, step * self.factor.c, batch_ndim)

    def conjugate(self, y: Tensor) -> Tensor:
        c = self.factor.c
        if self.indicator:
            return self.inner.conjugate(y)
        if isinstance(c, Tensor) or c > 0:
            return self.drop(c * self.keep(self.inner.conjugate(y / c)))
        if not isinstance(self.domain, Interval):
            raise InputError(f"{self.label} states no conjugate")
        # 0 g is the indicator of dom g, its conjugate the support function
        return torch.where(y == 0, 0.0, torch.maximum(self.domain.lo * y, self.domain.hi * y))

    def expression(self, z: Any) -> Any:
        c: Any = self.factor.c
        if getattr(c, "ndim", 0) and not self.event_ndim:  # one weight an entry
            parts = [as_pair(self.inner.expression(z[i])) for i in range(z.shape[-1])]
            return sum(c[i] * e for i, (e, _) in enumerate(parts)), [k for _, more in parts for k in more]
        domain = self.domain
        if self._vanishes and isinstance(domain, Interval) and domain.constant:  # 0 · ∞ is NaN at an end of dom g
            lo, hi = float(domain.lo), float(domain.hi)
            return 0.0, [z >= lo] * (lo > -math.inf) + [z <= hi] * (hi < math.inf)
        e, constraints = as_pair(self.inner.expression(z))
        return (e if self.indicator else c * e), constraints

    def _times(self, slope: Scalar) -> Any:
        # An infinite slope is a constraint, and stays one at c = 0.
        if isinstance(slope, Tensor):
            return torch.where(slope.isinf(), slope, self.factor.c * slope)
        return slope if abs(slope) == math.inf else self.factor.c * slope


def scaled(term: Regularizer, factor: Factor | Product) -> Regularizer:
    """c g for one term g; the indicator of a set is its own multiple, also by 0."""
    if term.indicator:
        return term
    return Scaled(term.inner, Product(term.factor, factor)) if isinstance(term, Scaled) else Scaled(term, factor)


def _end_and_steps(pieces: Any) -> tuple[Scalar, Any]:
    return pieces[1][-1], left_slopes([pieces])


def solved_prox(g: Regularizer, v: Tensor, step: Scalar = 1.0) -> Tensor:
    """The Euclidean prox of a g that states none, by the solvers; NaN where they find none."""
    from ..legendre import Energy
    from ..prox import bregman_prox  # reaches up

    factor = Factor.unchecked(step)
    times = g._each(lambda t: scaled(t, factor))
    # Solvers that ask for this very prox must not be asked for it.
    solver = "auto" if g.event_ndim else "scalar"
    return bregman_prox(Energy(), times, v, solver, on_failure="nan")
