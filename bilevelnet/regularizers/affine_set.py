"""The indicator of an affine subspace: ⟨a, z⟩ = b, or A z = b."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ..domains import AffineSubspace
from ..errors import InputError
from ..numerics import norm
from ..piece import Scalar, Weight
from .base import Regularizer


class AffineSet(Regularizer):
    """The indicator of {z : A z = b}, on the last dimension; prox v − A⁺(A v − b), conjugate ⟨A⁺b, y⟩ on range Aᵀ.

    a: a vector (n) for one equation or a matrix (k, n) with independent rows, as numbers, array, tensor or Parameter.
    b: a number, or a tensor that broadcasts with A z, of shape (…, 1) or (…, k). Raises InputError where a has
    another shape, or dependent rows (also a = 0).
    """

    key = "affine_set"
    event_ndim = 1
    indicator = True
    examples = (
        {"a": (1.0, -2.0, 0.5, 0.3), "b": 0.3},
        {"a": ((1.0, 2.0, 0.5, -1.0), (0.0, 1.0, -1.0, 0.4)), "b": 0.2},
    )
    b = Weight()

    def __init__(self, a: Sequence[Any] | Tensor, b: Scalar | Sequence[float] = 0.0):
        super().__init__()
        if isinstance(a, torch.nn.Parameter):
            self.register_parameter("a_value", a)
        elif isinstance(a, Tensor):
            self.register_buffer("a_value", a)
        else:
            self.__dict__["_a"] = _numbers(a)
        self.b = torch.as_tensor(b, dtype=torch.float64) if isinstance(b, (list, tuple)) else b  # type: ignore[assignment]

    def check_weights(self) -> None:
        rows, _ = self.equations(torch.empty(0, dtype=torch.float64))
        rows = rows.detach()
        rank = int(torch.linalg.matrix_rank(rows)) if bool(rows.isfinite().all()) else 0
        if rank < len(rows):
            raise InputError(f"affine_set: a has rank {rank} with {len(rows)} rows; drop the dependent ones")

    @property
    def a(self) -> Any:
        """The coefficients, as numbers or a tensor."""
        numbers = self.__dict__.get("_a")
        return self.a_value if numbers is None else numbers

    @property
    def homogeneous(self) -> bool:  # type: ignore[override]
        return isinstance(self.b, float) and self.b == 0  # a subspace; with a radial φ this is LayerNorm

    @property
    def width(self) -> int:  # type: ignore[override]
        return self.a.shape[-1] if isinstance(self.a, Tensor) else len(_flat(self.a))

    @property
    def domain(self) -> AffineSubspace:  # type: ignore[override]
        return AffineSubspace(*self.equations(torch.empty(0, dtype=torch.float64)))

    def value(self, z: Tensor) -> Tensor:
        self._fitting(z)
        return torch.zeros_like(z.sum(-1))

    def prox(self, v: Tensor, step: Scalar = 1.0) -> Tensor:
        rows, level = self._fitting(v)
        move = _pseudoinverse(rows)
        z = v - move(v @ rows.mT - level)
        # Once more for the rounding of a large v, which is no part of the derivative.
        return z - move(z @ rows.mT - level).detach()

    def conjugate(self, y: Tensor) -> Tensor:
        z = self.prox(torch.zeros_like(y))
        # Rounded, y lies in the range of Aᵀ up to half of its digits.
        outside = norm(y - self._along(y), (-1,)) > torch.finfo(y.dtype).eps ** 0.5 * norm(y, (-1,))
        return torch.where(outside.squeeze(-1), torch.inf, (z * y).sum(-1))

    def distance(self, z: Tensor, y: Tensor) -> Tensor:
        # The normal cone is the range of Aᵀ; the violation is the distance of z from the set.
        rows, level = self._fitting(z)
        missed = _pseudoinverse(rows)(z @ rows.mT - level)
        return (norm(y - self._along(y), (-1,)) + norm(missed, (-1,))).squeeze(-1)

    def expression(self, z: Any) -> Any:
        tensor = self._rows(torch.empty(0, dtype=torch.float64))
        if tensor.requires_grad:
            raise InputError("affine_set: the conic solver takes a fixed a, not a Parameter")
        rows = tensor.cpu().numpy()
        if rows.shape[1] != z.shape[-1]:
            raise InputError(f"affine_set: a has width {rows.shape[1]}, z has {z.shape[-1]}")
        return 0.0, [(rows if len(rows) > 1 else rows[0]) @ z == self.b]

    def _rows(self, like: Tensor) -> Tensor:
        """A as (k, n), in the dtype of ``like``."""
        a = self.a if isinstance(self.a, Tensor) else torch.tensor(self.a, dtype=torch.float64, device=like.device)
        a = a.to(like.dtype)
        if a.ndim not in (1, 2) or not a.numel():
            raise InputError(f"affine_set: a has shape {tuple(a.shape)}; give a vector (n) or matrix (k, n), not empty")
        return a if a.ndim == 2 else a.unsqueeze(0)

    def equations(self, like: Tensor) -> tuple[Tensor, Tensor]:
        """(A, b) as ``like``, each equation divided by 2^k ≈ max |a_i|: the same set, and ‖a‖² in range."""
        a, unit = self._rows(self.a if isinstance(self.a, Tensor) else like.double()), self.units(like)
        b = self.b if isinstance(self.b, Tensor) else torch.tensor(self.b, dtype=torch.float64, device=a.device)
        return (a / unit.unsqueeze(-1)).to(like.dtype), (b / unit).to(like.dtype)

    def units(self, like: Tensor) -> Tensor:
        """The power of two by which each equation is divided."""
        largest = self._rows(self.a if isinstance(self.a, Tensor) else like.double()).detach().abs().amax(-1)
        return torch.where(largest > 0, largest.log2().floor().exp2(), largest.new_ones(()))

    def _fitting(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """The equations for z; InputError where z has another width."""
        rows, level = self.equations(z)
        if rows.shape[1] != z.shape[-1]:
            raise InputError(f"affine_set: a has width {rows.shape[1]}, z has {z.shape[-1]}")
        return rows, level

    def _along(self, y: Tensor) -> Tensor:
        """The part of y in the range of Aᵀ."""
        rows, _ = self._fitting(y)
        return _pseudoinverse(rows)(y @ rows.mT)


def _pseudoinverse(rows: Tensor) -> Any:
    """r ↦ A⁺ r, by a ‖a‖⁻² for one row, else by Aᵀ = QR: Q R⁻ᵀ r, which does not square the condition of A Aᵀ."""
    if len(rows) == 1:
        return lambda r: r / rows.square().sum() * rows[0]
    q, upper = torch.linalg.qr(rows.mT)
    return lambda r: torch.linalg.solve_triangular(upper.mT, r.unsqueeze(-1), upper=False).squeeze(-1) @ q.mT


def _numbers(a: Any) -> Any:
    a = a.tolist() if hasattr(a, "tolist") else a  # numpy
    return tuple(_numbers(t) for t in a) if isinstance(a, (list, tuple)) else float(a)


def _flat(a: tuple) -> tuple:
    """The first row."""
    return a[0] if isinstance(a[0], tuple) else a
