"""The known solution of K(z, w) = (a, b), K = [Q Cᵀ; C 0] in the active rows, with its derivatives of every order.

dK(z, w) + K d(z, w) = d(a, b): forward mode is K⁻¹(da − dQ z − dCᵀw, db − dC z); with (u, v) = K⁻¹ of the cotangents,
reverse mode is ā = u, b̄ = v, Q̄ = −(u zᵀ + z uᵀ)/2, C̄ = −w uᵀ − v zᵀ. Both are known solutions again. Of Q the
symmetric part counts.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .kkt import times
from .kkt_scaling import Scaled
from .operator import LIBRARY
from .quadratic_search import equations, plain

Pair = tuple[Tensor, Tensor]


def solution(
    a: Tensor,
    b: Tensor,
    q_matrix: Tensor,
    c: Tensor,
    active: Tensor,
    z: Tensor,
    w: Tensor,
    known: Scaled | None = None,
) -> Pair:
    """(z, w), found without a graph, as the solution: matrices have no batch (n, n), or all of it.

    ``known``: the scaled system, if at hand; it spares the search for derivatives its factors.
    """
    given = a, b, q_matrix, c, active, z.detach(), w.detach()
    if torch.compiler.is_compiling():  # a trace takes an operator, which knows no forward mode
        return torch.ops.bilevelnet.kkt_solution(*given)  # type: ignore[no-any-return]
    return Solution.apply(*given, known)  # type: ignore[no-any-return]


def solved(a: Tensor, b: Tensor, q_matrix: Tensor, c: Tensor, active: Tensor, known: Scaled | None = None) -> Pair:
    """The solution, which nobody knows yet."""
    known = known if plain(a, b) else None
    return solution(a, b, q_matrix, c, active, *equations(a, b, q_matrix, c, active, known), known)


class Solution(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(
        a: Tensor, b: Tensor, q_matrix: Tensor, c: Tensor, active: Tensor, z: Tensor, w: Tensor, known: Any
    ) -> Pair:
        return z.clone(), w.clone()

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        _keep(ctx, inputs, output)
        ctx.save_for_forward(*inputs[2:5], *output)
        ctx.known = inputs[7]

    @staticmethod
    def backward(ctx: Any, z: Tensor, w: Tensor) -> Any:
        return *_backward(ctx, z, w, ctx.known), None

    @staticmethod
    def jvp(ctx: Any, da: Any, db: Any, dq: Any, dc: Any, *rest: Any) -> Any:
        q_matrix, c, active, z, w = ctx.saved_tensors
        da, db = torch.zeros_like(z) if da is None else da, torch.zeros_like(w) if db is None else db
        da = da if dq is None else da - (times(dq, z) + times(dq.mT, z)) / 2
        if dc is not None:
            da, db = da - times(dc.mT, w), db - times(dc, z)
        return solved(da, torch.where(active, db, 0.0), q_matrix, c, active, ctx.known)


def _keep(ctx: Any, inputs: Any, output: Any) -> None:
    ctx.save_for_backward(*inputs[2:5], *output)


def _backward(ctx: Any, z_bar: Tensor, w_bar: Tensor, known: Scaled | None = None) -> Any:
    q_matrix, c, active, z, w = ctx.saved_tensors
    u, v = solved(z_bar, torch.where(active, w_bar, 0.0), q_matrix, c, active, known)
    q_bar = _outer((-u / 2, -z / 2), (z, u), q_matrix) if ctx.needs_input_grad[2] else None
    c_bar = _outer((-w, -v), (u, z), c) if ctx.needs_input_grad[3] else None
    return u, v, q_bar, c_bar, None, None, None


def _outer(left: Pair, right: Pair, like: Tensor) -> Tensor:
    """Σ x yᵀ over the pairs, and over the batch where the matrix has none."""
    if like.ndim == 2:
        x, y = (torch.cat([t.reshape(-1, t.shape[-1]) for t in side]) for side in (left, right))
        return x.mT @ y
    return torch.stack(left, -1) @ torch.stack(right, -2)


LIBRARY.define(
    "kkt_solution(Tensor a, Tensor b, Tensor q_matrix, Tensor c, Tensor active, Tensor z, Tensor w) -> (Tensor, Tensor)"
)
LIBRARY.impl("kkt_solution", lambda *given: (given[5].clone(), given[6].clone()), "CompositeExplicitAutograd")
torch.library.register_fake(
    "bilevelnet::kkt_solution", lambda *given: (torch.empty_like(given[5]), torch.empty_like(given[6])), lib=LIBRARY
)
torch.library.register_autograd("bilevelnet::kkt_solution", _backward, setup_context=_keep, lib=LIBRARY)
