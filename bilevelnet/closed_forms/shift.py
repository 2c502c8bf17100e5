"""Terms that couple the entries of z: one multiplier on the entropic simplex, one Euclidean prox elsewhere.

Each class takes (ψ, the piecewise-linear terms, the other terms) or refuses with InputError, and maps v to
(z, w = ∇ψ(z)).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ..errors import InputError
from ..regularizers import Regularizer, Simplex
from .absorb import Absorbed


class EntropicSimplex:
    """∇ψ = s log z on the simplex: log z = log r + log softmax(v/s)."""

    formula = "log r + log_softmax(v)"

    def __init__(self, psi: Absorbed, linear: list[Any], coupled: list[Regularizer]):
        self.psi, self.linear, self.term = psi, linear, _single(coupled)
        self.simplex: Any = getattr(self.term, "inner", self.term)
        if not isinstance(self.simplex, Simplex) or psi.basis != {"log"}:
            raise InputError(f"no closed form is known for {self.term.label} with φ = {psi.phi.label}")
        _check_linear_on_simplex(linear)

    def __call__(self, v: Tensor) -> tuple[Tensor, Tensor]:
        s, r = self.psi.coefficients()["log"], torch.as_tensor(self.simplex.radius, dtype=v.dtype, device=v.device)
        log_z = torch.log_softmax(_minus_slopes(v, self.linear) / s, self.simplex.dim) + r.log()
        return log_z.exp(), s * log_z


class EuclideanProx:
    """∇ψ = m z: z = prox_g(v/m) with step 1/m, the Euclidean prox that the term brings."""

    formula = "m prox_g(v/m)"

    def __init__(self, psi: Absorbed, linear: list[Any], coupled: list[Regularizer]):
        self.psi, self.linear, self.term = psi, linear, _single(coupled)
        if psi.basis != {"linear"} or type(self.term).prox is Regularizer.prox:
            raise InputError(f"no closed form is known for {self.term.label} with φ = {psi.phi.label}")
        if linear and not isinstance(getattr(self.term, "inner", self.term), Simplex):
            raise InputError(f"no closed form is known for {self.term.label} + {linear[0].label}")
        _check_linear_on_simplex(linear)

    def __call__(self, v: Tensor) -> tuple[Tensor, Tensor]:
        m = self.psi.coefficients()["linear"]
        z = self.term.prox(_minus_slopes(v, self.linear) / m, 1 / m)
        return z, m * z


class RadialProx:
    """∇φ(z) = c(‖z‖) z with c > 0 and g positively homogeneous, so ∂g(z) = ∂g(∇φ(z)): u = prox_g(v)."""

    formula = "prox_g(v)"

    def __init__(self, psi: Absorbed, linear: list[Any], coupled: list[Regularizer]):
        self.psi, self.linear, self.terms = psi, linear, [*linear, *coupled]
        if not psi.phi.radial or not all(t.homogeneous for t in self.terms) or len(self.terms) != 1 or psi.terms:
            what = " + ".join(t.label for t in [*psi.terms, *self.terms])
            raise InputError(f"no closed form is known for {what} with φ = {psi.phi.label}")

    def __call__(self, v: Tensor) -> tuple[Tensor, Tensor]:
        u = self.terms[0].prox(v)
        return self.psi.phi.grad_conjugate(u), u


Coupled = EntropicSimplex | EuclideanProx | RadialProx
MOVES: tuple[Callable[..., Coupled], ...] = (EntropicSimplex, EuclideanProx, RadialProx)


def couple(psi: Absorbed, linear: list[Any], coupled: list[Regularizer]) -> Coupled:
    """The first move that takes the terms; InputError with the last one's reason."""
    reason = None
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


def _check_linear_on_simplex(linear: list[Any]) -> None:
    # On z ≥ 0 a piecewise-linear term with its knots at or below 0 is linear.
    if any(isinstance(k, Tensor) or k > 0 for t in linear for k in t.pieces()[0]):
        raise InputError(f"{linear[0].label}: a knot inside the simplex leaves no closed form for its multiplier")


def _minus_slopes(v: Tensor, linear: list[Any]) -> Tensor:
    slopes = [t.pieces()[1][-1] for t in linear]
    return v - sum(slopes) if slopes else v
