"""The equation of λ max|z_i|: the separable solution clipped to a box that the largest entry sets."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..domains import Interval
from ..maps import Map, Near, Outcome
from ..numerics.bracket import Evaluation
from ..problem import anchor, inner_point
from ..regularizers import Box
from ..regularizers.compose import uniform
from .charts import chart, total, unchart
from .l1_ball import slope_end
from .norm_equations import Norm


class Bounds(NamedTuple):
    """Of one event: s = max|z_i|, the dual points ∇φ(s) and ∇φ(−s), and what the clipped entries push against,
    P = ψ'(s+) and N = ψ'(−s−) with ψ = φ + the separable terms.
    """

    s: Tensor
    top: Tensor
    bottom: Tensor
    above: Tensor
    below: Tensor


class LinfEquation(Norm):
    """λ max|z_i| at z ≠ 0: z is the separable solution clipped to [−s, s], and λ − Σ (v_i − P)₊ − Σ (N − v_i)₊
    increases with s.

    The unknown is ∇φ(s), or −∇φ(−s), where ∇φ takes every value and is the same at every entry: s rounds to the end of
    dom φ where its dual point still moves. Of the two it is that of the nearer end of dom φ as long as s stays below
    it. Elsewhere it is s in a chart.
    """

    blind = True

    def __init__(self, term: Any):
        super().__init__(term)
        self.piece = Box(torch.zeros(()), torch.zeros(()))

    def bind(self, phi: Any, separable: list[Any], free: Map, make: Callable[[list[Any]], Map]) -> Map:
        self.phi, self.separable = phi, separable
        # Without a formula for ∇φ* that is a search inside the search, worth it where both ends of dom φ are near.
        near = phi.domain.constant and math.isfinite(phi.domain.lo) and math.isfinite(phi.domain.hi)
        self.in_dual = phi.dual_domain == Interval() and (phi.explicit or near) and uniform(phi, self.dim)
        return Clipped(self, free, make([*separable, self.piece]))

    def weights(self, like: Tensor) -> tuple[Any, Any]:
        return 0.0, self.term.lam

    def multiplier(self, x: Tensor, v: Tensor) -> Tensor:
        return self.bounds(x, v).s

    def shifted(self, x: Tensor, v: Tensor) -> Tensor:
        self.at = self.bounds(x, v)
        self.piece._buffers["lo_value"], self.piece._buffers["hi_value"] = -self.at.s, self.at.s
        return v

    def bounds(self, x: Tensor, v: Tensor) -> Bounds:
        if self.in_dual:
            upper, even = self._upper(v), self._even(x)
            s = torch.where(upper, self._mirror(x, upper), -self._mirror(-x, ~upper))
            far = torch.where(even, -x, self._level(torch.where(upper, -s, s)))
            top, bottom = torch.where(upper, x, far), torch.where(upper, far, -x)
        else:
            s = chart(self._range(), x)[0]
            top, bottom = self._level(s), self._level(-s)
        above = total([top, *(slope_end(t, s, 1) for t in self.separable)])
        return Bounds(s, top, bottom, above, total([bottom, *(slope_end(t, -s, 0) for t in self.separable)]))

    def _mirror(self, x: Tensor, wanted: Tensor) -> Tensor:
        return self.phi.grad_conjugate(torch.where(wanted, x, 0.0))

    def _even(self, x: Tensor) -> Tensor:
        """Whether ∇φ*(−x) = −∇φ*(x) as far as floats tell: then ∇φ(−s) is −x, also where s is rounded."""
        with torch.no_grad():
            one, other = self.phi.grad_conjugate(x), self.phi.grad_conjugate(-x)
            return (one + other).abs() < 4 * torch.finfo(x.dtype).eps * one.abs()

    def _upper(self, v: Tensor) -> Tensor:
        """Whether the unknown is ∇φ(s), else −∇φ(−s)."""
        domain = self.phi.domain
        lo, hi = (torch.as_tensor(e, dtype=v.dtype, device=v.device) for e in (domain.lo, domain.hi))
        right = hi > -lo
        if domain.constant and (domain.lo >= 0 or domain.hi <= 0 or domain.lo == -domain.hi):
            return right | (hi == -lo)
        end = torch.where(right, -lo, hi)  # how far the nearer end is from 0
        with torch.no_grad():
            at_end = torch.where(right, end, -end)
            pushes = [torch.where(right, slope_end(t, end, 1), slope_end(t, -end, 0)) for t in self.separable]
            level = total([self._level(at_end), *pushes])
            push = torch.where(right, v - level, level - v).clamp(min=0)
        near = self._sum(push) < self.term.lam
        return (near != right).detach() | (hi == -lo)

    def _range(self) -> Interval:
        """The values of s: from 0 to the farther end of dom φ."""
        lo, hi = self.phi.domain.lo, self.phi.domain.hi
        if self.phi.domain.constant:
            return Interval(0.0, max(-lo, hi))
        return Interval(0.0, torch.maximum(*torch.broadcast_tensors(torch.as_tensor(hi), -torch.as_tensor(lo))))

    def _level(self, t: Tensor) -> Tensor:
        """∇φ(t), ∓∞ at and beyond the ends of dom φ."""
        domain = self.phi.domain
        inside = (t > domain.lo) & (t < domain.hi)
        level = self.phi.grad(torch.where(inside, t, inner_point(domain)))
        return torch.where(inside, level, torch.where(t <= domain.lo, -torch.inf, t.new_full((), torch.inf)))

    def probe(self, inner: Any, x: Tensor, v: Tensor, keep: Tensor | None) -> Evaluation:
        at = self.bounds(x, v)
        value = self._value(at, v)
        clipped = (v >= at.above) | (v <= at.below)
        return value, self._slope(x, at, v), lambda: self.term.lam + self._sum(torch.where(clipped, v.abs(), 0.0))

    def residual_at(self, inner: Any, x: Tensor, v: Tensor, keep: Tensor | None) -> Tensor:
        return self._value(self.bounds(x, v), v)

    def _value(self, at: Bounds, v: Tensor) -> Tensor:
        return self.term.lam - self._sum((v - at.above).clamp(min=0) + (at.below - v).clamp(min=0))

    def _slope(self, x: Tensor, at: Bounds, v: Tensor) -> Tensor:
        s = at.s
        curvatures = [
            self.phi.hessian(torch.where(t.isfinite(), z, inner_point(self.phi.domain)))
            for t, z in ((at.top, s), (at.bottom, -s))
        ]
        if self.in_dual:
            upper = self._upper(v)
            moved = torch.where(upper, curvatures[0], curvatures[1]).reciprocal()  # ds/dx
            far = torch.where(self._even(x), 1.0, torch.where(upper, curvatures[1], curvatures[0]) * moved)
            rises = [torch.where(upper, 1.0, far), torch.where(upper, far, 1.0)]
        else:
            moved = chart(self._range(), x)[1]
            rises = [c * moved for c in curvatures]
        smooth = [t for t in self.separable if t.pieces() is None]
        up, down = (total([r, *(t.hessian(z) * moved for t in smooth)]) for r, z in zip(rises, (s, -s), strict=True))
        return self._sum(torch.where(v >= at.above, up, 0.0) + torch.where(v <= at.below, down, 0.0))

    def near(self, x: Tensor, v: Tensor, value: Tensor, size: Callable[[], Tensor]) -> Tensor:
        # P jumps where a separable term has a kink at s, and where s leaves the range of floats.
        beyond = self.multiplier(x + 16 * torch.finfo(x.dtype).eps * x.abs(), v)
        return value.isfinite() & beyond.isfinite()

    def missed(self, x: Tensor, z: Tensor, u: Tensor, v: Tensor) -> Tensor:
        # P jumps where a separable term has a kink at s: then the value changes sign within some ulp.
        nudge = 16 * torch.finfo(x.dtype).eps * x.abs()
        low, value, high = (self._value(self.bounds(t, v), v) for t in (x - nudge, x, x + nudge))
        return torch.where((low <= 0) & (high >= 0), 0.0, value)

    def start(self, psi: Any, v: Tensor) -> Tensor:
        if not self.in_dual:
            return super().start(psi, v)
        return v.abs().amax(self.dim, keepdim=True) - self.term.lam  # at most the root, for an even φ alone

    def guess(self, z: Tensor, u: Tensor, v: Tensor, keep: Tensor) -> Tensor:
        s = z.abs().amax(self.dim, keepdim=True)
        if not self.in_dual:
            return unchart(self._range(), s)
        top, bottom = u.amax(self.dim, keepdim=True), -u.amin(self.dim, keepdim=True)
        return torch.where(self._upper(v), top, bottom)

    def _dual_norm(self, gap: Tensor) -> Tensor:
        return self._sum(gap.abs())


class Clipped(Map):
    """The free map with z clipped to [−s, s] as the equation's bounds say, told by v: both z and u may be saturated."""

    name = "clipped"

    def __init__(self, equation: LinfEquation, free: Any, boxed: Any):
        self.equation, self.free, self.g = equation, free, boxed.g
        self.psi, self.whole = free.psi, free.whole

    def _split(self, v: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(clipped from above, from below, v with those entries at a point that the free map solves)."""
        at = self.equation.at
        high, low = v >= at.above, v <= at.below  # the largest, also where λ is below its rounding
        return high, low, torch.where(high | low, anchor(self.equation.phi, v), v)

    def point(self, v: Tensor) -> tuple[Tensor, Tensor]:
        at, (high, low, rest) = self.equation.at, self._split(v)
        z, u = self.free.point(rest)
        z = torch.where(high, at.s, torch.where(low, -at.s, z))
        return z, torch.where(high, at.top, torch.where(low, at.bottom, u))

    def solve(self, v: Tensor, init: Near | None = None) -> Outcome:
        outcome = self.free.solve(self._split(v)[2])
        z, u = self.point(v)
        return outcome._replace(z=z, dual=u)

    def explain(self) -> str:
        return self.free.explain()
