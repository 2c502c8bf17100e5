"""The scalar equations of terms that couple z through one multiplier.

An equation turns a term into a separable one with a multiplier s: given s, z is the prox of φ + the separable
terms + ``piece`` at ``shifted(v, s)``, entry by entry; s is the root of ``residual``, which increases with x, where
s = ``multiplier(x)``. ``inactive`` tells where no multiplier is needed. Every tensor keeps the event dimension as 1.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ..domains import Interval
from ..errors import InputError
from ..legendre import Legendre
from ..maps import Map
from ..numerics.bracket import Evaluation
from ..regularizers import Box, CappedSimplex, Nonneg
from ..regularizers.calculus import Scaled
from ..solution import INFEASIBLE, INVALID, UNBOUNDED
from .charts import at_end, common_domain


class Equation:
    """One multiplier along ``dim``."""

    positive = True  # s = e^x, else s = x
    bounded = True  # a set: idle, it leaves the free problem; else a norm: idle, z = 0
    blind = False  # whether the residual may vanish where z overflows

    def __init__(self, term: Any):
        self.term = term
        inner = term.inner if isinstance(term, Scaled) else term
        self.constraint, self.dim = inner, getattr(inner, "dim", -1)
        self.piece: Any = None
        self.phi: Any = None
        self.separable: list[Any] = []

    def bind(self, phi: Legendre, separable: list[Any], free: Map, make: Callable[[list[Any]], Map]) -> Map:
        """The map of the separable problem with the multiplier in it; ``free`` is that without it."""
        self.phi, self.separable = phi, separable
        return free if self.piece is None else make([*separable, self.piece])

    def gather(self, v: Tensor) -> Tensor:
        """v as the equation sees it; ``scatter`` undoes it."""
        return v

    def scatter(self, x: Tensor) -> Tensor:
        return x

    def origin(self, v: Tensor) -> Tensor | None:
        """What to take from v beforehand, and to add to s in the end."""
        return None

    def multiplier(self, x: Tensor, v: Tensor) -> Tensor:
        return x.exp() if self.positive else x

    def set(self, x: Tensor) -> None:
        """Put the multiplier into the weight of ``piece``."""

    def shifted(self, x: Tensor, v: Tensor) -> Tensor:
        """The dual point of the separable problem at x, the multiplier in its place."""
        self.set(x)
        return v

    def probe(self, inner: Any, x: Tensor, v: Tensor, keep: Tensor | None) -> Evaluation:
        """(residual, slope, call that gives the size of its terms) at x, without a graph."""
        z, u, gain = inner.gain(self.shifted(x, v))
        z, gain = kept(z, keep, 0.0), kept(gain, keep, 0.0)
        value, slope = self.value_and_slope(x, z, u, gain, v)
        return value, slope, lambda: self.size(value, slope, x, z, v)

    def point(self, inner: Any, x: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """(z, u) at x, with a graph."""
        return inner.point(self.shifted(x, v))

    def fix(self, inner: Any, x: Tensor, v: Tensor) -> None:
        """Keep what ``point`` takes as fixed at the root x, before derivatives are attached to it."""

    def residual_at(self, inner: Any, x: Tensor, v: Tensor, keep: Tensor | None) -> Tensor:
        """The residual at x, with a graph."""
        z, u = self.point(inner, x, v)
        return self.residual(x, kept(z, keep, 0.0), u, v)

    def residual(self, x: Tensor, z: Tensor, u: Tensor, v: Tensor) -> Tensor:
        raise NotImplementedError

    def size(self, value: Tensor, slope: Tensor, x: Tensor, z: Tensor, v: Tensor) -> Tensor:
        """Of the terms of the residual ``value``; what rounds it is of this size."""
        raise NotImplementedError

    def missed(self, x: Tensor, z: Tensor, u: Tensor, v: Tensor) -> Tensor:
        """By how much z misses the constraint."""
        return self.residual(x, z, u, v)

    def met(self, inner: Any, x: Tensor, v: Tensor, keep: Tensor) -> Tensor:
        """Whether z is on the set: to half of the digits, or to what the rounding of v makes of it, at most a part.

        Between two neighbouring s a z that leaps, as one of 1e-12 may where v is 1, passes it by.
        """
        z, u, gain = (kept(t, keep, 0.0) for t in inner.gain(self.shifted(x, v)))
        eps, a = torch.finfo(z.dtype).eps, self.normal(z, v)
        terms = self._sum((a * z).abs()) + self.target(v).abs()
        moved = 8 * eps * self._sum(a * a * gain * torch.maximum(v.abs(), x.abs()))
        return self.missed(x, z, u, v).abs() <= torch.maximum(eps**0.5 * terms, torch.minimum(moved, terms / 16))

    def normal(self, z: Tensor, v: Tensor) -> Any:
        """For a set, the gradient of the side of its equation that ``missed`` subtracts from ``target``."""
        raise NotImplementedError

    def target(self, v: Tensor) -> Tensor:
        raise NotImplementedError

    def slope(self, x: Tensor, z: Tensor, gain: Tensor, v: Tensor) -> Tensor:
        """d residual/dx, from gain = dz/dv of the separable problem."""
        raise NotImplementedError

    def value_and_slope(self, x: Tensor, z: Tensor, u: Tensor, gain: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        return self.residual(x, z, u, v), self.slope(x, z, gain, v)

    def start(self, psi: Any, v: Tensor) -> Tensor:
        """x to begin with; ψ is φ and the smooth terms beside the coupled one."""
        return torch.zeros_like(v.narrow(self.dim, 0, 1))

    def guess(self, z: Tensor, u: Tensor, v: Tensor, keep: Tensor) -> Tensor:
        """x at a point (z, u) near the solution."""
        raise NotImplementedError

    def inactive(self, free: Any, v: Tensor, keep: Tensor) -> Tensor | None:
        """Where no multiplier is needed, without a graph; None where one always is. ``free`` is the map without it."""
        return None

    def resting(self, free: Any, v: Tensor) -> tuple[Tensor, Tensor]:
        """(z, u) where no multiplier is needed."""
        return free.point(v)

    def vanishing(self, x: Tensor) -> Tensor | None:
        """Where z is 0 because its norm is below the range of floats; None where that cannot be."""
        return None

    def failure(self, inner: Any, x: Tensor, v: Tensor, keep: Tensor, jump: Tensor) -> Tensor:
        """The status where no s solves the equation, x being where the search ended.

        Where ∇φ takes every value nothing is unbounded, and what became infinite has overflowed. A set is out of reach
        where every entry came to an end of the domain; else it is v − s a that ran out of floats, as at a ``jump``.
        """
        endless = INVALID if self.phi.explicit and self.phi.dual_domain == Interval() else UNBOUNDED
        if not self.bounded:
            return torch.full_like(x, endless, dtype=torch.int8)
        z = inner.gain(self.shifted(x, v))[0]
        domain = common_domain(self.phi, [*self.separable, *([] if self.piece is None else [self.piece])])
        stuck = (at_end(domain, z) | (self.normal(z, v) == 0) | ~keep).all(self.dim, keepdim=True)
        stuck = stuck & z.isfinite().all(self.dim, keepdim=True)
        return torch.where(jump, INVALID, torch.where(stuck, INFEASIBLE, endless))

    def last(self, x: Tensor) -> Tensor:
        """An x at which z can be looked at, where the search for one ran away to x."""
        return x

    def near(self, x: Tensor, v: Tensor, value: Tensor, size: Tensor) -> Tensor:
        """Whether x, where the search saw a jump, is a root: z varies continuously with s, so that a jump is rounding,
        or a search that left the range of floats.
        """
        return value.isfinite() & (value.abs() <= torch.finfo(v.dtype).eps ** 0.5 * size)

    def _sum(self, x: Tensor) -> Tensor:
        return x.sum(self.dim, keepdim=True)


class Linear(Equation):
    """⟨a, z⟩ = b: v is shifted by −s a, and b − ⟨a, z⟩ increases with s."""

    positive = False

    def __init__(self, term: Any):
        super().__init__(term)
        if len(self.constraint._rows(torch.empty(0, dtype=torch.float64))) != 1:
            raise InputError(f"{self.constraint.label} with a matrix has one multiplier a row, and not one")

    def coefficients(self, v: Tensor) -> Any:
        return self.constraint.equations(v)[0][0]

    def multiplier(self, x: Tensor, v: Tensor) -> Tensor:
        return x / self.constraint.units(v).to(x.dtype)  # of ⟨a, z⟩ = b as it was given

    def target(self, v: Tensor) -> Tensor:
        return self.constraint.equations(v)[1]

    def normal(self, z: Tensor, v: Tensor) -> Any:
        return self.coefficients(v)

    def shifted(self, x: Tensor, v: Tensor) -> Tensor:
        self.set(x)
        return v - x * self.coefficients(v)

    def residual(self, x: Tensor, z: Tensor, u: Tensor, v: Tensor) -> Tensor:
        return self.target(v) - self._sum(self.coefficients(v) * z)

    def size(self, value: Tensor, slope: Tensor, x: Tensor, z: Tensor, v: Tensor) -> Tensor:
        return self._sum((self.coefficients(v) * z).abs()) + self.target(v).abs()

    def slope(self, x: Tensor, z: Tensor, gain: Tensor, v: Tensor) -> Tensor:
        return self._sum(self.coefficients(v) ** 2 * gain)

    def guess(self, z: Tensor, u: Tensor, v: Tensor, keep: Tensor) -> Tensor:
        # v − u = s a where no bound is active; the largest |a z| is the least likely to rest on one.
        a = self.coefficients(v)
        size = torch.where(keep & (v - u).isfinite(), (a * z).abs(), -1.0)
        best = size.argmax(self.dim, keepdim=True)
        return ((v - u) / a).gather(self.dim, best)


class SimplexEquation(Linear):
    """Σ z = r with z ≥ 0, and z ≤ cap: log r − log Σ z increases with s, and Newton's method takes to it.

    Where z falls like e^{−s} in the tail it is a straight line, and for the other φ it is nearer to one than r − Σ z.
    v is measured from its largest entry: v − s keeps its digits however far v is from 0.
    """

    def __init__(self, term: Any):
        Equation.__init__(self, term)
        self.levels: dict[int, float] = {}
        self.piece = Box(0.0, self.constraint.cap) if isinstance(self.constraint, CappedSimplex) else Nonneg()

    def origin(self, v: Tensor) -> Tensor | None:
        top = v.detach().amax(self.dim, keepdim=True)
        return torch.where(top.isfinite(), top, 0.0)

    def coefficients(self, v: Tensor) -> Any:
        return 1.0

    def multiplier(self, x: Tensor, v: Tensor) -> Tensor:
        return x

    def target(self, v: Tensor) -> Tensor:
        return torch.as_tensor(self.constraint.radius, dtype=v.dtype, device=v.device)

    def set(self, x: Tensor) -> None:
        if isinstance(self.constraint, CappedSimplex) and isinstance(self.constraint.cap, Tensor):
            self.piece._buffers["hi_value"] = self.constraint.cap

    def shifted(self, x: Tensor, v: Tensor) -> Tensor:
        self.set(x)
        return v - x

    def residual(self, x: Tensor, z: Tensor, u: Tensor, v: Tensor) -> Tensor:
        # Σ z may underflow on the way; a tiny floor keeps the sign.
        return self._of_total(self._sum(z).clamp(min=torch.finfo(z.dtype).tiny), v)

    def _of_total(self, total: Tensor, v: Tensor) -> Tensor:
        radius = self.constraint.radius
        ratio = total / (self.target(v) if isinstance(radius, Tensor) else radius)
        return torch.xlogy(-1.0, ratio)  # −log; torch.log wakes a second thread for any number of doubles

    def size(self, value: Tensor, slope: Tensor, x: Tensor, z: Tensor, v: Tensor) -> Tensor:
        return 1 + slope * x.abs()  # 1: what the logarithm makes of the rounding of Σ z

    def value_and_slope(self, x: Tensor, z: Tensor, u: Tensor, gain: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        total = self._sum(z).clamp(min=torch.finfo(z.dtype).tiny)
        return self._of_total(total, v), self._sum(gain) / total

    def missed(self, x: Tensor, z: Tensor, u: Tensor, v: Tensor) -> Tensor:
        return self.target(v) - self._sum(z)

    def start(self, psi: Any, v: Tensor) -> Tensor:
        # All entries equal: z = r/n there; with v spread out s is below.
        n, top = v.shape[self.dim], torch.zeros_like(v.narrow(self.dim, 0, 1))
        if psi.constant and self.constraint.constant and not torch.compiler.is_compiling():
            return top - self._level(psi, n)
        level = psi.grad(self.target(v) / n)
        start = top - torch.where(level.isfinite(), level, 0.0)
        return start.amin(self.dim, keepdim=True)  # weights of φ may differ along the event

    def _level(self, psi: Any, n: int) -> float:
        if n not in self.levels:
            level = float(psi.grad(torch.tensor(self.constraint.radius / n, dtype=torch.float64)))
            self.levels[n] = level if math.isfinite(level) else 0.0
        return self.levels[n]


def kept(x: Tensor, keep: Tensor | None, other: float) -> Tensor:
    """x, and ``other`` at masked entries."""
    return x if keep is None else torch.where(keep, x, other)
