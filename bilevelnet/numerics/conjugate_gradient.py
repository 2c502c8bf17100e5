"""Conjugate gradients for many symmetric positive definite systems side by side."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


def conjugate_gradient(
    times: Callable[[Tensor], Tensor], b: Tensor, tol: Tensor | float, max_iter: int
) -> tuple[Tensor, Tensor, Tensor]:
    """(y with M y = b, whether M was seen to be indefinite, whether y is still on its way), b of shape (…, n).

    M is given by its products. Each system stops by itself where the residual is below ``tol`` |b|, or along a
    direction of negative curvature with what it has (Nocedal & Wright, Numerical Optimization, 7.1): there y is b
    where it has nothing.
    """
    tiny = torch.finfo(b.dtype).tiny
    y, r = torch.zeros_like(b), b
    p, square = r, _square(r)
    goal = tol**2 * square
    active, bad = square > goal, torch.zeros_like(square, dtype=torch.bool)
    for k in range(max_iter):
        if not bool(active.any()):
            break
        q = times(p)
        bend = (p * q).sum(-1, keepdim=True)
        turned = active & ~(bend > 0)
        y = torch.where(turned, b, y) if k == 0 else y
        bad, active = bad | turned, active ^ turned
        a = torch.where(active, square / bend, 0.0)
        y, r = torch.addcmul(y, a, p), torch.addcmul(r, a, q, value=-1)
        new = _square(r)
        p = torch.addcmul(r, new / square.clamp(min=tiny), p)  # of those that rest, not used
        square, active = new, active & (new > goal)
    return y, bad, active


def _square(r: Tensor) -> Tensor:
    return torch.linalg.vector_norm(r, dim=-1, keepdim=True).square()
