"""First and second derivatives of any piece: by hand where it states them, else of its value.

A point z has the shape (…, event); a Hessian is a ``Curvature`` on the flattened event of n entries.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..legendre import Legendre, Mahalanobis
from ..numerics.derivative import derivative
from ..regularizers import Precomposed, Scaled, Translated
from .charts import total

OUTER = 1 << 22  # entries of the table of outer products of the rows of K, up to which it pays


class Curvature(NamedTuple):
    """A symmetric matrix, the sum of a diagonal (…, n), a full part (…, n, n) and Kᵀ diag(w) K for pairs of a matrix
    K (m, n) and weights (…, m), as far as they are there.
    """

    diagonal: Tensor | None
    full: Tensor | None
    images: tuple[tuple[Tensor, Tensor], ...] | None = None

    def scaled(self, c: Tensor) -> Curvature:
        """diag(c) H diag(c), formed, in memory of its own."""
        diagonal, full, _ = self.formed()
        if full is not None:  # in place: as large a matrix again costs more than the product
            row, column = c.unsqueeze(-2), c.unsqueeze(-1)
            full = (full.mul_(column) if self.images else full.clone() * column).mul_(row)  # a zero may have no storage
        return Curvature(None if diagonal is None else c**2 * diagonal, full)

    def __matmul__(self, x: Tensor) -> Tensor:
        parts = [] if self.diagonal is None else [self.diagonal * x]
        if self.full is not None:
            parts += [x @ self.full.mT if self.full.ndim == 2 else (self.full @ x.unsqueeze(-1)).squeeze(-1)]
        parts += [(w * (x @ k.mT)) @ k for k, w in self.images or ()]
        return sum(parts[1:], parts[0]) if parts else torch.zeros_like(x)

    def formed(self) -> Curvature:
        """The same without images."""
        fulls = [] if self.full is None else [self.full]
        fulls += [congruence(k, w) for k, w in self.images or ()]
        return Curvature(self.diagonal, sum(fulls[1:], fulls[0]) if fulls else None)

    @property
    def cheap(self) -> bool:
        """Whether a product with it costs less than a pass over a matrix for each element."""
        return self.full is None or self.full.ndim == 2

    def matrix(self) -> Tensor:
        """All of it as one matrix, of what has a full part or images."""
        diagonal, full, _ = self.formed()
        assert full is not None
        return full if diagonal is None else full + torch.diag_embed(diagonal)

    def dense(self) -> Tensor:
        """The matrix of what is ``scaled`` and has a full part, in its place."""
        assert self.full is not None
        if self.diagonal is not None:
            self.full.diagonal(dim1=-2, dim2=-1).add_(self.diagonal)
        return self.full

    def positive(self) -> bool:
        """Whether its diagonal and its images are seen to be positive semidefinite."""
        parts = [] if self.diagonal is None else [self.diagonal]
        return all(bool((w >= 0).all()) for w in (*parts, *(w for _, w in self.images or ())))

    def detach(self) -> Curvature:
        """The same without a graph."""
        diagonal, full, images = self
        return Curvature(
            None if diagonal is None else diagonal.detach(),
            None if full is None else full.detach(),
            None if images is None else tuple((k.detach(), w.detach()) for k, w in images),
        )


def gradient(piece: Any, z: Tensor) -> Tensor:
    """∇ of the piece at z, differentiable again."""
    if isinstance(piece, Scaled) and piece.event_ndim:
        return piece.factor.c * gradient(piece.inner, z)
    if isinstance(piece, Translated) and piece.event_ndim:
        return gradient(piece.body, z - piece.offset.s)
    if (matrix := _matrix(piece)) is not None:
        image = z @ matrix.to(z.dtype).mT
        return total(gradient(t, image) for t in piece.body.terms()) @ matrix.to(z.dtype)
    return piece.grad(z) if hasattr(piece, "grad") else derivative(piece.value, z)


def product(piece: Any, z: Tensor) -> Callable[[Tensor], Tensor]:
    """x ↦ ∇² x of the piece at z."""
    if not piece.event_ndim:
        diagonal = piece.hessian(z)
        return lambda x: diagonal * x
    if isinstance(piece, Translated):
        return product(piece.body, z - piece.offset.s)
    if image := _image(piece, z):
        return lambda x: Curvature(None, None, (image,)) @ x
    if isinstance(piece, Legendre):
        return lambda x: piece.hessian_product(z, x)
    pull = torch.func.vjp(lambda z: gradient(piece, z), z)[1]  # ∇² is symmetric; forward mode does not nest
    return lambda x: pull(x)[0]


def curvature(piece: Any, z: Tensor, event_ndim: int) -> Curvature:
    """∇² of the piece at z."""
    if not piece.event_ndim:
        return Curvature(piece.hessian(z).expand_as(z).flatten(-event_ndim), None)
    if piece.event_ndim < event_ndim:  # one block a vector of a matrix
        return Curvature(None, columns(product(piece, z), z, event_ndim))
    if isinstance(piece, Mahalanobis):
        return Curvature(None, piece.Q.to(z.dtype))
    if isinstance(piece, Translated):
        return curvature(piece.body, z - piece.offset.s, event_ndim)
    if isinstance(piece, Scaled):
        c, (diagonal, full, images) = piece.factor.c, curvature(piece.inner, z, event_ndim)
        c = c if not isinstance(c, Tensor) or c.ndim < event_ndim else c.flatten(-event_ndim)
        return Curvature(
            None if diagonal is None else c * diagonal,
            None if full is None else (c.unsqueeze(-1) if isinstance(c, Tensor) and c.ndim else c) * full,
            None if images is None else tuple((k, c * w) for k, w in images),
        )
    if image := _image(piece, z):
        return Curvature(None, None, (image,))
    return Curvature(None, columns(product(piece, z), z, event_ndim))


def columns(times: Callable[[Tensor], Tensor], z: Tensor, event_ndim: int) -> Tensor:
    """The matrix of a linear map of events, (…, n, n), from its products with the unit vectors."""
    event = z.shape[-event_ndim:]
    n = event.numel()
    units = torch.eye(n, dtype=z.dtype, device=z.device).reshape(n, *event)
    full = torch.func.vmap(lambda e: times(e.expand_as(z)))(units)
    return full.flatten(-event_ndim).movedim(0, -1)


def congruence(matrix: Tensor, weights: Tensor) -> Tensor:
    """Kᵀ diag(w) K for a matrix K (m, n) and weights (…, m)."""
    m, n = matrix.shape
    if weights.ndim > 1 and m * n * n <= OUTER:
        outer = (matrix.unsqueeze(-1) * matrix.unsqueeze(-2)).flatten(-2)
        return (weights @ outer).unflatten(-1, (n, n))
    return matrix.mT @ (weights.unsqueeze(-1) * matrix)


def add(parts: Sequence[Curvature]) -> Curvature:
    """The sum; nothing of none."""
    diagonals = [p.diagonal for p in parts if p.diagonal is not None]
    fulls = [p.full for p in parts if p.full is not None]
    images = [i for p in parts for i in p.images or ()]
    return Curvature(
        sum(diagonals[1:], diagonals[0]) if diagonals else None,
        sum(fulls[1:], fulls[0]) if fulls else None,
        tuple(images) or None,
    )


def _image(piece: Any, z: Tensor) -> tuple[Tensor, Tensor] | None:
    """(K, h''(K z)) of a Σ h(K z) given by a matrix."""
    matrix = _matrix(piece)
    if matrix is None or piece.body.event_ndim:
        return None
    matrix = matrix.to(z.dtype)
    image = z @ matrix.mT
    return matrix, sum(t.hessian(image).expand_as(image) for t in piece.body.terms())


def _matrix(piece: Any) -> Tensor | None:
    """K of a g(K z) given by a matrix."""
    return piece.linear.matrix if isinstance(piece, Precomposed) else None
