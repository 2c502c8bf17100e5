"""(∇ψ)⁻¹ by root search, for ψ = φ + Σ h given as little as by their values."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..domains import Domain, Interval
from ..errors import InputError
from ..legendre import Legendre, Separable
from ..maps import Near
from ..numerics import attach
from ..numerics.bracket import FOUND, JUMP, LIMIT, NONE, Function
from ..numerics.entrywise import in_blocks, single
from ..numerics.search import search
from ..regularizers import Smooth
from ..solution import CONVERGED, INVALID, KINK, MAX_ITER, UNBOUNDED
from ..values import all_below, all_finite, readable, tracked
from .charts import at_end as at_end_of
from .charts import chart, common_domain, origin, total, unchart
from .look import Look, derivatives_of, look_at
from .twin import Held, Twin, tensors_of


class Point(NamedTuple):
    """z and u = ∇φ(z) with derivatives, the status of each entry, and the iterations."""

    z: Tensor
    u: Tensor
    status: Tensor
    iterations: Tensor


class Family:
    """The functions of x whose roots are sought, on a twin of φ and the terms: evaluated inside the search operator."""

    entrywise = True

    def __init__(self, phi: Legendre, *terms: Any):
        self.twin = Twin([phi, *terms])
        self.in_dual = _in_dual(phi, terms)

    def start(self, w: Tensor) -> Tensor:
        return w.clone() if self.in_dual else torch.zeros_like(w)

    def function(self, w: Tensor, tensors: list[Tensor]) -> Function:
        """x ↦ the value, slope and size of ∇ψ(z(x)) − w."""
        self.twin.load(tensors)
        phi, *terms = self.twin.pieces
        domain, eps = common_domain(phi, terms), torch.finfo(w.dtype).eps

        def in_dual(u: Tensor) -> tuple[Tensor, Tensor, Callable[[], Tensor]]:
            z = phi.grad_conjugate(u)
            slopes, curvatures = derivatives_of(terms, z)
            slope = 1 + total(curvatures) / phi.hessian(z)
            return total([u, *slopes]) - w, slope, lambda: total(s.abs() for s in (u, *slopes, w))

        def in_chart(x: Tensor) -> tuple[Tensor, Tensor, Callable[[], Tensor]]:
            z, dz = chart(domain, x)
            slopes, curvatures = derivatives_of([phi, *terms], z)
            curvature = total(curvatures)

            def size() -> Tensor:
                # z itself is right to eps of where the chart starts; a rounding as large as the terms is beyond the
                # end of the domain, and tells nothing of the root.
                terms = total(s.abs() for s in (*slopes, w))
                return terms + torch.minimum(curvature * origin(domain, x).abs(), terms / (64 * eps))

            return total(slopes) - w, curvature * dz, size

        return in_dual if self.in_dual else in_chart


class Inverse:
    """ψ = φ + Σ h with ``point(w)``: z and u = ∇φ(z) for ∇ψ(z) = w, entry by entry.

    The unknown x is u where ∇φ* is a formula on the whole line (u + h'(∇φ*(u)) = w has slope at least 1), else it
    is in the chart of dom ψ: z, log of the distance to the end, or logit. Derivatives are attached Newton steps, in
    reverse and forward mode to second order; 0 at a kink, or those of ``kinks()`` where h states them.
    """

    def __init__(self, phi: Legendre, terms: list[Any], max_iter: int = 120, tol: float = 0.0):
        if phi.event_ndim or any(t.event_ndim for t in terms):
            raise InputError(f"the scalar solver takes separable functions; {phi.label} with these terms is not")
        self.phi, self.terms, self.max_iter, self.tol = phi, terms, max_iter, tol
        self.in_dual = _in_dual(phi, terms)
        self.name = "root search"
        self.family = Held(Family, phi, *terms)

    # What closed_forms.Absorbed offers too, for the select move.
    basis = None
    dual_domain: Domain = Interval()

    @property
    def domain(self) -> Interval:
        return self.phi.domain

    @property
    def common(self) -> Interval:
        return common_domain(self.phi, self.terms)

    @property
    def constant(self) -> bool:
        return self.phi.constant and all(t.constant for t in self.terms)

    def grad(self, z: Tensor) -> Tensor:
        grad = self.phi.grad(z) + self.slope(z)
        for d in (t.domain for t in self.terms if t.domain != Interval()):  # ∓∞ outside dom h, where a knot may lie
            grad = torch.where(z < d.lo, -torch.inf, torch.where(z > d.hi, torch.inf, grad))
        return grad

    def slope(self, z: Tensor) -> Any:
        return sum(t.grad(z) for t in self.terms)

    def curvature(self, z: Tensor) -> Any:
        return self.phi.hessian(z) + sum(t.hessian(z) for t in self.terms)

    def inverse(self, w: Tensor) -> Tensor:
        return self.point(w).z

    def point(self, w: Tensor, init: Near | None = None) -> Point:
        """The solution of ∇ψ(z) = w, searched for from ``init``."""
        start = None
        if init is not None:
            start = init[1] if self.in_dual else unchart(self.common, init[0])
            start = torch.where(start.isfinite(), start, 0.0)
        tensors = tensors_of([self.phi, *self.terms])
        x, code, iterations = search(w, start, tensors, self.family.handle(), self.max_iter, self.tol)
        with torch.no_grad():
            z = self._primal(x)
            # Where one look tells that every root is found, there is nothing to mark entry by entry.
            plain = self.tol == 0 and all_below(code, FOUND) and all_finite(z)
            beyond = jump = unfinished = under = torch.zeros_like(z, dtype=torch.bool)
            if not plain:
                beyond = ~z.isfinite()  # the range of floats
                # Beside an end of dom φ, where z is rounded, ∇φ jumps from float to float: no kink.
                at_end = at_end_of(self.common, z)
                jump = (code == JUMP) & ~at_end
                # The root is nearer to an end at 0 than floats tell: 0 is its rounding.
                under = (code == JUMP) & at_end & (z.abs() <= torch.finfo(z.dtype).tiny)
                z = torch.where(under, 0.0, z)
                unfinished = ((code == LIMIT) | (self.tol > 0)) & ~at_end
            look = self._look(z, w, jump, single(tensors))
            jump, sound = look.jump, look.sound
        if tracked(w, *tensors):
            z, u = self._found(x, z, look, unfinished, (code == NONE) | beyond, w)
        else:
            with torch.no_grad():
                u = x if self.in_dual else self._dual(z, look, unfinished, w, z)
        z, u, stated = self._on_kinks(z, u, w)
        bounded = not self.terms and self.phi.dual_domain != Interval()
        if plain and not bounded and bool(sound.all()) and not bool(jump.any()) and (self.in_dual or all_finite(u)):
            return Point(z, u, code, iterations)
        moves = any(t.requires_grad for t in tensors)
        found = torch.where(jump & ~stated, KINK, CONVERGED) if moves else torch.zeros_like(code)
        if not self.in_dual:  # what u could be told from is out of range; ∇φ(0) is infinite where φ ends at 0
            end = torch.where(torch.as_tensor(self.phi.domain.lo == 0), -torch.inf, torch.inf).to(u)
            u = torch.where(under & u.detach().isnan(), end, u)
            beyond = beyond | ~(u.detach().isfinite() | (under & u.detach().isinf()))
        found = torch.where(sound & ~beyond & ~self._overflows(x, code), found, INVALID)
        status = torch.where(code == LIMIT, MAX_ITER, torch.where(code == NONE, UNBOUNDED, found))
        if bounded:  # on its edge a rounded residual is 0 far out
            status = torch.where(self.phi.dual_domain.interior(w), status, UNBOUNDED)
        return Point(z, u, status, iterations)

    def _overflows(self, x: Tensor, code: Tensor) -> Tensor:
        """Whether what the search took for a jump is a z beyond the range of floats."""
        jump = code == JUMP
        if readable(jump) and not jump.is_cuda and not bool(jump.any()):
            return jump
        with torch.no_grad():
            step = 8 * torch.finfo(x.dtype).eps * x.abs()  # beyond the float beside x where the search stopped
            return jump & ~(self._primal(x - step).isfinite() & self._primal(x + step).isfinite())

    def at_end(self, z: Tensor) -> Tensor:
        """Where z is an end of dom φ as far as floats tell."""
        return at_end_of(self.phi.domain, z)

    def _primal(self, x: Tensor) -> Tensor:
        return self.phi.grad_conjugate(x) if self.in_dual else chart(self.common, x)[0]

    def _look(self, z: Tensor, w: Tensor, jump: Tensor, scalars: bool) -> Look:
        """What the derivatives tell of z, which for functions of the user's may be on a kink or not convex."""
        rough = [t for t in self.terms if not issubclass(t.kind, Smooth)]
        if self.in_dual and not rough and type(self.phi).grad is not Separable.grad:
            # ∇φ and h' are continuous: what jumps from float to float is their rounding.
            return Look(torch.zeros_like(jump), torch.ones_like(jump), z, jump)
        seen = partial(look_at, self.phi, self.terms, rough)
        return Look(*(in_blocks(seen, z, w, jump) if scalars else seen(z, w, jump)))

    def _dual(self, z: Tensor, look: Look, unfinished: Tensor, w: Tensor, root: Tensor) -> Tensor:
        """u = w − h'(z), which keeps the digits that ∇φ(z) loses where z was rounded.

        ∇φ(z) where the difference keeps fewer, where h' jumps, and where the search did not go to its end: the
        difference says so of any z.
        """
        u = look.dual if root is z else w - self.slope(root)
        if not readable(look.cancels) or bool(look.cancels.any()):
            u = torch.where(look.cancels, self.phi.grad(root), u)
        stands = look.jump | unfinished | ~u.detach().isfinite()
        return torch.where(stands, self.phi.grad(z), u) if not readable(stands) or bool(stands.any()) else u

    def _found(
        self, x: Tensor, z: Tensor, look: Look, unfinished: Tensor, none: Tensor, w: Tensor
    ) -> tuple[Tensor, Tensor]:
        """(z, u) with derivatives, none where there is no root: there they are taken at an inner point."""
        lost = none | ~w.detach().isfinite()
        if readable(lost) and not lost.is_cuda and not bool(lost.any()):
            return self._attached(x, z, look, unfinished, w)
        inner = torch.where(lost, 0.0, x)
        found = self._attached(
            inner, torch.where(lost, self._primal(inner), z), look, unfinished, torch.where(lost, 0.0, w)
        )
        last = torch.where(w.isfinite(), z, torch.nan), w.detach()
        return torch.where(lost, last[0], found[0]), torch.where(lost, last[1], found[1])

    def _attached(self, x: Tensor, z0: Tensor, look: Look, unfinished: Tensor, w: Tensor) -> tuple[Tensor, Tensor]:
        if self.in_dual:
            z = self.phi.grad_conjugate(x)
            slope = 1 + sum(t.hessian(z) for t in self.terms) / self.phi.hessian(z)
            root = _attach(lambda u: u + self.slope(self.phi.grad_conjugate(u)) - w, x, slope, torch.zeros_like(x))
            u = torch.where(look.jump, x, root)
            return self.phi.grad_conjugate(u), u
        curvature = self.phi.hessian(z0) + sum(t.hessian(z0) for t in self.terms)
        root = _attach(lambda z: self.grad(z) - w, z0, curvature, self._primal(torch.zeros_like(x)))
        return torch.where(look.jump, z0, root), self._dual(z0, look, unfinished, w, root)

    def _on_kinks(self, z: Tensor, u: Tensor, w: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        stated = torch.zeros_like(w, dtype=torch.bool)
        for term in self.terms:
            kinks = term.kinks()
            for t in (kinks,) if isinstance(kinks, Tensor) else kinks:
                t = torch.as_tensor(t, dtype=w.dtype, device=w.device)
                level = self.phi.grad(t)
                ends = [s.derivatives(t) for s in self.terms]
                low, high = (level + sum(e[i] for e in ends) for i in (0, 1))
                on = ((w >= low) & (w <= high)).detach()
                z, u, stated = torch.where(on, t, z), torch.where(on, level, u), stated | on
        return z, u, stated


def _in_dual(phi: Legendre, terms: Sequence[Any]) -> bool:
    # ∇φ*(u) must stay where every term is finite; where φ is not steep a term may be, and only z then tells how far.
    inside = all(t.domain == Interval() or (t.domain == phi.domain and phi.steep) for t in terms)
    return phi.explicit and phi.dual_domain == Interval() and inside and not flat(phi)


def flat(phi: Legendre) -> bool:
    """Whether φ''(0) = 0, as of a high power: beside 0 the dual point is smaller than any step that finds z."""
    if not phi.constant or not phi.domain.holds(0.0, 0.0):
        return False
    return float(phi.hessian(torch.zeros((), dtype=torch.float64, device="cpu"))) == 0  # type: ignore[attr-defined]


def _attach(residual: Callable[[Tensor], Tensor], root: Tensor, slope: Tensor, inner: Tensor) -> Tensor:
    # Where the slope is infinite z does not move, and where it is 0 it has no derivative; the residual is then taken at
    # an inner point, off 0 · ∞.
    steady = (slope.isfinite() & (slope != 0) & root.isfinite()).detach()
    attached = attach(residual, torch.where(steady, root, inner), torch.where(steady, slope, 1.0))
    return torch.where(steady, attached, root.detach())


_mirrors: weakref.WeakKeyDictionary[Legendre, Inverse] = weakref.WeakKeyDictionary()


def mirror_map(phi: Legendre, u: Tensor, start: Tensor | None = None) -> Tensor:
    """∇φ*(u) of a φ that states ∇φ or its value alone, sought from the point ``start`` where it is given."""
    if phi not in _mirrors:
        _mirrors[phi] = Inverse(phi, [])
    return _mirrors[phi].point(u, None if start is None else Near(start, u, {})).z
