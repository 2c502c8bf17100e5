"""The Newton solver: smooth problems that couple the entries of z."""

from __future__ import annotations

import weakref
from typing import Any

import torch
from torch import Tensor

from ..domains import Interval
from ..errors import InputError
from ..legendre import Legendre
from ..maps import Map, Near, Outcome
from ..numerics.bracket import FOUND, LIMIT, NONE
from ..numerics.linear_solve import Inverse, linear_solve
from ..numerics.newton import attached
from ..numerics.search import search
from ..regularizers import Precomposed, Regularizer, Scaled, Smooth, Translated, Zero
from ..solution import CONVERGED, INVALID, KINK, MAX_ITER, UNBOUNDED
from ..values import tracked
from .base import Iterative
from .coordinates import Coordinates
from .newton_family import Family, LinearFamily, TransposedFamily
from .newton_system import explicit
from .samples import refute
from .twin import Held, tensors_of

LARGEST = 500  # entries of an event whose Hessian is formed: 128 of them take 256 MB in float64


class Newton(Iterative):
    """∇φ(z) + ∇g(z) = v by damped Newton steps in u = ∇φ(z), or in a chart of the domain where ∇φ* is no formula.

    φ and g may couple the entries and be given by their values alone. Every element has its line search and its
    status. ``tol``: on |∇φ(z) + ∇g(z) − v|, in dual units; 0 stops at the rounding of its terms. ``max_iter`` counts
    gradients. Events of more than ``largest`` entries are solved by conjugate gradients on products with the Hessian,
    which is then never formed; so are their derivatives, through every transform but vmap under torch.compile.
    """

    name = "newton"

    def __init__(self, tol: float = 0.0, max_iter: int = 200, largest: int = LARGEST):
        super().__init__(tol, max_iter)
        self.largest = largest

    def bind(self, phi: Legendre, g: Regularizer) -> NewtonMap:
        return NewtonMap(phi, g, self)


