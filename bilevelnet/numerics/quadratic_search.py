"""Quadratic programs, and the equations of their active rows, as operators (see operator.py).

Vectors have the whole batch in front, and so have matrices, or nothing: (n, n) where every program has the same.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from .kkt import HARD
from .kkt_scaling import scaled
from .operator import define, register
from .quadratic import minimise


class Minimum(NamedTuple):
    """z (…, n), w = (y, λ) (…, r), the active rows (…, r), a code an element (…), the interior steps ()."""

    z: Tensor
    w: Tensor
    active: Tensor
    code: Tensor
    iterations: Tensor


class _Programs:
    """What the handle names: there is one search for all programs."""


_PROGRAMS = _Programs()
_HANDLE = register(_PROGRAMS)


def quadratic(
    q_matrix: Tensor, q: Tensor, c: Tensor, d: Tensor, p: int, start: Tensor | None, max_iter: int, tol: float
) -> Minimum:
    """The Minimum of ½ zᵀQz + qᵀz under (C z − d)_i = 0 for i < p, ≤ 0 for the others; no derivatives."""
    tensors = [q_matrix.detach(), c.detach(), d.detach()]
    start = None if start is None else start.detach()
    return Minimum(*torch.ops.bilevelnet.quadratic(q.detach(), start, tensors, _HANDLE, p, max_iter, tol))


def equations(a: Tensor, b: Tensor, q_matrix: Tensor, c: Tensor, active: Tensor) -> tuple[Tensor, Tensor]:
    """(z, w) of Q z + Cᵀw = a, (C z)_i = b_i in the active rows, w_i = 0 in the others; no derivatives.

    Where the equations contradict or leave freedom: of the nearest ones that do not, the solution of least size.
    """
    tensors = [q_matrix.detach(), c.detach(), b.detach(), active.detach()]
    z, w = torch.ops.bilevelnet.kkt(a.detach(), None, tensors, _HANDLE)
    return z, w


def _flat(x: Tensor, batch: torch.Size, events: int) -> Tensor:
    """x with one batch dimension, or none where it is shared."""
    event = x.shape[-events:]
    return x if x.ndim == events == 2 else x.expand(*batch, *event).reshape(batch.numel(), *event)


def _quadratic(family: Any, q: Tensor, start: Tensor | None, tensors: list[Tensor], *rest: Any) -> tuple[Tensor, ...]:
    q_matrix, c, d = tensors
    p, max_iter, tol = rest
    batch = q.shape[:-1]
    if not batch.numel():
        return _empty(q, start, tensors)
    given = (_flat(q_matrix, batch, 2), _flat(q, batch, 1), _flat(c, batch, 2), _flat(d, batch, 1))
    found = minimise(*given, p, None if start is None else _flat(start, batch, 1), max_iter, tol)
    parts = [t.unflatten(0, batch) if batch else t.squeeze(0) for t in found[:4]]
    return *(t.contiguous() for t in parts), torch.tensor(found.iterations)


def _empty(q: Tensor, start: Any, tensors: list[Tensor], *rest: Any) -> tuple[Tensor, ...]:
    d = tensors[2]
    return (
        torch.empty_like(q),
        torch.empty_like(d),
        torch.empty_like(d, dtype=torch.bool),
        q.new_empty(q.shape[:-1], dtype=torch.int8),
        q.new_empty((), dtype=torch.int64),
    )


def _kkt(family: Any, a: Tensor, start: Any, tensors: list[Tensor]) -> tuple[Tensor, ...]:
    q_matrix, c, b, active = tensors
    batch = a.shape[:-1]
    if not batch.numel():
        return torch.empty_like(a), torch.empty_like(b)
    flat, rows = _flat(a, batch, 1), _flat(b, batch, 1)
    system, t, s, cost = scaled(_flat(q_matrix, batch, 2), _flat(c, batch, 2), flat, rows)
    keep = _flat(active, batch, 1)
    factor = system.factor(keep.to(a.dtype) * HARD)
    right, rows = flat * t / cost, torch.where(keep, rows * s, 0.0)
    z, w = torch.zeros_like(right), torch.zeros_like(rows)
    found = factor.refine(right, rows, z, w)
    missed = torch.cat(found[2:], -1).abs().amax(-1) > 1e-8 * torch.cat([right, rows], -1).abs().amax(-1)
    if bool(missed.any()):
        found = factor.refine(right - found[2], rows - found[3], z, w)
    return (found[0] * t).reshape(a.shape), (found[1] * s * cost).reshape(b.shape)


def _batched(operator: str, outputs: tuple[int | None, ...]) -> Callable[..., Any]:
    """The rule of vmap: what is batched is so in front, with ones for the batch that it lacks."""

    def rule(size: int, dims: Any, w: Tensor, start: Any, tensors: list[Tensor], *rest: Any) -> Any:
        batch = w.shape[1:-1]
        fronts = []
        for t, d, events in zip(tensors, dims, (2, 2, 1, 1), strict=False):
            shared = events == 2 and t.ndim - (d is not None) == 2
            if d is not None:
                t = t.movedim(d, 0)
                t = t.reshape(size, *[1] * len(batch), *t.shape[1:]) if shared else t
            elif shared:
                fronts.append(t)
                continue
            fronts.append(t.expand(size, *batch, *t.shape[-events:]))
        return getattr(torch.ops.bilevelnet, operator)(w, start, fronts, *rest), outputs

    return rule


define(
    "quadratic",
    "int equations, int max_iter, float tol",
    5,
    _quadratic,
    _empty,
    _batched("quadratic", (0, 0, 0, 0, None)),
)
define(
    "kkt",
    "",
    2,
    _kkt,
    lambda a, start, tensors, *rest: (torch.empty_like(a), torch.empty_like(tensors[2])),
    _batched("kkt", (0, 0)),
)
