"""The multiplier solver: one coupled term, any separable φ and separable rest, one scalar root an event."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import torch
from torch import Tensor

from ..closed_forms.plan import plan
from ..errors import InputError
from ..legendre import Legendre
from ..maps import Map, Near, Outcome
from ..numerics import attach, norm
from ..numerics.bracket import FOUND, JUMP, LIMIT, NONE, Evaluation, Function
from ..numerics.search import search
from ..problem import Prox, anchor
from ..regularizers import Regularizer, Sum, Zero
from ..solution import CONVERGED, INFEASIBLE, INVALID, MAX_ITER, UNBOUNDED
from ..values import all_finite, readable, tracked
from .base import Iterative
from .equation import kept
from .equations import equation_of
from .linear_equation import Linear
from .scalar import Scalar
from .twin import Held, Twin, tensors_of


class Multiplier(Iterative):
    """Simplices, balls, norms and one linear equation: a bracketed search for the multiplier, the separable problem
    inside it in closed form or by the scalar solver; derivatives by attached Newton steps on the multiplier.

    Entries of v that are −∞ are masked: z = 0 there (simplices only). ``tol`` is on the constraint (relative to r for
    simplices), 0 for the rounding of its terms; ``max_iter`` counts evaluations.
    """

    name = "multiplier"

    def bind(self, phi: Legendre, g: Regularizer) -> MultiplierMap:
        return MultiplierMap(phi, g, self)


class Split:
    """φ and the terms of g, split into a coupled one with its equation and the separable problem inside it."""

    def __init__(self, phi: Legendre, *terms: Any):
        coupled = [t for t in terms if t.event_ndim]
        if phi.event_ndim or len(coupled) != 1:
            raise InputError(f"it takes a separable φ and one coupled term, not {len(coupled)} with {phi.label}")
        self.phi, self.separable = phi, [t for t in terms if not t.event_ndim]
        self.equation = equation_of(coupled[0], phi, self.separable)
        self.free: Any = _separable_map(phi, self.separable)
        make = partial(_separable_map, phi)
        self.inner: Any = self.equation.bind(phi, self.separable, self.free, make)

    def probe(self, x: Tensor, v: Tensor, keep: Tensor | None) -> Evaluation:
        return self.equation.probe(self.inner, x, v, keep)


class Family:
    """The residual as a function of x, on a twin of the pieces: evaluated inside the search operator."""

    entrywise = False

    def __init__(self, phi: Legendre, *terms: Any):
        self.twin = Twin([phi, *terms])
        self.split = Split(*self.twin.pieces)

    def function(self, v: Tensor, tensors: list[Tensor]) -> Function:
        self.twin.load(tensors)
        v, keep = masked(self.split.phi, v)
        return lambda x: self.split.probe(x, v, keep)


class MultiplierMap(Map):
    name = "multiplier"

    def __init__(self, phi: Legendre, g: Regularizer, solver: Multiplier):
        self.phi, self.g, self.solver = phi, g, solver
        self.terms = list(g.terms())
        self.split = Split(phi, *self.terms)
        self.family = Held(Family, phi, *self.terms)

    def solve(self, v: Tensor, init: Near | None = None) -> Outcome:
        equation, inner = self.split.equation, self.split.inner
        given = equation.gather(v)
        origin = equation.origin(given)
        given = given if origin is None else given - origin * equation.coefficients(given)
        finite, keep = masked(self.phi, given)
        tensors = tensors_of([self.phi, *self.terms])
        start = self._start(given, finite, keep, init)
        x, code, iterations = search(given, start, tensors, self.family.handle(), self.solver.max_iter, self.solver.tol)
        slope, met = self._look(x, finite, keep)
        asleep = equation.inactive(self.split.free, finite.detach(), everywhere(keep, finite))
        # Where v is finite and every root is found there is nothing to tell, if the separable problem is always solved.
        off, status, rest = None, code, finite
        plain = keep is None and asleep is None and inner.whole and met and not bool(code.any())
        if not plain or (equation.blind and not self._in_range(x, finite)):
            off, status, x, rest = self._without(v, x, code, asleep, finite, keep)
        if tracked(given, *tensors):
            equation.fix(inner, x, rest)
            x = self._attached(x, slope if off is None else self._look(x, rest, keep)[0], off, rest, keep)
        z, u = equation.point(inner, x, rest)
        if equation.bounded:
            z = z + self._rounding(x, z, u, equation.shifted(x, rest), rest, keep)
        s = equation.multiplier(x if origin is None else x + origin, rest)
        if asleep is not None:
            z, u, s = self._awake(asleep, z, u, s, finite)
        z, u = kept(z, keep, 0.0), kept(u, keep, -torch.inf)
        if off is not None:
            lost = status > MAX_ITER
            z = torch.where(lost, torch.nan, equation.scatter(z))
        else:
            z = equation.scatter(z)

        def residual() -> Tensor:
            at = kept(equation.gather(z), keep, 0.0)
            return equation.scatter(self._residual(x, at, u, rest, keep, asleep, finite))

        multipliers = {equation.constraint.label: s.squeeze(equation.dim)}
        return Outcome(z, equation.scatter(u), status, iterations, multipliers, residual)

    @torch.no_grad()
    def _look(self, x: Tensor, v: Tensor, keep: Tensor | None) -> tuple[Tensor, bool]:
        """(d residual/dx, whether one look tells that every event meets its equation, at a point that moves with x)."""
        value, slope, size = self.split.probe(x.detach(), v.detach(), keep)
        # At an end of dom φ alone the slope is 0 or rounding: ``outside`` then tells whether z may be there.
        missed = self.split.equation.beyond(value, size) | (slope <= torch.finfo(x.dtype).eps)
        return slope.detach(), readable(missed) and not missed.is_cuda and not bool(missed.any())

    @torch.no_grad()
    def _in_range(self, x: Tensor, v: Tensor) -> bool:
        return all_finite(self.split.equation.point(self.split.inner, x, v)[0])

    def _without(
        self, v: Tensor, x: Tensor, code: Tensor, asleep: Tensor | None, finite: Tensor, keep: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """(events whose multiplier is not wanted or does not exist, status, x and v with those at harmless points).

        Their derivatives, infinite perhaps, times 0 would be NaN in the weights that all events share.
        """
        equation = self.split.equation
        status = self._status(v, x, code, asleep, finite, keep)
        lost = (status > MAX_ITER).to(v.dtype).broadcast_to(v.shape)
        off = (equation.gather(lost) > 0).any(equation.dim, keepdim=True)
        if asleep is not None:
            off = off | asleep
        if readable(off) and not off.is_cuda and not bool(off.any()):
            return off, status, x, finite
        return off, status, torch.where(off, 0.0, x), torch.where(off, anchor(self.phi, finite), finite)

    def _awake(self, asleep: Tensor, z: Tensor, u: Tensor, s: Tensor, v: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """z, u and the multiplier with the events that need none in their places."""
        if readable(asleep) and not asleep.is_cuda and not bool(asleep.any()):
            return z, u, s
        at = torch.where(asleep, v, anchor(self.phi, v))
        idle = self.split.equation.resting(self.split.free, at)
        return torch.where(asleep, idle[0], z), torch.where(asleep, idle[1], u), torch.where(asleep, 0.0, s)

    def _start(self, given: Tensor, v: Tensor, keep: Tensor | None, init: Near | None) -> Tensor:
        equation = self.split.equation
        if init is None:
            start = equation.start(self.split.inner.psi, given)
            if keep is None:
                return start
        else:
            start = equation.guess(equation.gather(init[0]), equation.gather(init[1]), v, everywhere(keep, v))
        return torch.where(start.isfinite(), start, 0.0)

    def _attached(self, x: Tensor, slope: Tensor, off: Tensor | None, v: Tensor, keep: Tensor | None) -> Tensor:
        equation, inner = self.split.equation, self.split.inner
        steady = (slope != 0) & slope.isfinite()
        steady = steady if off is None else steady & ~off
        slope = torch.where(steady, slope, torch.inf)
        return attach(lambda t: equation.residual_at(inner, t, v, keep), x, slope)

    @torch.no_grad()
    def _status(
        self, given: Tensor, x: Tensor, code: Tensor, asleep: Tensor | None, v: Tensor, keep: Tensor | None
    ) -> Tensor:
        equation, inner = self.split.equation, self.split.inner
        keep = everywhere(keep, v)
        value, _, size = self.split.probe(x, v, keep)
        beyond = (code == FOUND) & equation.beyond(value, size)
        lost = (code == NONE) | ((code == JUMP) & ~equation.near(x, v, value, size)) | beyond
        jump = (code == JUMP) & (equation.last(x) == x)
        x = torch.where(lost, equation.last(x), x)
        failure = equation.failure(inner, x, v, keep, jump)
        failure = torch.where(beyond & (failure == UNBOUNDED), INVALID, failure)
        status = torch.where(code == LIMIT, MAX_ITER, torch.where(lost, failure, CONVERGED))
        status = torch.where(equation.outside(inner, x, v, keep), INFEASIBLE, status)
        inside = inner.solve(torch.where(lost, anchor(self.phi, v), equation.shifted(x, v)))
        within = torch.where(inside.z.isinf(), INVALID, inside.status)
        if asleep is not None:
            status = torch.where(asleep, CONVERGED, status)
            # the map that is asked says more than CONVERGED only where it is the one that counts
            within = torch.where(asleep, CONVERGED, within)
        status = torch.maximum(status, torch.where(keep, within, CONVERGED))
        status = torch.where(keep.any(equation.dim, keepdim=True), status, INVALID)
        valid = given.isfinite() | ((given == -math.inf) & isinstance(equation, Linear))
        return torch.where(valid.all(equation.constraint.dims, keepdim=True), equation.scatter(status), INVALID)

    def _residual(
        self,
        x: Tensor,
        z: Tensor,
        u: Tensor,
        v: Tensor,
        keep: Tensor | None,
        asleep: Tensor | None,
        given: Tensor,
    ) -> Tensor:
        """dist(v − ∇φ(z), ∂g(z)) with the multiplier given, and by how much the equation is missed."""
        equation, split = self.split.equation, self.split
        shifted = equation.shifted(x, v)
        inner = Prox(self.phi, split.inner.g).residual(z, u, shifted)
        awake = norm(kept(inner, keep, 0.0), (equation.dim,)) + equation.missed(x, z, u, v).abs()
        vanishing = equation.vanishing(x)
        if vanishing is not None:
            asleep = vanishing if asleep is None else asleep | vanishing
        if asleep is None:
            return awake
        free = Prox(self.phi, split.free.g).residual(z, u, given)
        idle = norm(kept(free, keep, 0.0), (equation.dim,)) if equation.bounded else torch.zeros_like(awake)
        return torch.where(asleep, idle, awake)

    def _rounding(
        self, x: Tensor, z: Tensor, u: Tensor, shifted: Tensor, v: Tensor, keep: Tensor | None
    ) -> Tensor | float:
        """What the rounding of v − s a left of the equation, spread by a Newton step in z: no float s need meet it."""
        equation = self.split.equation
        z, eps = kept(z.detach(), keep, 0.0), torch.finfo(z.dtype).eps
        missed = equation.missed(x, z, u, v).detach()
        far = missed.abs() > 4 * eps * equation.target(v).detach().abs()
        if readable(far) and not far.is_cuda and not bool(far.any()):
            return 0.0
        a = equation.normal(z, v)
        gain = self.split.inner.gain(shifted.detach())[2]
        gain = torch.where(everywhere(keep, v) & gain.isfinite(), a * gain, 0.0)
        step = gain * (missed / (a * gain).sum(equation.dim, keepdim=True))
        moved = z + step
        inside = self.split.inner.g.domain.contains(moved) & self.phi.domain.contains(moved)
        inside = inside & (a * equation.normal(moved, v) >= 0)  # on the same face
        return torch.where(inside & far & step.isfinite(), step, 0.0).detach()

    def explain(self) -> str:
        inner = self.split.inner
        return (
            f"multiplier: {self.phi.label} + {self.g.label}; one root for {self.split.equation.constraint.label}, "
            f"around {inner.explain().partition(';')[0]}"
        )


def masked(phi: Legendre, v: Tensor) -> tuple[Tensor, Tensor | None]:
    """(v with its masked entries, −∞, in the range of ∇φ, the mask of the others: None where all are seen finite).

    NaN and ∞ go there too, so that no search runs after them; their status is told by v itself.
    """
    if all_finite(v):
        return v, None
    return torch.where(v.isfinite(), v, anchor(phi, v)), v != -math.inf


def everywhere(keep: Tensor | None, like: Tensor) -> Tensor:
    return torch.ones_like(like, dtype=torch.bool) if keep is None else keep


def _separable_map(phi: Legendre, terms: list[Any]) -> Map:
    g = Sum(*terms) if len(terms) > 1 else terms[0] if terms else Zero()
    try:
        return plan(phi, g)
    except InputError:
        return Scalar().bind(phi, g)
