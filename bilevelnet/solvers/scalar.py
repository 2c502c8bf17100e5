"""The scalar solver: any separable φ and g, entry by entry."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .. import legendre, regularizers
from ..closed_forms.select import Select
from ..domains import Interval
from ..errors import InputError
from ..legendre import Legendre
from ..maps import Map, Near, Outcome
from ..regularizers import Box, Regularizer
from ..solution import INFEASIBLE, INVALID
from ..values import all_finite, readable
from .base import Iterative
from .charts import common_domain
from .inverse import Inverse
from .twin import tensors_of


class Scalar(Iterative):
    """u + ∂g(∇φ*(u)) ∋ v by a bracketed Newton search; the piecewise-linear part of g is selected exactly.

    ``tol``: on |∇φ(z) + g'(z) − v|, in dual units; 0 stops at the rounding of its terms. ``max_iter`` counts
    evaluations; an entry that reaches it has the status max_iter.
    """

    name = "scalar"

    def bind(self, phi: Legendre, g: Regularizer) -> ScalarMap:
        return ScalarMap(phi, g, self)


class ScalarMap(Map):
    name = "scalar"

    def __init__(self, phi: Legendre, g: Regularizer, solver: Scalar):
        terms: list[Any] = list(g.terms())
        coupled = [t.label for t in terms if t.event_ndim]
        if phi.event_ndim or coupled:
            raise InputError(f"{coupled[0] if coupled else phi.label} couples the entries of z")
        for t in (phi, *terms):
            _check_entrywise(t)
        self.phi, self.g = phi, g
        smooth = [t for t in terms if t.pieces() is None]
        linear = [t for t in terms if t.pieces() is not None]
        # The end of a term's domain inside dom φ is a constraint; where the term is a barrier, its level is ∓∞.
        ends = [t.domain for t in smooth if isinstance(t.domain, Interval) and t.domain != Interval()]
        linear += [Box(d.lo, d.hi) for d in ends]
        self.psi = Inverse(phi, smooth, solver.max_iter, solver.tol)
        self.select = Select(self.psi, linear, searched=True)

    def solve(self, v: Tensor, init: Near | None = None) -> Outcome:
        w = self.select(v)
        point = self.psi.point(w, init)
        status = point.status
        if not all_finite(w):
            status = torch.where(w.isfinite(), status, INFEASIBLE)
            status = torch.where(v.isfinite(), status, INVALID)
        z, u = self.select.snap(w, point.z), point.u
        return Outcome(z, u, status, point.iterations, {})

    def point(self, v: Tensor, init: Near | None = None) -> tuple[Tensor, Tensor]:
        """(z, u), without a status."""
        z, u, *_ = self.solve(v, init)
        return z, u  # type: ignore[return-value]

    def gain(self, v: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(z, u, dz/dv) entry by entry."""
        w = self.select(v)
        point = self.psi.point(w)
        gain = self.select.gain(w, point.z)
        # At an end of dom φ, where z is rounded to, a derived curvature is 0 · ∞.
        gain = torch.where(gain.isnan() & self.psi.at_end(point.z), 0.0, gain)
        return self.select.snap(w, point.z), point.u, gain

    def explain(self) -> str:
        where = "u = ∇φ(z)" if self.psi.in_dual else f"the chart of {common_domain(self.phi, self.psi.terms)}"
        smooth = " + ".join(t.label for t in self.psi.terms) or "no smooth term"
        linear = " + ".join(t.label for t in self.select.terms) or "none"
        return f"scalar: {self.phi.label} + {self.g.label}; root in {where} for {smooth}; select {linear}"


def _check_entrywise(piece: Any) -> None:
    """InputError where a value of the user's mixes entries: then it is not the separable function it is said to be."""
    piece = getattr(piece, "inner", piece)
    derived = type(piece).grad in (legendre.Separable.grad, regularizers.Separable.grad)
    if not derived or not isinstance(piece.domain, Interval) or not piece.domain.constant:
        return
    if any(t.numel() != 1 for t in tensors_of([piece])) or not readable(*tensors_of([piece])):
        return
    middle = piece.domain.inner()
    z = torch.tensor([middle, middle + 0.1 * (1 if piece.domain.hi - middle > 0.1 else -0.1)], dtype=torch.float64)
    both = piece.value(z)
    if both.shape != z.shape or not torch.allclose(both, torch.cat([piece.value(z[:1]), piece.value(z[1:])])):
        raise InputError(
            f"{piece.label}.value does not act entry by entry; a separable value has the shape of z, and a function of "
            f"a whole vector is a subclass of Regularizer with event_ndim = 1, prox and expression"
        )
