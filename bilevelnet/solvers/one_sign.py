"""The equation of λ max|z_i| where all z_i have one sign: it does not ask for φ."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ..domains import Interval
from ..legendre import Legendre
from ..maps import Map
from ..numerics.bracket import Evaluation
from ..regularizers.compose import uniform
from .norm_equations import Norm


class OneSignEquation(Norm):
    """λ max|z_i| for dom φ on one side of 0 and a ψ = φ + the separable terms that is the same at every entry.

    On z ≥ 0 it is z = (∂ψ)⁻¹(min(v, P)), P the level of the largest entry, with Σ (v_i − P)₊ = λ; λ less that sum
    increases with P. On z ≤ 0 likewise with −v. P keeps its digits where z over- or underflows.
    """

    positive = False
    blind = True

    @staticmethod
    def fits(phi: Legendre, separable: list[Any], dim: int) -> bool:
        domain = phi.domain
        if not isinstance(domain, Interval) or not domain.constant or domain.lo < 0 < domain.hi:
            return False
        return all(uniform(p, dim) for p in (phi, *separable))

    def bind(self, phi: Legendre, separable: list[Any], free: Any, make: Callable[[list[Any]], Map]) -> Map:
        self.sign, self.free = 1.0 if phi.domain.lo >= 0 else -1.0, free
        return super().bind(phi, separable, free, make)

    def multiplier(self, x: Tensor, v: Tensor) -> Tensor:
        return self.free.point(self.sign * x)[0].abs()  # max|z_i|

    def shifted(self, x: Tensor, v: Tensor) -> Tensor:
        return torch.where(self._clipped(x, v), self.sign * x, v)

    def _clipped(self, x: Tensor, v: Tensor) -> Tensor:
        return self.sign * v >= x  # the largest, also where λ is below its rounding

    def probe(self, inner: Any, x: Tensor, v: Tensor, keep: Tensor | None) -> Evaluation:
        clipped = self._clipped(x, v)
        size = self.term.lam + self._sum(torch.where(clipped, v.abs(), 0.0))
        return self.residual_at(inner, x, v, keep), self._sum(clipped.to(v.dtype)), lambda: size

    def residual_at(self, inner: Any, x: Tensor, v: Tensor, keep: Tensor | None) -> Tensor:
        return self.term.lam - self._sum((self.sign * v - x).clamp(min=0))

    def missed(self, x: Tensor, z: Tensor, u: Tensor, v: Tensor) -> Tensor:
        return self.residual_at(self.free, x, v, None)

    def start(self, psi: Any, v: Tensor) -> Tensor:
        return (self.sign * v).amax(self.dim, keepdim=True) - self.term.lam  # at most the root

    def guess(self, z: Tensor, u: Tensor, v: Tensor, keep: Tensor) -> Tensor:
        return self.start(None, v)

    def inactive(self, free: Any, v: Tensor, keep: Tensor) -> Tensor | None:
        return None  # z = 0 is what (∂ψ)⁻¹ gives
