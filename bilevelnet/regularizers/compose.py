"""Sums whose Euclidean prox is the composition of the proxes of their terms."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor

from ..piece import Scalar
from .balls import L2Ball
from .base import Regularizer
from .group_norms import GroupNorms
from .nuclear import PsdTrace
from .tv1d import TV1d

Prox = Callable[[Tensor, Scalar], Tensor]


def composed_prox(h: Regularizer, separable: Sequence[Regularizer], g: Regularizer) -> Prox | None:
    """prox_{h+g} for h the sum of piecewise-linear ``separable`` terms and one g that couples the entries, or None.

    prox_g ∘ prox_h where g is a sum of Euclidean norms of groups or the indicator of a Euclidean ball and h is
    positively homogeneous: prox_g scales each group, which leaves ∂h as it is. prox_h ∘ prox_g where g is the total
    variation and h the same function at every entry: prox_h keeps the order of the entries, on which alone the
    subdifferential of g depends. (Yu, On decomposing the proximal map, 2013.)
    """
    if g.kind is L2Ball or issubclass(g.kind, GroupNorms):
        if all(t.homogeneous for t in separable):
            return lambda v, step: g.prox(h.prox(v, step), step)
    elif g.kind is TV1d and all(uniform(t, g.dims[0]) for t in separable):
        return lambda v, step: h.prox(g.prox(v, step), step)
    return None


def prox_of_traces(terms: Sequence[Regularizer]) -> Prox | None:
    """The prox of a sum of traces on the cone: (V − (λ₁ + λ₂)I)₊ = ((V − λ₁I)₊ − λ₂I)₊; None for other terms."""
    if len(terms) < 2 or any(t.kind is not PsdTrace for t in terms):
        return None

    def prox(v: Tensor, step: Scalar) -> Tensor:
        for t in terms:
            v = t.prox(v, step)
        return v

    return prox


def uniform(piece: Any, dim: int) -> bool:
    """Whether a separable function is the same at every entry along ``dim``: the weights on which it depends are."""
    pieces = getattr(piece, "pieces", lambda: None)()
    numbers: list[Any] = piece.tensors() if pieces is None else [x for part in pieces for x in part]
    tensors = [x for x in numbers if isinstance(x, Tensor)]
    return all(x.numel() == 1 or (dim < 0 and (x.ndim < -dim or x.shape[dim] == 1)) for x in tensors)
