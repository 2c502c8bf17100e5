"""Functions of the eigenvalues of symmetric matrices: any separable φ lifted to them."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from ..domains import Eigenvalues, Preimage, Reals
from ..errors import InputError
from ..numerics import derivative_along, matrix_function, trace_function
from ..piece import Scalar
from .base import Legendre
from .boltzmann_shannon import BoltzmannShannon
from .burg import Burg


class Spectral(Legendre):
    """φ(Z) = tr φ₀(Z) for a separable φ₀, on symmetric matrices with eigenvalues in dom φ₀ (the last two dimensions).

    With Z = U Λ U': ∇φ = U φ₀'(Λ) U', ∇φ* = U ρ₀(Λ) U', φ* = tr φ₀*, σ that of φ₀ (Lewis, Convex analysis on the
    Hermitian matrices, 1996). Only the symmetric part of an argument counts. First and second derivatives are exact at
    equal eigenvalues. Raises InputError where φ₀ is not separable, or not steep.
    """

    event_ndim = 2

    def __init__(self, phi: Legendre):
        super().__init__()
        if not isinstance(phi, Legendre) or phi.event_ndim or not phi.steep:
            raise InputError("Spectral lifts a separable, steep Legendre function, e.g. Spectral(FermiDirac())")
        self.phi = phi

    @property
    def label(self) -> str:
        return self.key or f"spectral {self.phi.label}"

    @property
    def domain(self) -> Any:  # type: ignore[override]
        return Eigenvalues(self.phi.domain)

    @property
    def dual_domain(self) -> Any:  # type: ignore[override]
        inner = self.phi.dual_domain
        return inner if inner == Reals() else Preimage(Eigenvalues(inner), _symmetric_part, 2)

    def value(self, z: Tensor) -> Tensor:
        return trace_function(self.phi.value, self.phi.grad, z)

    def grad(self, z: Tensor) -> Tensor:
        return matrix_function(self.phi.grad, z)

    def grad_conjugate(self, u: Tensor) -> Tensor:
        return matrix_function(self.phi.grad_conjugate, u)

    def conjugate(self, u: Tensor) -> Tensor:
        return trace_function(self.phi.conjugate, self.phi.grad_conjugate, u)

    def hessian_product(self, z: Tensor, x: Tensor) -> Tensor:
        """∇²φ(Z) X = U (φ₀'[λ_i, λ_j] ∘ U'XU) U', with the divided differences of φ₀'."""
        return derivative_along(self.phi.grad, z, x)

    @property
    def strong_convexity(self) -> Scalar:
        return self.phi.strong_convexity


class VonNeumann(Spectral):
    """φ(Z) = tr(Z log Z − Z) on Z ⪰ 0; ∇φ = log Z, ∇φ* = expm U, φ* = tr e^U, σ = 0."""

    key = "von_neumann"

    def __init__(self) -> None:
        super().__init__(BoltzmannShannon())

    def expression(self, z: Any) -> Any:
        import cvxpy as cp

        return -cp.von_neumann_entr(z) - cp.trace(z)


class LogDet(Spectral):
    """φ(Z) = −log det Z on Z ≻ 0; ∇φ = −Z⁻¹, ∇φ* = −U⁻¹ for U ≺ 0, φ* = −n − log det(−U), σ = 0.

    dom φ* is U ≺ 0: for other V there is no minimiser, unless g grows at infinity.
    """

    key = "log_det"

    def __init__(self) -> None:
        super().__init__(Burg())

    def expression(self, z: Any) -> Any:
        import cvxpy as cp

        return -cp.log_det(z)


def _symmetric_part(z: Tensor) -> Tensor:
    return (z + z.mT) / 2
