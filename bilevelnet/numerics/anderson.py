"""Anderson's acceleration of fixed-point iterations, many side by side."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

MEMORY = 5


def anderson(step: Callable[[Tensor], Tensor], start: Tensor, max_iter: int, tol: float) -> tuple[Tensor, int]:
    """(the z of shape (…, n) with the least ‖T(z) − z‖ that was met, the number of evaluations of T).

    z⁺ = T(z) − Σ γ_i (T(z_{i+1}) − T(z_i)), γ the least-squares combination of the last differences of T(z) − z that
    cancels it (Anderson, 1965; Walker & Ni, 2011). Ends where every ‖T(z) − z‖ ≤ ``tol`` ‖z‖.
    """
    z, image = start, step(start)
    best, size = start, _norm(image - start)
    old: list[tuple[Tensor, Tensor]] = []
    for k in range(1, max_iter):
        gap = image - z
        if bool((size <= tol * _norm(best)).all()):
            return best, k
        following = image
        if old:
            gaps = torch.stack([gap - (t - s) for s, t in old], -1)
            images = torch.stack([image - t for _, t in old], -1)
            gamma = _least_squares(gaps, gap)
            mixed = image - (images @ gamma).squeeze(-1)
            following = torch.where(mixed.isfinite().all(-1, keepdim=True), mixed, image)
        old = [*old[-MEMORY + 1 :], (z, image)]
        z, image = following, step(following)
        new = _norm(image - z)
        best, size = torch.where(new < size, z, best), torch.fmin(new, size)
    return best, max_iter


def _least_squares(a: Tensor, b: Tensor) -> Tensor:
    """argmin ‖a x − b‖, by the normal equations with a shift at their rounding."""
    scale = _norm(a.mT).squeeze(-1).unsqueeze(-2)
    scale = torch.where(scale > 0, scale, 1)
    a = a / scale
    gram = a.mT @ a + 1e2 * torch.finfo(a.dtype).eps * torch.eye(a.shape[-1], dtype=a.dtype, device=a.device)
    return torch.linalg.solve_ex(gram, a.mT @ b.unsqueeze(-1))[0] / scale.mT


def _norm(x: Tensor) -> Tensor:
    return torch.linalg.vector_norm(x, dim=-1, keepdim=True)
