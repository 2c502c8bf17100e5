"""The inclusion of separable functions: one increasing equation an entry, F'(z) = v."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ..domains import Interval
from .roots import Function, after, chart, increasing_root, slope


class Entrywise:
    """F = Σ terms, separable and convex on the interval where all are finite.

    Each term has ``value`` and ``domain``; ``bounds`` narrows the interval.
    """

    def __init__(self, terms: Sequence[Any], bounds: Interval | None = None):
        self.terms = terms
        domain = Interval() if bounds is None else bounds
        for term in terms:
            domain = domain.intersect(term.domain)
        self.lo, self.hi = (torch.as_tensor(end, dtype=torch.float64) for end in (domain.lo, domain.hi))
        self._last: Tensor | None = None

    def slope(self, z: Tensor, extra: Function | None = None) -> Tensor:
        """F'(z), entry by entry: one of its two values at a kink. ``extra`` is one more function of z."""

        def value(z: Tensor) -> Tensor:
            total = 0.0 * z + sum(term.value(z) for term in self.terms)
            return total if extra is None else total + extra(z)

        return slope(value, z)

    def solve(self, v: Tensor, extra: Function | None = None) -> Tensor:
        """z with F'(z−) ≤ v ≤ F'(z+): 0 or an end of the interval where that is so, else by search.

        The search begins at the answer to the call before, if there was one of the same shape.
        """
        shape = torch.broadcast_shapes(v.shape, self.lo.shape, self.hi.shape)
        v, lo, hi = (t.expand(shape) for t in (v, self.lo, self.hi))
        held, fixed = self._held(v, lo, hi, extra)
        last = self._last if self._last is not None and self._last.shape == shape else None

        def excess(s: Tensor) -> Tensor:
            return torch.where(held, s, self.slope(chart(s, lo, hi), extra) - v)  # 0 is the root of the held ones

        s = increasing_root(excess, shape, last)
        self._last = s
        return torch.where(held, fixed, chart(s, lo, hi))

    def _held(self, v: Tensor, lo: Tensor, hi: Tensor, extra: Function | None) -> tuple[Tensor, Tensor]:
        """Where the answer is 0 or an end of the interval, and the answer."""
        held, fixed = torch.zeros(v.shape, dtype=torch.bool), torch.zeros_like(v)
        inner = chart(torch.zeros_like(v), lo, hi)
        for point, below, above in ((lo, False, True), (hi, True, False), (torch.zeros_like(v), True, True)):
            inside = point.isfinite() & ((lo < point) | (not below)) & ((point < hi) | (not above))
            if not bool(inside.any()):
                continue
            found = inside.clone()
            for side, wanted in ((-math.inf, below), (math.inf, above)):
                if wanted:
                    close = torch.where(inside, after(point, side), inner)
                    found &= (self.slope(close, extra) - v) * (1.0 if side > 0 else -1.0) >= 0
            fixed = torch.where(found & ~held, point, fixed)
            held |= found
        return held | (lo == hi), torch.where(lo == hi, lo, fixed)

    def residual(self, z: Tensor, v: Tensor, step: Tensor) -> Tensor:
        """By how much v misses [F'(z−), F'(z+)], the ends taken a step beside z; 0 beyond an end of the interval."""
        low, high = z - step, z + step
        below = torch.where(low > self.lo, self.slope(torch.where(low > self.lo, low, z)), -torch.inf)
        above = torch.where(high < self.hi, self.slope(torch.where(high < self.hi, high, z)), torch.inf)
        return torch.maximum(below - v, v - above).clamp(min=0)
