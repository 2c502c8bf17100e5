"""φ(z) = ½ z'Qz: D is the squared Mahalanobis distance."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import InputError
from ..numerics.half import in_float32
from .base import Legendre
from .energy import Energy
from .transformed import Transformed


class Mahalanobis(Legendre):
    """φ(z) = ½ z'Qz on ℝⁿ; ∇φ = Qz, ∇φ* = Q⁻¹u, φ* = ½ u'Q⁻¹u, σ = λ_min(Q).

    Q: symmetric positive definite, (n, n) or with leading dimensions that broadcast with those of z; nested lists, a
    tensor, or a Parameter. A Parameter is replaced by a raw one: Q = LL', L lower triangular with the softplus of the
    raw diagonal on its own. Raises InputError for another shape, or where Q is not symmetric positive definite.
    """

    key = "mahalanobis"
    event_ndim = 1
    examples = ({"Q": ((2.0, 0.5), (0.5, 1.0))}, {"Q": ((2.0, 0.5, 0.1), (0.5, 1.0, -0.3), (0.1, -0.3, 1.5))})

    def __init__(self, Q: Sequence[Sequence[float]] | Tensor):
        super().__init__()
        q = Q if isinstance(Q, Tensor) else _as_matrix(Q)
        if isinstance(Q, nn.Parameter):
            factor = _checked_factor(q.detach())
            diagonal = factor.diagonal(dim1=-2, dim2=-1)
            raw = diagonal + torch.log(-torch.expm1(-diagonal))
            self.raw_Q = nn.Parameter(factor.tril(-1) + torch.diag_embed(raw))
        else:
            self.register_buffer("Q_value", q)

    def check_weights(self) -> None:
        if "Q_value" in self._buffers:
            _checked_factor(self.Q_value)

    @property
    def Q(self) -> Tensor:
        """Q as it is now."""
        if "raw_Q" not in self._parameters:
            return self.Q_value  # type: ignore[return-value]
        factor = self._factor()
        return factor @ factor.mT

    @property
    def width(self) -> int:  # type: ignore[override]
        return (self.raw_Q if "raw_Q" in self._parameters else self.Q_value).shape[-1]

    def _factor(self) -> Tensor:
        if "raw_Q" not in self._parameters:
            return torch.linalg.cholesky(self.Q)
        diagonal = nn.functional.softplus(self.raw_Q.diagonal(dim1=-2, dim2=-1), threshold=40)
        return self.raw_Q.tril(-1) + torch.diag_embed(diagonal)

    def value(self, z: Tensor) -> Tensor:
        return (z * self.grad(z)).sum(-1) / 2

    def grad(self, z: Tensor) -> Tensor:
        return self.hessian_product(z, z)

    @in_float32
    def grad_conjugate(self, u: Tensor) -> Tensor:
        factor = self._factor().to(u.dtype)
        if factor.ndim > 2:
            return torch.cholesky_solve(u.unsqueeze(-1), factor).squeeze(-1)
        # one solve with all points as columns: batches of right-hand sides would copy the factor
        columns = torch.cholesky_solve(u.reshape(math.prod(u.shape[:-1]), u.shape[-1]).mT, factor)
        return columns.mT.reshape(u.shape)

    def conjugate(self, u: Tensor) -> Tensor:
        return (u * self.grad_conjugate(u)).sum(-1) / 2

    def hessian_product(self, z: Tensor, x: Tensor) -> Tensor:
        """∇²φ(z) x = Qx."""
        q = self.Q.to(x.dtype)
        return x @ q if q.ndim == 2 else (q @ x.unsqueeze(-1)).squeeze(-1)

    @property
    def strong_convexity(self) -> Tensor:
        return torch.linalg.eigvalsh(self.Q)[..., 0]

    def expression(self, z: Any) -> Any:
        import cvxpy as cp

        if self.Q.requires_grad or self.Q.ndim > 2:
            raise InputError("mahalanobis with a learned or batched Q has no cvxpy expression: give one fixed matrix")
        return cp.quad_form(z, self.Q.double().cpu().numpy(), assume_PSD=True) / 2

    def plus(self, other: Legendre) -> Legendre | None:
        return quadratic_sum(self, other)

    def extra_repr(self) -> str:
        learned = "learned " if "raw_Q" in self._parameters else ""
        return f"Q={learned}tensor{tuple(self.Q.shape)}"


class QuadraticSum(Mahalanobis):
    """½ z'(Q₁ + Q₂)z of a Mahalanobis function and another quadratic one, an energy or a multiple among them.

    The matrix is that of the parts as they are now. Raises InputError where their sizes differ.
    """

    key = ""

    def __init__(self, first: Legendre, second: Legendre):
        Legendre.__init__(self)
        self.first, self.second = first, second
        widths = [w for w in (first.width, second.width) if w is not None]
        if len(set(widths)) > 1:
            raise InputError(f"{self.label}: the matrices are of the sizes {widths[0]} and {widths[1]}")

    @property
    def label(self) -> str:
        return f"{self.first.label} + {self.second.label}"

    @property
    def width(self) -> int:  # type: ignore[override]
        return self.first.width or self.second.width  # type: ignore[return-value]

    @property
    def Q(self) -> Tensor:
        """Q₁ + Q₂ as it is now."""
        return matrix(self.first, self.width) + matrix(self.second, self.width)

    def extra_repr(self) -> str:
        return ""


def quadratic_sum(first: Legendre, second: Legendre) -> QuadraticSum | None:
    """The sum of two quadratic functions, one of them on vectors of a known width, or None."""
    known = any(p.width for p in (first, second))
    return QuadraticSum(first, second) if known and is_quadratic(first) and is_quadratic(second) else None


def is_quadratic(phi: Legendre) -> bool:
    """Whether φ is ½ z'Qz: a Mahalanobis function, an energy, or c φ(z/s) of one with one c and s a point."""
    if isinstance(phi, Transformed):
        centred = not isinstance(phi.shift, Tensor) and phi.shift == 0
        one = all(not isinstance(x, Tensor) or x.ndim == 0 for x in (phi.weight, phi.scale))
        return centred and one and is_quadratic(phi.phi)
    return isinstance(phi, (Mahalanobis, Energy))


