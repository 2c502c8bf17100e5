"""The conjugate of a sum of regularizers."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from ..errors import InputError
from .calculus import Sum
from .piecewise_linear import linear_conjugate


def conjugate_of_sum(g: Sum, y: Tensor) -> Tensor:
    """g*(y) of a piecewise-linear g, or of one with (m/2)‖z‖² among its terms.

    With s the slope of the linear terms and p the sum of the others, ⟨y, z⟩ − g(z) is largest at
    z = prox_{p/m}((y − s)/m). InputError for other sums, and where the prox is no formula. NaN where a tensor m is 0.
    """
    terms = g.terms()
    pieces: list[Any] = [t.pieces() for t in terms]
    if None not in pieces:
        return linear_conjugate(g, pieces, y)
    weights: list[Any] = [t.span() or {} for t in terms]
    m = sum(w["linear"] for w in weights if set(w) == {"linear"})
    slope = sum(p[1][0] for p in pieces if p is not None and not p[0])
    others = [t for t, w, p in zip(terms, weights, pieces, strict=True) if set(w) != {"linear"} and (p is None or p[0])]
    rest = others[0] if len(others) == 1 else Sum(*others) if others else None
    if (not isinstance(m, Tensor) and m == 0) or not (rest is None or rest.proximable):
        raise InputError(f"{g.label} states no conjugate")
    z = (y - slope) / m
    if rest is not None:
        z = rest.prox(z, 1 / m)
    inner = y * z
    return (g.drop(inner.sum(g.dims, keepdim=True)) if g.event_ndim else inner) - g.value(z)
