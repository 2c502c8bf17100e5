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
from .energy import Energy
from .total import Total
from .transformed import Transformed


class Spectral(Legendre):
    """φ(Z) = tr φ₀(Z) for a separable φ₀, on symmetric matrices with eigenvalues in dom φ₀ (the last two dimensions).

    With Z = U Λ U': ∇φ = U φ₀'(Λ) U', ∇φ* = U ρ₀(Λ) U', φ* = tr φ₀*, σ that of φ₀ (Lewis, Convex analysis on the
    Hermitian matrices, 1996). Only the symmetric part of an argument counts. First and second derivatives are exact at
    equal eigenvalues. Sums lift: tr φ₀(Z) + tr φ₁(Z) = tr (φ₀ + φ₁)(Z), and so do multiples c tr φ₀(Z), scales and
    shifts tr φ₀((Z − mI)/s) by one number each, and energies (m/2)‖Z‖². Raises InputError where φ₀ is not separable,
    or not steep.
    """

    event_ndim = 2

    def __init__(self, phi: Legendre):
        super().__init__()
        if not isinstance(phi, Legendre) or phi.event_ndim or not phi.steep:
            raise InputError("Spectral lifts a separable, steep Legendre function, e.g. Spectral(FermiDirac())")
        self.phi = phi

    @property
    def label(self) -> str:
        inner = f"({self.phi.label})" if isinstance(self.phi, Total) else self.phi.label
        return self.key or f"spectral {inner}"

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

    def expression(self, z: Any) -> Any:
        return _lifted_expression(self.phi, z)

    def plus(self, other: Legendre) -> Legendre | None:
        if isinstance(other, Spectral):
            return Spectral(self.phi + other.phi)
        # a separable φ is radial where it is an energy: (m/2) Σ z_ij² = (m/2) tr Z²
        energy = other.radial and not other.event_ndim and all(t.ndim == 0 for t in other.tensors())
        return Spectral(self.phi + other) if energy else None

    def __mul__(self, weight: Any) -> Legendre:
        return Spectral(weight * self.phi) if _is_number(weight) else super().__mul__(weight)

    __rmul__ = __mul__

    def affine(self, scale: Scalar = 1.0, shift: Scalar = 0.0) -> Legendre:
        """φ((Z − mI)/s) for numbers; a matrix m is subtracted as it is."""
        if _is_number(scale) and _is_number(shift):
            return Spectral(self.phi.affine(scale, shift))
        return super().affine(scale, shift)


class VonNeumann(Spectral):
    """φ(Z) = tr(Z log Z − Z) on Z ⪰ 0; ∇φ = log Z, ∇φ* = expm U, φ* = tr e^U, σ = 0."""

    key = "von_neumann"

    def __init__(self) -> None:
        super().__init__(BoltzmannShannon())


class LogDet(Spectral):
    """φ(Z) = −log det Z on Z ≻ 0; ∇φ = −Z⁻¹, ∇φ* = −U⁻¹ for U ≺ 0, φ* = −n − log det(−U), σ = 0.

    dom φ* is U ≺ 0: for other V there is no minimiser, unless g grows at infinity.
    """

    key = "log_det"

    def __init__(self) -> None:
        super().__init__(Burg())


def _lifted_expression(phi: Legendre, z: Any) -> Any:
    """tr φ₀(Z) in cvxpy, for φ₀ an entropy, Burg, an energy, or built of these."""
    import cvxpy as cp
    import numpy as np

    if isinstance(phi, Total):
        return _lifted_expression(phi.first, z) + _lifted_expression(phi.second, z)
    if isinstance(phi, Transformed):
        return phi.weight * _lifted_expression(phi.phi, (z - phi.shift * np.eye(z.shape[-1])) / phi.scale)
    if isinstance(phi, BoltzmannShannon):
        return -cp.von_neumann_entr(z) - cp.trace(z)
    if isinstance(phi, Burg):
        return -cp.log_det(z)
    if isinstance(phi, Energy):
        return phi.expression(z)
    raise InputError(f"spectral {phi.label} has no cvxpy expression, so the conic solver cannot take it")


def _is_number(x: Any) -> bool:
    return isinstance(x, (int, float)) or (isinstance(x, Tensor) and x.ndim == 0)


def _symmetric_part(z: Tensor) -> Tensor:
    return (z + z.mT) / 2
