"""The cone program of a cvxpy problem by Clarabel, ended by Newton's method: for every DPP problem."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from multiprocessing.pool import ThreadPool
from threading import Lock
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..errors import InputError
from ..solution import CONVERGED, INFEASIBLE, INVALID, MAX_ITER, UNBOUNDED
from ..solvers.conic import CLARABEL
from ..values import transformed
from .cone_kkt import Program, Solution, solution
from .cone_projection import Cones
from .cvxpy_cone import Cone
from .cvxpy_values import Values

# At 1e-11 Clarabel stalls on some programs and ends farther off than it had been: then at its own 1e-8.
ATTEMPTS: tuple[dict[str, float], ...] = (CLARABEL, {})
# Unknowns, from which on a factorisation lasts longer than the Python around it, which one thread at a time may run:
# of 188 two threads take a fifth longer than one, of 608 a fifth less.
LARGE = 400
LOCK, HOLDS = Lock(), list[Any]()  # of the threads of BLAS
ENDS = {
    "PrimalInfeasible": INFEASIBLE,
    "AlmostPrimalInfeasible": INFEASIBLE,
    "DualInfeasible": UNBOUNDED,
    "AlmostDualInfeasible": UNBOUNDED,
}
Start = tuple[np.ndarray, np.ndarray, np.ndarray]
FIRST_ORDER = (
    "it has a plain backward of first order, and no vmap, torch.func, forward mode, double backward or export; loop "
    "over the samples, or state the problem so that another solver takes it (layer.explain() says why none does)"
)


class Conic:
    """(x, y) of min q'x, s = b − A x in K. Elements are solved one by one, so that none spoils another.

    ``asked``: the entries of x and of y that are asked for; an element has converged where their error is small.
    """

    name = "conic"

    def __init__(self, cone: Cone, asked: tuple[np.ndarray, np.ndarray]):
        import scipy.sparse as sp
        from cvxpy.reductions.solvers.conic_solvers.scs_conif import dims_to_solver_dict

        self.cone, self.asked = cone, asked
        dims = dims_to_solver_dict(cone.dims)
        if dims.get("pnd"):
            raise InputError("a power cone of more than three entries: state it by cp.PowCone3D or cp.geo_mean")
        self.large = cone.n + cone.m >= LARGE
        self.cones, self.clarabel, self.order = Cones(dims), _clarabel(dims), _triangles(dims)
        self.none, self.attempts = sp.csc_matrix((cone.n, cone.n)), [_settings(options) for options in ATTEMPTS]
        order = np.lexsort((cone.A_place[0], cone.A_place[1])) if cone.m else np.zeros(0, int)
        self.entries = torch.from_numpy(order)
        self.indices = cone.A_place[0][order] if cone.m else order
        counts = np.bincount(cone.A_place[1], minlength=cone.n) if cone.m else np.zeros(cone.n, int)
        self.pointers = np.concatenate([[0], np.cumsum(counts)])

    def solve(self, values: Values, full: bool = True) -> tuple[Tensor, ...]:
        """(x, y, status, residual, error bound) of each element of the batch, in float64 on the CPU."""
        run = self._solve
        if "torch._dynamo" in sys.modules:  # or what is called from here would be compiled
            run = torch.compiler.disable(run)
        return run(values)  # type: ignore[no-any-return]

    def _solve(self, values: Values) -> tuple[Tensor, ...]:
        if transformed(*values.flat) or values.like.is_meta or torch.compiler.is_exporting():
            raise InputError(f"the conic route leaves torch: {FIRST_ORDER}")
        cone, batch = self.cone, values.batch
        parts = [cone.A, cone.b, cone.q]
        a, b, q = (_rows(None if p is None else p(values), batch) for p in parts)
        level = torch.zeros(len(q), cone.m, dtype=torch.float64)
        if cone.m:
            level = level.index_add(-1, torch.from_numpy(cone.b_rows).long(), b)
        found = _Solve.apply(a[:, self.entries], level, q, self)
        return tuple(t.unflatten(0, batch) if batch else t.squeeze(0) for t in found)

    def begun(self, row: tuple[np.ndarray, np.ndarray, np.ndarray]) -> tuple[Any, Any]:
        """(a cone program, what Clarabel finds), or (what ``ended`` gives, None) where there is no program."""
        import scipy.sparse as sp

        (a, b, q), n, m = row, self.cone.n, self.cone.m
        lost = np.full(n, np.nan), np.full(m, np.nan)
        if not all(np.isfinite(t).all() for t in (a, b, q)):
            return (*lost, INVALID, np.inf, np.inf, None), None
        if not m:  # linear and unconstrained
            return (np.zeros(n), lost[1], CONVERGED if not q.any() else UNBOUNDED, 0.0, 0.0, None), None
        program = Program(sp.csc_array((a, self.indices, self.pointers), shape=(m, n)), b, q, self.cones)
        return program, self._clarabel(program, self.attempts[0])

    def ended(self, begun: tuple[Any, Any]) -> tuple[Any, ...]:
        """(x, y, status, residual, error bound, adjoint) of what is ``begun``."""
        program, found = begun
        if found is None:
            return program  # type: ignore[no-any-return]
        lost = np.full(self.cone.n, np.nan), np.full(self.cone.m, np.nan)
        best: Solution | None = None
        for k, settings in enumerate(self.attempts):
            how, start = self._clarabel(program, settings) if k else found
            if how in ENDS:
                return *lost, ENDS[how], np.inf, np.inf, None
            best = solution(program, start, self.asked, best)
            if best is not None and best.sound:
                break
        if best is None:
            return *lost, MAX_ITER, np.inf, np.inf, None
        status = CONVERGED if best.sound else MAX_ITER
        return best.point.x, best.point.y, status, best.point.residual, best.error, best.adjoint

    def _clarabel(self, program: Program, settings: Any) -> tuple[str, Start]:
        """(how Clarabel ends, (x, y, s))."""
        import clarabel
        import scipy.sparse as sp

        order = self.order
        A, b = (program.A, program.b) if order is None else (program.A[order], program.b[order])
        found = clarabel.DefaultSolver(self.none, program.q, sp.csc_matrix(A), b, self.clarabel, settings).solve()
        x, y, s = np.array(found.x), np.array(found.z), np.array(found.s)
        if order is not None:
            back = np.argsort(order)
            y, s = y[back], s[back]
        return str(found.status), (x, y, s)

    def explain(self) -> str:
        return (
            f"conic: cvxpy's cone program of {self.cone.n} variables and {self.cone.m} rows by Clarabel, then Newton's "
            f"method on its optimality conditions; no vmap, no double backward"
        )


# What torch.compiler.disable sets on a function; calling it would import torch._dynamo.
Conic.solve._torchdynamo_disable = True  # type: ignore[attr-defined]
Conic.solve._torchdynamo_disable_msg = f"the conic route leaves torch: {FIRST_ORDER}"  # type: ignore[attr-defined]


class _Solve(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, a: Tensor, b: Tensor, q: Tensor, conic: Conic) -> tuple[Tensor, ...]:
        begun = _each(conic.begun, list(zip(*(t.detach().numpy() for t in (a, b, q)), strict=True)))
        found = _each(conic.ended, begun, conic.large)
        ctx.adjoints, ctx.shapes, ctx.large = [f[5] for f in found], (a.shape, b.shape, q.shape), conic.large
        x, y = (torch.from_numpy(np.array([f[k] for f in found]).reshape(t.shape)) for k, t in ((0, q), (1, b)))
        status = torch.tensor([f[2] for f in found], dtype=torch.int8)
        residual, error = (torch.tensor([float(f[k]) for f in found], dtype=torch.float64) for k in (3, 4))
        ctx.mark_non_differentiable(status, residual, error)
        ctx.save_for_backward(a, b, q)
        return x, y, status, residual, error

    @staticmethod
    def backward(ctx: Any, dx: Tensor, dy: Tensor, *_: Any) -> tuple[Tensor | None, ...]:
        a, b, q = (np.zeros(shape) for shape in ctx.shapes)

        def pull(i: int) -> None:
            if ctx.adjoints[i] is not None:
                a[i], b[i], q[i] = ctx.adjoints[i](dx[i].detach().numpy(), dy[i].detach().numpy())

        _each(pull, list(range(len(q))), ctx.large)
        found = tuple(map(torch.from_numpy, (a, b, q)))
        return *(_First.apply(t, dx, dy, *ctx.saved_tensors) for t in found), None


class _First(torch.autograd.Function):
    """A first derivative as it is; asked for its own it raises, where torch would take it for a constant."""

    @staticmethod
    def forward(ctx: Any, derivative: Tensor, *sources: Tensor) -> Tensor:
        return derivative.view_as(derivative)

    @staticmethod
    def backward(ctx: Any, *_: Any) -> Any:
        raise InputError(f"the conic route was differentiated twice: {FIRST_ORDER}")


def _each(function: Any, items: list[Any], threaded: bool = True) -> list[Any]:
    """function of each item, where ``threaded`` on as many threads as torch uses. Each does its linear algebra alone:
    matrices of some hundred rows are done before a second thread of BLAS is awake, which then waits for work in a loop.
    """
    threads = min(len(items), torch.get_num_threads()) if threaded else 1
    with _alone():
        if threads < 2:
            return [function(item) for item in items]
        with ThreadPool(threads) as pool:
            return pool.map(function, items)


@contextmanager
def _alone() -> Iterator[None]:
    """One thread of BLAS, which is the process's: of callers side by side the last gives back what the first found."""
    with LOCK:
        HOLDS.append(HOLDS[0] if HOLDS else _blas().limit(limits=1, user_api="blas"))
    try:
        yield
    finally:
        with LOCK:
            limit = HOLDS.pop()
            if not HOLDS:
                limit.restore_original_limits()


