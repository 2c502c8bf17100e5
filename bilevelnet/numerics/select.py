"""The median rule: where v crosses the graph of a monotone step function."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import Tensor
from torch.nn import functional

Scalar = float | Tensor


def select(v: Tensor, end: Scalar, steps: Iterable[tuple[Scalar, Scalar]]) -> Tensor:
    """w with w + s(w) ∋ v, for s a nondecreasing step function with a jump at each a_k.

    ``steps`` are the pairs (a_k, s(a_k−)) in any order, ``end`` the last slope s(+∞):

        w = max( v − end, max_k min(v − s(a_k−), a_k) ).

    Exact where w rests on a jump, where a sum of clamps would cancel. On a jump, its two edges included,
    dw/dv = dw/ds = 0. Infinite slopes are constraints; a jump at −∞ says nothing, one at +∞ ends the line.
    """
    w: Scalar | None = None if _is(end, math.inf) else _minus(v, end)
    moves = w is not None
    for a, left in steps:
        if _is(a, -math.inf):
            continue
        held = _is(left, -math.inf)
        moves = moves or not held
        candidate = a if held else _lower(_minus(v, left), a)
        w = candidate if w is None else _higher(w, candidate, a)
    if not moves:  # a constant, with v's place in the graph
        w = torch.where(v == v, math.nan if w is None else w, v)
    return w.expand_as(v) if w.ndim < v.ndim else w  # type: ignore[return-value, union-attr]


def _is(x: Scalar, value: float) -> bool:
    return not isinstance(x, Tensor) and x == value


def _minus(v: Tensor, s: Scalar) -> Tensor:
    return v if _is(s, 0.0) else v - s


def _higher(x: Scalar, a: Scalar, level: Scalar) -> Scalar:
    """max(x, a); at a tie and beyond, the derivative is a's. Of two tensors at a tie the one on its level counts."""
    if not isinstance(x, Tensor):
        x, a = a, x
    if not isinstance(x, Tensor):
        return max(x, a)  # type: ignore[type-var]
    if not isinstance(a, Tensor):
        return functional.threshold(x, a, a)
    return torch.where((x < a) | ((x == a) & (a == level)), a, x)


def _lower(x: Tensor, a: Scalar) -> Tensor:
    """min(x, a), likewise."""
    if _is(a, math.inf):
        return x
    if not isinstance(a, Tensor):
        return -functional.threshold(-x, -a, -a)
    return torch.where(x >= a, a, x)
