"""The root search as one operator, opaque to every torch transform.

A Python loop with an early stop fails vmap and compile, so it runs inside a custom operator. Every tensor that the
function depends on is an input of the operator, the function itself is found by a handle, and derivatives are
attached outside (``attach``). Autograd falls through the operator instead of around it, and the default dispatch
keys are put back inside, so that a function given by its value alone may be differentiated there.
"""

from __future__ import annotations

import itertools
import weakref
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from .bracket import Found, Function, bracketed_root

_families: weakref.WeakValueDictionary[int, Any] = weakref.WeakValueDictionary()
_handles = itertools.count()
_KEYS = (torch._C._dispatch_tls_local_include_set(), torch._C._dispatch_tls_local_exclude_set())
BLOCK = 16384  # entries that stay in the cache through an iteration


def register(family: Any) -> int:
    """A handle for ``family``, which must have ``function(w, tensors) -> (f, start)``; it is held weakly."""
    handle = next(_handles)
    _families[handle] = family
    return handle


def search(
    w: Tensor, tensors: Sequence[Tensor], handle: int, max_iter: int, tol: float, dims: tuple[int, ...] = ()
) -> tuple[Tensor, Tensor, Tensor]:
    """(x, code, iterations) without derivatives: x for each entry of w, or one over its last dimensions ``dims`` (kept)."""
    fixed = [t.detach() for t in tensors]
    return torch.ops.bilevelnet.search(w.detach(), fixed, [False] * len(fixed), handle, max_iter, tol, list(dims))


def _search(
    w: Tensor, tensors: list[Tensor], batched: list[bool], handle: int, max_iter: int, tol: float, dims: list[int]
) -> tuple[Tensor, Tensor, Tensor]:
    family = _families[handle]
    guard = torch._C._ForceDispatchKeyGuard(*_KEYS)
    with guard, torch.inference_mode(False), torch.no_grad():
        w, tensors = w.clone(), [t.clone() if t.is_inference() else t for t in tensors]
        found = _blocks(family, w, tensors, batched, max_iter, tol, dims)
    return found.x, found.code, torch.tensor(found.iterations)


def _blocks(
    family: Any, w: Tensor, tensors: list[Tensor], batched: list[bool], max_iter: int, tol: float, dims: list[int]
) -> Found:
    if not w.numel():
        x = w.new_empty(_shape(w, dims))
        return Found(x, torch.zeros(x.shape, dtype=torch.int8, device=w.device), 0)
    if any(batched):
        f, start = _vmapped(family, w, tensors, batched)
        return bracketed_root(f, start, max_iter, tol)
    if dims or w.is_cuda or w.numel() <= BLOCK or any(t.numel() > 1 for t in tensors):
        f, start = family.function(w, tensors)
        return bracketed_root(f, start, max_iter, tol)
    parts = [bracketed_root(*family.function(block, tensors), max_iter, tol) for block in w.reshape(-1).split(BLOCK)]
    x, code = (torch.cat([p[i] for p in parts]).reshape(w.shape) for i in (0, 1))
    return Found(x, code, max(p.iterations for p in parts))


def _vmapped(family: Any, w: Tensor, tensors: list[Tensor], batched: list[bool]) -> tuple[Function, Tensor]:
    # One batch dimension in front, of w and of some tensors; a piece sees one sample's tensors, whatever their shape.
    dims = [0 if b else None for b in batched]

    def one(x: Tensor, w: Tensor, tensors: list[Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        return family.function(w, tensors)[0](x)

    start = torch.func.vmap(lambda w, tensors: family.function(w, tensors)[1], (0, dims))(w, tensors)
    return lambda x: torch.func.vmap(one, (0, 0, dims))(x, w, tensors), start


def _shape(w: Tensor, dims: list[int]) -> list[int]:
    return [1 if d - w.ndim in dims else n for d, n in enumerate(w.shape)]


def _fake(
    w: Tensor, tensors: Any, batched: Any, handle: int, max_iter: int, tol: float, dims: list[int]
) -> tuple[Tensor, ...]:
    shape = _shape(w, dims)
    return w.new_empty(shape), w.new_empty(shape, dtype=torch.int8), torch.empty((), dtype=torch.int64)


def _vmap(info: Any, axes: Any, w: Any, tensors: Any, batched: Any, *rest: Any) -> Any:
    n = info.batch_size
    w = w.expand(n, *w.shape) if axes[0] is None else w.movedim(axes[0], 0)
    fronts = [t if d is None else t.movedim(d, 0) for t, d in zip(tensors, axes[1], strict=True)]
    new = [d is not None for d in axes[1]]
    if not any(batched):
        x, code, k = torch.ops.bilevelnet.search(w, fronts, new, *rest)
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
    x, code, k = torch.ops.bilevelnet.search(w.reshape(n * m, *w.shape[2:]), folded, flags, *rest)
    return (x.unflatten(0, (n, m)), code.unflatten(0, (n, m)), k), (0, 0, None)


_library = torch.library.Library("bilevelnet", "FRAGMENT")
_library.define(
    "search(Tensor w, Tensor[] tensors, bool[] batched, int handle, int max_iter, float tol, int[] dims)"
    " -> (Tensor, Tensor, Tensor)"
)
_library.impl("search", _search, "CompositeExplicitAutograd")
_library.impl("search", torch.library.fallthrough_kernel, "Autograd")
torch.library.register_fake("bilevelnet::search", _fake, lib=_library)
torch.library.register_vmap("bilevelnet::search", _vmap, lib=_library)
