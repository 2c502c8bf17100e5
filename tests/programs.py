"""Random quadratic programs, and how far an answer is from their optimality conditions."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def draw(batch: int, n: int, p: int, m: int, rank: int | None = None, seed: int = 0) -> list[Tensor]:
    """(Q, q, A, b, G, h) with a feasible point in the interior of the inequalities; Q of the rank."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(batch, *shape, generator=generator, dtype=torch.float64)

    root, A, G, inside = normal(n, n if rank is None else rank), normal(p, n), normal(m, n), normal(n)
    Q = root @ root.mT + (0.1 * torch.eye(n, dtype=torch.float64) if rank is None else 0.0)
    room = torch.rand(batch, m, generator=generator, dtype=torch.float64)
    return [Q, normal(n), A, _times(A, inside), G, _times(G, inside) + room]


def kkt_error(program: Sequence[Tensor], z: Tensor, dual: Sequence[Tensor]) -> float:
    """The largest of ‖Qz + q + Aᵀy + Gᵀλ‖, ‖Az − b‖, ‖min(λ, h − Gz)‖, each relative to its terms."""
    Q, q, A, b, G, h = program
    y, lam = dual
    force = _times(Q, z), q, _times(A.mT, y), _times(G.mT, lam)
    slack = h - _times(G, z)
    errors = [
        sum(force).abs().amax() / max(f.abs().amax() for f in force),  # type: ignore[union-attr]
        *((_times(A, z) - b).abs() / (1 + b.abs())).flatten(),
        *(torch.minimum(lam, slack).abs() / (1 + h.abs())).flatten(),
    ]
    return float(torch.stack(errors).amax())


def _times(matrix: Tensor, x: Tensor) -> Tensor:
    return (matrix @ x.unsqueeze(-1)).squeeze(-1)
