"""The scalar equations of terms that couple z through one multiplier.

An equation turns a term into a separable one with a multiplier s: given s, z is the prox of φ + the separable
terms + ``piece`` at ``shifted(v, s)``, entry by entry; s is the root of ``residual``, which increases with x, where
s = ``multiplier(x)``. ``inactive`` tells where no multiplier is needed. Every tensor keeps the event dimension as 1.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..errors import InputError
from ..legendre import Legendre
from ..regularizers import AffineSet, Box, CappedSimplex, Nonneg, Simplex
from ..regularizers.calculus import Scaled
from ..solution import INFEASIBLE

Idle = tuple[Tensor, Tensor, Tensor] | None


class Equation:
    """One multiplier along ``dim``."""

    positive = True  # s = e^x, else s = x
    bounded = True  # a set: idle, it leaves the free problem; else a norm: idle, z = 0
    failure = INFEASIBLE  # where no s solves the equation

    def __init__(self, term: Any):
        self.term = term
        inner = term.inner if isinstance(term, Scaled) else term
        self.constraint, self.dim = inner, getattr(inner, "dim", -1)
        self.piece: Any = None
        self.curvature: Any = None  # φ'', set by the solver

    def gather(self, v: Tensor) -> Tensor:
        """v as the equation sees it; ``scatter`` undoes it."""
        return v

    def scatter(self, x: Tensor) -> Tensor:
        return x

    def multiplier(self, x: Tensor) -> Tensor:
        return x.exp() if self.positive else x

    def set(self, s: Tensor) -> None:
        """Put the multiplier into the weight of ``piece``."""

    def shifted(self, v: Tensor, s: Tensor) -> Tensor:
        return v

    def residual(self, x: Tensor, z: Tensor, u: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """(residual, size of its terms)."""
        raise NotImplementedError

    def slope(self, x: Tensor, z: Tensor, gain: Tensor, v: Tensor) -> Tensor:
        """d residual/dx, from gain = dz/dv of the separable problem."""
        raise NotImplementedError

    def start(self, phi: Legendre, v: Tensor) -> Tensor:
        return torch.zeros_like(v.sum(self.dim, keepdim=True))

    def guess(self, z: Tensor, u: Tensor, v: Tensor, keep: Tensor) -> Tensor:
        """x at a point (z, u) near the solution."""
        raise NotImplementedError

    def inactive(self, free: Any, phi: Legendre, separable: list[Any], v: Tensor, keep: Tensor) -> Idle:
        """(mask, z, u) where no multiplier is needed; None where one always is. ``free()`` is (z, u) without it."""
        return None

    def _sum(self, x: Tensor) -> Tensor:
        return x.sum(self.dim, keepdim=True)


class Linear(Equation):
    """⟨a, z⟩ = b, with z ≥ 0 and z ≤ cap for the simplices: v is shifted by −s a, and b − ⟨a, z⟩ increases with s."""

    positive = False

    def __init__(self, term: Any):
        super().__init__(term)
        if isinstance(self.constraint, CappedSimplex):
            self.piece = Box(0.0, self.constraint.cap)
        elif isinstance(self.constraint, Simplex):
            self.piece = Nonneg()
        elif self.constraint._rows(torch.empty(0, dtype=torch.float64)).shape[0] != 1:
            raise InputError(f"{self.constraint.label} with a matrix has one multiplier a row, and not one")

    def coefficients(self, v: Tensor) -> Tensor | float:
        return self.constraint._rows(v)[0] if isinstance(self.constraint, AffineSet) else 1.0

    def target(self, v: Tensor) -> Any:
        return self.constraint.b if isinstance(self.constraint, AffineSet) else self.constraint.radius

    def set(self, s: Tensor) -> None:
        if isinstance(self.constraint, CappedSimplex) and isinstance(self.constraint.cap, Tensor):
            self.piece._buffers["hi_value"] = self.constraint.cap

    def shifted(self, v: Tensor, s: Tensor) -> Tensor:
        return v - s * self.coefficients(v)

    def residual(self, x: Tensor, z: Tensor, u: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        terms, b = self.coefficients(v) * z, self.target(v)
        return b - self._sum(terms), self._sum(terms.abs()) + abs(b)

    def slope(self, x: Tensor, z: Tensor, gain: Tensor, v: Tensor) -> Tensor:
        return self._sum(self.coefficients(v) ** 2 * gain)

    def start(self, phi: Legendre, v: Tensor) -> Tensor:
        if isinstance(self.constraint, AffineSet):
            return super().start(phi, v)
        # All entries equal: z = r/n there; with v spread out s is above.
        mean = torch.as_tensor(self.target(v), dtype=v.dtype, device=v.device) / v.shape[self.dim]
        level = phi.grad(mean)
        top = v.amax(self.dim, keepdim=True)
        return torch.where(top.isfinite() & level.isfinite(), top - torch.where(level.isfinite(), level, 0.0), 0.0)

    def guess(self, z: Tensor, u: Tensor, v: Tensor, keep: Tensor) -> Tensor:
        # v − u = s a where no bound is active; the largest |a z| is the least likely to rest on one.
        a = self.coefficients(v)
        size = torch.where(keep & (v - u).isfinite(), (a * z).abs(), -1.0)
        best = size.argmax(self.dim, keepdim=True)
        return ((v - u) / a).gather(self.dim, best)
