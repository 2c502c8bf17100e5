"""The plan of the three moves for a pair (φ, g), and the map v ↦ (u, z) that carries it out."""

from __future__ import annotations

import torch
from torch import Tensor

from ..domains import Interval
from ..errors import InputError
from ..legendre import Legendre
from ..maps import Map, Near, Outcome
from ..problem import Prox, anchor, inner_point
from ..regularizers import Regularizer
from ..solution import CONVERGED, INFEASIBLE, INVALID, KINK, UNBOUNDED, worst
from ..values import readable
from .absorb import Absorbed, rule_of
from .select import Select
from .shift import couple


class ClosedFormMap(Map):
    """T_g: v ↦ u = ∇φ(prox^φ_g(v)), resolved once for a pair (φ, g); weights are read at each call."""

    name = "closed_form"
    direct = True

    def __init__(self, phi: Legendre, g: Regularizer):
        self.phi, self.g = phi, g
        terms = [t for t in g.terms() if not t.vanishes]
        linear = [t for t in terms if t.pieces() is not None]
        smooth = [t for t in terms if t.pieces() is None and (t.event_ndim == 0 or rule_of(phi, t) is not None)]
        coupled = [t for t in terms if t not in linear and t not in smooth]
        self.psi = Absorbed(phi, smooth)
        self.coupled = couple(self.psi, linear, coupled) if coupled or (phi.event_ndim and linear) else None
        self.select = Select(self.psi, [] if self.coupled else linear)
        # The identity u = v is the residual network's kernel: nothing to do before ρ.
        self.trivial = not terms and phi.steep
        sigma = phi.strong_convexity
        self.may_overflow = isinstance(sigma, Tensor) or sigma == 0  # else ‖z‖ grows like ‖v‖/σ at most
        self.whole = self.psi.dual_domain == Interval() and all(t.constant for t in terms)

    def state(self, v: Tensor) -> tuple[Tensor, Tensor | None]:
        if self.trivial:
            return v, None
        if self.coupled is None and not self.psi.terms and not self.select.edge:
            return self.select(v), None
        z, w = self._point(v)
        return self.psi.dual(w, z), self.select.snap(w, z) if self.select.edge else z

    def primal(self, v: Tensor) -> Tensor:
        if self.trivial:
            return self.phi.grad_conjugate(v)
        if self.coupled is not None:
            return self.coupled.primal(v)
        z, w = self._point(v)
        return self.select.snap(w, z)

    def solve(self, v: Tensor, init: Near | None = None) -> Outcome:
        status = self.status(v)
        lost = worst(status, Prox(self.phi, self.g).dims) > KINK
        some = not readable(lost) or bool(lost.any())
        z, u = self.point(torch.where(lost, anchor(self.phi, v), v) if some else v)
        return Outcome(torch.where(lost, torch.nan, z) if some else z, u, status, 0, {})

    def point(self, v: Tensor, init: Near | None = None) -> tuple[Tensor, Tensor]:
        """(z, u), without a status."""
        z, w = self._point(v)
        return self.select.snap(w, z), self.psi.dual(w, z)

    def gain(self, v: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(z, u, dz/dv) entry by entry, for a separable pair; z is the end of dom ψ where w leaves the range of ∇ψ."""
        z, w = self._point(v)
        u, gain, reach = self.psi.dual(w, z), self.select.gain(w, z), self.psi.dual_domain
        z = self.select.snap(w, z)
        if reach == Interval() or not isinstance(reach, Interval):
            return z, u, gain
        ends, low, high = self.psi.domain, w <= reach.lo, w >= reach.hi
        if (held := self.select.on_edge(w)) is not None:
            low, high = low & ~held, high & ~held
        z = torch.where(low, ends.lo, torch.where(high, ends.hi, z))
        return z, u, torch.where(low | high, 0.0, gain)

    def status(self, v: Tensor) -> Tensor:
        status = self._existence(v)
        if not self.may_overflow:
            return status
        with torch.no_grad():
            lost = worst(status, Prox(self.phi, self.g).dims) > KINK
            z = self.primal(torch.where(lost, anchor(self.phi, v), v))
        return torch.where(z.isfinite(), status, INVALID)

    def _existence(self, v: Tensor) -> Tensor:
        w = self.coupled.level(v) if self.coupled else self.select(v)
        inside, held = _entries(self.psi.dual_domain.interior(w), w), self.select.on_edge(w)
        status = torch.where(inside if held is None else inside | held, CONVERGED, UNBOUNDED)
        status = torch.where(w.isfinite(), status, INFEASIBLE)
        status = torch.where(v.isfinite(), status, INVALID)
        if self.coupled is None or self.coupled.masks is None:
            return status
        kept = v != -torch.inf
        enough = self.coupled.enough(kept.sum(self.coupled.masks, keepdim=True))
        status = torch.where(~kept & kept.any(self.coupled.masks, keepdim=True), CONVERGED, status)
        return torch.maximum(status, torch.where(enough, CONVERGED, INFEASIBLE))

    def _point(self, v: Tensor) -> tuple[Tensor, Tensor]:
        # (z, w = ∇ψ(z)), z not yet mended on the knots
        if self.coupled is not None:
            return self.coupled(v)
        w = at = self.select(v)
        if (held := self.select.on_edge(w)) is not None:
            inner = torch.as_tensor(inner_point(self.psi.common), dtype=w.dtype, device=w.device)
            at = torch.where(held, self.psi.grad(inner), w)
        return self.psi.inverse(at), w

    def explain(self) -> str:
        absorbed = " + ".join(t.label for t in self.psi.terms)
        moves = [
            f"absorb {absorbed} into {self.phi.label} ({self.psi.name})" if absorbed else "absorb none",
            f"select {' + '.join(t.label for t in self.select.terms)}"
            if self.select.terms and self.coupled is None
            else "select none",
            f"shift {' + '.join(t.label for t in self.g.terms() if t not in self.psi.terms)}"
            if self.coupled
            else "shift none",
        ]
        name = "w = ∇ψ(z)" if absorbed else "u"
        formula = self.coupled.formula if self.coupled else self.select.formula
        return f"closed form: {self.phi.label} + {self.g.label}, dual {name} = {formula}; {', '.join(moves)}"


def plan(phi: Legendre, g: Regularizer) -> ClosedFormMap:
    """The closed form of (φ, g); InputError says why there is none, or that int dom φ misses dom g."""
    check_domains(phi, g)
    return ClosedFormMap(phi, g)


def check_domains(phi: Legendre, g: Regularizer) -> None:
    """InputError where constant domains leave no interior point in common: dom φ, dom g, and those of its terms."""
    a = phi.domain
    for term in (g, *g.terms()):
        b = term.domain
        if not (isinstance(a, Interval) and isinstance(b, Interval) and a.constant and b.constant):
            continue
        if b.lo >= a.hi or b.hi <= a.lo or b.lo > b.hi:
            raise InputError(
                f"infeasible: dom g = {b} of {term.label} does not meet the interior of dom φ = {a} of {phi.label}; "
                f"move the constraint, or take a φ with a wider domain"
            )


def _entries(inside: Tensor, w: Tensor) -> Tensor:
    """A mask of events as a mask of entries."""
    while inside.ndim < w.ndim:
        inside = inside.unsqueeze(-1)
    return inside
