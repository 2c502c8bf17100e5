"""The unknown of Newton's method for φ + Σ h, and what is evaluated at it.

It is u = ∇φ(z) where ∇φ* is a formula, so that dom φ is never left; else z in the chart of the common domain (z itself,
log z, logit z).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ..domains import Interval
from ..errors import InputError
from ..numerics.newton import Probe
from ..problem import anchor
from .charts import chart, common_domain, total, unchart
from .curvature import Curvature, add, curvature, gradient, product


class Coordinates:
    """x ↔ z for φ and smooth terms, on events of ``event_ndim`` dimensions; x has z's shape."""

    def __init__(self, phi: Any, terms: Sequence[Any], event_ndim: int):
        self.phi, self.terms, self.event_ndim = phi, list(terms), event_ndim
        inside = all(t.domain == Interval() or t.domain == phi.domain for t in terms)
        whole = phi.dual_domain == Interval() and not (phi.event_ndim and phi.domain == Interval())  # z serves there
        self.dual = phi.explicit and inside and (whole or not isinstance(phi.domain, Interval))
        if not self.dual and any(not isinstance(p.domain, Interval) for p in (phi, *terms)):
            raise InputError(f"no chart is known of the domain of {phi.label} with these terms: it is no interval")
        self.unit = self.dual and not phi.event_ndim  # C ∇²φ C = I for C² = (φ'')⁻¹

    @property
    def domain(self) -> Interval:
        return common_domain(self.phi, self.terms)

    def point(self, x: Tensor) -> Tensor:
        """z."""
        return self.phi.grad_conjugate(x) if self.dual else chart(self.domain, x)[0]

    def unknown(self, z: Tensor, u: Tensor) -> Tensor:
        """x of a point and its dual."""
        return u if self.dual else unchart(self.domain, z)

    def starts(self, v: Tensor) -> tuple[Tensor, ...]:
        """Unknowns to begin with: the solution without terms, where it is known, and at last a point well inside."""
        phi = self.phi
        if not self.dual:
            if not phi.explicit:
                return (torch.zeros_like(v),)
            if phi.dual_domain != Interval():
                v = torch.where(phi.dual_domain.interior(v), v, anchor(phi, v))
            # The second for a g that is huge at the first; not 0, where a norm to a power may have no curvature.
            return tuple(unchart(self.domain, phi.grad_conjugate(c * v)) for c in (1.0, 1 / 16))
        return v, anchor(phi, v)

    def forces(self, x: Tensor, z: Tensor) -> list[Tensor]:
        """∇φ and every ∇h; ∇φ is x where x is the dual."""
        return [x if self.dual else self.phi.grad(z), *(gradient(t, z) for t in self.terms)]

    def slope(self, z: Tensor) -> Tensor:
        """Σ ∇h."""
        return total([torch.zeros_like(z), *(gradient(t, z) for t in self.terms)])

    def probe(self, x: Tensor, v: Tensor) -> Probe:
        """φ + Σ h − ⟨z, v⟩ and its gradient at x, flattened."""
        z = self.point(x)
        forces = [*self.forces(x, z), -v]
        values = [self._event(p.value(z), p) for p in (self.phi, *self.terms)]
        values.append(self._flat(-z * v).sum(-1, keepdim=True))
        sizes = total(self._flat(f.abs()) for f in forces)
        return Probe(total(values), total(x.abs() for x in values), self._flat(total(forces)), sizes)

    def local(self, x: Tensor) -> dict[str, Any]:
        """C and dz/dx (absent where x is u), flattened."""
        if not self.dual:
            rate = self._flat(chart(self.domain, x)[1])
            return {"scale": rate.sqrt(), "rate": rate}
        z = self.point(x)
        scale = self.phi.hessian(z).expand_as(z).rsqrt() if self.unit else torch.ones_like(z)
        return {"scale": self._flat(scale)}

    def curvatures(self, x: Tensor, formed: bool = False) -> dict[str, Any]:
        """The parts of C ∇²φ C and of Σ ∇²h, beside ``local``; without images where ``formed``."""
        found, z = self.local(x), self.point(x)
        scale = found["scale"]
        rest = add([curvature(t, z, self.event_ndim) for t in self.terms])
        own = (
            Curvature(torch.ones_like(scale), None)
            if self.unit
            else curvature(self.phi, z, self.event_ndim).scaled(scale)
        )
        for name, part in (("own", own), ("rest", rest.formed() if formed else rest)):
            found |= {f"{name}_{k}": m for k, m in part._asdict().items() if m is not None}
        return found

    def products(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """(∇²φ y, Σ ∇²h y) for a flattened y, of x's batch or one with more dimensions in front."""
        z = self.point(x).expand(*y.shape[:-1], *x.shape[x.ndim - self.event_ndim :])
        y = y.unflatten(-1, z.shape[z.ndim - self.event_ndim :])
        rest = total([torch.zeros_like(y), *(product(t, z)(y) for t in self.terms)])
        return self._flat(product(self.phi, z)(y)), self._flat(rest)

    def _flat(self, x: Tensor) -> Tensor:
        return x.flatten(-self.event_ndim)

    def _event(self, value: Tensor, piece: Any) -> Tensor:
        """One number an event (…, 1) from a value with the piece's own event reduced."""
        rest = self.event_ndim - piece.event_ndim
        return value.flatten(-rest).sum(-1, keepdim=True) if rest else value.unsqueeze(-1)
