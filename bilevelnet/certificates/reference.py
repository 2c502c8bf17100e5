"""A layer, a chain or a pair solved a second time from the values of f, D and g."""

from __future__ import annotations

from itertools import chain as joined

import torch
from torch import Tensor, nn

from ..chain import Chain
from ..couplings import Bilinear
from ..divergences import Dual, Identity, RowStochastic, Zero
from ..layer import BilevelLayer
from ..legendre import Legendre
from ..regularizers import Regularizer
from ..regularizers import Zero as NoRegularizer
from .compare import Solution, moved
from .independent import Inclusion
from .roots import slope


class PairReference(Solution):
    """v ↦ prox^φ_g(v) by ``Inclusion``."""

    def __init__(self, phi: Legendre, g: Regularizer):
        self.phi, self.inclusion = phi, Inclusion(phi, g)
        self.inner = frozenset(id(p) for p in joined(phi.parameters(), g.parameters()))
        self.event_ndim = max(phi.event_ndim, g.event_ndim)

    def solve(self, v: Tensor, shift: Tensor) -> Tensor:
        return self.inclusion(moved(v, shift))


class Reference(PairReference):
    """z⁻ ↦ argmin_z f(z, z⁻) + D(z, z⁻) + g(z): the inclusion at v = r + A(z⁻).

    r = φ'(z⁻), φ'(R z⁻), L φ'(z⁻) or 0, with φ' the derivative of φ's value; A(z⁻) = W z⁻ + b is written out, and any
    other A is the module that defines f. Weights are read at each call, so that they may be moved between two.
    """

    def __init__(self, layer: BilevelLayer):
        super().__init__(layer.divergence.phi, layer.regularizer)
        self.coupling, self.reference = layer.coupling, layer.divergence.reference

    def prepare(self, x: Tensor) -> Tensor:
        return self.dual_point(x, None)

    def dual_point(self, z: Tensor, u: Tensor | None) -> Tensor:
        """v, for z⁻ = z; u = ∇φ(z⁻) where it is known better than from z."""
        with torch.no_grad():
            a, r = self._coupled(z), self._referred(z, u)
            return a if r is None else r + a

    def solve(self, v: Tensor, shift: Tensor) -> Tensor:
        z = super().solve(v, shift)
        lost = z.isnan().flatten(1).any(1)  # a sample without a minimiser is lost as a whole
        return torch.where(lost.reshape(-1, *[1] * (z.ndim - 1)), torch.nan, z)

    def _coupled(self, z: Tensor) -> Tensor:
        if not isinstance(self.coupling, Bilinear):
            return self.coupling(z)
        a = z @ self.coupling.weight.mT
        return a if self.coupling.bias is None else a + self.coupling.bias

    def _referred(self, z: Tensor, u: Tensor | None) -> Tensor | None:
        reference = self.reference
        if isinstance(reference, Zero):
            return None
        if isinstance(reference, RowStochastic):
            return slope(self.phi.value, z @ reference.weight.mT)
        u = slope(self.phi.value, z) if u is None else u
        if isinstance(reference, Identity):
            return u
        return reference.linear(u) if isinstance(reference, Dual) else reference.dual(self.phi, z, u)


class ChainReference(Solution):
    """The layers of a chain one after the other. Neighbours that share φ hand on u = v where g = 0, else z alone."""

    def __init__(self, chain: Chain):
        self.steps = [Reference(layer) for layer in chain]
        self.shares, self.dual = chain.shares, chain.space == "dual"
        self.inner = frozenset(id(p) for p in chain.parameters())
        self.event_ndim = max(step.event_ndim for step in self.steps)

    def solve(self, v: Tensor, shift: Tensor) -> Tensor:
        phi = self.steps[0].phi
        z, u = (Inclusion(phi, NoRegularizer())(v), v) if self.dual else (v, None)
        for step, shared in zip(self.steps, self.shares, strict=True):
            v = step.dual_point(z, u if shared else None)
            v = moved(v, shift)
            z, u = step.inclusion(v), None if step.inclusion.g.terms() else v
        return z


def weights(module: nn.Module) -> dict[str, nn.Parameter]:
    """The weights that take gradients, by name."""
    return {name: p for name, p in module.named_parameters() if p.requires_grad}
