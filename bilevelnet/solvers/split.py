"""φ + Σ g_i(A_i z) split into what is solved together with φ and what has multipliers."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ..closed_forms.plan import plan
from ..domains import Interval
from ..errors import InputError
from ..legendre import Legendre
from ..maps import Near
from ..regularizers import Regularizer, Separable, SquaredL2, Sum, Zero
from ..regularizers.lens import Lens
from ..solution import KINK
from .newton import Newton, NewtonMap, rough
from .samples import core
from .scalar import Scalar

RHO = tuple(100.0**-k for k in range(7))  # of (ρ/2)‖z‖², from one that helps any problem to one that changes none


class Split:
    """φ and the terms of g, split into those solved with φ (``inner``: a closed form or the scalar solver) and those
    that have multipliers (``outer``).
    """

    def __init__(self, phi: Legendre, *terms: Any):
        lenses = [Lens(t) for t in terms]
        smooth = [t for t in terms if t.event_ndim and not rough(t)]
        for lens in lenses:
            if any(lens.term is t for t in smooth):
                continue
            if (not lens.plain and not lens.body.proximable) or (lens.plain and not lens.term.proximable):
                raise InputError(f"{lens.body.label} has no Euclidean prox: give it one, or an expression for conic")
        self.phi = phi
        if smooth or (phi.event_ndim and not phi.explicit):
            self.inner, inside = _newton(phi, smooth, terms)
        else:
            self.inner, inside = _inner(phi, [lens.term for lens in lenses if lens.plain], len(lenses))
        self.inside = [t for t in terms if any(t is i for i in inside)]
        self.outer = [lens for lens in lenses if not any(lens.term is t for t in inside)]
        pieces = [phi, *terms]
        self.event_ndim = max(max(p.event_ndim, *(-d for d in getattr(p, "dims", ())), 0) for p in pieces)
        bodies = [(lens, core(t)) for lens in lenses for t in lens.body.terms()]
        self.by_value = [(lens, b) for lens, b in bodies if not b.event_ndim and type(b).prox is Separable.prox]
        self.diagonal = all(p.event_ndim == 0 for p in (phi, *inside))
        self.pull: Any = None
        self.guide = None if self.whole else self._guide()

    @property
    def squared(self) -> bool:
        """Whether ψ holds a (λ/2)‖z‖² of the user's."""
        return any(t.kind is SquaredL2 and t.constant and not t.vanishes for t in self.inside)

    @property
    def whole(self) -> bool:
        """Whether ψ* is finite everywhere."""
        inner: Any = self.inner
        return self.squared or (inner.psi.dual_domain if inner.direct else self.phi.dual_domain) == Interval()

    def _guide(self) -> Split:
        """The same with (ρ/2)‖z‖² in ψ, so that ψ* is finite everywhere; ``pull`` holds ρ."""
        guide = copy.copy(self)
        guide.pull, guide.guide = SquaredL2(torch.ones(())), None
        guide.inside = [*self.inside, guide.pull]
        g = Sum(*guide.inside) if self.inside else guide.pull
        if isinstance(self.inner, NewtonMap):
            guide.inner = Newton().bind(self.phi, g)
            return guide
        try:
            guide.inner = plan(self.phi, g)
        except InputError:
            guide.inner = Scalar().bind(self.phi, g)
        return guide

    def point(self, w: Tensor, near: Near | None) -> tuple[Tensor, Tensor]:
        """(∇ψ*(w), its dual), NaN where ψ* is infinite."""
        inner: Any = self.inner
        z, u = inner.point(w, near)
        if not inner.direct or inner.whole:
            return z, u
        lost = inner.status(w) > KINK
        return torch.where(lost, torch.nan, z), torch.where(lost, torch.nan, u)

    def value(self, z: Tensor) -> Tensor:
        """ψ(z), one number an event."""
        return sum(self.total(p.value(z), z) for p in (self.phi, *self.inside))  # type: ignore[return-value]

    def total(self, value: Tensor, z: Tensor) -> Tensor:
        """The sum of ``value`` over what it has of an event of z."""
        rest = value.ndim - (z.ndim - self.event_ndim)
        return value.sum(tuple(range(-rest, 0))) if rest else value


def _newton(phi: Legendre, smooth: list[Any], terms: Sequence[Any]) -> tuple[Any, list[Any]]:
    """(Newton's map of φ and the smooth terms, which are inside): v must lie where ψ* is finite."""
    inside = [t for t in terms if not rough(t) or any(t is s for s in smooth)]
    if len(inside) == len(terms):
        raise InputError("all terms are smooth")
    return Newton().bind(phi, Sum(*inside) if len(inside) > 1 else inside[0] if inside else Zero()), inside


def _inner(phi: Legendre, plain: list[Any], count: int) -> tuple[Any, list[Any]]:
    """(the map of ψ, the terms inside it): the separable ones and one more where a closed form takes it; not all."""
    separable = [t for t in plain if not t.event_ndim]
    coupled = sorted((t for t in plain if t.event_ndim), key=lambda t: not t.indicator)
    for inside in [*([*separable, t] for t in coupled), separable, []]:
        if len(inside) == count and count:
            continue
        g: Regularizer = Sum(*inside) if len(inside) > 1 else inside[0] if inside else Zero()
        try:
            inner = plan(phi, g)
            if inner.psi.dual_domain == Interval() or (inside == separable and isinstance(phi.domain, Interval)):
                return inner, inside
            refusal = f"φ* of {phi.label} is not finite everywhere; add a squared_l2 to it"
        except InputError as reason:
            refusal = str(reason)
        if not phi.event_ndim and not any(t.event_ndim for t in inside):
            return Scalar().bind(phi, g), inside
    raise InputError(refusal)
