"""Many scalar equations f(x_i; w_i) = 0 with one family of increasing functions, in stages and in blocks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from ..values import all_below, all_finite, readable
from .bracket import FOUND, LIMIT, Found, Function, bracketed_root, newton

BLOCK = 32768  # entries a thread that stay in the cache through an iteration
NODES = 16384  # of the table from which a long list of equations starts
MANY = 8 * NODES  # entries of a long list
SPAN = 8.0  # half its width, in standard deviations


def quick(f: Function, start: Tensor, max_iter: int, tol: float) -> Found:
    """A few bare Newton steps settle most problems at a third of the cost of bracketed ones: f is increasing, so that
    a point where it vanishes is the root however it was reached.
    """
    return newton(f, start, 2, min(7, max_iter), tol)


def longer(f: Function, start: Tensor, max_iter: int, tol: float) -> Found:
    return newton(f, start, 2, min(12, max_iter), tol)


def single(tensors: Sequence[Tensor]) -> bool:
    """Whether tensors broadcast with entries in a row as with the shape that they came in."""
    return all(t.numel() <= 1 and t.ndim <= 1 for t in tensors)


def in_blocks(f: Callable[..., tuple[Tensor, ...]], *xs: Tensor) -> tuple[Tensor, ...]:
    """f(*xs) for an f that acts entry by entry on values."""
    if not readable(*xs) or xs[0].is_cuda or xs[0].numel() <= BLOCK:
        return f(*xs)
    size = BLOCK * torch.get_num_threads()
    parts = [f(*blocks) for blocks in zip(*(x.flatten().split(size) for x in xs), strict=True)]
    return tuple(torch.cat(part).view(xs[0].shape) for part in zip(*parts, strict=True))


class Table:
    """x(w) at equal steps of w, to start from: between the nodes a straight line, right to the square of a step."""

    def __init__(self, family: Any, w: Tensor, tensors: list[Tensor], max_iter: int, tol: float):
        mean, reach = w.mean(), SPAN * w.std()
        low, high = torch.maximum(w.amin(), mean - reach), torch.minimum(w.amax(), mean + reach)
        steps = torch.linspace(0, 1, NODES + 1, dtype=w.dtype, device=w.device)
        found = entrywise(family, low + (high - low) * steps, None, tensors, max_iter, tol)
        self.x, self.change = found.x[:-1], found.x.diff()
        self.low, self.scale = low, NODES / (high - low)

    def __call__(self, w: Tensor) -> Tensor:
        place = ((w - self.low) * self.scale).nan_to_num(0.0).clamp(0, NODES * (1 - torch.finfo(w.dtype).eps))
        node = place.long()
        return torch.addcmul(self.x.take(node), self.change.take(node), place - node)


def entrywise(family: Any, w: Tensor, start: Tensor | None, tensors: list[Tensor], max_iter: int, tol: float) -> Found:
    """The roots for w of one dimension; ``start`` is ``family.start(w)`` where it is None, or a table of x(w)."""
    size = len(w) if w.is_cuda else BLOCK * torch.get_num_threads()
    table = None
    if start is None and len(w) > MANY and not w.is_cuda:
        known = w if all_finite(w) else w[w.isfinite()]
        table = Table(family, known, tensors, max_iter, tol) if len(known) > MANY else None
    start = family.start(w) if start is None else start
    x, code, rest = start, torch.full_like(start, LIMIT, dtype=torch.int8), None
    iterations = 0
    for method in (quick, longer, bracketed_root):
        v, begin = (w, start) if rest is None else (w[rest], start[rest])
        parts = []
        for block, x0 in zip(v.split(size), begin.split(size), strict=True):
            x0 = table(block) if table is not None and rest is None else x0
            parts.append(method(family.function(block, tensors), x0, max_iter - iterations, tol))
        at, how = torch.cat([p.x for p in parts]), torch.cat([p.code for p in parts])
        x, code = (at, how) if rest is None else (x.index_copy(0, rest, at), code.index_copy(0, rest, how))
        iterations += max(p.iterations for p in parts)
        if iterations >= max_iter or all_below(code, FOUND):
            break
        # What a stage leaves over starts afresh in the next, by itself.
        rest = (code != FOUND).nonzero().squeeze(-1)
        if not len(rest):
            break
    return Found(x, code, iterations)
