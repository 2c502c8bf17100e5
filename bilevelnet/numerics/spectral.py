"""Functions of symmetric matrices, f(X) = U f(Λ) Uᵀ, with derivatives that know no singularity at equal eigenvalues."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from .derivative import derivative
from .half import in_float32

Function = Callable[[Tensor], Tensor]

# Gauss-Legendre on [0, 1], five nodes: exact for polynomials of degree 9.
_NODES = (0.046910077030668, 0.23076534494715845, 0.5, 0.7692346550528415, 0.953089922969332)
_WEIGHTS = (0.11846344252809454, 0.23931433524968324, 0.28444444444444444, 0.23931433524968324, 0.11846344252809454)


class Spectrum(NamedTuple):
    """X = U (Λ + E) Uᵀ: eigenvalues and vectors without a graph; E is 0 and carries the graph of X."""

    values: Tensor
    vectors: Tensor
    move: Tensor
    good: Tensor  # matrices without NaN or infinity

    def restore(self, y: Tensor) -> Tensor:
        """U y Uᵀ, NaN where X was not finite."""
        z = self.vectors @ y @ self.vectors.mT
        return torch.where(self.good[..., None, None], (z + z.mT) / 2, torch.nan)


def spectrum(x: Tensor) -> Spectrum:
    """The eigendecomposition of the symmetric part of x."""
    x = (x + x.mT) / 2
    fixed = x.detach()
    good = fixed.isfinite().all(-1).all(-1)
    eye = torch.eye(x.shape[-1], dtype=x.dtype, device=x.device)
    values, vectors = torch.linalg.eigh(torch.where(good[..., None, None], fixed, eye))
    return Spectrum(values, vectors, vectors.mT @ (x - fixed) @ vectors, good)


@in_float32
def matrix_function(f: Function, x: Tensor) -> Tensor:
    """f(X) for a differentiable scalar f, exact to second order in X and in the tensors of f.

    f(Λ + E)_ij = f(λ_i) δ_ij + f[λ_i, λ_j] E_ij + Σ_k f[λ_i, λ_k, λ_j] E_ik E_kj + O(E³), with divided differences
    (Daleckii & Krein 1956; Higham, Functions of Matrices, 3.2). The second ones enter through
    f[λ_i, λ_k, λ_j] = (f[λ_i, λ_k] − f[λ_k, λ_j])/(λ_i − λ_j), the mean of its two limits where λ_i is close to λ_j.
    """
    s = spectrum(x)
    # A value that overflows is held back, so that it does not meet 0 or another one, and comes out as ∞ in the end.
    e, most = s.move, torch.finfo(x.dtype).max / (16 * x.shape[-1] ** 2)
    values = f(s.values)
    large = (values.abs() > most).any(-1)[..., None, None]
    first, slope = (t.nan_to_num(0.0).clamp(-most, most) for t in divided_differences(f, s.values))
    bound = first * e
    gap = _gaps(s.values)
    near, divisor = _near(first.detach(), slope, gap)
    along = slope * e
    second = torch.where(near, (along @ e + e @ along.mT) / 2, (bound @ e - e @ bound) / divisor)
    z = s.restore(torch.diag_embed(values.clamp(-most, most)) + bound + second)
    beyond = large & (z.abs() > most * torch.finfo(x.dtype).eps)
    return torch.where(beyond, torch.where(z > 0, torch.inf, z.new_full((), -torch.inf)), z)


@in_float32
def trace_function(f: Function, slope: Function, x: Tensor) -> Tensor:
    """tr f(X) = Σ f(λ_i) with f' = slope, exact to second order: ⟨f'(Λ), E⟩ + ½ Σ f'[λ_i, λ_j] E_ij² follow."""
    s = spectrum(x)
    first, _ = divided_differences(slope, s.values)
    linear = (slope(s.values) * s.move.diagonal(dim1=-2, dim2=-1)).sum(-1)
    total = f(s.values).sum(-1) + linear + (first * s.move**2).sum((-2, -1)) / 2
    return torch.where(s.good, total, torch.nan)


@in_float32
def derivative_along(f: Function, x: Tensor, direction: Tensor) -> Tensor:
    """d f(X + tH)/dt at t = 0: U (f[λ_i, λ_j] ∘ UᵀHU) Uᵀ."""
    s = spectrum(x)
    first, _ = divided_differences(f, s.values)
    return s.restore(first * (s.vectors.mT @ direction @ s.vectors))


def divided_differences(f: Function, values: Tensor) -> tuple[Tensor, Tensor]:
    """F_ij = f[λ_i, λ_j], and ∂F_ij/∂λ_i without a graph.

    The mean of f' over [λ_j, λ_i] by quadrature, wherever the quotient cannot tell it from the exact value: the
    quotient is right to the rounding of f over λ_i − λ_j, so no scale of f needs to be known.
    """
    gap = _gaps(values)
    nodes, weights = (torch.tensor(t, dtype=values.dtype, device=values.device) for t in (_NODES, _WEIGHTS))
    points = values.unsqueeze(-2).unsqueeze(-1) + gap.unsqueeze(-1) * nodes
    slopes, bends = _slopes(f, points)
    mean, bend = (slopes * weights).sum(-1), (bends * (weights * nodes)).sum(-1)
    at, at_slope = f(values), derivative(f, values).detach().unsqueeze(-1)
    eps = 8 * torch.finfo(values.dtype).eps
    size = (at.abs().unsqueeze(-1) + at.abs().unsqueeze(-2)).detach()
    divisor = torch.where(gap == 0, 1.0, gap)
    quotient = (at.unsqueeze(-1) - at.unsqueeze(-2)) / divisor
    near = (gap == 0) | ((mean - quotient).abs() <= eps * (size / divisor.abs() + mean.abs())).detach()
    first = torch.where(near, mean, quotient)
    return first, torch.where(near, bend, (at_slope - first) / divisor).detach()


def _near(first: Tensor, slope: Tensor, gap: Tensor) -> tuple[Tensor, Tensor]:
    """The pairs at which the mean of ∂F at λ_i and λ_j agrees with the quotient of F to its rounding."""
    divisor = torch.where(gap == 0, 1.0, gap)
    eps = 16 * torch.finfo(gap.dtype).eps
    diagonal, bend = (t.diagonal(dim1=-2, dim2=-1).unsqueeze(-1) for t in (first, slope))
    mean, quotient = (bend + slope.mT) / 2, (diagonal - first) / divisor
    agrees = (mean - quotient).abs() <= eps * (diagonal.abs() + first.abs()) / divisor.abs()
    return (gap == 0) | (agrees & agrees.mT), divisor


def _slopes(f: Function, x: Tensor) -> tuple[Tensor, Tensor]:
    """f' and f''."""
    return derivative(f, x), derivative(lambda t: derivative(f, t), x)


def _gaps(values: Tensor) -> Tensor:
    return values.unsqueeze(-1) - values.unsqueeze(-2)
