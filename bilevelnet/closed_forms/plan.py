"""The plan of the three moves for a pair (φ, g), and the map v ↦ (u, z) that carries it out."""

from __future__ import annotations

import torch
from torch import Tensor

from ..domains import Interval
from ..errors import InputError
from ..legendre import Legendre
from ..maps import Map, Outcome
from ..regularizers import Regularizer
from ..solution import CONVERGED, INFEASIBLE, INVALID, UNBOUNDED
from .absorb import Absorbed
from .select import Select
from .shift import Shift


class ClosedFormMap(Map):
    """T_g: v ↦ u = ∇φ(prox^φ_g(v)), resolved once for a pair (φ, g); weights are read at each call."""

    name = "closed_form"
    direct = True

    def __init__(self, phi: Legendre, g: Regularizer):
        self.phi, self.g = phi, g
        terms = list(g.terms())
        linear = [t for t in terms if t.pieces() is not None]
        others = [t for t in terms if t.pieces() is None]
        vector = [t for t in others if t.event_ndim]
        smooth = [t for t in others if not t.event_ndim]
        if (linear or smooth or vector) and phi.event_ndim:
            raise InputError(f"no closed form is known for {g.label} with {phi.label}, which is not separable")
        self.psi = Absorbed(phi, smooth)
        if len(vector) > 1:
            raise InputError(f"no closed form is known for two coupled terms: {', '.join(t.label for t in vector)}")
        self.shift = Shift(self.psi, vector[0]) if vector else None
        if self.shift and any(isinstance(k, Tensor) or k > 0 for t in linear for k in t.pieces()[0]):  # type: ignore[index]
            raise InputError(f"{g.label}: a knot inside the simplex leaves no closed form for its multiplier")
        self.select = Select(self.psi, linear)
        # The identity u = v is the residual network's kernel: nothing to do before ρ.
        self.trivial = not terms
        full = Interval()
        self.whole = self.psi.dual_domain == full and all(t.constant for t in terms)

    def state(self, v: Tensor) -> tuple[Tensor, Tensor | None]:
        if self.trivial:
            return v, None
        if self.shift is not None:
            z, w = self.shift(self._restricted(v))
            return self.psi.dual(w, z), z
        w = self.select(v)
        if not self.psi.terms:
            return w, None
        z = self.psi.inverse(w)
        return self.psi.dual(w, z), z

    def primal(self, v: Tensor) -> Tensor:
        if self.trivial:
            return self.phi.grad_conjugate(v)
        if self.shift is not None:
            return self.shift(self._restricted(v))[0]
        w = self.select(v)
        return self.select.snap(w, self.psi.inverse(w))

    def solve(self, v: Tensor) -> Outcome:
        if self.shift is not None:
            z, w = self.shift(self._restricted(v))
        else:
            w = self.select(v)
            z = self.select.snap(w, self.psi.inverse(w))
        return Outcome(z, self.psi.dual(w, z), self.status(v), 0, {})

    def status(self, v: Tensor) -> Tensor:
        w = v if self.shift is not None else self.select(v)
        status = torch.where(self.psi.dual_domain.interior(w), CONVERGED, UNBOUNDED)
        status = torch.where(w.isfinite(), status, INFEASIBLE)
        return torch.where(v.isfinite(), status, INVALID)

    def _restricted(self, v: Tensor) -> Tensor:
        # On z ≥ 0 a piecewise-linear term with its knots at or below 0 is linear.
        slopes = [t.pieces()[1][-1] for t in self.select.terms]  # type: ignore[index]
        return v - sum(slopes) if slopes else v

    def explain(self) -> str:
        absorbed = " + ".join(t.label for t in self.psi.terms)
        moves = [
            f"absorb {absorbed} into {self.phi.label} ({self.psi.name})" if absorbed else "absorb none",
            f"select {' + '.join(t.label for t in self.select.terms)}" if self.select.terms else "select none",
            f"shift {self.shift.simplex.label}" if self.shift else "shift none",
        ]
        name = "w = ∇ψ(z)" if absorbed else "u"
        formula = self.shift.formula if self.shift else self.select.formula
        return f"closed form: {self.phi.label} + {self.g.label}, dual {name} = {formula}; {', '.join(moves)}"


def plan(phi: Legendre, g: Regularizer) -> ClosedFormMap:
    """The closed form of (φ, g); InputError says why there is none, or that int dom φ misses dom g."""
    check_domains(phi, g)
    return ClosedFormMap(phi, g)


def check_domains(phi: Legendre, g: Regularizer) -> None:
    """InputError where constant domains leave no interior point in common."""
    a, b = phi.domain, g.domain
    if not (isinstance(a, Interval) and isinstance(b, Interval) and a.constant and b.constant):
        return
    if b.lo >= a.hi or b.hi <= a.lo or b.lo > b.hi:
        raise InputError(
            f"infeasible: dom g = {b} of {g.label} does not meet the interior of dom φ = {a} of {phi.label}; "
            f"move the constraint, or take a φ with a wider domain"
        )
