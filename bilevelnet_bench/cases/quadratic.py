"""Random quadratic programs min ½ zᵀQz + qᵀz, G z ≤ h, and their exact answer from the equations of the active rows.

(10, 5) takes 0.65 to 0.8 of qpth's time (asked 0.5; the latter on a busy machine). CPU time on one thread, of 13 ms a
batch of 128: eight interior steps 3.7, the equations of the active rows with their refinement 2.8, what sorts out the
elements between them 1.2, scaling and factoring Q 0.7, arguments and status 1.1, backward 3.6. The profiler counts
7,000 events, nested ones included: the overhead of small operations. A looser first gap gains nothing (1e-3: 13.6 ms,
1e-4: 14.1). What is left is fewer kernels.

L1 behind a map with n = 50 is a program of 100 variables and 100 rows; seven factors of 128 such matrices, with the
products that make them and their solutions, are three quarters of its time. It takes 2 to 7 times that of splitting,
which has 50 multipliers: auto's order is that from exact to general, and has no measure of time.
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
