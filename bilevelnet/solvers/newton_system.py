"""The linear systems of Newton's method: C H C y = C F for the Hessian H of φ + Σ h and a diagonal C that scales it.

With y = H⁻¹F the step in z is −y. Where the unknown is u = ∇φ(z) it is −∇²φ y = −(F − Σ ∇²h y), without an inverse
that overflows at the boundary of dom φ; else it is −y/(dz/dx).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ..numerics.conjugate_gradient import conjugate_gradient
from ..values import readable
from .curvature import Curvature

Products = Callable[[Tensor], tuple[Tensor, Tensor]]


class System:
    """``scale``: C, of shape (…, n). ``rate``: dz/dx, or None where x is u. ``shifted``: where H is not positive."""

    shifted: Tensor

    def __init__(self, scale: Tensor, rate: Tensor | None):
        self.scale, self.rate = scale, rate

    def solve(self, b: Tensor, tol: Tensor | float) -> Tensor:
        """(C H C)⁻¹ b, to ``tol`` |b| where it is iterative."""
        raise NotImplementedError

    def terms(self, y: Tensor) -> Tensor:
        """Σ ∇²h y."""
        raise NotImplementedError

    def step(self, force: Tensor) -> tuple[Tensor, Tensor]:
        """(the step in x, λ² = ⟨F, H⁻¹F⟩)."""
        scaled = self.scale * force
        # A rough direction will do far from the solution (Dembo & Steihaug, 1983).
        root = self.solve(scaled, torch.linalg.vector_norm(scaled, dim=-1, keepdim=True).sqrt().clamp(max=0.1))
        decrease = (scaled * root).sum(-1, keepdim=True)
        return -(force - self.terms(self.scale * root) if self.rate is None else root / self.scale), decrease

    def inverse(self, force: Tensor) -> Tensor:
        """The move of u, F − Σ ∇²h y, or of z, y = H⁻¹F, in an attached step."""
        y = self.exact(force)
        return force - self.terms(y) if self.rate is None else y

    def transposed(self, b: Tensor) -> Tensor:
        """The transpose of ``inverse``."""
        return self.exact(b) if self.rate is not None else b - self.exact(self.terms(b))

    def exact(self, b: Tensor) -> Tensor:
        """H⁻¹ b."""
        return self.scale * self.solve(self.scale * b, 8 * torch.finfo(b.dtype).eps)


class Dense(System):
    """C H C is formed and factored once."""

    def __init__(self, scale: Tensor, rate: Tensor | None, whole: Curvature, rest: Curvature):
        super().__init__(scale, rate)
        self.rest = rest
        self.factor: Tensor | None = None
        if whole.full is None:
            assert whole.diagonal is not None
            self.shifted = (whole.diagonal < 0).any(-1, keepdim=True)
            self.diagonal: Tensor = whole.diagonal.abs().clamp(min=torch.finfo(scale.dtype).eps)
        else:
            self.factor, self.shifted = _factor(whole.dense())

    def solve(self, b: Tensor, tol: Tensor | float) -> Tensor:
        if self.factor is None:
            return b / self.diagonal
        return torch.cholesky_solve(b.unsqueeze(-1), self.factor).squeeze(-1)

    def terms(self, y: Tensor) -> Tensor:
        return self.rest @ y


def dense(found: dict[str, Tensor]) -> Dense:
    """The system of what ``Coordinates.curvatures`` found."""
    whole, rest = (Curvature(found.get(f"{k}_diagonal"), found.get(f"{k}_full")) for k in ("whole", "rest"))
    return Dense(found["scale"], found.get("rate"), whole, rest)


class MatrixFree(System):
    """C H C by its products: ``times(y)`` = (∇²φ y, Σ ∇²h y); ``unit``: C ∇²φ C = I."""

    def __init__(self, scale: Tensor, rate: Tensor | None, times: Products, unit: bool):
        super().__init__(scale, rate)
        self.times, self.unit = times, unit
        self.shifted = torch.zeros_like(scale[..., :1], dtype=torch.bool)

    def solve(self, b: Tensor, tol: Tensor | float) -> Tensor:
        y, bad = conjugate_gradient(self._scaled, b, tol, 4 * b.shape[-1])
        self.shifted = self.shifted | bad
        return y

    def terms(self, y: Tensor) -> Tensor:
        return self.times(y)[1]

    def _scaled(self, y: Tensor) -> Tensor:
        own, rest = self.times(self.scale * y)
        return (y if self.unit else self.scale * own) + self.scale * rest


def _factor(matrix: Tensor) -> tuple[Tensor, Tensor]:
    """The Cholesky factor, of the matrix + μI where it is not positive definite; and where μ is more than rounding."""
    factor, info = torch.linalg.cholesky_ex(matrix)
    failed = shifted = (info != 0)[..., None, None]
    if readable(matrix) and not bool(failed.any()):
        return factor, failed.squeeze(-1)
    eye = torch.eye(matrix.shape[-1], dtype=matrix.dtype, device=matrix.device)
    if readable(matrix):
        shift = matrix.shape[-1] * torch.finfo(matrix.dtype).eps * matrix.abs().amax((-2, -1), keepdim=True)
        for trial in range(12):  # from rounding to far above every entry
            again, info = torch.linalg.cholesky_ex(torch.where(failed, matrix + 100.0**trial * shift * eye, eye))
            factor, failed = torch.where(failed, again, factor), failed & (info != 0)[..., None, None]
            shifted = failed if trial == 0 else shifted
            if not bool(failed.any()):
                break
    return torch.where(failed, eye, factor), shifted.squeeze(-1)
