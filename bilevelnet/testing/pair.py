"""A pair (φ, g) with a solver, the points at which it is tested, and its minimiser by bisection."""

from __future__ import annotations

import torch
from torch import Tensor

from ..domains import Interval
from ..legendre import Legendre
from ..prox import bregman_prox, solve_prox
from ..regularizers import Regularizer
from .calculus import bisect, slope
from .points import MAGNITUDES, Draw, event_of, kinks
from .report import NotStated


class Pair:
    """(φ, g) with a solver, the points v at which it is tested, and its solutions there."""

    def __init__(self, phi: Legendre, g: Regularizer, solver: str, draw: Draw):
        self.phi, self.g, self.solver, self.draw = phi, g, solver, draw
        self.event = event_of(phi, g, device=draw.device)
        self.v = self._points()
        self.solution = solve_prox(phi, g, self.v, solver, on_failure="ignore")
        self.good = self.solution.converged if self.event.ndim else self.solution.converged.broadcast_to(self.v.shape)

    def __call__(self, v: Tensor) -> Tensor:
        return bregman_prox(self.phi, self.g, v, self.solver, on_failure="nan")

    @property
    def solved(self) -> tuple[Tensor, Tensor, Tensor]:
        """v, z and u of the points that have a solution."""
        dual = self.solution.dual
        if dual is None:
            raise NotStated
        return self.v[self.good], self.solution.z[self.good].detach(), dual[self.good].detach()

    def g_value(self, z: Tensor) -> Tensor:
        """g(z), one number a point."""
        value, n = self.g.value(z), self.event.ndim - self.g.event_ndim
        return value.sum(tuple(range(-n, 0))) if n else value

    @property
    def separable(self) -> bool:
        return not self.event.ndim and isinstance(self.phi.domain, Interval) and self.phi.domain.constant

    def smooth_points(self, count: int) -> Tensor:
        """Points away from kinks and from the ends of the range of the solver."""
        v, _, _ = self.solved
        v = v[(self.event.norm(v) < 6) & (self.event.norm(v) > 0.05)]
        f = lambda x: self.event.inner(self(x), torch.ones_like(x))  # noqa: E731
        h = 1e-3
        near = [slope(f, v + s * h) for s in (-1.0, 0.0, 1.0)]
        jump = self.event.norm(near[2] - 2 * near[1] + near[0])
        calm = (jump < 1e-3) & (self.event.norm(near[1]) < 1e3)
        return v[calm][:: max(1, int(calm.sum()) // count)][:count]

    def _points(self) -> Tensor:
        draw, event = self.draw, self.event
        if event.ndim:
            x = torch.cat([s * draw.normal(6, *event.shape, salt=2) for s in (0.3, 1.0, 3.0, 10.0)])
            x = torch.cat([event.project(x), torch.zeros_like(x[:1])])
            if self.event.symmetric:
                eye = torch.eye(event.shape[0], dtype=x.dtype, device=x.device)
                x = torch.cat([x, -(x[:8] @ x[:8].mT) - 0.1 * eye])
            return x
        values = [draw.tensor([s * m for m in (0.0, *MAGNITUDES[1:]) for s in (1.0, -1.0)])]
        t = kinks(self.g, draw)
        t = t[self.phi.domain.interior(t)]
        if len(t):  # the two edges of each flat piece, and its middle
            u, (left, right) = self.phi.grad(t), self.g.derivatives(t)
            edges = [u + left, u + right, u + (left.clamp(min=-3) + right.clamp(max=3)) / 2]
            values += [e[e.isfinite()] for e in edges]
        return torch.cat(values).unique()

    def root(self, v: Tensor, phi: Legendre | None = None, g: Regularizer | None = None) -> Tensor:
        """The minimiser by plain bisection on the inclusion, in z: the largest z with ∇φ(z) + g'(z−) ≤ v."""
        phi, g = phi or self.phi, g or self.g
        domain, largest = phi.domain.intersect(g.domain), torch.finfo(v.dtype).max
        ends = (torch.as_tensor(e, dtype=v.dtype, device=v.device) for e in (domain.lo, domain.hi))
        lo, hi = (e.clamp(-largest, largest).broadcast_to(v.shape) for e in ends)
        inside = torch.nextafter(lo, hi), torch.nextafter(hi, lo)
        lo, hi = (torch.where(phi.domain.interior(e), e, i) for e, i in zip((lo, hi), inside, strict=True))
        return bisect(lambda z: phi.grad(z) + g.derivatives(z)[0] - v, lo, hi)

    def exists(self, v: Tensor) -> Tensor:
        """Whether the inclusion changes sign inside the domain; at a finite end of dom φ it does, φ is steep there."""
        z = self.root(v)
        below, above = (torch.nextafter(z, torch.full_like(z, s * torch.inf)) for s in (-1.0, 1.0))
        domain = self.phi.domain.intersect(self.g.domain)
        low = ~self.phi.domain.interior(below) | (self.phi.grad(z) + self.g.derivatives(z)[0] <= v)
        high = ~domain.interior(above) | (self.phi.grad(above) + self.g.derivatives(above)[0] > v)
        return low & high & (z.abs() < 1e300)
