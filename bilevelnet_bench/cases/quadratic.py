"""Random quadratic programs min ½ zᵀQz + qᵀz, G z ≤ h, and their exact answer from the equations of the active rows.

(10, 5) takes a third of qpth's time (asked half): `bilevelnet-bench solvers --only "10, 5 rows" --threads 2`, quiet,
5.6 and 4.9 ms a batch of 128 beside 15.7 and 14.5 (8.4 beside 14.6 when something else ran). CPU time on one thread, of
5.2 ms: four rounds of pivoting, which tell the rows that
hold, 0.7, the equations of these rows with their refinement 1.2, scaling 0.6, factoring Q 0.25, arguments and status
0.5, backward 1.8, three quarters of it the same equations for the adjoint: 1,100 small operations. Eight steps of the
interior point, which goes on where pivoting does not end or rows are as many as unknowns, would take 3.3.

L1 behind a map with n = 50 is a program of 100 variables and 100 rows; seven factors of 128 such matrices, with the
products that make them and their solutions, are three quarters of its time. CPU time on one thread, load 1.8, forward
and backward, K of entries N(0, 1/n), λ = 0.3: 319 ms, by splitting, which has 50 multipliers, 35; with n = 10 15.2 and
14.4. auto takes the program all the same: its order is that from exact to general, and has no measure of time.

Not reached: a direction without rows in which Q has less than about 1e-13 of its largest curvature counts as one
without any, of which one minimiser is returned, with derivatives of least size.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import torch
from torch import Tensor

from bilevelnet.interop import qp

from .solvers import SolverCase

QPTH, QPAX, OSQP, MOREAU, DEFAULT = "qpth", "qpax", "jaxopt.OSQP", "cvxpylayers, MOREAU", "cvxpylayers, default"


@dataclass(frozen=True)
class QuadraticCase(SolverCase):
    """q is the point; Q = L Lᵀ + 0.1 I, G with N(0, 1) entries and h, by which a point lies inside: all learned."""

    share: float = 1.0

    @property
    def rows(self) -> int:
        """Of G: ``share`` of n."""
        return round(self.share * self.shape[-1])

    @property
    def name(self) -> str:
        return f"{super().name}, {self.rows} rows"

    def matrices(self) -> tuple[Tensor, Tensor, Tensor]:
        """(Q, G, h)."""
        (batch, n), draws = self.shape, torch.Generator().manual_seed(1)

        def normal(*shape: int) -> Tensor:
            return torch.randn(batch, *shape, generator=draws, dtype=self.dtype)

        root, G, inside = normal(n, n), normal(self.rows, n), normal(n, 1)
        h = (G @ inside).squeeze(-1) + torch.rand(batch, self.rows, generator=draws, dtype=self.dtype)
        return root @ root.mT + 0.1 * torch.eye(n, dtype=self.dtype), G, h

    def layer(self) -> Any:
        Q, G, h = (t.requires_grad_() for t in self.matrices())
        return lambda q: qp(Q, q, None, None, G, h)[0]

    def exact(self, v: Tensor, cotangent: Tensor) -> tuple[Tensor, Tensor]:
        """Of each row; that it is the answer is seen from the signs of slacks and multipliers, whoever found it."""
        Q, G, h = self.matrices()
        multipliers = qp(Q[: len(v)], v, None, None, G[: len(v)], h[: len(v)])[1].inequality
        answers = [_solved(*one) for one in zip(Q, v, G, h, multipliers > 0, cotangent, strict=False)]
        z, slope = (torch.stack(parts) for parts in zip(*answers, strict=True))
        return z, slope


def _solved(Q: Tensor, q: Tensor, G: Tensor, h: Tensor, active: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
    n, rows = len(q), G[active]
    matrix = torch.cat([torch.cat([Q, rows.mT], 1), torch.cat([rows, rows.new_zeros(len(rows), len(rows))], 1)])
    right = torch.stack([torch.cat([-q, h[active]]), torch.cat([-c, torch.zeros_like(h[active])])], 1)
    z, slope = torch.linalg.solve(matrix, right).mT
    if (z[n:] < 0).any() or (G @ z[:n] > h + 1e-9).any():
        raise AssertionError("the active rows are not those of the minimiser")
    return z[:n], slope[:n]


def peer(module: str, **options: Any) -> Callable[[Any], Callable[[Tensor], Tensor]]:
    """The same program by a module of peers."""

    def make(case: Any) -> Callable[[Tensor], Tensor]:
        by = import_module(f"..peers.{module}", __package__)
        return by.program(*(t.requires_grad_() for t in case.matrices()), **options)  # type: ignore[no-any-return]

    return make


def _case(n: int, share: float, asked: str, rounds: int = 5) -> QuadraticCase:
    peers = {QPTH: asked, QPAX: "", OSQP: "", MOREAU: "", DEFAULT: ""}
    return QuadraticCase("quadratic program", (128, n), share=share, peers=peers, rounds=rounds)


QUADRATIC = (
    _case(10, 0.5, "≥ 2"),
    _case(10, 2.0, "≥ 2"),
    _case(50, 0.5, "≥ 1"),
    _case(50, 2.0, "≥ 2"),
    _case(100, 0.5, "≥ 1"),
    _case(100, 2.0, "right", 3),
)
