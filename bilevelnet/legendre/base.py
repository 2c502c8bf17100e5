"""The contract of a Legendre function φ, and what is derived from it."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor

from ..domains import Reals
from ..errors import InputError
from ..piece import Piece, Scalar


class Legendre(Piece):
    """φ: strictly convex and differentiable on int dom φ, with |∇φ| → ∞ at its boundary.

    A subclass gives ``domain``, ``value``, ``grad`` = ∇φ and ``grad_conjugate`` = ∇φ* = (∇φ)⁻¹, the mirror maps
    z ↦ u and u ↦ z. It may give ``conjugate`` (else φ*(u) = ⟨u, z⟩ − φ(z) at z = ∇φ*(u), Fenchel), ``hessian``,
    ``strong_convexity`` (σ, 0 where unknown), ``dual_domain`` (dom φ* where it is not the whole space), ``span``
    and ``expression``. ``event_ndim`` is the number of last dimensions of one point: 0 where φ is separable.
    """

    domain: Any = Reals()
    dual_domain: Any = Reals()
    event_ndim: ClassVar[int] = 0

    def value(self, z: Tensor) -> Tensor:
        """φ(z), with the event dimensions reduced."""
        raise NotImplementedError(f"{self.label} does not state value(z)")

    def grad(self, z: Tensor) -> Tensor:
        """∇φ(z), the dual point u."""
        raise NotImplementedError(f"{self.label} does not state grad(z)")

    def grad_conjugate(self, u: Tensor) -> Tensor:
        """∇φ*(u), the primal point z: the activation ρ."""
        raise NotImplementedError(f"{self.label} does not state grad_conjugate(u)")

    def conjugate(self, u: Tensor) -> Tensor:
        """φ*(u) = max_z ⟨u, z⟩ − φ(z)."""
        z = self.grad_conjugate(u)
        return self._sum(u * z) - self.value(z)

    @property
    def strong_convexity(self) -> Scalar:
        """σ with ⟨∇φ(x) − ∇φ(y), x − y⟩ ≥ σ‖x − y‖²; 0 where none is known."""
        return 0.0

    def span(self) -> dict[str, Scalar] | None:
        """∇φ as coefficients over the basis of closed_forms/span.py (z, log z, −1/z), or None."""
        return None

    def expression(self, z: Any) -> Any:
        """φ(z) summed, as a cvxpy expression of the variable z."""
        raise InputError(f"{self.label} has no cvxpy expression, so the conic solver cannot take it")

    def divergence(self, z: Tensor, reference: Tensor) -> Tensor:
        """D_φ(z, z⁻) = φ(z) − φ(z⁻) − ⟨∇φ(z⁻), z − z⁻⟩."""
        return self.value(z) - self.value(reference) - self._sum(self.grad(reference) * (z - reference))

    def _sum(self, x: Tensor) -> Tensor:
        return x.sum(tuple(range(-self.event_ndim, 0))) if self.event_ndim else x


class Separable(Legendre):
    """φ(z) = Σ φ(z_i): ``value``, ``grad`` and ``grad_conjugate`` act entry by entry on any shape."""

    def hessian(self, z: Tensor) -> Tensor:
        """φ''(z), entry by entry."""
        with torch.enable_grad():
            z = z if z.requires_grad else z.detach().requires_grad_()
            return torch.autograd.grad(self.grad(z).sum(), z, create_graph=True)[0]
