"""The scalar equations of terms that couple z through one multiplier.

An equation turns a term into a separable one with a multiplier s: given s, z is the prox of φ + the separable
terms + ``piece`` at ``shifted(v, s)``, entry by entry; s is the root of ``residual``, which increases with x, where
s = ``multiplier(x)``. ``inactive`` tells where no multiplier is needed. Every tensor keeps the event dimension as 1.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ..domains import Interval
from ..legendre import Legendre
from ..maps import Map
from ..numerics.bracket import Evaluation
from ..regularizers.calculus import Scaled
from ..solution import INFEASIBLE, INVALID, UNBOUNDED
from .charts import at_end, common_domain


class Equation:
    """One multiplier along ``dim``."""

    positive = True  # s = e^x, else s = x
    bounded = True  # a set: idle, it leaves the free problem; else a norm: idle, z = 0
    compact = False  # a set that is: a solution never is unbounded
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

    def coefficients(self, v: Tensor) -> Any:
        """a, where v is shifted by −s a."""
        raise NotImplementedError

    def origin(self, v: Tensor) -> Tensor | None:
        """An s near the solution, whose part of v is taken from it beforehand: the rest of s keeps its digits."""
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

    def beyond(self, value: Tensor, size: Callable[[], Tensor]) -> Tensor:
        """Whether z misses a set by more than a Newton step in z mends: the step leaves the square of what is missed,
        half of the digits where a quarter of them is met. Between two neighbouring s z may leap over the set.
        """
        if not self.bounded:
            return torch.zeros_like(value, dtype=torch.bool)
        return ~(value.abs() <= torch.finfo(value.dtype).eps ** 0.25 * self.terms(size))

    def terms(self, size: Callable[[], Tensor]) -> Any:
        """Of the equation, of which ``beyond`` takes a part."""
        return size()

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

        Where ∇φ takes every value, or on a compact set, nothing is unbounded, and what became infinite has overflowed.
        A set is out of reach where every entry came to an end of the domain; else it is v − s a that ran out of floats,
        as at a ``jump``.
        """
        endless = INVALID if self.compact or (self.phi.explicit and self.phi.dual_domain == Interval()) else UNBOUNDED
        if not self.bounded:
            return torch.full_like(x, endless, dtype=torch.int8)
        z = inner.gain(self.shifted(x, v))[0]
        stuck = self._stuck(at_end(self._common, z), z, v, keep) & z.isfinite().all(self.dim, keepdim=True)
        return torch.where(jump, INVALID, torch.where(stuck, INFEASIBLE, endless))

    def outside(self, inner: Any, x: Tensor, v: Tensor, keep: Tensor) -> Tensor:
        """Whether the equation is met at ends alone that do not belong to the domain: at 1 of (−1, 1), by Σ z = n."""
        if not self.bounded:
            return torch.zeros_like(x, dtype=torch.bool)
        z, domain = inner.gain(self.shifted(x, v))[0], self._common
        lo, hi = (torch.as_tensor(e, dtype=z.dtype, device=z.device) for e in (domain.lo, domain.hi))
        at, end = at_end(domain, z), torch.where(z - lo < hi - z, lo, hi)
        met = self.missed(x, kept(torch.where(at, end, z), keep, 0.0), z, v) == 0
        return met & self._stuck(at & ~domain.contains(end), z, v, keep)

    @property
    def _common(self) -> Interval:
        return common_domain(self.phi, [*self.separable, *([] if self.piece is None else [self.piece])])

    def _stuck(self, at: Tensor, z: Tensor, v: Tensor, keep: Tensor) -> Tensor:
        """Whether every entry that is in the equation is ``at`` an end."""
        return (at | (self.normal(z, v) == 0) | ~keep).all(self.dim, keepdim=True)

    def last(self, x: Tensor) -> Tensor:
        """An x at which z can be looked at, where the search for one ran away to x."""
        return x

    def near(self, x: Tensor, v: Tensor, value: Tensor, size: Callable[[], Tensor]) -> Tensor:
        """Whether x, where the search saw a jump, is a root: z varies continuously with s, so that a jump is rounding,
        or a search that left the range of floats. Rounding misses it by some eps of its terms, the other by a part of
        them: half of the digits lie between.
        """
        if self.bounded:
            return ~self.beyond(value, size)
        return value.isfinite() & (value.abs() <= torch.finfo(v.dtype).eps ** 0.5 * size())

    def _sum(self, x: Tensor) -> Tensor:
        return x.sum(self.dim, keepdim=True)


def kept(x: Tensor, keep: Tensor | None, other: float) -> Tensor:
    """x, and ``other`` at masked entries."""
    return x if keep is None else torch.where(keep, x, other)