class NewtonMap(Map):
    name = "newton"

    def __init__(self, phi: Legendre, g: Regularizer, solver: Newton):
        self.phi, self.g, self.solver = phi, g, solver
        self.terms: list[Any] = list(g.terms())
        for t in self.terms:
            if reason := rough(t):
                raise InputError(f"{t.label} {reason}")
        if not phi.steep:
            raise InputError(f"the ends of dom {phi.label} are constraints")
        self.event_ndim = max([phi.event_ndim, *(t.event_ndim for t in self.terms)])
        if not self.event_ndim:
            raise InputError(f"{phi.label} + {g.label} is separable: the scalar solver takes it entry by entry")
        self.coordinates = Coordinates(phi, self.terms, self.event_ndim)
        arguments = self.event_ndim, solver.largest, phi, *self.terms
        self.family = Held(Family, *arguments)
        self.inverses = Held(LinearFamily, *arguments), Held(TransposedFamily, *arguments)

    def solve(self, v: Tensor, init: Near | None = None) -> Outcome:
        c, good = self.coordinates, v.isfinite()
        for d in range(-self.event_ndim, 0):
            good = good.all(d, keepdim=True)
        v = torch.where(good, v, 0.0)
        refute([self.phi, *self.terms], v, c.point)
        start = None if init is None else c.unknown(init.z, init.dual)
        tensors = tensors_of([self.phi, *self.terms])
        x, code, iterations = search(v, start, tensors, self.family.handle(), self.solver.max_iter, self.solver.tol)
        # Derivatives of an element without a solution, times 0, would be NaN in the weights that all elements share.
        lost = (code == NONE) | ~x.isfinite()
        x = torch.where(lost, c.starts(v)[-1], x)
        z, u = self._attached(x, v, tensors) if tracked(v, *tensors) else self._point(x, v)
        z, u = torch.where(lost, torch.nan, z), torch.where(lost, torch.nan, u)
        status = torch.where(code == LIMIT, MAX_ITER, torch.where(code == NONE, UNBOUNDED, INVALID))
        status = torch.where(good, torch.where(code == FOUND, CONVERGED, status), INVALID)

        def residual() -> Tensor:
            at = z.detach()
            return (u.detach() if c.dual else self.phi.grad(at)) + c.slope(at) - v

        return Outcome(z, u, status, iterations, {}, residual)

    def point(self, v: Tensor, init: Near | None = None) -> tuple[Tensor, Tensor]:
        """(z, u), NaN where there is no solution."""
        found = self.solve(v, init)
        lost = found.status > KINK
        return torch.where(lost, torch.nan, found.z), torch.where(lost, torch.nan, found.dual)  # type: ignore[arg-type]

    def response(self, at: Near, moves: Tensor) -> Tensor:
        """dz/dv at a solution times each of ``moves`` (m, n), of shape (m, …, n), without a graph."""
        c = self.coordinates
        system = explicit(c.curvatures(c.unknown(at.z, at.dual)))
        return system.exact(moves.reshape(len(moves), *[1] * (at.z.ndim - self.event_ndim), moves.shape[-1]))

    @torch.no_grad()
    def _point(self, x: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        z = self.coordinates.point(x)
        return z, x if self.coordinates.dual else v - self.coordinates.slope(z)

    def _attached(self, x: Tensor, v: Tensor, tensors: list[Tensor]) -> tuple[Tensor, Tensor]:
        c, phi = self.coordinates, self.phi
        inverse = self._inverse(x, tensors)
        if c.dual:
            u = attached(lambda u: u + c.slope(phi.grad_conjugate(u)) - v, x, inverse)
            return phi.grad_conjugate(u), u
        with torch.no_grad():
            z = c.point(x)
        z = attached(lambda z: phi.grad(z) + c.slope(z) - v, z, inverse)
        return z, v - c.slope(z)

    def _inverse(self, x: Tensor, tensors: list[Tensor]) -> Any:
        """(∂F/∂x)⁻¹, without derivatives of its own."""
        n = self.event_ndim
        event = x.shape[x.ndim - n :]
        if event.numel() > self.solver.largest:
            direct, transposed = self.inverses
            inverse = Inverse(direct.handle(), transposed.handle(), self.inverses)
            return lambda r: linear_solve(r, inverse, [x, *tensors])
        with torch.no_grad():
            system = explicit(self.coordinates.curvatures(x.detach()), detach=True)
        return lambda r: system.inverse(r.flatten(-n)).unflatten(-1, event)

    def explain(self) -> str:
        c = self.coordinates
        where = "u = ∇φ(z)" if c.dual else "z" if c.domain == Interval() else f"the chart of {c.domain}"
        return (
            f"newton: {self.phi.label} + {self.g.label}; damped Newton steps in {where}, "
            f"Hessian by Cholesky up to {self.solver.largest} entries, beyond by products"
        )


def rough(term: Any) -> str:
    """Why Newton's method does not take the term, or nothing."""
    if isinstance(term, Scaled):
        return rough(term.inner)
    if isinstance(term, Translated):
        return rough(term.body)
    if isinstance(term, Precomposed):
        why = next(filter(None, map(rough, term.body.terms())), "")
        return why or ("" if term.body.domain == Interval() else "has a domain in which no chart is known")
    if not term.event_ndim:
        smooth = not term.pieces()[0] if term.pieces() is not None else issubclass(term.kind, Smooth)
        return "" if smooth else "is not smooth, or not said to be: what is derives from regularizers.Smooth"
    if term.indicator or term.proximable:
        return "is not smooth, or not said to be: it states a prox"
    return ""


_mirrors: weakref.WeakKeyDictionary[Legendre, NewtonMap] = weakref.WeakKeyDictionary()


def mirror_map(phi: Legendre, u: Tensor) -> Tensor:
    """∇φ*(u) of a φ that couples the entries and states ∇φ or its value alone; NaN where there is none."""
    if phi not in _mirrors:
        _mirrors[phi] = NewtonMap(phi, Zero(), Newton())
    found = _mirrors[phi].solve(u)
    return torch.where(found.status <= KINK, found.z, torch.nan)
