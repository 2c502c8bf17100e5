"""The multiplier solver: one coupled term, any separable φ and separable rest, one scalar root an event."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ..closed_forms.plan import plan
from ..errors import InputError
from ..legendre import Legendre
from ..maps import Map, Outcome
from ..numerics import attach, norm
from ..numerics.bracket import JUMP, LIMIT, NONE, Function
from ..numerics.search import register, search
from ..problem import Prox
from ..regularizers import Regularizer, Sum, Zero
from ..solution import CONVERGED, INVALID, MAX_ITER
from .base import Solver
from .equation import Linear
from .equations import equation_of
from .scalar import Scalar
from .twin import Twin, kept_handle, tensors_of


class Multiplier(Solver):
    """Simplices, balls, norms and one linear equation: a bracketed search for the multiplier, the separable problem
    inside it in closed form or by the scalar solver; derivatives by attached Newton steps on the multiplier.

    Entries of v that are −∞ are masked: z = 0 there (simplices only). ``tol`` is on the constraint, 0 for the rounding
    of its terms; ``max_iter`` counts evaluations.
    """

    name = "multiplier"

    def __init__(self, tol: float = 0.0, max_iter: int = 120):
        if not tol >= 0 or max_iter < 1:
            raise InputError(f"multiplier: tol >= 0 and max_iter >= 1 are needed, not {tol} and {max_iter}")
        self.tol, self.max_iter = tol, max_iter

    def bind(self, phi: Legendre, g: Regularizer) -> MultiplierMap:
        return MultiplierMap(phi, g, self)


class Split:
    """φ and the terms of g, split into a coupled one with its equation and the separable problem inside it."""

    def __init__(self, phi: Legendre, *terms: Any):
        coupled = [t for t in terms if t.event_ndim]
        if phi.event_ndim or len(coupled) != 1:
            raise InputError(f"it takes a separable φ and one coupled term, not {len(coupled)} with {phi.label}")
        self.phi, self.separable = phi, [t for t in terms if not t.event_ndim]
        self.equation = equation_of(coupled[0])
        self.equation.curvature = phi.hessian
        self.free = _separable_map(phi, self.separable)
        piece = self.equation.piece
        self.inner = _separable_map(phi, [*self.separable, piece]) if piece is not None else self.free

    def point(self, x: Tensor, v: Tensor) -> Outcome:
        """The separable problem at s = multiplier(x)."""
        s = self.equation.multiplier(x)
        self.equation.set(s)
        return self.inner.solve(self.equation.shifted(v, s))

    def probe(self, x: Tensor, v: Tensor, keep: Tensor) -> tuple[Tensor, Tensor, Callable[[], Tensor]]:
        """(value, slope, size) of the residual at x, without a graph."""
        s = self.equation.multiplier(x)
        self.equation.set(s)
        z, u, gain = self.inner.gain(self.equation.shifted(v, s))  # type: ignore[attr-defined]
        z, gain = torch.where(keep, z, 0.0), torch.where(keep, gain, 0.0)
        value, size = self.equation.residual(x, z, u, v)
        return value, self.equation.slope(x, z, gain, v), lambda: size

    def residual(self, x: Tensor, v: Tensor, keep: Tensor) -> tuple[Tensor, Tensor]:
        outcome = self.point(x, v)
        z = torch.where(keep, outcome.z, 0.0)
        return self.equation.residual(x, z, outcome.dual, v)  # type: ignore[arg-type]


class Family:
    """The residual as a function of x, on a twin of the pieces: evaluated inside the search operator."""

    entrywise = False

    def __init__(self, phi: Legendre, *terms: Any):
        self.twin = Twin([phi, *terms])
        self.split = Split(*self.twin.pieces)

    def function(self, v: Tensor, tensors: list[Tensor]) -> Function:
        self.twin.load(tensors)
        v, keep = masked(v)
        return lambda x: self.split.probe(x, v, keep)


class MultiplierMap(Map):
    name = "multiplier"

    def __init__(self, phi: Legendre, g: Regularizer, solver: Multiplier):
        self.phi, self.g, self.solver = phi, g, solver
        self.terms = list(g.terms())
        self.split = Split(phi, *self.terms)
        self._family: Family | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_family": None}  # the twin and its handle are this process's

    def solve(self, v: Tensor, init: tuple[Tensor, Tensor] | None = None) -> Outcome:
        equation = self.split.equation
        given = equation.gather(v)
        dim = equation.dim if equation.dim < 0 else equation.dim - given.ndim
        finite, keep = masked(given)
        tensors = tensors_of([self.phi, *self.terms])
        if init is None:
            start = equation.start(self.phi, given)
        else:
            start = equation.guess(equation.gather(init[0]), equation.gather(init[1]), finite, keep)
            start = torch.where(start.isfinite(), start, 0.0)
        x, code, iterations = search(given, start, tensors, self._handle(), self.solver.max_iter, self.solver.tol)
        idle = equation.inactive(lambda: self._free(finite), self.phi, self.split.separable, finite, keep)
        asleep = torch.zeros_like(x, dtype=torch.bool) if idle is None else idle[0].detach()
        x = self._attached(torch.where(asleep | (code == NONE), 0.0, x), asleep, finite, keep)
        outcome = self.split.point(x, finite)
        z, u = outcome.z, outcome.dual
        # z varies continuously with s, so that a jump is rounding, or a search that left the range of floats.
        missed, size = equation.residual(x, torch.where(keep, z, 0.0), u, finite)  # type: ignore[arg-type]
        lost = (code == NONE) | ((code == JUMP) & ~(missed.abs() <= torch.finfo(z.dtype).eps ** 0.5 * size))
        if isinstance(equation, Linear):
            z = z + self._rounding(x, z, missed, finite, keep).detach()
        if idle is not None:
            z, u = torch.where(asleep, idle[1], z), torch.where(asleep, idle[2], u)  # type: ignore[arg-type]
        z, u = torch.where(keep, z, 0.0), torch.where(keep, u, -torch.inf)  # type: ignore[arg-type]
        status = torch.where(code == LIMIT, MAX_ITER, torch.where(lost, equation.failure, CONVERGED))
        status = torch.maximum(torch.where(asleep, CONVERGED, status), torch.where(keep, outcome.status, CONVERGED))
        status = torch.where(keep.any(dim, keepdim=True), status, INVALID)
        valid = v.isfinite() | ((v == -math.inf) & isinstance(equation, Linear))
        status = torch.where(valid, equation.scatter(status), INVALID)
        s = torch.where(asleep, 0.0, equation.multiplier(x))
        multipliers = {equation.constraint.label: s.squeeze(dim)}

        def residual() -> Tensor:
            return equation.scatter(self._residual(x, z, u, finite, keep, asleep))

        return Outcome(equation.scatter(z), equation.scatter(u), status, iterations, multipliers, residual)

    def _residual(self, x: Tensor, z: Tensor, u: Tensor, v: Tensor, keep: Tensor, asleep: Tensor) -> Tensor:
        """dist(v − ∇φ(z), ∂g(z)) with the multiplier given, and by how much the equation is missed."""
        equation, s = self.split.equation, self.split.equation.multiplier(x)
        equation.set(s)
        shifted = equation.shifted(v, s)
        inner = Prox(self.phi, self.split.inner.g).residual(z, u, shifted)  # type: ignore[attr-defined]
        missed = equation.residual(x, z, u, v)[0].abs()
        awake = norm(torch.where(keep, inner, 0.0), (equation.dim,)) + missed
        free = Prox(self.phi, self.split.free.g).residual(z, u, v)  # type: ignore[attr-defined]
        idle = norm(torch.where(keep, free, 0.0), (equation.dim,)) if equation.bounded else torch.zeros_like(awake)
        return torch.where(asleep, idle, awake)

    def _rounding(self, x: Tensor, z: Tensor, missed: Tensor, v: Tensor, keep: Tensor) -> Tensor:
        """What the rounding of v − s a left of the equation, spread by a Newton step in z: no float s need meet it."""
        equation, a = self.split.equation, self.split.equation.coefficients(v)  # type: ignore[attr-defined]
        shifted = equation.shifted(v, equation.multiplier(x)).detach()
        gain = self.split.inner.gain(shifted)[2]  # type: ignore[attr-defined]
        gain = torch.where(keep & gain.isfinite(), a * gain, 0.0)
        step = gain * (missed / (a * gain).sum(equation.dim, keepdim=True))
        moved = z + step
        inside = self.split.inner.g.domain.contains(moved) & self.phi.domain.contains(moved)  # type: ignore[attr-defined]
        small = missed.abs() <= torch.finfo(z.dtype).eps ** 0.5 * z.abs().sum(equation.dim, keepdim=True)
        return torch.where(inside & small & step.isfinite(), step, 0.0)

    def _free(self, v: Tensor) -> tuple[Tensor, Tensor]:
        outcome = self.split.free.solve(v)
        return outcome.z, outcome.dual  # type: ignore[return-value]

    def _attached(self, x: Tensor, asleep: Tensor, v: Tensor, keep: Tensor) -> Tensor:
        slope = self.split.probe(x.detach(), v.detach(), keep)[1].detach()
        steady = ~asleep & (slope != 0) & slope.isfinite()
        return attach(lambda t: self.split.residual(t, v, keep)[0], x, torch.where(steady, slope, torch.inf))

    def _handle(self) -> int:
        if torch.compiler.is_compiling():
            return kept_handle(Family, self.phi, *self.terms)
        if self._family is None:
            self._family = Family(self.phi, *self.terms)
            self.handle = register(self._family)
        return self.handle

    def explain(self) -> str:
        inner = self.split.inner
        return (
            f"multiplier: {self.phi.label} + {self.g.label}; one root for {self.split.equation.constraint.label}, "
            f"around {inner.explain().partition(';')[0]}"
        )


def masked(v: Tensor) -> tuple[Tensor, Tensor]:
    """(v with its masked entries, −∞, at a finite value, the mask of the others)."""
    keep = v != -math.inf
    return torch.where(keep, v, 0.0), keep


def _separable_map(phi: Legendre, terms: list[Any]) -> Map:
    g = Sum(*terms) if len(terms) > 1 else terms[0] if terms else Zero()
    try:
        return plan(phi, g)
    except InputError:
        return Scalar().bind(phi, g)
