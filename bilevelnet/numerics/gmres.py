"""GMRES for many systems side by side."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

CYCLE = 20


def gmres(times: Callable[[Tensor], Tensor], b: Tensor, tol: Tensor | float, max_iter: int) -> tuple[Tensor, Tensor]:
    """(y with M y ≈ b, ‖b − M y‖/‖b‖ of shape (…, 1)), b of shape (…, n); M is given by its products.

    Cycles of at most 20 products (Saad & Schultz, 1986), until every residual is below ``tol`` ‖b‖, or a cycle no
    longer halves one, or ``max_iter`` products are spent.
    """
    y, r = torch.zeros_like(b), b
    scale = _norm(b)
    scale = torch.where(scale > 0, scale, 1)
    size, spent, length = _norm(r) / scale, 0, min(CYCLE, b.shape[-1])
    active = size > tol
    while spent < max_iter and bool(active.any()):
        move = _cycle(times, r, length)
        trial = torch.where(active & move.isfinite().all(-1, keepdim=True), y + move, y)
        r = b - times(trial)
        new = _norm(r) / scale
        y, better = torch.where(new < size, trial, y), new < size / 2
        size, spent = torch.minimum(new, size), spent + length + 1
        active = active & better & (size > tol)
    return y, size


def _cycle(times: Callable[[Tensor], Tensor], r: Tensor, length: int) -> Tensor:
    """The y of the Krylov space of r of this dimension with the least ‖r − M y‖."""
    beta = _norm(r)
    basis = [_unit(r, beta)]
    columns = []
    for k in range(length):
        w = times(basis[k])
        span = torch.stack(basis, -1)
        h = torch.zeros_like(span[..., 0, :])
        for _ in range(2):  # twice is enough (Kahan)
            c = (span.mT @ w.unsqueeze(-1)).squeeze(-1)
            w, h = w - (span @ c.unsqueeze(-1)).squeeze(-1), h + c
        norm = _norm(w)
        whole = _norm(h).clamp(min=torch.finfo(r.dtype).tiny)
        norm = torch.where(norm > torch.finfo(r.dtype).eps * whole, norm, 0)  # the space holds the solution
        basis.append(_unit(w, norm))
        columns.append(torch.nn.functional.pad(torch.cat([h, norm], -1), (0, length - 1 - k)))
    q, upper = torch.linalg.qr(torch.stack(columns, -1))
    diagonal = upper.diagonal(dim1=-2, dim2=-1)
    empty = diagonal.abs() <= torch.finfo(r.dtype).eps * upper.abs().amax((-2, -1)).unsqueeze(-1)
    upper = upper + torch.diag_embed(torch.where(empty, 1 - diagonal, 0))
    right = torch.where(empty, 0, beta * q[..., 0, :])
    c = torch.linalg.solve_triangular(upper, right.unsqueeze(-1), upper=True)
    return (torch.stack(basis[:-1], -1) @ c).squeeze(-1)


def _unit(x: Tensor, norm: Tensor) -> Tensor:
    return torch.where(norm > 0, x / norm, 0)


def _norm(x: Tensor) -> Tensor:
    return torch.linalg.vector_norm(x, dim=-1, keepdim=True)
