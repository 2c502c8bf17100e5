"""g(K z): a regularizer of a linear image, such as the total variation of a graph or the l1 norm of wavelets."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from ..domains import Preimage, Reals
from ..errors import InputError
from ..numerics import norm
from ..piece import Piece, Scalar
from ..values import readable
from .base import Regularizer
from .calculus import solved_prox


class LinearMap(Piece):
    """K, a matrix on the last dimension or a module; ``tight`` is c where K Kᵀ = c I is known, else None."""

    def __init__(self, operator: Any, event_ndim: int = 1):
        super().__init__()
        self.matrix: Any = None
        self.module: Any = None
        self.event_ndim, self.tight = event_ndim, None
        if isinstance(operator, nn.Module):
            self.module = operator
            return
        if not isinstance(operator, Tensor) or operator.ndim != 2 or not operator.is_floating_point():
            raise InputError("precompose takes a floating-point matrix of shape (m, n), or a torch.nn.Module")
        if 0 in operator.shape or (readable(operator) and not bool(operator.isfinite().all())):
            raise InputError(f"precompose: K of shape {tuple(operator.shape)} is empty, or has NaN or infinite entries")
        if isinstance(operator, nn.Parameter):
            self.matrix = operator
            return
        del self.matrix
        self.register_buffer("matrix", operator)
        if not readable(operator):  # inside a transform: tight or not, the splitting solver takes it
            return
        gram = operator @ operator.mT
        c = gram.diagonal().mean()
        off = (gram - c * torch.eye(len(gram), dtype=gram.dtype, device=gram.device)).abs().max()
        if bool(c > 0) and bool(off <= 4 * operator.shape[1] * torch.finfo(gram.dtype).eps * c):
            self.tight = float(c)

    def image(self, z: Tensor) -> Tensor:
        """K z."""
        return self.module(z) if self.matrix is None else z @ self.matrix.to(z.dtype).mT

    def linear(self, z: Tensor) -> Tensor:
        """K z without the constant that a module may add."""
        return self.image(z) if self.module is None else self.module(z) - self.module(torch.zeros_like(z))

    def adjoint(self, y: Tensor, shape: tuple[int, ...]) -> Tensor:
        """Kᵀ y, of the given shape."""
        if self.module is None:
            return y @ self.matrix.to(y.dtype)
        return torch.func.vjp(self.module, y.new_zeros(shape))[1](y)[0]

    def shape(self, shape: tuple[int, ...], like: Tensor) -> tuple[int, ...]:
        """The shape of K z for z of the given shape."""
        if self.module is None:
            return (*shape[:-1], self.matrix.shape[0])
        return tuple(self.module(like.new_zeros(shape)).shape)

    def off(self, z: Tensor, off: Scalar = 0.0) -> Tensor:
        """How far a rounded K z may be from K z for a z wrong by ``off``: n eps |K||z| + |K| off.

        Of a module, whose n and |K| are not known, 8 eps |K z|: differences and kernels of some 8 terms.
        """
        eps = torch.finfo(z.dtype).eps
        if self.matrix is None:
            return 8 * eps * self.module(z).abs()
        return (z.shape[-1] * eps * z.abs() + off) @ self.matrix.to(z.dtype).abs().mT


class Precomposed(Regularizer):
    """g(K z) for a separable g or one term. Where K Kᵀ = c I its prox is v + Kᵀ(prox_{cg}(K v) − K v)/c.

    (Combettes & Pesquet, A Douglas-Rachford splitting approach, 2007.)
    Otherwise the splitting solver, which works with g and K apart, finds its prox. Conjugate, for a matrix K with
    independent rows: g*(x) at the x with Kᵀx = y, ∞ where there is none.
    """

    def __init__(self, body: Regularizer, linear: LinearMap):
        super().__init__()
        if linear.module is None and body.event_ndim > 1:
            raise InputError(f"{body.label} acts on matrices: precompose it with a module")
        self.body, self.linear = body, linear

    @property
    def label(self) -> str:
        return f"{self.body.label} ∘ K"

    @property
    def event_ndim(self) -> int:  # type: ignore[override]
        return self.linear.event_ndim

    @property
    def homogeneous(self) -> bool:  # type: ignore[override]
        return self.body.homogeneous and self.linear.module is None  # a module may add a constant

    @property
    def indicator(self) -> bool:  # type: ignore[override]
        return self.body.indicator

    @property
    def proximable(self) -> bool:
        return self.linear.tight is not None and self.body.proximable

    @property
    def width(self) -> int | None:  # type: ignore[override]
        return None if self.linear.matrix is None else self.linear.matrix.shape[1]

    @property
    def domain(self) -> Any:  # type: ignore[override]
        if self.body.domain == Reals():
            return Reals()
        return Preimage(self.body.domain, self.linear.image, self.event_ndim, self.linear.off)

    def value(self, z: Tensor) -> Tensor:
        value = self.body.value(self.linear.image(z))
        rest = value.ndim - (z.ndim - self.event_ndim)
        return value.flatten(-rest).sum(-1) if rest > 0 else value

    def prox(self, v: Tensor, step: Scalar = 1.0) -> Tensor:
        c = self.linear.tight
        if c is None:
            return solved_prox(self, v, step)
        image, matrix = self.linear.image, self.linear.matrix.to(v.dtype)
        y = image(v)
        p = self.body.prox(y, step * c)
        z = v + (p - y) @ matrix / c
        # Once more for the rounding of a large v, which is no part of the derivative.
        return z + ((p - image(z)) @ matrix / c).detach()

    def conjugate(self, y: Tensor) -> Tensor:
        matrix = self.linear.matrix
        rows = 0 if matrix is None else int(torch.linalg.matrix_rank(matrix.detach()))
        if not rows or rows < len(matrix):
            raise InputError(f"{self.label} states no conjugate: that takes a matrix K with independent rows")
        q, upper = torch.linalg.qr(matrix.to(y.dtype).mT)
        x = torch.linalg.solve_triangular(upper, (y @ q).unsqueeze(-1), upper=True).squeeze(-1)
        # Rounded, y lies in the range of Kᵀ up to half of its digits.
        outside = norm(y - y @ q @ q.mT, (-1,)) > torch.finfo(y.dtype).eps ** 0.5 * norm(y, (-1,))
        value = self.body.conjugate(x)
        value = value if self.body.event_ndim else value.sum(-1)
        return torch.where(outside.squeeze(-1), torch.inf, value)

    def expression(self, z: Any) -> Any:
        matrix = self.linear.matrix
        if matrix is None or matrix.requires_grad:
            raise InputError(f"{self.label}: the conic solver takes a fixed matrix K")
        if matrix.shape[1] != z.shape[-1]:
            raise InputError(f"{self.label}: K has width {matrix.shape[1]}, z has {z.shape[-1]}")
        return self.body.expression(matrix.cpu().numpy() @ z)
