"""Quadratic programs, and the equations of their active rows, as operators (see operator.py).

Vectors have the whole batch in front, and so have matrices, or nothing: (n, n) where every program has the same.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch._C import _functorch

from ..values import readable, tracked
from .kkt import HARD, largest
from .kkt_scaling import Scaled, scaled
from .operator import define, register
from .quadratic import minimise


class Minimum(NamedTuple):
    """z (…, n), w = (y, λ) (…, r), the active rows (…, r), a code an element (…), the steps of the search ()."""

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
    q_matrix: Tensor, q: Tensor, c: Tensor, d: Tensor, p: int, start: Tensor | None, max_iter: int
) -> tuple[Minimum, Scaled | None]:
    """The Minimum of ½ zᵀQz + qᵀz under (C z − d)_i = 0 for i < p, ≤ 0 for the others; no derivatives.

    And the scaled system, from which ``equations`` goes on, where a backward may come and no transform is under way.
    """
    tensors = [q_matrix.detach(), c.detach(), d.detach()]
    start = None if start is None else start.detach()
    if plain(q, *tensors) and tracked(q_matrix, q, c, d) and q.shape[:-1].numel():
        with torch.no_grad():
            found, system = _searched(q.detach(), start, tensors, p, max_iter)
        return Minimum(*found), system
    return Minimum(*torch.ops.bilevelnet.quadratic(q.detach(), start, tensors, _HANDLE, p, max_iter)), None


def plain(*tensors: Tensor) -> bool:
    """Whether this is ordinary eager code, in which an object may be handed on beside tensors."""
    inside = torch.compiler.is_compiling() or _functorch.peek_interpreter_stack() is not None
    return not inside and readable(*tensors) and not any(t.is_inference() for t in tensors)


def equations(
    a: Tensor, b: Tensor, q_matrix: Tensor, c: Tensor, active: Tensor, known: Scaled | None
) -> tuple[Tensor, Tensor]:
    """(z, w) of Q z + Cᵀw = a, (C z)_i = b_i in the active rows, w_i = 0 in the others; no derivatives.

    Where the equations contradict or leave freedom: of the nearest ones that do not, the solution of least size.
    """
    a, tensors = a.detach(), [q_matrix.detach(), c.detach(), b.detach(), active.detach()]
    if known is not None:
        with torch.no_grad():
            return _solved(known, a, tensors[2], tensors[3])
    z, w = torch.ops.bilevelnet.kkt(a, None, tensors, _HANDLE)
    return z, w


def _flat(x: Tensor, batch: torch.Size, events: int) -> Tensor:
    """x with one batch dimension, or none where it is shared."""
    event = x.shape[-events:]
    return x if x.ndim == events == 2 else x.expand(*batch, *event).reshape(batch.numel(), *event)


def _quadratic(family: Any, q: Tensor, start: Tensor | None, tensors: list[Tensor], *rest: Any) -> tuple[Tensor, ...]:
    return _searched(q, start, tensors, *rest)[0] if q.shape[:-1].numel() else _empty(q, start, tensors)


def _searched(
    q: Tensor, start: Tensor | None, tensors: list[Tensor], p: int, max_iter: int
) -> tuple[tuple[Tensor, ...], Scaled]:
    q_matrix, c, d = tensors
    batch = q.shape[:-1]
    given = (_flat(q_matrix, batch, 2), _flat(q, batch, 1), _flat(c, batch, 2), _flat(d, batch, 1))
    found, system = minimise(*given, p, None if start is None else _flat(start, batch, 1), max_iter)
    parts = (t.reshape(batch + t.shape[1:]) for t in found[:4])
    return (*parts, torch.tensor(found.iterations)), system


def _empty(q: Tensor, start: Any, tensors: list[Tensor], *rest: Any) -> tuple[Tensor, ...]:
    d = tensors[2]
    return (
        torch.empty_like(q),
        torch.empty_like(d),
        torch.empty_like(d, dtype=torch.bool),
        q.new_empty(q.shape[:-1], dtype=torch.int8),
        q.new_zeros((), dtype=torch.int64),
    )


def _kkt(family: Any, a: Tensor, start: Any, tensors: list[Tensor]) -> tuple[Tensor, ...]:
    q_matrix, c, b, active = tensors
    batch = a.shape[:-1]
    if not batch.numel():
        return torch.empty_like(a), torch.empty_like(b)
    flat = _flat(a, batch, 1)
    return _solved(scaled(_flat(q_matrix, batch, 2), _flat(c, batch, 2), flat, _flat(b, batch, 1)), a, b, active)


def _solved(known: Scaled, a: Tensor, b: Tensor, active: Tensor) -> tuple[Tensor, Tensor]:
    (system, t, s, cost), batch = known, a.shape[:-1]
    keep = _flat(active, batch, 1)
    factor = system.exact(keep.to(a.dtype) * HARD)
    right, rows = _flat(a, batch, 1) * t / cost, torch.where(keep, _flat(b, batch, 1) * s, 0.0)
    z, w = torch.zeros_like(right), torch.zeros_like(rows)
    found = factor.refine(right, rows, z, w)
    # Half of the digits are not met where the equations contradict: then the nearest ones that do not are solved.
    missed = torch.maximum(*map(largest, found[2:])) > 1e-8 * torch.maximum(largest(right), largest(rows))
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
    "int equations, int max_iter",
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
