"""Terms that couple the entries of z: one multiplier on the simplex, one Euclidean prox elsewhere.

Each class takes (ψ, the piecewise-linear terms, the other terms) or refuses with InputError, and maps v to
(z, w = ∇ψ(z)).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ..errors import InputError
from ..legendre import Tsallis
from ..numerics import project_simplex
from ..regularizers import CappedSimplex, Regularizer, Simplex, Sum, TV1d
from ..regularizers.compose import uniform
from .absorb import Absorbed
from .select import Select


class Move:
    """What a move is to the map. ``masks``: the dimension on which entries of v that are −∞ are masked, with z = 0."""

    formula: str
    masks: int | None = None

    def __call__(self, v: Tensor) -> tuple[Tensor, Tensor]:
        raise NotImplementedError

    def primal(self, v: Tensor) -> Tensor:
        """z alone."""
        return self(v)[0]

    def level(self, v: Tensor) -> Tensor:
        """What must lie in the range of ∇ψ."""
        return v

    def enough(self, count: Tensor) -> Tensor:
        """Whether so many entries, not masked, can meet the constraint."""
        return count > 0


class EntropicSimplex(Move):
    """∇ψ = s log z on the simplex: log z = log r + log softmax(v/s)."""

    formula = "log r + log_softmax(v)"

    def __init__(self, psi: Absorbed, linear: list[Any], coupled: list[Regularizer]):
        self.psi, self.linear, self.term = psi, linear, _single(coupled)
        self.simplex: Any = getattr(self.term, "inner", self.term)
        if not isinstance(self.simplex, Simplex) or psi.basis != {"log"}:
            raise InputError(f"no closed form is known for {self.term.label} with φ = {psi.phi.label}")
        _check_linear_on_simplex(linear)
        self.masks = self.simplex.dim

    def __call__(self, v: Tensor) -> tuple[Tensor, Tensor]:
        s, r = self.psi.coefficients()["log"], torch.as_tensor(self.simplex.radius, dtype=v.dtype, device=v.device)
        log_z = torch.log_softmax(_minus_slopes(v, self.linear) / s, self.simplex.dim) + r.log()
        return log_z.exp(), s * log_z


class PowerSimplex(Move):
    """∇φ = 2√z, Tsallis with α = 3/2, on the simplex: z = max((v − τ)/2, 0)² (entmax 1.5, Peters et al. 2019)."""

    formula = "max(v − τ, 0)"

    def __init__(self, psi: Absorbed, linear: list[Any], coupled: list[Regularizer]):
        self.linear, self.term = linear, _single(coupled)
        self.simplex: Any = getattr(self.term, "inner", self.term)
        alpha = psi.phi.alpha if isinstance(psi.phi, Tsallis) and not psi.terms else None
        if not isinstance(self.simplex, Simplex) or isinstance(alpha, Tensor) or alpha != 1.5:
            raise InputError(f"no closed form is known for {self.term.label} with φ = {psi.phi.label}")
        _check_linear_on_simplex(linear)
        self.masks = self.simplex.dim

    def __call__(self, v: Tensor) -> tuple[Tensor, Tensor]:
        z = self.primal(v)
        inner = z > 0
        return z, torch.where(inner, 2 * torch.where(inner, z, 1.0).sqrt(), z.detach())

    def primal(self, v: Tensor) -> Tensor:
        return project_simplex(_minus_slopes(v, self.linear) / 2, self.simplex.radius, self.simplex.dim, power=2)


class EuclideanProx(Move):
    """∇ψ = m z: z = prox_g(v/m) with step 1/m, the Euclidean prox that the term brings."""

    formula = "m prox_g(v/m)"

    def __init__(self, psi: Absorbed, linear: list[Any], coupled: list[Regularizer]):
        self.psi, self.linear, self.term = psi, linear, _joined(coupled)
        if psi.basis != {"linear"} or not self.term.proximable:
            raise InputError(f"no closed form is known for {self.term.label} with φ = {psi.phi.label}")
        if linear and not isinstance(getattr(self.term, "inner", self.term), Simplex):
            self.linear, self.term = [], _joined([*linear, self.term])
        _check_linear_on_simplex(self.linear)
        inner = getattr(self.term, "inner", self.term)
        self.masks = inner.dim if isinstance(inner, (Simplex, CappedSimplex)) else None

    def __call__(self, v: Tensor) -> tuple[Tensor, Tensor]:
        m, v = self.psi.coefficients()["linear"], _minus_slopes(v, self.linear)
        if not isinstance(m, Tensor) and m == 1:  # on long rows a division costs a tenth of the prox
            z = self.term.prox(v, 1.0)
            return z, z
        z = self.term.prox(v / m, 1 / m)
        return z, m * z

    def enough(self, count: Tensor) -> Tensor:
        inner: Any = getattr(self.term, "inner", self.term)
        if not isinstance(inner, CappedSimplex):
            return super().enough(count)
        return count.double() * inner.cap >= inner.radius * (1 - 1e-12)


class RadialProx(Move):
    """∇φ(z) = c(‖z‖) z with c > 0 and g positively homogeneous, so ∂g(z) = ∂g(∇φ(z)): u = prox_g(v)."""

    formula = "prox_g(v)"

    def __init__(self, psi: Absorbed, linear: list[Any], coupled: list[Regularizer]):
        terms = [*linear, *coupled]
        # ‖z‖ is of the event of φ: that of g must be the same, or lie entry by entry in it.
        event = tuple(range(-psi.phi.event_ndim, 0))
        suits = all(t.homogeneous and t.proximable and (t.event_ndim == 0 or t.dims == event) for t in terms)
        if not psi.phi.radial or not suits or psi.terms:
            what = " + ".join(t.label for t in [*psi.terms, *terms])
            raise InputError(f"no closed form is known for {what} with φ = {psi.phi.label}")
        self.psi, self.term = psi, _joined(terms)

    def __call__(self, v: Tensor) -> tuple[Tensor, Tensor]:
        u = self.term.prox(v, 1.0)
        return self.psi.phi.grad_conjugate(u), u


class MonotoneProx(Move):
    """ψ and the linear terms p the same at every entry, g the total variation: z = (∇ψ + ∂p)⁻¹(prox_g(v)).

    That map keeps the order of the entries, on which alone ∂g depends: a taut string minimises Σ f(its slopes) for
    every convex f (Barlow & Brunk, The isotonic regression problem and its dual, 1972).
    """

    formula = "prox_g(v)"

    def __init__(self, psi: Absorbed, linear: list[Any], coupled: list[Regularizer]):
        self.term = _single(coupled)
        same = all(uniform(p, self.term.dims[0]) for p in (psi.phi, *psi.terms, *linear))
        if self.term.kind is not TV1d or psi.phi.event_ndim or not same:
            raise InputError(f"no closed form is known for {self.term.label} with φ = {psi.phi.label}")
        self.psi, self.select = psi, Select(psi, linear)

    def __call__(self, v: Tensor) -> tuple[Tensor, Tensor]:
        w = self.level(v)
        return self.select.snap(w, self.psi.inverse(w)), w

    def level(self, v: Tensor) -> Tensor:
        return self.select(self.term.prox(v, 1.0))


MOVES: tuple[Callable[..., Move], ...] = (EntropicSimplex, PowerSimplex, EuclideanProx, MonotoneProx, RadialProx)


def couple(psi: Absorbed, linear: list[Any], coupled: list[Regularizer]) -> Move:
    """The first move that takes the terms; InputError with the last one's reason, or where ψ differs along an event."""
    reason = None
    if not all(uniform(p, d) for t in coupled for d in t.dims for p in (psi.phi, *psi.terms)):
        raise InputError(f"the weights of {psi.phi.label} may differ along what {coupled[0].label} couples")
    for move in MOVES:
        try:
            return move(psi, linear, coupled)
        except InputError as refusal:
            reason = refusal
    raise InputError(str(reason))


def _single(coupled: list[Regularizer]) -> Regularizer:
    if len(coupled) != 1:
        raise InputError(
            f"no closed form is known for the sum of {' and '.join(t.label for t in coupled) or 'no term'}"
        )
    return coupled[0]


def _joined(terms: list[Any]) -> Regularizer:
    """The one term, or the sum of several whose proxes compose."""
    total = terms[0] if len(terms) == 1 else Sum(*terms)
    if isinstance(total, Sum) and total.event_ndim and total.composed() is None:
        raise InputError(f"no closed form is known for {total.label}")
    return total


def _check_linear_on_simplex(linear: list[Any]) -> None:
    # On z ≥ 0 a piecewise-linear term with its knots at or below 0 is linear.
    if any(isinstance(k, Tensor) or k > 0 for t in linear for k in t.pieces()[0]):
        raise InputError(f"{linear[0].label}: a knot inside the simplex leaves no closed form for its multiplier")


def _minus_slopes(v: Tensor, linear: list[Any]) -> Tensor:
    slopes = [t.pieces()[1][-1] for t in linear]
    return v - sum(slopes) if slopes else v
