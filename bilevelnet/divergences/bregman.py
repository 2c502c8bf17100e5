"""Bregman divergences."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from ..errors import InputError
from ..legendre import Energy, Legendre
from ..legendre import Mahalanobis as Quadratic
from .base import Divergence
from .references import Identity, Reference


class Bregman(Divergence):
    """D(z, z⁻) = φ(z) + φ*(r) − ⟨r, z⟩, the Bregman divergence to the point whose dual is r.

    ``reference`` gives r: None for r = ∇φ(z⁻), so D = D_φ(z, z⁻); RowStochastic(d_in, d_out); Dual(linear); Zero().
    """

    def __init__(self, phi: Legendre, reference: Reference | None = None):
        super().__init__()
        if not isinstance(phi, Legendre):
            raise InputError(f"Bregman takes a Legendre function, not a {type(phi).__name__}; see bilevelnet.legendre")
        if reference is not None and not isinstance(reference, Reference):
            raise InputError("the reference is None, RowStochastic(d_in, d_out), Dual(linear) or Zero()")
        self.phi = phi
        self.reference = Identity() if reference is None else reference

    @property
    def event_ndim(self) -> int:  # type: ignore[override]
        return self.phi.event_ndim

    @property
    def uses_point(self) -> bool:
        return self.reference.uses_point

    @property
    def label(self) -> str:
        return self.phi.label

    def admits(self, z_prev: Tensor) -> Tensor:
        return self.phi.differentiable(z_prev)

    def dual(self, z: Tensor, u: Tensor | None) -> Tensor | None:
        return self.reference.dual(self.phi, z, u)

    def value(self, z: Tensor, z_prev: Tensor) -> Tensor:
        """D(z, z⁻), with φ's event dimensions reduced (entry by entry for a separable φ); D = φ(z) for Zero."""
        r = self.reference.dual(self.phi, z_prev, None)
        if r is None:
            return self.phi.value(z)
        inner = (r * z).sum(tuple(range(-self.phi.event_ndim, 0))) if self.phi.event_ndim else r * z
        return self.phi.value(z) + self.phi.conjugate(r) - inner


def SquaredEuclidean(reference: Reference | None = None) -> Bregman:
    """½‖z − z⁻‖² = Bregman(Energy())."""
    return Bregman(Energy(), reference)


def Mahalanobis(Q: Any, reference: Reference | None = None) -> Bregman:
    """½(z − z⁻)'Q(z − z⁻) = Bregman(legendre.Mahalanobis(Q)); Q is learned where it is a Parameter."""
    return Bregman(Quadratic(Q), reference)
