"""Quadratic programs: argmin_z ½ zᵀQz + qᵀz under A z = b and G z ≤ h, in any leading batch shape."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from ..errors import InputError
from ..numerics.bracket import FOUND
from ..numerics.kkt import times
from ..numerics.kkt_solution import solution
from ..numerics.quadratic import INFEASIBLE as EMPTY
from ..numerics.quadratic import NOT_CONVEX
from ..numerics.quadratic import UNBOUNDED as ENDLESS
from ..numerics.quadratic_search import quadratic
from ..solution import (
    CONVERGED,
    INFEASIBLE,
    INVALID,
    KINK,
    MAX_ITER,
    UNBOUNDED,
    Solution,
    Status,
    check_policy,
    settle,
)
from ..values import readable, tracked
from .quadratic_data import Data, given

WORDS = {
    Status.max_iter: "stopped at the iteration limit; raise max_iter, or scale the program",
    Status.infeasible: "infeasible: no z has A z = b and G z ≤ h; solve_qp gives the combination of rows that shows it",
    Status.unbounded: "unbounded: the objective falls for ever; add rows to G, or a positive definite term to Q",
    Status.invalid: "invalid: an argument is NaN or infinite, or Q is not positive semidefinite",
}


class Multipliers(NamedTuple):
    """Of A z = b (any sign) and of G z ≤ h (≥ 0): Q z + q + Aᵀ equality + Gᵀ inequality = 0."""

    equality: Tensor
    inequality: Tensor


def qp(
    Q: Tensor,
    q: Tensor,
    A: Tensor | None = None,
    b: Tensor | None = None,
    G: Tensor | None = None,
    h: Tensor | None = None,
    *,
    init: Solution | Tensor | None = None,
    on_failure: str = "raise",
    max_iter: int = 100,
) -> tuple[Tensor, Multipliers]:
    """(z, multipliers), z = argmin ½ zᵀQz + qᵀz under A z = b, G z ≤ h; derivatives of every order in all arguments.

    Q (…, n, n) positive semidefinite (its symmetric part counts), q (…, n), A (…, p, n), b (…, p), G (…, m, n),
    h (…, m): leading dimensions broadcast, and the gradient of what is shared is summed over the batch. Either pair may
    be left out. Solved in float64 whatever the dtype, to the last digits: an interior point finds the rows that hold
    with equality, whose linear system gives z, the multipliers and every derivative. Rows whose slack is zero count
    among them, also with a multiplier of zero. Where they depend on one another, the multipliers near the central path
    are returned, with derivatives of least size. ``init``: a nearby Solution, or its z.

    Raises InputError for wrong shapes, NaN and a Q that is not positive semidefinite, SolveError as ``on_failure``
    ("raise", "warn", "nan", "ignore") says where an element has no solution; it is NaN there.
    """
    solved = _Solved(given(Q, q, A, b, G, h), init, on_failure, max_iter)
    return solved.z, solved.multipliers()


def solve_qp(
    Q: Tensor,
    q: Tensor,
    A: Tensor | None = None,
    b: Tensor | None = None,
    G: Tensor | None = None,
    h: Tensor | None = None,
    *,
    init: Solution | Tensor | None = None,
    on_failure: str = "raise",
    max_iter: int = 100,
) -> Solution:
    """``qp`` with everything known about the answer.

    residual: ‖(Qz + q + Aᵀy + Gᵀλ, Az − b, min(λ, h − Gz))‖. error_bound ≥ ‖z − z*‖ from it, where Q is positive
    definite, else ∞. multipliers: "equality" y and "inequality" λ, where an element is infeasible the combination with
    Aᵀy + Gᵀλ = 0, λ ≥ 0, bᵀy + hᵀλ = −1; "direction": where it is unbounded, d with Qd = 0, Ad = 0, Gd ≤ 0, qᵀd = −1.
    """
    return _Solved(given(Q, q, A, b, G, h), init, on_failure, max_iter).solution()


class QPLayer(nn.Module):
    """layer(Q, p, G, h, A, b) ↦ z, the call of qpth's QPFunction: an empty tensor for what there is none of."""

    def __init__(self, on_failure: str = "raise", max_iter: int = 100):
        super().__init__()
        self.on_failure, self.max_iter = check_policy(on_failure), max_iter

    def forward(
        self, Q: Tensor, p: Tensor, G: Tensor | None, h: Tensor | None, A: Tensor | None = None, b: Tensor | None = None
    ) -> Tensor:
        return qp(Q, p, A, b, G, h, on_failure=self.on_failure, max_iter=self.max_iter)[0]


