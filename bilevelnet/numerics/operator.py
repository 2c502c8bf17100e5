"""Searches as operators, opaque to every torch transform.

A Python loop with an early stop fails vmap and compile, so it runs inside a custom operator. Every tensor that it
depends on is an input of the operator, what is searched is found by a handle, and derivatives are attached outside
(``attach``). Autograd falls through the operator instead of around it, and the default dispatch keys are put back
inside, so that a function given by its value alone may be differentiated there.
"""

from __future__ import annotations

import itertools
import weakref
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

Kernel = Callable[..., tuple[Tensor, ...]]
LIBRARY = torch.library.Library("bilevelnet", "FRAGMENT")
_KEYS = (torch._C._dispatch_tls_local_include_set(), torch._C._dispatch_tls_local_exclude_set())
_families: weakref.WeakValueDictionary[int, Any] = weakref.WeakValueDictionary()
_handles = itertools.count()


def register(family: Any) -> int:
    """A handle for ``family``, which is held weakly: what an operator searches."""
    handle = next(_handles)
    _families[handle] = family
    return handle


def define(name: str, arguments: str, returns: int, search: Kernel, fake: Kernel, vmap: Callable[..., Any]) -> None:
    """The operator bilevelnet::name(w, start?, tensors, handle, ``arguments``) of so many tensors.

    ``search(family, w, start, tensors, *arguments)`` is what it does, without a graph; ``fake`` has the operator's own
    arguments. ``vmap(size, dims, w, start, tensors, handle, *arguments)`` has the batch in front of w and start, and in
    ``dims`` of the tensors.
    """

    def kernel(w: Tensor, start: Tensor | None, tensors: list[Tensor], handle: int, *rest: Any) -> tuple[Tensor, ...]:
        guard = torch._C._ForceDispatchKeyGuard(*_KEYS)
        with guard, torch.inference_mode(False), torch.no_grad():
            # A clone of an inference tensor is an ordinary one.
            given: Any = (t.clone() if t is not None and t.is_inference() else t for t in (w, start, *tensors))
            w, start, *tensors = given
            return search(_families[handle], w, start, tensors, *rest)

    def batched(info: Any, axes: Any, w: Tensor, start: Tensor | None, tensors: list[Tensor], *rest: Any) -> Any:
        size = info.batch_size
        start = None if start is None else in_front(start, axes[1], size)
        return vmap(size, axes[2], in_front(w, axes[0], size), start, tensors, *rest)

    head, tail = "Tensor w, Tensor? start, Tensor[] tensors, int handle", ", ".join(["Tensor"] * returns)
    LIBRARY.define(f"{name}({', '.join(filter(None, (head, arguments)))}) -> ({tail})")
    LIBRARY.impl(name, kernel, "CompositeExplicitAutograd")
    LIBRARY.impl(name, torch.library.fallthrough_kernel, "Autograd")
    torch.library.register_fake(f"bilevelnet::{name}", fake, lib=LIBRARY)
    torch.library.register_vmap(f"bilevelnet::{name}", batched, lib=LIBRARY)


def in_front(t: Tensor, dim: int | None, size: int) -> Tensor:
    """t with the dimension of a vmap in front, expanded where it has none."""
    return t.expand(size, *t.shape) if dim is None else t.movedim(dim, 0)
