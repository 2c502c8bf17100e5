"""Which rows of thin quadratic programs hold, by changing those whose signs are wrong.

With z = −Q⁻¹(q + Cᵀw), M = C Q⁻¹ Cᵀ and e = d + C Q⁻¹ q, a program of fewer rows than unknowns asks for w ≥ 0 and
M w + e ≥ 0, of which one is 0 in each row. The rows that hold give w by a system of their number; all whose w, or whose
M w + e, comes out negative change sides at once: Júdice & Pires, A block principal pivoting algorithm for large-scale
strictly monotone linear complementarity problems (1994). Nearly always that ends after four to eight changes; where it
runs in a circle, an interior point takes over.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from .kkt import HARD, System, Thin, largest, times

ROUNDING = 1e3  # times eps: by how much a multiplier or a slack that is 0 may be off


class Pivoted(NamedTuple):
    """z (B, n), w (B, r), the rows that hold (B, r), whether all signs are right (B,), their factor, the rounds."""

    z: Tensor
    w: Tensor
    active: Tensor
    settled: Tensor
    factor: Thin
    rounds: int


def pivoted(system: System, q: Tensor, d: Tensor, p: int, max_iter: int) -> Pivoted:
    """From the rows that the minimiser without rows exceeds, at most ``max_iter`` rounds; the first p always hold."""
    free = system.solve_q(q)
    room = d + times(system.c, free)
    rounding = (ROUNDING * torch.finfo(d.dtype).eps * largest(room)).unsqueeze(-1)
    equation = torch.arange(d.shape[-1], device=d.device) < p
    active = (room < 0) | equation
    for rounds in range(1, max_iter + 1):
        factor = Thin(system, active.to(d.dtype) * HARD)
        w = factor.multipliers(-room)
        wrong = torch.where(active, w, times(system.gram, w) + room) < -rounding
        wrong = wrong & ~equation
        settled = ~wrong.any(-1)
        if rounds == max_iter or bool(settled.all()):
            break
        active = active ^ wrong
    return Pivoted(-free - times(system.back, w), w, active, settled, factor, rounds)
