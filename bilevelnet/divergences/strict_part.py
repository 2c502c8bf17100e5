"""A strictly convex term of g as the Legendre function of a problem whose divergence has none."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from ..errors import InputError
from ..legendre import Legendre, Separable
from ..piece import Scalar
from ..regularizers import Regularizer, Sum, Zero


class StrictPart(Separable):
    """φ = h for a separable h with h' in the span of z, log z, −1/z: squared_l2, neg_entropy, log_barrier."""

    def __init__(self, term: Any):
        super().__init__()
        self.term = term

    @property
    def label(self) -> str:
        return self.term.label

    @property
    def domain(self) -> Any:  # type: ignore[override]
        return self.term.domain

    @property
    def dual_domain(self) -> Any:  # type: ignore[override]
        from ..closed_forms import span  # reaches up: the table of known inverses

        return span.dual_domain(self.span())

    @property
    def explicit(self) -> bool:
        return True

    @property
    def strong_convexity(self) -> Scalar:
        return self.span().get("linear", 0.0)

    def span(self) -> dict[str, Scalar]:
        return self.term.span()

    def value(self, z: Tensor) -> Tensor:
        return self.term.value(z)

    def grad(self, z: Tensor) -> Tensor:
        return self.term.grad(z)

    def hessian(self, z: Tensor) -> Tensor:
        return self.term.hessian(z)

    def grad_conjugate(self, u: Tensor) -> Tensor:
        from ..closed_forms import span

        coefficients = self.span()
        return span.INVERSES[frozenset(coefficients)][1](u, coefficients)

    def conjugate(self, u: Tensor) -> Tensor:
        return self.term.conjugate(u)

    def expression(self, z: Any) -> Any:
        return self.term.expression(z)


def strict_part(g: Regularizer) -> tuple[Legendre, Regularizer]:
    """(the first strictly convex term of g as φ, the rest of g)."""
    for t in g.terms():
        span = t.span() if t.event_ndim == 0 and t.pieces() is None else None
        if span is not None and len(span) == 1 and all(isinstance(c, Tensor) or c > 0 for c in span.values()):
            rest = [r for r in g.terms() if r is not t]
            return StrictPart(t), Sum(*rest) if len(rest) > 1 else rest[0] if rest else Zero()
    raise InputError(
        f"total variation is piecewise linear in z: with g = {g.label} there may be no minimiser, or many; "
        f"add squared_l2, neg_entropy or log_barrier to g, with which there is one"
    )
