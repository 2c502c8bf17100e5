"""The linear systems of Newton's method: C H C y = C F for the Hessian H of φ + Σ h and a diagonal C that scales it.

With y = H⁻¹F the step in z is −y. Where the unknown is u = ∇φ(z) it is −∇²φ y = −(F − Σ ∇²h y), without an inverse
that overflows at the boundary of dom φ; else it is −y/(dz/dx).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ..numerics.conjugate_gradient import conjugate_gradient
from ..values import readable
from .curvature import Curvature, add

# Of the direction of a step: where g bends sharply ten times more takes ten times as many steps.
ROUGH = 1e-3

Products = Callable[[Tensor], tuple[Tensor, Tensor]]


class System:
    """``scale``: C, of shape (…, n). ``rate``: dz/dx, or None where x is u. ``shifted``: where H is not positive.
    ``factored``: whether it cost a factorisation.
    """

    shifted: Tensor
    factored = False

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
        # Exact near the solution alone (Dembo & Steihaug, 1983).
        root = self.solve(scaled, torch.linalg.vector_norm(scaled, dim=-1, keepdim=True).sqrt().clamp(max=ROUGH))
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
        """H⁻¹ b, to the rounding of the some 8 operations of a product: below it the residual no longer falls."""
        return self.scale * self.solve(self.scale * b, 8 * torch.finfo(b.dtype).eps)


class Explicit(System):
    """C H C = ``own`` + C ``rest`` C, solved by at most ``products`` products, else formed and factored once."""

    def __init__(self, scale: Tensor, rate: Tensor | None, own: Curvature, rest: Curvature, products: int):
        super().__init__(scale, rate)
        self.own, self.rest, self.products = own, rest, products
        self.factor: Tensor | None = None
        if products:
            self.shifted = torch.zeros_like(scale[..., :1], dtype=torch.bool)
        else:
            self._form()

    def _form(self) -> None:
        whole = add([self.own, self.rest.scaled(self.scale)])
        if whole.full is None:
            assert whole.diagonal is not None
            self.shifted = (whole.diagonal < 0).any(-1, keepdim=True)
            # Where E is flat the step is long, and the line search shortens it.
            self.diagonal: Tensor = whole.diagonal.abs().clamp(min=torch.finfo(self.scale.dtype).eps)
        else:
            self.factored = True
            self.factor, self.shifted = _factor(whole.dense())

    def solve(self, b: Tensor, tol: Tensor | float) -> Tensor:
        if self.products:
            y, bad, unfinished = conjugate_gradient(self._scaled, b, tol, self.products)
            if not bool((bad | unfinished).any()):
                return y
            self.products = 0
            self._form()
        if self.factor is None:
            return b / self.diagonal
        return torch.cholesky_solve(b.unsqueeze(-1), self.factor).squeeze(-1)

    def terms(self, y: Tensor) -> Tensor:
        return self.rest @ y

    def _scaled(self, y: Tensor) -> Tensor:
        return self.own @ y + self.scale * (self.rest @ (self.scale * y))


def explicit(found: dict[str, Any], detach: bool = False, patient: bool = False) -> Explicit:
    """The system of what ``Coordinates.curvatures`` found.

    ``patient``: where products are cheap and H is positive for sure, as many are tried as cost what forming and
    factoring do, n/3.
    """
    parts = [Curvature(*(found.get(f"{k}_{name}") for name in Curvature._fields)) for k in ("own", "rest")]
    own, rest = (p.detach() for p in parts) if detach else parts
    scale, rate = found["scale"], found.get("rate")
    if detach:
        scale, rate = scale.detach(), None if rate is None else rate.detach()
    cheap = patient and own.full is None and rest.full is None and rest.images is not None
    products = scale.shape[-1] // 3 if cheap and own.positive() and rest.positive() else 0
    return Explicit(scale, rate, own, rest, products)


class MatrixFree(System):
    """C H C by its products: ``times(y)`` = (∇²φ y, Σ ∇²h y); ``unit``: C ∇²φ C = I."""

    def __init__(self, scale: Tensor, rate: Tensor | None, times: Products, unit: bool):
        super().__init__(scale, rate)
        self.times, self.unit = times, unit
        self.shifted = torch.zeros_like(scale[..., :1], dtype=torch.bool)

    def solve(self, b: Tensor, tol: Tensor | float) -> Tensor:
        y, bad, _ = conjugate_gradient(self._scaled, b, tol, 4 * b.shape[-1])
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
