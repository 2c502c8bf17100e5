"""A pair (φ, g) with a solver, the points at which it is tested, and its minimiser by bisection."""

from __future__ import annotations

from functools import cached_property

import torch
from torch import Tensor

from ..domains import Interval
from ..legendre import Legendre
from ..prox import Bound, solve_prox
from ..regularizers import Regularizer
from ..solvers.charts import chart
from ..values import at_least_float32
from .calculus import EPS, STEPS, Function, bisect, difference_step, jacobian, slope
from .points import MAGNITUDES, Draw, event_of, inside_jump, kinks, representable
from .report import NotStated


class Pair:
    """(φ, g) with a solver, the points v at which it is tested, and its solutions there."""

    def __init__(self, phi: Legendre, g: Regularizer, solver: str, draw: Draw):
        self.phi, self.g, self.solver, self.draw = phi, g, solver, draw
        self.bound = Bound(phi, g, solver, "nan")
        self.event = event_of(phi, g, device=draw.device)
        self.v = self._points()
        self.solution = solve_prox(phi, g, self.v, solver, on_failure="ignore")
        self.good = self.solution.converged if self.event.ndim else self.solution.converged.broadcast_to(self.v.shape)

        # Of those that have a solution, the ones whose digits are all there; a vector's laws form ‖z‖² and ⟨z, v⟩.
        z = self.solution.z.detach()
        self.kept = self.good & self.event.all(representable(z), self.v)
        if self.event.ndim:
            self.kept &= (self.event.norm(z) * self.event.norm(torch.maximum(z.abs(), self.v.abs()))).isfinite()

    def __call__(self, v: Tensor) -> Tensor:
        """prox^φ_g(v), NaN where there is none; the choice of the solver is made once, as in a layer."""
        return self.bound.apply(at_least_float32(v), v.dtype, self.bound.prox.dims)

    @property
    def solved(self) -> tuple[Tensor, Tensor, Tensor]:
        """v, z and u of the points that have a solution."""
        dual = self.solution.dual
        if dual is None:
            raise NotStated
        return self.v[self.kept], self.solution.z[self.kept].detach(), dual[self.kept].detach()

    def g_value(self, z: Tensor) -> Tensor:
        """g(z), one number a point."""
        value, n = self.g.value(z), self.event.ndim - self.g.event_ndim
        return value.sum(tuple(range(-n, 0))) if n else value

    @property
    def separable(self) -> bool:
        return not self.event.ndim and isinstance(self.phi.domain, Interval) and self.phi.domain.constant

    def along(self) -> tuple[Function, Tensor]:
        """⟨d, prox(v)⟩ for a direction d; the Jacobian is symmetric, so its gradient is the slope along d."""
        v, _, _ = self.solved
        d = self.event.project(self.draw.normal(*v.shape, salt=9)) if self.event.ndim else torch.ones_like(v)
        d = d / self.event.expand(self.event.norm(d))
        return (lambda x: self.event.inner(self(x), d)), d

    def steepness(self, v: Tensor) -> Tensor:
        """‖dz/dv‖, one number a point; of a scalar the largest of both sides, which differ at a kink."""
        if self.event.ndim:
            return torch.linalg.matrix_norm(jacobian(self, v, self.event), 2)
        edge = 1e-6 * (1 + v.abs())
        return torch.stack([slope(self, v + s * edge).abs() for s in (-1.0, 0.0, 1.0)]).amax(0)

    def smooth_points(self, count: int) -> Tensor:
        """Points away from kinks and from the ends of the range of the solver."""
        v, _, _ = self.solved
        v = v[(self.event.norm(v) < 6) & (self.event.norm(v) > 0.05)]
        f = lambda x: self.event.inner(self(x), torch.ones_like(x))  # noqa: E731

        def jump(h: float) -> Tensor:
            return self.event.norm(slope(f, v + h) - 2 * slope(f, v) + slope(f, v - h))

        calm, moderate = jump(1e-3) < 3e-5, self.event.norm(slope(f, v)) < 1e3  # h² z''' passes, a jump h of z'' not
        if not (calm & moderate).any():  # z''' is large everywhere: a tenth of h leaves 1/100 of h² z''', 1/10 of h
            calm = jump(1e-4) < jump(1e-3) / 50
        calm = calm & moderate
        return v[calm][:: max(1, int(calm.sum()) // count)][:count]

    def _points(self) -> Tensor:
        draw, event = self.draw, self.event
        if event.ndim:
            x = torch.cat([s * draw.normal(6, *event.shape, salt=2) for s in (0.3, 1.0, 3.0, 10.0)])
            x = torch.cat([event.project(x), torch.zeros_like(x[:1])])
            if self.phi.event_ndim == 0 and (self.phi.dual_domain != Interval() or not self.phi.steep):
                # All entries in the range of ∇φ: else a vector of several rarely has a solution, or one inside dom φ.
                x = torch.cat([x, self.phi.grad(chart(self.phi.domain, x.clamp(-3, 3))[0])])
            if self.event.symmetric:
                eye = torch.eye(event.shape[0], dtype=x.dtype, device=x.device)
                x = torch.cat([x, -(x[:8] @ x[:8].mT) - 0.1 * eye])
            return x
        values = [draw.tensor([s * m for m in (0.0, *MAGNITUDES[1:]) for s in (1.0, -1.0)])]
        t = kinks(self.g, draw)
        t = t[self.phi.domain.interior(t)]
        if len(t):  # the two edges of each flat piece, and its middle
            u, (left, right) = self.phi.grad(t), self.g.derivatives(t)
            edges = [u + left, u + right, u + inside_jump(left, right)]
            values += [e[e.isfinite()] for e in edges]
        return torch.cat(values).unique()

    def root(self, v: Tensor, phi: Legendre | None = None, g: Regularizer | None = None) -> Tensor:
        """The minimiser by plain bisection on the inclusion, in z: the largest z with ∇φ(z) + g'(z−) ≤ v."""
        phi, g = phi or self.phi, g or self.g
        domain, largest = phi.domain.intersect(g.domain), torch.finfo(v.dtype).max
        ends = (torch.as_tensor(e, dtype=v.dtype, device=v.device) for e in (domain.lo, domain.hi))
        lo, hi = (e.clamp(-largest, largest).broadcast_to(v.shape) for e in ends)
        inside = torch.nextafter(lo, hi), torch.nextafter(hi, lo)
        # An end where ∇φ is finite may be the answer; at the others it is not evaluated.
        lo, hi = (torch.where(phi.differentiable(e), e, i) for e, i in zip((lo, hi), inside, strict=True))
        return bisect(lambda z: phi.grad(z) + g.derivatives(z)[0] - v, lo, hi)

    @cached_property
    def roots(self) -> dict[str, Tensor]:
        """The root at every v and at its neighbours, by one search: on an overhead-bound machine it costs as one."""
        v = self.v
        dual = v if self.solution.dual is None else self.solution.dual.detach()
        rounding, edge, step = 50 * EPS * (v.abs() + dual.abs()), 1e-9 * (1 + v.abs()), difference_step(v)
        at = {"low": v - rounding, "high": v + rounding, "below": v - edge, "above": v + edge}
        at |= {f"step{k}": v + s * step for k, s in enumerate(STEPS)}
        return dict(zip(at, self.root(torch.cat(list(at.values()))).chunk(len(at)), strict=True))

    def exists(self, v: Tensor, z: Tensor) -> Tensor:
        """Whether the inclusion changes sign at its root z inside the domain, or at an end where φ is steep."""
        below, above = (torch.nextafter(z, torch.full_like(z, s * torch.inf)) for s in (-1.0, 1.0))
        domain, slack = self.phi.domain.intersect(self.g.domain), 1e-10 * (1 + v.abs())
        low = ~self.phi.domain.interior(below) | (self.phi.grad(z) + self.g.derivatives(z)[0] <= v + slack)
        high = ~domain.interior(above) | (self.phi.grad(above) + self.g.derivatives(above)[0] > v - slack)
        return low & high & (z.abs() < 1e300)