def matrix(phi: Legendre, n: int) -> Any:
    """Q of size n of a quadratic φ: m I of an energy, or diag m for a weight of entries."""
    if isinstance(phi, Transformed):
        return phi.weight / phi.scale**2 * matrix(phi.phi, n)
    if isinstance(phi, Mahalanobis):
        return phi.Q
    m: Any = phi.scale
    eye = torch.eye(n, dtype=m.dtype, device=m.device) if isinstance(m, Tensor) else torch.eye(n, dtype=torch.float64)
    return (m.unsqueeze(-1) if isinstance(m, Tensor) and m.ndim else m) * eye


def _as_matrix(rows: Any) -> Tensor:
    try:
        return torch.tensor(rows, dtype=torch.float64)
    except (TypeError, ValueError) as wrong:
        raise InputError(f"mahalanobis: Q is no matrix ({wrong}); give n rows of n numbers") from wrong


def _checked_factor(q: Tensor) -> Tensor:
    if q.ndim < 2 or q.shape[-1] != q.shape[-2] or not q.is_floating_point():
        raise InputError(f"mahalanobis: Q has shape {tuple(q.shape)} and dtype {q.dtype}; give floating-point (n, n)")
    slack = 4 * torch.finfo(q.dtype).eps * q.abs().amax((-2, -1))
    if not bool(((q - q.mT).abs().amax((-2, -1)) <= slack).all()):
        raise InputError("mahalanobis: Q is not symmetric; give (Q + Q.mT) / 2, which has the same quadratic form")
    factor, info = torch.linalg.cholesky_ex(q)
    if bool((info != 0).any()):
        raise InputError("mahalanobis: Q is not positive definite (Cholesky fails); add a multiple of the identity")
    return factor
