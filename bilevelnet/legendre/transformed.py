"""Weight, scale and shift of a Legendre function."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from ..domains import Interval, Preimage
from ..errors import InputError
from ..piece import Scalar, Weight
from ..values import readable
from .base import Legendre
from .total import Total


class Transformed(Legendre):
    """c φ((z − m)/s) with weight c > 0, scale s > 0 and shift m: numbers, tensors or Parameters.

    ∇ = (c/s) ∇φ((z − m)/s), inverse m + s ρ(s u/c), conjugate ⟨m, u⟩ + c φ*(s u/c), strong convexity c σ/s², domain
    m + s dom φ. ``2.0 * phi`` and ``phi.affine(scale, shift)`` build it. A temperature T is the weight: ρ(u/T).
    For a function of eigenvalues a number m, or one for each matrix (size 1 in both dimensions), stands for mI.
    """

    weight, scale, shift = Weight(low=0), Weight(low=0), Weight()

    def __init__(self, phi: Legendre, weight: Scalar = 1.0, scale: Scalar = 1.0, shift: Scalar = 0.0):
        super().__init__()
        self.phi = phi
        self.weight, self.scale, self.shift = weight, scale, shift

    @property
    def event_ndim(self) -> int:  # type: ignore[override]
        return self.phi.event_ndim

    @property
    def width(self) -> int | None:  # type: ignore[override]
        return self.phi.width

    @property
    def steep(self) -> bool:  # type: ignore[override]
        return self.phi.steep

    @property
    def explicit(self) -> bool:
        return self.phi.explicit

    @property
    def radial(self) -> bool:  # type: ignore[override]
        return self.phi.radial and _is(self.shift, 0.0) and isinstance(self.scale, float)

    @property
    def label(self) -> str:
        z = "z" if _is(self.shift, 0.0) else f"z − {_name(self.shift)}".replace("− -", "+ ")
        if not _is(self.scale, 1.0):
            z = f"{z if z == 'z' else f'({z})'}/{_name(self.scale)}"
        weight = "" if _is(self.weight, 1.0) else f"{_name(self.weight)} "
        inner = f"({self.phi.label})" if isinstance(self.phi, Total) else self.phi.label
        return f"{weight}{inner}" + ("" if self._plain else f"({z})")

    @property
    def _plain(self) -> bool:
        return _is(self.scale, 1.0) and _is(self.shift, 0.0)

    @property
    def domain(self) -> Any:  # type: ignore[override]
        inner = self.phi.domain
        if self._plain:
            return inner
        if not isinstance(inner, Interval):
            return Preimage(inner, self._inner, self.event_ndim)
        lo, hi = (e if _infinite(e) else self.shift + self.scale * e for e in (inner.lo, inner.hi))
        return Interval(lo, hi, inner.closed)

    @property
    def dual_domain(self) -> Any:  # type: ignore[override]
        inner = self.phi.dual_domain
        if not isinstance(inner, Interval):
            return Preimage(inner, self._inner_dual, self.event_ndim)
        rate = self.weight / self.scale
        lo, hi = (e if _infinite(e) or _is(e, 0.0) else rate * e for e in (inner.lo, inner.hi))
        return Interval(lo, hi, inner.closed)

    def value(self, z: Tensor) -> Tensor:
        return self._event(self.weight) * self.phi.value(self._inner(z))

    def grad(self, z: Tensor) -> Tensor:
        return self.weight / self.scale * self.phi.grad(self._inner(z))

    def grad_conjugate(self, u: Tensor) -> Tensor:
        z = self.phi.grad_conjugate(self._inner_dual(u))
        return z if self._plain else self._offset(u) + self.scale * z

    def conjugate(self, u: Tensor) -> Tensor:
        inner = self._event(self.weight) * self.phi.conjugate(self._inner_dual(u))
        return inner if _is(self.shift, 0.0) else self._sum(self._offset(u) * u) + inner

    def hessian(self, z: Tensor) -> Tensor:
        if self.event_ndim:
            raise InputError(f"{self.label} is not separable: it has no hessian entry by entry; see hessian_product")
        return self.weight / self.scale**2 * self.phi.hessian(self._inner(z))  # type: ignore[operator]

    def hessian_product(self, z: Tensor, x: Tensor) -> Tensor:
        """∇²(c φ((z − m)/s)) x = (c/s) ∇²φ((z − m)/s) (x/s)."""
        return self.weight / self.scale * self.phi.hessian_product(self._inner(z), x / self.scale)

    @property
    def strong_convexity(self) -> Scalar:
        return self.weight * self.phi.strong_convexity / self.scale**2

    def span(self) -> dict[str, Scalar] | None:
        inner = self.phi.span()
        if inner is None or not _is(self.shift, 0.0):
            return None
        # z/s and s/z are multiples of z and 1/z; log(z/s) and e^{z/s} leave the span unless s = 1.
        factors = {"linear": self.weight / self.scale**2, "reciprocal": self.weight}
        if _is(self.scale, 1.0):
            factors = dict.fromkeys(("linear", "reciprocal", "log", "exp"), self.weight)
        return {name: factors[name] * c for name, c in inner.items()} if inner.keys() <= factors.keys() else None

    def plus(self, other: Legendre) -> Legendre | None:
        from .mahalanobis import quadratic_sum
        from .radial_sum import radial_sum

        return quadratic_sum(self, other) or radial_sum(self, other)

    def expression(self, z: Any) -> Any:
        return self.weight * self.phi.expression(z if self._plain else (z - self.shift) / self.scale)

    def _inner(self, z: Tensor) -> Tensor:
        return z if self._plain else (z - self._offset(z)) / self.scale

    def _offset(self, z: Tensor) -> Scalar:
        """m, or mI for a function of eigenvalues and one m for each matrix."""
        shift = self.shift
        one = not isinstance(shift, Tensor) or shift.ndim == 0 or shift.shape[-2:] == (1, 1)
        if _is(shift, 0.0) or not one or not getattr(self.phi.domain, "symmetric", False):
            return shift
        return shift * torch.eye(z.shape[-1], dtype=z.dtype, device=z.device)

    def _inner_dual(self, u: Tensor) -> Tensor:
        return u / self.weight if _is(self.scale, 1.0) else self.scale / self.weight * u

    def _event(self, weight: Scalar) -> Scalar:
        """A weight of entries, as one of events: its event dimensions are of size 1."""
        if not isinstance(weight, Tensor) or weight.ndim < self.event_ndim or not self.event_ndim:
            return weight
        return weight.flatten(-self.event_ndim).squeeze(-1)


def _is(x: Scalar, value: float) -> bool:
    return not isinstance(x, Tensor) and x == value


def _infinite(x: Scalar) -> bool:
    return not isinstance(x, Tensor) and abs(x) == math.inf


def _name(x: Scalar) -> str:
    if isinstance(x, Tensor):
        return f"{x.item():.4g}" if x.numel() == 1 and readable(x) else "tensor"
    return f"{x:g}"