class _Solved:
    """One call: the program, what the search found, and z after the policy."""

    def __init__(self, data: Data, init: Solution | Tensor | None, on_failure: str, max_iter: int):
        check_policy(on_failure)
        if max_iter < 1:
            raise InputError(f"max_iter >= 1 is needed, not {max_iter}")
        self.data = data
        matrix, q, c, d = data.matrix, data.q, data.c, data.d
        self.found, known = quadratic(matrix, q, c, d, data.p, data.start(init), max_iter)
        code = self.found.code
        status = torch.where(code == FOUND, CONVERGED, torch.where(code == NOT_CONVEX, INVALID, MAX_ITER))
        status = torch.where(code == EMPTY, INFEASIBLE, torch.where(code == ENDLESS, UNBOUNDED, status))
        self.status = torch.where(data.good, status, INVALID).to(torch.int8)
        if readable(code) and bool((code == NOT_CONVEX).any()):
            index = tuple((code == NOT_CONVEX).nonzero()[0].tolist())
            raise InputError(f"Q is not positive semidefinite in element {index}; give Q + μI, or L Lᵀ")
        z, w = self.found.z, self.found.w
        lost = (self.status > MAX_ITER).unsqueeze(-1)
        if tracked(matrix, q, c, d):
            held = self.found.active
            z, w = solution(-q, torch.where(held, d, 0.0), matrix, c, held, z, w, known)
        z, w = torch.where(lost, torch.nan, z), torch.where(lost, torch.nan, w)
        if on_failure == "nan" or (on_failure != "ignore" and not readable(z, code)):
            w = torch.where((self.status > KINK).unsqueeze(-1), torch.nan, w)
        self.z = settle(z, self.status.unsqueeze(-1), (-1,), on_failure, "quadratic program", WORDS).to(data.dtype)
        self.w = w

    def multipliers(self) -> Multipliers:
        p, w = self.data.p, self.w.to(self.data.dtype)
        return Multipliers(w[..., :p], w[..., p:])

    def solution(self) -> Solution:
        """The whole Solution; residual and bound in float64 arithmetic."""
        residual, bound = self._certificate()
        w, p, dtype = torch.where(self._is(INFEASIBLE), self.found.w, self.w), self.data.p, self.data.dtype
        multipliers = {
            "equality": w[..., :p].to(dtype),
            "inequality": w[..., p:].to(dtype),
            "direction": torch.where(self._is(UNBOUNDED), self.found.z, 0.0).to(dtype),
        }
        iterations = int(self.found.iterations) if readable(self.found.iterations) else self.found.iterations
        return Solution(self.z, None, self.status, residual, bound, iterations, "quadratic", multipliers)

    def _is(self, status: int) -> Tensor:
        return (self.status == status).unsqueeze(-1)

    @torch.no_grad()
    def _certificate(self) -> tuple[Tensor, Tensor]:
        """(residual, bound): with e = ‖z − z*‖, r the force left and σ = λ_min(Q), σe² ≤ re + Σ |w_i (C z − d)_i|, to
        first order in the distance of the multipliers from those of z*, and with the rounding of each term.
        """
        data, eps = self.data, torch.finfo(torch.float64).eps
        matrix, c, z, w = (data.matrix + data.matrix.mT).detach() / 2, data.c.detach(), self.found.z, self.found.w
        force = times(matrix, z) + data.q.detach() + times(c.mT, w)
        slack = data.d.detach() - times(c, z)
        natural = torch.cat([slack[..., : data.p], torch.minimum(w, slack)[..., data.p :]], -1)
        residual = torch.linalg.vector_norm(torch.cat([force, natural], -1), dim=-1)
        rough = eps * (times(matrix.abs(), z.abs()) + data.q.detach().abs() + times(c.abs().mT, w.abs()))
        gap = (w.abs() * (slack.abs() + eps * (data.d.detach().abs() + times(c.abs(), z.abs())))).sum(-1)
        r = torch.linalg.vector_norm(force.abs() + rough, dim=-1)
        values = torch.linalg.eigvalsh(matrix)
        sigma = values[..., 0] - values.shape[-1] * eps * values[..., -1]
        bound = (r + (r**2 + 4 * sigma * gap).sqrt()) / (2 * sigma)
        bound = torch.where((sigma > 0) & (self.status <= KINK), bound, torch.inf)
        return torch.where(self.status > MAX_ITER, torch.inf, residual), bound