@cache
def _blas() -> Any:
    """The thread pools of numpy's and scipy's BLAS; to find them takes some 10 ms."""
    import scipy.linalg.lapack  # noqa: F401 - loads its own
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController()


def _rows(t: Tensor | None, batch: tuple[int, ...]) -> Tensor:
    """(…, size) as (elements, size), in float64 on the CPU."""
    count = int(np.prod(batch))
    if t is None:
        return torch.zeros(count, 0, dtype=torch.float64)
    return t.expand(*batch, t.shape[-1]).reshape(count, t.shape[-1]).double().cpu()


def _settings(options: dict[str, float]) -> Any:
    import clarabel

    settings = clarabel.DefaultSettings()
    for name, value in {"verbose": False, **options}.items():
        setattr(settings, name, value)
    return settings


def _clarabel(dims: dict[str, Any]) -> list[Any]:
    """The cones, as Clarabel names them."""
    import clarabel

    plain = [(clarabel.ZeroConeT, dims["z"]), (clarabel.NonnegativeConeT, dims["l"])]
    return [
        *(cone(k) for cone, k in plain if k),
        *map(clarabel.SecondOrderConeT, dims["q"]),
        *map(clarabel.PSDTriangleConeT, dims["s"]),
        *(clarabel.ExponentialConeT() for _ in range(dims["ep"])),
        *map(clarabel.PowerConeT, dims["p"]),
    ]


def _triangles(dims: dict[str, Any]) -> np.ndarray | None:
    """Our rows in Clarabel's order, which is another only of semidefinite cones: upper triangles, column by column."""
    if not dims["s"]:
        return None
    order = [np.arange(dims["z"] + dims["l"] + sum(dims["q"]))]
    for n in dims["s"]:
        place = np.zeros((n, n), int)
        column, row = np.triu_indices(n)  # of the lower triangle
        place[row, column] = np.arange(len(row))
        order.append(sum(map(len, order)) + place[np.tril_indices(n)])
    start = sum(map(len, order))
    return np.concatenate([*order, start + np.arange(3 * (dims["ep"] + len(dims["p"])))])
