"""The search for a dual point as one operator, opaque to every torch transform (see search.py, which is its model).

Derivatives are attached outside, by Newton steps with the inverse Jacobian that the operator hands over.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from .search import _KEYS, _families


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

    ``handle``: of a family in the register of search.py, with ``search(v, start, tensors, sizes, max_iter, tol)``.
    """
    fixed, start = [t.detach() for t in tensors], None if start is None else start.detach()
    return DualPoint(*torch.ops.bilevelnet.dual_search(v.detach(), start, fixed, handle, *sizes, max_iter, tol))


def _search(
    v: Tensor,
    start: Tensor | None,
    tensors: list[Tensor],
    handle: int,
    event_ndim: int,
    width: int,
    terms: int,
    inverse: bool,
    max_iter: int,
    tol: float,
) -> tuple[Tensor, ...]:
    sizes = Sizes(event_ndim, width, terms, inverse)
    if not v.numel():
        return _fake(v, start, tensors, handle, *sizes)
    guard = torch._C._ForceDispatchKeyGuard(*_KEYS)
    with guard, torch.inference_mode(False), torch.no_grad():
        # A clone of an inference tensor is an ordinary one.
        tensors = [t.clone() if t.is_inference() else t for t in tensors]
        v, start = (t.clone() if t is not None and t.is_inference() else t for t in (v, start))  # type: ignore[assignment]
        return tuple(t.contiguous() for t in _families[handle].search(v, start, tensors, sizes, max_iter, tol))


def _fake(
    v: Tensor,
    start: Tensor | None,
    tensors: list[Tensor],
    handle: int,
    event_ndim: int,
    width: int,
    terms: int,
    inverse: bool,
    *rest: Any,
) -> tuple[Tensor, ...]:
    batch = v.shape[: v.ndim - event_ndim]
    square = (width, width) if inverse else (0, 0)
    return (
        v.new_empty(*batch, width),
        v.new_empty(*batch, terms),
        v.new_empty(*batch, *square),
        v.new_empty(batch, dtype=torch.int8),
        v.new_empty((), dtype=torch.int64),
    )


def _vmap(info: Any, axes: Any, v: Any, start: Any, tensors: Any, *rest: Any) -> Any:
    v, start = (
        None if t is None else t.expand(info.batch_size, *t.shape) if d is None else t.movedim(d, 0)
        for t, d in ((v, axes[0]), (start, axes[1]))
    )
    if all(d is None for d in axes[2]):
        return torch.ops.bilevelnet.dual_search(v, start, tensors, *rest), (0, 0, 0, 0, None)
    # Tensors of pieces mean one thing only with the shapes that they have: sample by sample.
    runs = []
    for i in range(info.batch_size):
        own = [t if d is None else t.select(d, i) for t, d in zip(tensors, axes[2], strict=True)]
        runs.append(torch.ops.bilevelnet.dual_search(v[i], None if start is None else start[i], own, *rest))
    *stacked, iterations = (torch.stack(parts) for parts in zip(*runs, strict=True))
    return (*stacked, iterations.amax()), (0, 0, 0, 0, None)


_library = torch.library.Library("bilevelnet", "FRAGMENT")
_library.define(
    "dual_search(Tensor v, Tensor? start, Tensor[] tensors, int handle, SymInt event_ndim, SymInt width, SymInt terms,"
    " bool inverse, int max_iter, float tol) -> (Tensor, Tensor, Tensor, Tensor, Tensor)"
)
_library.impl("dual_search", _search, "CompositeExplicitAutograd")
_library.impl("dual_search", torch.library.fallthrough_kernel, "Autograd")
torch.library.register_fake("bilevelnet::dual_search", _fake, lib=_library)
torch.library.register_vmap("bilevelnet::dual_search", _vmap, lib=_library)
