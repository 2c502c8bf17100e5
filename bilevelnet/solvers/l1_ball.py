"""The equation of ‖z‖₁ = r: every dual point moves towards ∂ψ(0), and stops there."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ..legendre import Legendre
from ..maps import Map, Near, Outcome
from ..problem import inner_point
from .equation import Equation
from .linear_equation import SimplexEquation


class L1BallEquation(SimplexEquation):
    """‖z‖₁ = r: g gains s|z|, so that z = (∂ψ)⁻¹(w) with w between v and ∂ψ(0), s from v, for ψ = φ + the rest.

    x = s − max|v|, with v measured from there too: z keeps its digits where s is close to the largest |v|, as it is for
    a small r. log r − log ‖z‖₁ increases with x, as for the simplex.
    """

    def __init__(self, term: Any):
        Equation.__init__(self, term)
        self.levels: dict[int, float] = {}

    def bind(self, phi: Legendre, separable: list[Any], free: Map, make: Callable[[list[Any]], Map]) -> Map:
        self.phi, self.separable = phi, separable
        return Resting(phi, separable, free)

    def origin(self, v: Tensor) -> Tensor | None:
        return None

    def multiplier(self, x: Tensor, v: Tensor) -> Tensor:
        return x + self._top(v)

    def _top(self, v: Tensor) -> Tensor:
        return v.detach().abs().amax(self.dim, keepdim=True)

    def shifted(self, x: Tensor, v: Tensor) -> Tensor:
        (low, high), top = at_zero(self.phi, self.separable, v), self._top(v)
        down, up = (v - top) - x, (v + top) + x
        down, up = torch.where(down > high, down, high), torch.where(up < low, up, low)
        return torch.where(v > high, down, torch.where(v < low, up, v))

    def normal(self, z: Tensor, v: Tensor) -> Any:
        return z.sign()

    def _total(self, z: Tensor) -> Tensor:
        return self._sum(z.abs())

    def inactive(self, free: Any, v: Tensor, keep: Tensor) -> Tensor | None:
        with torch.no_grad():
            return self._total(free.gain(v)[0]) <= self.constraint.radius

    def guess(self, z: Tensor, u: Tensor, v: Tensor, keep: Tensor) -> Tensor:
        return torch.where(keep, (v - u).abs(), 0.0).amax(self.dim, keepdim=True) - self._top(v)


class Resting(Map):
    """The free map, and z = 0 where w lies in ∂ψ(0), its ends included: no kink of its own tells it so."""

    name = "resting"

    def __init__(self, phi: Legendre, separable: list[Any], free: Any):
        self.phi, self.separable, self.free, self.g = phi, separable, free, free.g
        self.psi, self.whole = free.psi, free.whole

    def _rests(self, w: Tensor) -> Tensor:
        low, high = at_zero(self.phi, self.separable, w)
        return (w >= low) & (w <= high)

    def point(self, v: Tensor) -> tuple[Tensor, Tensor]:
        z, u = self.free.point(v)
        return torch.where(self._rests(v), 0.0, z), u

    def gain(self, v: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        (z, u, gain), rests = self.free.gain(v), self._rests(v)
        return torch.where(rests, 0.0, z), u, torch.where(rests, 0.0, gain)

    def solve(self, v: Tensor, init: Near | None = None) -> Outcome:
        outcome = self.free.solve(v)
        return outcome._replace(z=torch.where(self._rests(v), 0.0, outcome.z))

    def explain(self) -> str:
        return self.free.explain()  # type: ignore[no-any-return]


def at_zero(phi: Legendre, terms: list[Any], like: Tensor) -> tuple[Tensor, Tensor]:
    """The ends of ∂ψ(0) for ψ = φ + Σ h, −∞ (∞) where dom ψ lies above (below) 0."""
    zero, domain = torch.zeros_like(like), phi.domain
    inside = domain.interior(zero) if phi.steep else domain.contains(zero)
    level = phi.grad(torch.where(inside, zero, inner_point(domain)))
    low = torch.where(zero <= domain.lo, -torch.inf, torch.where(inside, level, torch.inf))
    high = torch.where(zero >= domain.hi, torch.inf, torch.where(inside, level, -torch.inf))
    for term in terms:
        low, high = low + slope_end(term, zero, 0), high + slope_end(term, zero, 1)
    return low, high


def slope_end(term: Any, t: Tensor, side: int) -> Tensor:
    """The left (0) or right (1) end of ∂h(t), ∓∞ outside dom h."""
    domain, slope = term.domain, term.derivatives(t)[side]
    return torch.where(t < domain.lo, -torch.inf, torch.where(t > domain.hi, torch.inf, slope))
