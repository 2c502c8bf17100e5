"""The search for a dual point as one operator (see operator.py).

Derivatives are attached outside, by Newton steps with the inverse Jacobian that the operator hands over.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from .operator import define


class Sizes(NamedTuple):
    """Of a search: dimensions of one event of v, dual unknowns of an event, terms, and whether the inverse is asked."""

    event_ndim: int
    width: int
    terms: int
    inverse: bool


class DualPoint(NamedTuple):
    """y (…, M), the step of each term (…, terms), the inverse Jacobian (…, M, M) or an empty one, the code of each
    element and the iterations; none of them with a graph.
    """

    y: Tensor
    steps: Tensor
    inverse: Tensor
    code: Tensor
    iterations: Tensor


def dual_search(
    v: Tensor, start: Tensor | None, tensors: Sequence[Tensor], handle: int, sizes: Sizes, max_iter: int, tol: float
) -> DualPoint:
    """The DualPoint at v, of shape (…, event); ``start`` is y to begin with.

    The family of ``handle`` has ``search(v, start, tensors, sizes, max_iter, tol)``.
    """
    fixed, start = [t.detach() for t in tensors], None if start is None else start.detach()
    return DualPoint(*torch.ops.bilevelnet.dual_search(v.detach(), start, fixed, handle, *sizes, max_iter, tol))


def _search(family: Any, v: Tensor, start: Tensor | None, tensors: list[Tensor], *rest: Any) -> tuple[Tensor, ...]:
    *sizes, max_iter, tol = rest
    if not v.numel():
        return _empty(v, Sizes(*sizes))
    return tuple(t.contiguous() for t in family.search(v, start, tensors, Sizes(*sizes), max_iter, tol))


def _fake(v: Tensor, start: Tensor | None, tensors: list[Tensor], handle: int, *rest: Any) -> tuple[Tensor, ...]:
    *sizes, _, _ = rest
    return _empty(v, Sizes(*sizes))


def _empty(v: Tensor, sizes: Sizes) -> tuple[Tensor, ...]:
    event_ndim, width, terms, inverse = sizes
    batch = v.shape[: v.ndim - event_ndim]
    square = (width, width) if inverse else (0, 0)
    return (
        v.new_empty(*batch, width),
        v.new_empty(*batch, terms),
        v.new_empty(*batch, *square),
        v.new_empty(batch, dtype=torch.int8),
        v.new_zeros((), dtype=torch.int64),
    )


def _vmap(size: int, dims: Any, v: Any, start: Any, tensors: Any, *rest: Any) -> Any:
    if all(d is None for d in dims):
        return torch.ops.bilevelnet.dual_search(v, start, tensors, *rest), (0, 0, 0, 0, None)
    # Tensors of pieces mean one thing only with the shapes that they have: sample by sample.
    runs = []
    for i in range(size):
        own = [t if d is None else t.select(d, i) for t, d in zip(tensors, dims, strict=True)]
        runs.append(torch.ops.bilevelnet.dual_search(v[i], None if start is None else start[i], own, *rest))
    *stacked, iterations = (torch.stack(parts) for parts in zip(*runs, strict=True))
    return (*stacked, iterations.amax()), (0, 0, 0, 0, None)


define(
    "dual_search",
    "SymInt event_ndim, SymInt width, SymInt terms, bool inverse, int max_iter, float tol",
    5,
    _search,
    _fake,
    _vmap,
)
