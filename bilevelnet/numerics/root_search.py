"""The search for a root of a vector residual as one operator (see operator.py).

Derivatives are attached outside, by Newton steps with the inverse Jacobian that the operator hands over.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from .operator import define


class Root(NamedTuple):
    """z, the inverse Jacobian (…, n, n) or an empty one beyond ``largest`` entries, the code of each event, a bound of
    its error to first order, the spectral radius of ∂T/∂z or NaN, and the iterations; none of them with a graph.
    """

    z: Tensor
    inverse: Tensor
    code: Tensor
    bound: Tensor
    radius: Tensor
    iterations: Tensor


def root_search(
    start: Tensor, tensors: Sequence[Tensor], handle: int, batch_ndim: int, largest: int, max_iter: int, tol: float
) -> Root:
    """The Root from ``start``, of ``batch_ndim`` batch dimensions and one event.

    The family of ``handle`` has ``root(start, tensors, max_iter, tol)``.
    """
    fixed = [t.detach() for t in tensors]
    arguments = handle, batch_ndim, largest, max_iter, tol
    return Root(*torch.ops.bilevelnet.root_search(start.detach(), None, fixed, *arguments))


def _search(family: Any, w: Tensor, start: None, tensors: list[Tensor], *rest: Any) -> tuple[Tensor, ...]:
    batch_ndim, largest, max_iter, tol = rest
    if not w.numel():
        return _empty(w, batch_ndim, largest)
    return tuple(t.contiguous() for t in family.root(w, tensors, max_iter, tol))


def _fake(w: Tensor, start: None, tensors: list[Tensor], handle: int, *rest: Any) -> tuple[Tensor, ...]:
    return _empty(w, *rest[:2])


def _empty(w: Tensor, batch_ndim: int, largest: int) -> tuple[Tensor, ...]:
    batch, n = w.shape[:batch_ndim], w.shape[batch_ndim:].numel()
    size = n if n <= largest else 0
    return (
        torch.empty_like(w, memory_format=torch.contiguous_format),
        w.new_empty(*batch, size, size),
        w.new_empty(batch, dtype=torch.int8),
        w.new_empty(batch),
        w.new_empty(batch),
        w.new_zeros((), dtype=torch.int64),
    )


def _vmap(size: int, dims: Any, w: Tensor, start: None, tensors: Any, *rest: Any) -> Any:
    # The inputs of a residual mean one thing only with the shapes that they have: sample by sample.
    runs = []
    for i in range(size):
        own = [t if d is None else t.select(d, i) for t, d in zip(tensors, dims, strict=True)]
        runs.append(torch.ops.bilevelnet.root_search(w[i], None, own, *rest))
    *stacked, iterations = (torch.stack(parts) for parts in zip(*runs, strict=True))
    return (*stacked, iterations.amax()), (0, 0, 0, 0, 0, None)


define("root_search", "int batch_ndim, int largest, int max_iter, float tol", 6, _search, _fake, _vmap)
