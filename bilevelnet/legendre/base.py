"""The contract of a Legendre function φ, and what is derived from it."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor

from ..domains import Reals
from ..errors import InputError
from ..numerics.derivative import derivative
from ..piece import Piece, Scalar


class Legendre(Piece):
    """φ: strictly convex and differentiable on int dom φ, with |∇φ| → ∞ at its boundary.

    A subclass gives ``domain``, ``value``, ``grad`` = ∇φ and ``grad_conjugate`` = ∇φ* = (∇φ)⁻¹, the mirror maps
    z ↦ u and u ↦ z. It may give ``conjugate`` (else φ*(u) = ⟨u, z⟩ − φ(z) at z = ∇φ*(u), Fenchel), ``hessian``,
    ``strong_convexity`` (σ, 0 where unknown), ``dual_domain`` (dom φ* where it is not the whole space), ``span``
    and ``expression``. ``event_ndim`` is the number of last dimensions of one point: 0 where φ is separable.
    Calculus: ``2.0 * phi``, ``phi1 + phi2``, ``phi.affine(scale, shift)``.
    """

    domain: Any = Reals()
    dual_domain: Any = Reals()
    event_ndim: ClassVar[int] = 0
    width: int | None = None  # of the vectors that φ takes, where it is fixed
    radial: bool = False  # ∇φ(z) = c(‖z‖) z with c > 0
    steep: bool = True  # |∇φ| → ∞ at the ends of the domain; else those that it holds are constraints

    def value(self, z: Tensor) -> Tensor:
        """φ(z), with the event dimensions reduced."""
        raise NotImplementedError(f"{self.label} does not state value(z)")

    def grad(self, z: Tensor) -> Tensor:
        """∇φ(z), the dual point u."""
        return derivative(self.value, z)

    def grad_conjugate(self, u: Tensor) -> Tensor:
        """∇φ*(u), the primal point z: the activation ρ."""
        from ..solvers.newton import mirror_map  # reaches up: the search and its derivative are a solver's

        return mirror_map(self, u)

    def conjugate(self, u: Tensor) -> Tensor:
        """φ*(u) = max_z ⟨u, z⟩ − φ(z)."""
        z = self.grad_conjugate(u)
        return self._sum(u * z) - self.value(z)

    @property
    def explicit(self) -> bool:
        """Whether ∇φ* is a formula, and no search."""
        return type(self).grad_conjugate is not Legendre.grad_conjugate

    @property
    def strong_convexity(self) -> Scalar:
        """σ with ⟨∇φ(x) − ∇φ(y), x − y⟩ ≥ σ‖x − y‖²; 0 where none is known."""
        return 0.0

    def span(self) -> dict[str, Scalar] | None:
        """∇φ as coefficients over the basis of closed_forms/span.py (z, log z, −1/z, e^z), or None."""
        return None

    def expression(self, z: Any) -> Any:
        """φ(z) summed, as a cvxpy expression of the variable z."""
        raise InputError(f"{self.label} has no cvxpy expression, so the conic solver cannot take it")

    def excess(self, z: Tensor) -> Tensor:
        """φ(z) − ½z², of a separable φ. Overridden where the two cancel, far out or near 0."""
        return self.value(z) - z * z / 2

    def differentiable(self, z: Tensor) -> Tensor:
        """Whether ∇φ(z) exists: the interior of the domain, and its ends too where φ is not steep."""
        return self.domain.interior(z) if self.steep else self.domain.contains(z)

    def hessian_product(self, z: Tensor, x: Tensor) -> Tensor:
        """∇²φ(z) x."""
        if self.event_ndim:
            return torch.func.vjp(self.grad, z)[1](x)[0]  # ∇² is symmetric; forward mode does not nest
        return self.hessian(z) * x  # type: ignore[operator]

    def affine(self, scale: Scalar = 1.0, shift: Scalar = 0.0) -> Legendre:
        """φ((z − shift)/scale), on shift + scale · dom φ, with the mirror map shift + scale · ρ(scale · u)."""
        from .transformed import Transformed

        return Transformed(self, scale=scale, shift=shift)

    def __mul__(self, weight: Any) -> Legendre:
        from .transformed import Transformed

        return Transformed(self, weight) if isinstance(weight, (int, float, Tensor)) else NotImplemented

    __rmul__ = __mul__

    def __add__(self, other: Any) -> Legendre:
        from .total import Total

        if not isinstance(other, Legendre):
            return NotImplemented
        return self.plus(other) or other.plus(self) or Total(self, other)

    def plus(self, other: Legendre) -> Legendre | None:
        """φ + other as a function of the same kind as φ, or None where no such sum is known."""
        return None

    def divergence(self, z: Tensor, reference: Tensor) -> Tensor:
        """D_φ(z, z⁻) = φ(z) − φ(z⁻) − ⟨∇φ(z⁻), z − z⁻⟩."""
        return self.value(z) - self.value(reference) - self._sum(self.grad(reference) * (z - reference))

    def _sum(self, x: Tensor) -> Tensor:
        return x.sum(tuple(range(-self.event_ndim, 0))) if self.event_ndim else x


class Separable(Legendre):
    """φ(z) = Σ φ(z_i): ``value``, ``grad`` and ``grad_conjugate`` act entry by entry on any shape.

    ``domain`` and ``value`` are enough: ``grad`` and ``hessian`` are derived by differentiation, ``grad_conjugate`` by
    a root search. Stating them by hand is an optimisation, which the laws test against the derived ones.
    """

    def grad(self, z: Tensor) -> Tensor:
        return derivative(self.value, self.spread(z))

    def hessian(self, z: Tensor) -> Tensor:
        """φ''(z), entry by entry."""
        return derivative(self.grad, self.spread(z))

    def grad_conjugate(self, u: Tensor) -> Tensor:
        from ..solvers.inverse import mirror_map  # reaches up: the search and its derivative are a solver's

        return mirror_map(self, u)

    @property
    def explicit(self) -> bool:
        return type(self).grad_conjugate is not Separable.grad_conjugate
