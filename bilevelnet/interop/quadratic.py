"""Quadratic programs: argmin_z ½ zᵀQz + qᵀz under A z = b and G z ≤ h, in any leading batch shape."""

from __future__ import annotations

from typing import NamedTuple, TypedDict, Unpack

import torch
from torch import Tensor, nn

from ..errors import InputError
from ..numerics.quadratic import NOT_CONVEX
from ..solution import INFEASIBLE, KINK, UNBOUNDED, Solution, Status, check_policy, settle
from ..values import check_count, readable
from .quadratic_data import Data, given

Part = Tensor | None

WORDS = {
    Status.max_iter: "not solved to the last digits; raise max_iter, scale the program, or give Q + μI if Q is nearly "
    "singular",
    Status.infeasible: "infeasible: no z has A z = b and G z ≤ h; solve_qp gives the combination of rows that shows it",
    Status.unbounded: "unbounded: the objective falls for ever; add rows to G, or a positive definite term to Q",
    Status.invalid: "invalid: an argument is NaN or infinite, or Q is not positive semidefinite",
}


class Multipliers(NamedTuple):
    """Of A z = b (any sign) and of G z ≤ h (≥ 0): Q z + q + Aᵀ equality + Gᵀ inequality = 0."""

    equality: Tensor
    inequality: Tensor


class Options(TypedDict, total=False):
    """What ``qp`` and ``solve_qp`` take by name."""

    init: Solution | Tensor | None
    on_failure: str
    max_iter: int


def qp(
    Q: Tensor, q: Tensor, A: Part = None, b: Part = None, G: Part = None, h: Part = None, **options: Unpack[Options]
) -> tuple[Tensor, Multipliers]:
    """(z, multipliers), z = argmin ½ zᵀQz + qᵀz under A z = b, G z ≤ h; derivatives of every order in all arguments.

    Q (…, n, n) positive semidefinite (its symmetric part counts), q (…, n), A (…, p, n), b (…, p), G (…, m, n),
    h (…, m): leading dimensions broadcast, and the gradient of what is shared is summed over the batch. Either pair may
    be left out. Solved in float64 whatever the dtype, to the last digits: pivoting or an interior point finds the rows
    that hold with equality, whose linear system gives z, the multipliers and every derivative. Rows whose slack is zero
    count among them, also with a multiplier of zero. Where they depend on one another, the multipliers are some of the
    many, with derivatives of least size. ``init``: a nearby Solution, or its z.

    Raises InputError for wrong shapes, NaN and a Q that is not positive semidefinite, SolveError as ``on_failure``
    ("raise", "warn", "nan", "ignore") says where an element has no solution; it is NaN there.
    """
    solved = Solved(given(Q, q, A, b, G, h), **options)
    return solved.z, solved.multipliers()


def solve_qp(
    Q: Tensor, q: Tensor, A: Part = None, b: Part = None, G: Part = None, h: Part = None, **options: Unpack[Options]
) -> Solution:
    """``qp`` with everything known about the answer.

    residual: ‖(Qz + q + Aᵀy + Gᵀλ, Az − b, min(λ, h − Gz))‖ in float64. error_bound ≥ ‖z − z*‖ from it, with the
    rounding to the dtype of z, where Q is positive definite, else ∞. multipliers: "equality" y and "inequality" λ;
    where an element is infeasible, the combination with Aᵀy + Gᵀλ = 0, λ ≥ 0, bᵀy + hᵀλ = −1; "direction": where it is
    unbounded, d with Qd = 0, Ad = 0, Gd ≤ 0, qᵀd = −1.
    """
    return Solved(given(Q, q, A, b, G, h), **options).solution()


class QPLayer(nn.Module):
    """layer(Q, p, G, h, A, b) ↦ z, the call of qpth's QPFunction: an empty tensor for what there is none of."""

    def __init__(self, on_failure: str = "raise", max_iter: int = 100):
        super().__init__()
        self.on_failure, self.max_iter = check_policy(on_failure), check_count(max_iter, "max_iter")

    def forward(
        self, Q: Tensor, p: Tensor, G: Tensor | None, h: Tensor | None, A: Tensor | None = None, b: Tensor | None = None
    ) -> Tensor:
        return qp(Q, p, A, b, G, h, on_failure=self.on_failure, max_iter=self.max_iter)[0]


class Solved:
    """One call: the program, what the search found, and z after the policy."""

    def __init__(
        self, data: Data, init: Solution | Tensor | None = None, on_failure: str = "raise", max_iter: int = 100
    ):
        check_policy(on_failure)
        check_count(max_iter, "max_iter")
        self.data, self.solved = data, data.solve(data.start(init), max_iter)
        self.status, code, w = self.solved.status, self.solved.found.code, self.solved.w
        if readable(code) and bool((code == NOT_CONVEX).any()):
            index = tuple((code == NOT_CONVEX).nonzero()[0].tolist())
            raise InputError(f"Q is not positive semidefinite in element {index}; give Q + μI, or L Lᵀ")
        if on_failure == "nan" or (on_failure != "ignore" and not readable(self.solved.z, code)):
            w = torch.where((self.status > KINK).unsqueeze(-1), torch.nan, w)
        events = self.status.unsqueeze(-1)
        self.z = settle(self.solved.z, events, (-1,), on_failure, "quadratic program", WORDS).to(data.dtype)
        self.w = w

    def multipliers(self) -> Multipliers:
        return Multipliers(*self._parts(self.w))

    def solution(self) -> Solution:
        """The whole Solution; residual and bound in float64 arithmetic."""
        (residual, bound), found = self.solved.certificate(self.z), self.solved.found
        equality, inequality = self._parts(torch.where(self._is(INFEASIBLE), found.w, self.w))
        direction = torch.where(self._is(UNBOUNDED), found.z, 0.0).to(self.data.dtype)
        multipliers = {"equality": equality, "inequality": inequality, "direction": direction}
        iterations = int(found.iterations) if readable(found.iterations) else found.iterations
        return Solution(self.z, None, self.status, residual, bound, iterations, "quadratic", multipliers)

    def _parts(self, w: Tensor) -> tuple[Tensor, Tensor]:
        p, w = self.data.p, w.to(self.data.dtype)
        return w[..., :p], w[..., p:]

    def _is(self, status: int) -> Tensor:
        return (self.status == status).unsqueeze(-1)
