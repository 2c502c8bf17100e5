"""The cone program of a cvxpy problem by Clarabel or SCS, differentiated by diffcp: right for every DPP problem."""

from __future__ import annotations

from multiprocessing.pool import ThreadPool
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..errors import InputError
from ..solution import CONVERGED, INFEASIBLE, INVALID, MAX_ITER, UNBOUNDED
from ..solvers.conic import CLARABEL
from ..values import transformed
from .cvxpy_cone import Cone
from .cvxpy_values import Values

# The optimality conditions of the cone program hold to this, relative to their terms, or the element has not converged.
ACCEPT = 1e-6
SCS = {"eps_abs": 1e-10, "eps_rel": 1e-10, "max_iters": 20000}
FIRST_ORDER = (
    "it has a plain backward of first order, and no vmap, torch.func, forward mode or double backward; loop over the "
    "samples, or state the problem so that another solver takes it (layer.explain() says why none does)"
)
# Beyond this many unknowns the derivative is found by LSQR on products, which reaches fewer digits.
DENSE = 120


class Conic:
    """(x, y) of min q'x, s = b − A x in K. Elements are solved one by one, so that none spoils another."""

    name = "conic"

    def __init__(self, cone: Cone):
        from cvxpy.reductions.solvers.conic_solvers.scs_conif import dims_to_solver_dict

        self.cone = cone
        self.cones = dims_to_solver_dict(cone.dims)
        # diffcp differentiates Clarabel's semidefinite solutions wrongly, SCS's rightly, and hands it no power cones
        scs = bool(self.cones.get("s")) or bool(self.cones.get("p"))
        # At 1e-11 Clarabel stalls on some programs and ends farther off than it had been: then at its own 1e-8.
        self.method = "SCS" if scs else "Clarabel"
        self.attempts: tuple[dict[str, float], ...] = (SCS,) if scs else (CLARABEL, {})
        order = np.lexsort((cone.A_place[0], cone.A_place[1])) if cone.m else np.zeros(0, int)
        self.order = torch.from_numpy(order)
        self.indices = cone.A_place[0][order] if cone.m else order
        counts = np.bincount(cone.A_place[1], minlength=cone.n) if cone.m else np.zeros(cone.n, int)
        self.pointers = np.concatenate([[0], np.cumsum(counts)])

    def solve(self, values: Values, full: bool = True) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """(x, y, status, residual) of each element of the batch, in float64 on the CPU."""
        if transformed(*values.flat):
            raise InputError(f"the conic route leaves torch: {FIRST_ORDER}")
        cone, batch = self.cone, values.batch
        parts = [cone.A, cone.b, cone.q]
        a, b, q = (_rows(None if p is None else p(values), batch) for p in parts)
        level = torch.zeros(len(q), cone.m, dtype=torch.float64)
        if cone.m:
            level = level.index_add(-1, torch.from_numpy(cone.b_rows).long(), b)
        graph = torch.is_grad_enabled() and any(t.requires_grad for t in (a, level, q))
        x, y, status, residual = _Solve.apply(a[:, self.order], level, q, self, graph)
        shaped = (t.unflatten(0, batch) if batch else t.squeeze(0) for t in (x, y, status, residual))
        return tuple(shaped)  # type: ignore[return-value]

    def one(self, row: tuple[np.ndarray, np.ndarray, np.ndarray], graph: bool) -> tuple[Any, ...]:
        """(x, y, status, residual, adjoint) of one cone program."""
        import scipy.sparse as sp
        from diffcp.cone_program import solve_and_derivative_internal, solve_internal

        (a, b, q), n, m = row, self.cone.n, self.cone.m
        lost = np.full(n, np.nan), np.full(m, np.nan)
        if not all(np.isfinite(t).all() for t in (a, b, q)):
            return *lost, INVALID, np.inf, None
        if not m:  # linear and unconstrained
            return np.zeros(n), lost[1], CONVERGED if not q.any() else UNBOUNDED, 0.0, None
        a = np.where(a == 0, 1e-200, a)  # diffcp drops zeros, and their derivatives with them
        matrix = sp.csc_matrix((a, self.indices, self.pointers), shape=(m, n))
        program = matrix, b, q, self.cones
        best: tuple[Any, ...] = *lost, MAX_ITER, np.inf, None
        for options in self.attempts:
            if graph:
                mode = "dense" if n + m < DENSE else "lsqr"
                found = solve_and_derivative_internal(
                    *program, solve_method=self.method, mode=mode, raise_on_error=False, **options
                )
            else:
                found = solve_internal(*program, solve_method=self.method, raise_on_error=False, **options)
            ended = str(found["info"]["status"]).lower()
            for word, status in (("unbounded", UNBOUNDED), ("infeasible", INFEASIBLE)):
                if word in ended:
                    return *lost, status, np.inf, None
            x, y, s = found["x"], found["y"], found["s"]
            residual = _residual(matrix, b, q, x, y, s)
            if residual <= ACCEPT:
                return x, y, CONVERGED, residual, found.get("DT")
            if residual <= best[3]:
                best = x, y, MAX_ITER, residual, None
        return best

    def explain(self) -> str:
        return (
            f"conic: cvxpy's cone program of {self.cone.n} variables and {self.cone.m} rows by {self.method}, "
            f"differentiated by diffcp; values to about 1e-6, gradients to about 1e-5; no vmap, no double backward"
        )


