"""References: the dual term r by which D = D_φ enters v = r + A(z⁻)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..errors import InputError
from ..legendre import Legendre
from ..values import without_autocast


class Reference(nn.Module):
    """r from the previous point: ``dual(phi, z, u)`` of z⁻ and, where a chain carries it, u = ∇φ(z⁻).

    ``uses_point``: whether z⁻ must lie in int dom φ. ``widths``: (d_in, d_out), or None where z⁻ keeps its own.
    """

    uses_point = True
    widths: tuple[int, int] | None = None

    def dual(self, phi: Legendre, z: Tensor | None, u: Tensor | None) -> Tensor | None:
        raise NotImplementedError


class Identity(Reference):
    """r = ∇φ(z⁻): D_φ(z, z⁻)."""

    def dual(self, phi: Legendre, z: Tensor | None, u: Tensor | None) -> Tensor | None:
        return phi.grad(z) if u is None else u  # type: ignore[arg-type]


class Zero(Reference):
    """r = 0: D = φ up to a constant, the layer without a residual term."""

    uses_point = False

    def dual(self, phi: Legendre, z: Tensor | None, u: Tensor | None) -> Tensor | None:
        return None


class RowStochastic(Reference):
    """r = ∇φ(R z⁻), R ≥ 0 with rows that sum to 1: R z⁻ stays in a convex dom φ. R = softmax of ``logits`` by rows."""

    def __init__(self, d_in: int, d_out: int):
        super().__init__()
        self.widths = (d_in, d_out)
        self.logits = nn.Parameter(torch.randn(d_out, d_in))

    @property
    def weight(self) -> Tensor:
        """R, of shape (d_out, d_in)."""
        return self.logits.softmax(-1)

    def dual(self, phi: Legendre, z: Tensor | None, u: Tensor | None) -> Tensor | None:
        z = phi.grad_conjugate(u) if z is None else z  # type: ignore[arg-type]
        with without_autocast(z):  # in half precision the mean would reach the boundary
            mean = functional.linear(z, self.weight.to(z.dtype))
        return phi.grad(mean)


class Dual(Reference):
    """r = L ∇φ(z⁻) for any linear map L between the widths: no point of dom φ is formed, so any weights will do."""

    def __init__(self, linear: nn.Module):
        super().__init__()
        if not isinstance(linear, nn.Module):
            raise InputError("Dual takes a module, e.g. torch.nn.Linear(d_in, d_out, bias=False)")
        self.linear = linear
        if isinstance(linear, nn.Linear):
            self.widths = (linear.in_features, linear.out_features)

    def dual(self, phi: Legendre, z: Tensor | None, u: Tensor | None) -> Tensor | None:
        u = phi.grad(z) if u is None else u  # type: ignore[arg-type]
        weight = next(self.linear.parameters(), u)
        with without_autocast(u):  # r is the state that the residual carries: float32
            return self.linear(u.to(weight.dtype)).to(u.dtype)
