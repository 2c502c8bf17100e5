"""The sum of two Legendre functions."""

from __future__ import annotations

import math
from typing import Any

from torch import Tensor

from ..domains import Interval
from ..errors import InputError
from ..piece import Scalar
from .base import Legendre


class Total(Legendre):
    """φ₁ + φ₂ of one event, on the intersection of their domains: ∇ = ∇φ₁ + ∇φ₂, σ = σ₁ + σ₂.

    ∇φ* is a formula where the gradients add up to a known span (z, log z, −1/z, e^z), else a root search for separable
    functions. Functions of eigenvalues, of a quadratic form or of a norm on a ball have sums of their own kind
    (``Legendre.plus``).
    ``phi1 + phi2`` builds it. Raises InputError where the events differ, the domains do not meet, or are no intervals.
    """

    def __init__(self, first: Legendre, second: Legendre):
        super().__init__()
        self.first, self.second = first, second
        if first.event_ndim != second.event_ndim:
            raise InputError(
                f"{first.label} acts on {first.event_ndim} dimensions, {second.label} on {second.event_ndim}: "
                f"a sum needs functions of one kind of point"
            )
        a, b = first.domain, second.domain
        if not (isinstance(a, Interval) and isinstance(b, Interval)):
            raise InputError(f"no sum is known on the domains {a} of {first.label} and {b} of {second.label}")
        if a.constant and b.constant and not max(a.lo, b.lo) < min(a.hi, b.hi):
            raise InputError(f"the domains {a} of {first.label} and {b} of {second.label} do not meet")

    @property
    def parts(self) -> tuple[Legendre, Legendre]:
        return self.first, self.second

    @property
    def event_ndim(self) -> int:  # type: ignore[override]
        return self.first.event_ndim

    @property
    def width(self) -> int | None:  # type: ignore[override]
        return self.first.width or self.second.width

    @property
    def steep(self) -> bool:  # type: ignore[override]
        return all(p.steep for p in self.parts)

    @property
    def explicit(self) -> bool:
        return self._inverse() is not None

    @property
    def radial(self) -> bool:  # type: ignore[override]
        return all(p.radial for p in self.parts)

    @property
    def label(self) -> str:
        return f"{self.first.label} + {self.second.label}"

    @property
    def domain(self) -> Any:  # type: ignore[override]
        return self.first.domain.intersect(self.second.domain)

    @property
    def dual_domain(self) -> Any:  # type: ignore[override]
        """The range of ∇φ: all of ℝ beyond a finite end of dom φ, else the sum of what the parts reach there."""
        ends, reach = self.domain, [p.dual_domain for p in self.parts]
        lo = sum(r.lo for r in reach) if _is(ends.lo, -math.inf) else -math.inf
        hi = sum(r.hi for r in reach) if _is(ends.hi, math.inf) else math.inf
        return Interval(lo, hi, closed=(False, False))

    def value(self, z: Tensor) -> Tensor:
        return self.first.value(z) + self.second.value(z)

    def grad(self, z: Tensor) -> Tensor:
        return self.first.grad(z) + self.second.grad(z)

    def grad_conjugate(self, u: Tensor) -> Tensor:
        inverse, coefficients = self._inverse(), self.span()
        if inverse is not None:
            return inverse(u, coefficients)
        if self.event_ndim:
            raise InputError(f"the inverse of ∇φ is not known for φ = {self.label}, which is not separable")
        from ..solvers.inverse import mirror_map

        return mirror_map(self, u)

    def hessian(self, z: Tensor) -> Tensor:
        return self.first.hessian(z) + self.second.hessian(z)  # type: ignore[operator]

    def hessian_product(self, z: Tensor, x: Tensor) -> Tensor:
        """(∇²φ₁(z) + ∇²φ₂(z)) x."""
        return self.first.hessian_product(z, x) + self.second.hessian_product(z, x)

    @property
    def strong_convexity(self) -> Scalar:
        return self.first.strong_convexity + self.second.strong_convexity

    def span(self) -> dict[str, Scalar] | None:
        from ..closed_forms import span

        spans = [p.span() for p in self.parts]
        return None if any(s is None for s in spans) else span.add(spans)  # type: ignore[arg-type]

    def expression(self, z: Any) -> Any:
        return self.first.expression(z) + self.second.expression(z)

    def _inverse(self) -> Any:
        from ..closed_forms import span

        coefficients = self.span()
        known = span.INVERSES.get(frozenset(coefficients)) if coefficients else None
        return known[1] if known else None


def _is(end: Scalar, value: float) -> bool:
    return not isinstance(end, Tensor) and end == value