class _Solve(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, a: Tensor, b: Tensor, q: Tensor, conic: Conic, graph: bool) -> tuple[Tensor, ...]:
        rows = list(zip(*(t.detach().numpy() for t in (a, b, q)), strict=True))
        found = _each(lambda row: conic.one(row, graph), rows)
        ctx.adjoints, ctx.shapes = [f[4] for f in found], (a.shape, b.shape, q.shape)
        x, y = (torch.from_numpy(np.array([f[k] for f in found]).reshape(t.shape)) for k, t in ((0, q), (1, b)))
        status = torch.tensor([f[2] for f in found], dtype=torch.int8)
        residual = torch.tensor([float(f[3]) for f in found], dtype=torch.float64)
        ctx.mark_non_differentiable(status, residual)
        ctx.save_for_backward(a, b, q)
        return x, y, status, residual

    @staticmethod
    def backward(ctx: Any, dx: Tensor, dy: Tensor, *_: Any) -> tuple[Tensor | None, ...]:
        a, b, q = (np.zeros(shape) for shape in ctx.shapes)

        def pull(i: int) -> None:
            if ctx.adjoints[i] is not None:
                g, h = dx[i].detach().numpy(), dy[i].detach().numpy()
                da, b[i], q[i] = ctx.adjoints[i](g, h, np.zeros_like(h))
                a[i] = da.data

        _each(pull, list(range(len(q))))
        found = tuple(map(torch.from_numpy, (a, b, q)))
        return *(_First.apply(t, dx, dy, *ctx.saved_tensors) for t in found), None, None


class _First(torch.autograd.Function):
    """A first derivative as it is; asked for its own it raises, where torch would take it for a constant."""

    @staticmethod
    def forward(ctx: Any, derivative: Tensor, *sources: Tensor) -> Tensor:
        return derivative.view_as(derivative)

    @staticmethod
    def backward(ctx: Any, *_: Any) -> Any:
        raise InputError(f"the conic route was differentiated twice: {FIRST_ORDER}")


def _each(function: Any, items: list[Any]) -> list[Any]:
    """function of each item, on as many threads as torch uses."""
    threads = min(len(items), torch.get_num_threads())
    if threads < 2:
        return [function(item) for item in items]
    with ThreadPool(threads) as pool:
        return pool.map(function, items)


def _rows(t: Tensor | None, batch: tuple[int, ...]) -> Tensor:
    """(…, size) as (elements, size), in float64 on the CPU."""
    count = int(np.prod(batch))
    if t is None:
        return torch.zeros(count, 0, dtype=torch.float64)
    return t.expand(*batch, t.shape[-1]).reshape(count, t.shape[-1]).double().cpu()


def _residual(A: Any, b: np.ndarray, q: np.ndarray, x: np.ndarray, y: np.ndarray, s: np.ndarray) -> float:
    """The largest of |A x + s − b|, |A'y + q| and |q'x + b'y|, relative to their terms; s and y lie in their cones."""
    moved, pulled = A @ x, A.T @ y
    value, level = float(q @ x), float(b @ y)
    terms = (
        (moved + s - b, (moved, s, b)),
        (pulled + q, (pulled, q)),
        (np.array([value + level]), (np.array([value]), np.array([level]))),
    )
    return max(float(np.abs(r).max(initial=0)) / (1 + max(np.abs(t).max(initial=0) for t in ts)) for r, ts in terms)
