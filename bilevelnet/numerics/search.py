"""The root search as one operator (see operator.py)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from .bracket import FOUND, Found, Function, bracketed_root
from .entrywise import entrywise, longer, single
from .operator import define


def search(
    w: Tensor, start: Tensor | None, tensors: Sequence[Tensor], handle: int, max_iter: int, tol: float
) -> tuple[Tensor, Tensor, Tensor]:
    """(x, code, iterations) without derivatives: as many unknowns as ``start`` has entries, or w where it is None.

    The family of ``handle`` has ``function(w, tensors) -> f``, and where it is ``entrywise``, a root an entry,
    ``start(w)`` too. A search of another kind is a method ``solve(w, start, tensors, batched, max_iter, tol)``, which
    returns a ``Found``; ``batched`` marks the tensors that a vmap gave a dimension in front, as w.
    """
    fixed, start = [t.detach() for t in tensors], None if start is None else start.detach()
    return torch.ops.bilevelnet.search(w.detach(), start, fixed, handle, [False] * len(fixed), max_iter, tol)


def _search(family: Any, *given: Any) -> tuple[Tensor, Tensor, Tensor]:
    found = _found(family, *given)
    return found.x, found.code, torch.tensor(found.iterations)


def _found(
    family: Any, w: Tensor, start: Tensor | None, tensors: list[Tensor], batched: list[bool], max_iter: int, tol: float
) -> Found:
    if not w.numel():
        x = w.clone() if start is None else start.clone()
        return Found(x, torch.zeros_like(x, dtype=torch.int8), 0)
    if hasattr(family, "solve"):
        return family.solve(w, start, tensors, batched, max_iter, tol)
    if family.entrywise and not any(batched) and single(tensors):
        flat = entrywise(family, w.flatten(), None if start is None else start.flatten(), tensors, max_iter, tol)
        return Found(flat.x.view(w.shape), flat.code.view(w.shape), flat.iterations)
    start = family.start(w) if start is None else start
    f = _vmapped(family, w, tensors, batched) if any(batched) else family.function(w, tensors)
    found = longer(f, start, max_iter, tol)
    missed = found.code != FOUND
    if max_iter <= found.iterations or not bool(missed.any()):
        return found
    slow = bracketed_root(f, torch.where(missed, start, found.x), max_iter - found.iterations, tol)
    x, code = torch.where(missed, slow.x, found.x), torch.where(missed, slow.code, found.code)
    return Found(x, code, found.iterations + slow.iterations)


def _vmapped(family: Any, w: Tensor, tensors: list[Tensor], batched: list[bool]) -> Function:
    # One batch dimension in front, of w and of some tensors; a piece sees one sample's tensors, whatever their shape.
    dims = [0 if b else None for b in batched]

    def one(x: Tensor, w: Tensor, tensors: list[Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        value, slope, size = family.function(w, tensors)(x)
        return value, slope, size()

    def f(x: Tensor) -> tuple[Tensor, Tensor, Callable[[], Tensor]]:
        value, slope, size = torch.func.vmap(one, (0, 0, dims))(x, w, tensors)
        return value, slope, lambda: size

    return f


def _fake(w: Tensor, start: Tensor | None, *rest: Any) -> tuple[Tensor, ...]:
    like = w if start is None else start
    return torch.empty_like(like), torch.empty_like(like, dtype=torch.int8), torch.empty((), dtype=torch.int64)


def _vmap(n: int, dims: Any, w: Any, start: Any, tensors: Any, handle: int, batched: Any, *rest: Any) -> Any:
    fronts = [t if d is None else t.movedim(d, 0) for t, d in zip(tensors, dims, strict=True)]
    new = [d is not None for d in dims]
    if not any(batched):
        x, code, k = torch.ops.bilevelnet.search(w, start, fronts, handle, new, *rest)
        return (x, code, k), (0, 0, None)
    # A second batch dimension is folded into the first.
    m = w.shape[1]
    folded = []
    for t, is_new, was in zip(fronts, new, batched, strict=True):
        if is_new or was:
            t = t if is_new else t.expand(n, *t.shape)
            t = t if was else t.unsqueeze(1).expand(n, m, *t.shape[1:])
            t = t.reshape(n * m, *t.shape[2:])
        folded.append(t)
    flags = [a or b for a, b in zip(new, batched, strict=True)]
    start = None if start is None else start.flatten(0, 1)
    x, code, k = torch.ops.bilevelnet.search(w.flatten(0, 1), start, folded, handle, flags, *rest)
    return (x.unflatten(0, (n, m)), code.unflatten(0, (n, m)), k), (0, 0, None)


define("search", "bool[] batched, int max_iter, float tol", 3, _search, _fake, _vmap)
