"""A batch of quadratic programs, solved and differentiated: what ``interop.qp`` and the solver quadratic share."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..numerics.bracket import FOUND
from ..numerics.kkt import times
from ..numerics.kkt_solution import solution
from ..numerics.quadratic import FAINT, LOST, NOT_CONVEX
from ..numerics.quadratic import INFEASIBLE as EMPTY
from ..numerics.quadratic import UNBOUNDED as ENDLESS
from ..numerics.quadratic_search import Minimum, quadratic
from ..solution import CONVERGED, INFEASIBLE, INVALID, KINK, MAX_ITER, UNBOUNDED
from ..values import tracked


@dataclass
class Program:
    """min ½ zᵀQz + qᵀz, (C z − d)_i = 0 for i < p, ≤ 0 for the others, in float64.

    Q (…, n, n), q (…, n), C (…, r, n), d (…, r); a matrix that all elements share has no batch dimensions. ``good``:
    whether all of an element is finite (else it stands as 0).
    """

    matrix: Tensor
    q: Tensor
    c: Tensor
    d: Tensor
    p: int
    good: Tensor

    def solve(self, start: Tensor | None, max_iter: int) -> Solved:
        """The Solved program; ``start``: (z, w) nearby."""
        found, known = quadratic(self.matrix, self.q, self.c, self.d, self.p, start, max_iter)
        code = found.code
        reached = (code == FOUND) | (code == FAINT) | (code == LOST)
        status = torch.where(reached, CONVERGED, torch.where(code == NOT_CONVEX, INVALID, MAX_ITER))
        status = torch.where(code == EMPTY, INFEASIBLE, torch.where(code == ENDLESS, UNBOUNDED, status))
        status = torch.where(self.good, status, INVALID).to(torch.int8)
        z, w = found.z, found.w
        if tracked(self.matrix, self.q, self.c, self.d):
            held = found.active
            z, w = solution(-self.q, torch.where(held, self.d, 0.0), self.matrix, self.c, held, z, w, known)
        lost = (status > MAX_ITER).unsqueeze(-1)
        return Solved(self, found, torch.where(lost, torch.nan, z), torch.where(lost, torch.nan, w), status)


@dataclass
class Solved:
    """z (…, n) and multipliers w (…, r), with a graph, NaN where there is no solution; the status an element (…)."""

    program: Program
    found: Minimum
    z: Tensor
    w: Tensor
    status: Tensor

    def certificate(self, returned: Tensor) -> tuple[Tensor, Tensor]:
        """(residual of z, bound ≥ ‖returned − z*‖); ``returned``, in its own dtype, is the first entries of z, on which
        the others depend by rows of C:

        with e that distance, r the force left and σ = λ_min(Q) of the first, σe² ≤ re + Σ |w_i (C z − d)_i|, to first
        order in the distance of the multipliers from those of z*, and with the rounding of each term.
        """
        of, eps = self.program, torch.finfo(torch.float64).eps
        whole, c, z, w = of.matrix.detach(), of.c.detach(), self.found.z, self.found.w
        matrix = (whole + whole.mT) / 2
        n = returned.shape[-1]
        force = times(matrix, z) + of.q.detach() + times(c.mT, w)
        slack = of.d.detach() - times(c, z)
        natural = torch.cat([slack[..., : of.p], torch.minimum(w, slack)[..., of.p :]], -1)
        residual = torch.linalg.vector_norm(torch.cat([force, natural], -1), dim=-1)
        rough = eps * (times(matrix.abs(), z.abs()) + of.q.detach().abs() + times(c.abs().mT, w.abs()))
        gap = (w.abs() * (slack.abs() + eps * (of.d.detach().abs() + times(c.abs(), z.abs())))).sum(-1)
        left = force.abs() + rough
        r = torch.linalg.vector_norm(left[..., :n], dim=-1)
        if n < z.shape[-1]:
            pull = torch.linalg.matrix_norm(c[..., :n]).clamp(min=1.0)
            r = r + pull * torch.linalg.vector_norm(left[..., n:], dim=-1)
        values = torch.linalg.eigvalsh(matrix[..., :n, :n])
        sigma = values[..., 0] - n * eps * values[..., -1]
        bound = (r + (r**2 + 4 * sigma * gap).sqrt()) / (2 * sigma)
        bound = bound + torch.linalg.vector_norm(returned.detach().to(z.dtype) - z[..., :n], dim=-1)
        bound = torch.where((sigma > 0) & (self.status <= KINK), bound, torch.inf)
        return torch.where(self.status > MAX_ITER, torch.inf, residual), bound


def spread(matrix: Tensor, batch: torch.Size) -> Tensor:
    """The matrix without batch dimensions where they are all 1, else with all of them."""
    own = matrix.shape[:-2]
    single = all(size == 1 for size in own)  # numel() would fix the batch size of a trace
    return matrix.reshape(matrix.shape[-2:]) if single else matrix.expand(*batch, *matrix.shape[-2:])
