"""The positive part of a symmetric matrix, with derivatives that do not divide by differences of equal eigenvalues."""

from __future__ import annotations

import torch
from torch import Tensor

from .attach import attach
from .half import in_float32


@in_float32
def positive_part(a: Tensor) -> Tensor:
    """A₊ = Σ max(λ_i, 0) u_i u_iᵀ for symmetric A (…, n, n): the projection onto the positive semidefinite cone.

    Differentiable to second order wherever no eigenvalue is 0, coinciding ones included: with P the projector onto
    the positive eigenspace, A₊ = P A, and P depends on A through the gaps between positive and nonpositive
    eigenvalues alone. In the eigenbasis at A the positive eigenspace of a neighbour is the range of E + X, where X
    solves the Riccati equation B₂₁ + B₂₂ X − X B₁₁ − X B₁₂ X = 0 (Stewart, 1973), to which Newton steps attach.
    An eigenvalue within rounding of 0 counts as 0. NaN where A is not finite.
    """
    finite = a.detach().isfinite().all(-1, keepdim=True).all(-2, keepdim=True)
    a = torch.where(finite, a, 0.0)
    n = a.shape[-1]
    values, basis = torch.linalg.eigh(a.detach())
    inside = values > n * torch.finfo(a.dtype).eps * values.abs().amax(-1, keepdim=True)
    part = torch.where(inside, values, 0.0)
    found = (basis * part.unsqueeze(-2)) @ basis.mT
    found = torch.where(inside.all(-1)[..., None, None], a.detach(), found)  # the matrix itself, to the last bit
    b = basis.mT @ a @ basis
    cross = ~inside.unsqueeze(-1) & inside.unsqueeze(-2)  # rows of the complement, columns of the eigenspace
    gap = torch.where(cross, values.unsqueeze(-1) - values.unsqueeze(-2), -1.0)
    x = attach(lambda x: torch.where(cross, b + b @ x - x @ b - x @ b @ x, 0.0), torch.zeros_like(gap), gap)
    e = torch.diag_embed(inside.to(a.dtype))
    span = e + x
    moved = span @ (e - x.mT @ x) @ span.mT @ b  # P B: (I + XᵀX)⁻¹ = I − XᵀX to second order
    moved = basis @ (moved - moved.detach()) @ basis.mT
    return torch.where(finite, found + (moved + moved.mT) / 2, torch.nan)
