"""The equations of ⟨a, z⟩ = b and of simplices: v is shifted by a multiple of a."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ..errors import InputError
from ..regularizers import Box, CappedSimplex, Nonneg
from .equation import Equation


class Linear(Equation):
    """⟨a, z⟩ = b: v is shifted by −s a, and b − ⟨a, z⟩ increases with s."""

    positive = False

    def __init__(self, term: Any):
        super().__init__(term)
        if len(self.constraint._rows(torch.empty(0, dtype=torch.float64))) != 1:
            raise InputError(f"{self.constraint.label} with a matrix has one multiplier a row, and not one")

    def coefficients(self, v: Tensor) -> Any:
        return self.constraint.equations(v)[0][0]

    def origin(self, v: Tensor) -> Tensor | None:
        # Of v as a multiple of a, beside which z may be tiny.
        with torch.no_grad():
            a = self.coefficients(v)
            s = self._sum(a * v) / self._sum(a * a)
            return torch.where(s.isfinite(), s, 0.0)

    def multiplier(self, x: Tensor, v: Tensor) -> Tensor:
        return x / self.constraint.units(v).to(x.dtype)  # of ⟨a, z⟩ = b as it was given

    def target(self, v: Tensor) -> Tensor:
        return self.constraint.equations(v)[1]

    def normal(self, z: Tensor, v: Tensor) -> Any:
        return self.coefficients(v)

    def shifted(self, x: Tensor, v: Tensor) -> Tensor:
        self.set(x)
        return v - x * self.coefficients(v)

    def residual(self, x: Tensor, z: Tensor, u: Tensor, v: Tensor) -> Tensor:
        return self.target(v) - self._sum(self.coefficients(v) * z)

    def size(self, value: Tensor, slope: Tensor, x: Tensor, z: Tensor, v: Tensor) -> Tensor:
        return self._sum((self.coefficients(v) * z).abs()) + self.target(v).abs()

    def slope(self, x: Tensor, z: Tensor, gain: Tensor, v: Tensor) -> Tensor:
        return self._sum(self.coefficients(v) ** 2 * gain)

    def guess(self, z: Tensor, u: Tensor, v: Tensor, keep: Tensor) -> Tensor:
        # v − u = s a where no bound is active; the largest |a z| is the least likely to rest on one.
        a = self.coefficients(v)
        size = torch.where(keep & (v - u).isfinite(), (a * z).abs(), -1.0)
        best = size.argmax(self.dim, keepdim=True)
        return ((v - u) / a).gather(self.dim, best)


class SimplexEquation(Linear):
    """Σ z = r with z ≥ 0, and z ≤ cap: log r − log Σ z increases with s, and Newton's method takes to it.

    Where z falls like e^{−s} in the tail it is a straight line, and for the other φ it is nearer to one than r − Σ z.
    v is measured from its largest entry: v − s keeps its digits however far v is from 0.
    """

    compact = True

    def __init__(self, term: Any):
        Equation.__init__(self, term)
        self.levels: dict[int, float] = {}
        self.piece = Box(0.0, self.constraint.cap) if isinstance(self.constraint, CappedSimplex) else Nonneg()

    def origin(self, v: Tensor) -> Tensor | None:
        top = v.detach().amax(self.dim, keepdim=True)
        return torch.where(top.isfinite(), top, 0.0)

    def coefficients(self, v: Tensor) -> Any:
        return 1.0

    def multiplier(self, x: Tensor, v: Tensor) -> Tensor:
        return x

    def target(self, v: Tensor) -> Tensor:
        return torch.as_tensor(self.constraint.radius, dtype=v.dtype, device=v.device)

    def set(self, x: Tensor) -> None:
        if isinstance(self.constraint, CappedSimplex) and isinstance(self.constraint.cap, Tensor):
            self.piece._buffers["hi_value"] = self.constraint.cap

    def shifted(self, x: Tensor, v: Tensor) -> Tensor:
        self.set(x)
        return v - x

    def _total(self, z: Tensor) -> Tensor:
        return self._sum(z)

    def residual(self, x: Tensor, z: Tensor, u: Tensor, v: Tensor) -> Tensor:
        # Σ z may underflow on the way; a tiny floor keeps the sign.
        return self._of_total(self._total(z).clamp(min=torch.finfo(z.dtype).tiny), v)

    def _of_total(self, total: Tensor, v: Tensor) -> Tensor:
        radius = self.constraint.radius
        ratio = total / (self.target(v) if isinstance(radius, Tensor) else radius)
        return torch.xlogy(-1.0, ratio)  # −log; torch.log wakes a second thread for any number of doubles

    def size(self, value: Tensor, slope: Tensor, x: Tensor, z: Tensor, v: Tensor) -> Tensor:
        return 1 + slope * x.abs()  # 1: what the logarithm makes of the rounding of Σ z

    def terms(self, size: Callable[[], Tensor]) -> Any:
        return 1.0  # log Σ z/r is what is missed of r

    def value_and_slope(self, x: Tensor, z: Tensor, u: Tensor, gain: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        total = self._total(z).clamp(min=torch.finfo(z.dtype).tiny)
        return self._of_total(total, v), self._sum(gain) / total

    def missed(self, x: Tensor, z: Tensor, u: Tensor, v: Tensor) -> Tensor:
        return self.target(v) - self._total(z)

    def start(self, psi: Any, v: Tensor) -> Tensor:
        # All entries equal: z = r/n there; with v spread out s is below.
        n, top = v.shape[self.dim], torch.zeros_like(v.narrow(self.dim, 0, 1))
        if psi.constant and self.constraint.constant and not torch.compiler.is_compiling():
            return top - self._level(psi, n)
        level = psi.grad(self.target(v) / n)
        start = top - torch.where(level.isfinite(), level, 0.0)
        return start.amin(self.dim, keepdim=True)  # weights of φ may differ along the event

    def _level(self, psi: Any, n: int) -> float:
        if n not in self.levels:
            level = float(psi.grad(torch.tensor(self.constraint.radius / n, dtype=torch.float64)))
            self.levels[n] = level if math.isfinite(level) else 0.0
        return self.levels[n]
