"""½ z'Qz + λ Σ_G ‖z_G‖ − ⟨z, v⟩ with groups of five neighbours, solved by its textbook method."""

from __future__ import annotations

import torch
from torch import Tensor

LAM = 0.5


def tikhonov(n: int) -> Tensor:
    """AA'/100 + I/10 with A standard normal: Q."""
    a = torch.randn(n, n, dtype=torch.float64, generator=torch.Generator().manual_seed(1)) / 10
    return a @ a.mT + 0.1 * torch.eye(n, dtype=torch.float64)


def fives(n: int) -> tuple[tuple[int, ...], ...]:
    """The groups."""
    return tuple(tuple(range(i, min(i + 5, n))) for i in range(0, n, 5))


def exact(v: Tensor, cotangent: Tensor, steps: int = 4000) -> tuple[Tensor, Tensor]:
    """(z, gradient of ⟨c, z⟩ in v) by z ← prox_{g/L}(z − (Qz − v)/L), L = λ_max(Q), and on the groups that are not 0 by
    (Q + λ(I/‖z_G‖ − z_G z_G'/‖z_G‖³))⁻¹ c. The distance to z falls by 1 − λ_min/L a step, L/λ_min ≈ 40 here.
    """
    q, group = tikhonov(v.shape[-1]), torch.arange(v.shape[-1]) // 5
    largest = torch.linalg.eigvalsh(q)[-1]
    z = torch.zeros_like(v)
    for _ in range(steps):
        w = z - (z @ q - v) / largest
        z = w * (1 - LAM / largest / _norms(w, group)).clamp(min=0)
    size = _norms(z, group)
    alive = size > 0
    unit = torch.where(alive, z / size, 0.0)
    same = group == group.unsqueeze(-1)
    curvature = torch.diag_embed(LAM / size) - same * unit.unsqueeze(-1) * unit.unsqueeze(-2) * (LAM / size).unsqueeze(
        -1
    )
    both = alive.unsqueeze(-1) & alive.unsqueeze(-2)
    hessian = torch.where(both, q + curvature, torch.eye(len(q), dtype=q.dtype))
    return z, torch.where(alive, torch.linalg.solve(hessian, torch.where(alive, cotangent, 0.0)), 0.0)


def _norms(z: Tensor, group: Tensor) -> Tensor:
    """‖z_G‖ at every entry of G."""
    squares = z.new_zeros(len(z), int(group[-1]) + 1).index_add(1, group, z * z)
    return squares.sqrt()[:, group]
