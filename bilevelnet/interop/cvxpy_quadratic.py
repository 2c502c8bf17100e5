"""The cone program of a problem whose rows are all linear, as a batch of dense quadratic programs."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from ..errors import InputError
from ..numerics.kkt import TINY, times
from ..numerics.quadratic import FAINT, FAINTEST, LOST
from ..solution import CONVERGED, INVALID, MAX_ITER, UNBOUNDED
from ..values import all_finite, readable
from .cone_kkt import ACCEPT
from .cvxpy_cone import Cone
from .cvxpy_eliminate import Elimination, Moved, Program
from .cvxpy_equations import stationary
from .cvxpy_faint import again
from .cvxpy_order import Order
from .cvxpy_values import Values
from .quadratic import Solved
from .quadratic_data import given

LARGEST = 1000  # variables and rows of a program held as dense matrices: 128 of them take 1 GB in float64


# z, y, status, the residual where it was asked for, and by how much an entry may be off where that was told
Found = tuple[Tensor, Tensor, Tensor, Tensor | None, Tensor | None]


class Quadratic:
    """(x, y) of min ½x'Px + q'x, A x = b, G x ≤ h; y holds the multipliers of A, then of G.

    ``asked``: the entries of x that are asked for: an element whose condition costs digits has converged where their
    error is small.
    """

    name = "quadratic"

    def __init__(self, cone: Cone, asked: np.ndarray):
        if not cone.polyhedral:
            raise InputError("its cone program has other cones than equations and inequalities")
        if cone.n + cone.m > LARGEST:
            raise InputError(f"{cone.n} variables and {cone.m} rows are more than the {LARGEST} that are kept dense")
        self.cone, self.asked = cone, torch.from_numpy(asked)
        self.order = None if cone.dims.nonneg else Order(cone)
        self.elimination = Elimination.of(cone)
        rest = range(cone.n) if self.elimination is None else self.elimination.rest.tolist()
        self.alone = set(rest) <= set(asked.tolist())  # whether the program that is searched has no other variables

    def solve(self, values: Values, full: bool) -> tuple[Tensor, Tensor, Tensor, Tensor | None, Tensor | None]:
        """(x, y, status, the residual where ``full``, an error bound) of each element of the batch, in float64."""
        program = [t.double() for t in self._data(values)]
        dims = (2, 1, 2, 1, 2, 1)[: len(program)]
        good = torch.ones(values.batch, dtype=torch.bool, device=values.like.device)
        if not all(map(all_finite, program)):
            for t, d in zip(program, dims, strict=True):
                good = good & t.detach().isfinite().flatten(-d).all(-1)
            program = [_kept(t, good, d) for t, d in zip(program, dims, strict=True)]
        program[1] = program[1].expand(*values.batch, self.cone.n)
        if self.cone.P is not None and not self.cone.P.fixed:
            program[0] = _convex(program[0])
        z, y, status, residual, bound = self._solved(program, full)
        return z, y, torch.where(good, status, INVALID), residual, bound

    def _data(self, values: Values) -> tuple[Tensor, ...]:
        """P, q, and A and b of equations alone (A as ``Order`` has it), else A, b, G and h."""
        if self.order is None:
            return self.cone.dense(values)
        return *self.cone.objective(values), self.order.moving(values), self.cone.level(values)

    def _solved(self, program: list[Tensor], full: bool) -> Found:
        if self.order is not None:
            return self._stationary(self.order, program, full)
        return self._searched(Program(*program), full)

    def _stationary(self, order: Order, program: list[Tensor], full: bool) -> Found:
        """By one linear system, and by the search for an optimum where that is not safely regular."""
        P, q, moving, b = program
        p = order.equations(P, q, moving, b.expand(*q.shape[:-1], b.shape[-1]))
        z, y, sound = stationary(p)
        with torch.no_grad():
            residual = torch.linalg.vector_norm(torch.cat(p.residual(z, y), -1), dim=-1) if full else None
        z, y = order.back(z, y)
        status = torch.zeros(sound.shape, dtype=torch.int8, device=z.device)
        if readable(sound) and bool(sound.all()):
            return z, y, status.expand(q.shape[:-1]), residual, None
        empty = q.new_zeros(0, q.shape[-1]), q.new_zeros(0)
        w, u, other, gap, bound = self._searched(Program(P, q, order.rows(p), b, *empty), full)
        keep = sound.unsqueeze(-1)
        if residual is not None and gap is not None:
            residual = torch.where(sound, residual, gap)
        bound = None if bound is None else torch.where(sound, torch.nan, bound)
        return torch.where(keep, z, w), torch.where(keep, y, u), torch.where(sound, status, other), residual, bound

    def _searched(self, whole: Program, full: bool) -> Found:
        """By ``interop.solve_qp``, the elements whose condition costs digits once more by QR."""
        small, moved = (whole, Moved.none(whole)) if self.elimination is None else self.elimination.reduced(whole)
        solved = Solved(given(*small), on_failure="ignore")
        x, w, status, code = solved.z, torch.cat(solved.multipliers(), -1), solved.status, solved.solved.found.code
        bound = None
        if not readable(code):
            lost = code == LOST
            lost = lost if self.alone else lost & self._loose(solved, moved)
            status = torch.where(lost, MAX_ITER, status)
        elif bool((faint := (code >= FAINT) | (status == MAX_ITER) | (status == UNBOUNDED)).any()):
            index = faint.reshape(-1).nonzero().squeeze(-1)
            near = (_listed(t.detach())[index] for t in (solved.solved.found.active, x))
            found = again(whole, small, moved, index, *near)
            bound, size = self._bound(moved, _placed(x.detach(), index, found.x), found.error, index)
            better = bound <= size  # a digit is known
            status = torch.where(faint & ((status != UNBOUNDED) | better), MAX_ITER, status)
            status = torch.where(bound <= ACCEPT * size, CONVERGED, status).to(torch.int8)
            kept = better.reshape(-1)[index]
            x, w = (_placed(t, index[kept], u[kept]) for t, u in ((x, found.x), (w, found.w)))
            bound = torch.where(faint & ~better, torch.inf, bound)
        z, y = (x, w) if self.elimination is None else self.elimination.recovered(whole, moved, x, w)
        return z, y, status, small.residual(x, w, status > MAX_ITER) if full else None, bound

    @torch.no_grad()
    def _loose(self, solved: Solved, moved: Moved) -> Tensor:
        """Whether what is asked for moves along directions in which Q is flat and the rows held stay."""
        P, c, held = solved.data.matrix, solved.data.c, solved.solved.found.active
        curved = P.diagonal(dim1=-2, dim2=-1)
        t = torch.where(curved > 0, curved.clamp(min=TINY).rsqrt(), 1.0).unsqueeze(-2)
        rows = c * t
        rows = rows * (held.unsqueeze(-1) / torch.linalg.vector_norm(rows, dim=-1, keepdim=True).clamp(min=TINY))
        values, directions = torch.linalg.eigh(t.mT * P * t + rows.mT @ rows)
        moves = ((moved.S * t)[..., self.asked, :] @ directions).square()
        return (moves * (values < FAINTEST[1]).unsqueeze(-2)).amax((-2, -1)) > FAINTEST[1]

    @torch.no_grad()
    def _bound(self, moved: Moved, x: Tensor, error: Tensor, index: Tensor) -> tuple[Tensor, Tensor]:
        """By how much an entry that is asked for may be off, NaN where nothing is said; and 1 + the largest of them."""
        wide = _placed(torch.full_like(x, torch.nan), index, error)
        bound = times(moved.S.abs(), wide)[..., self.asked].amax(-1)
        return bound, 1 + (times(moved.S, x) + moved.e)[..., self.asked].abs().amax(-1)

    def explain(self) -> str:
        cone, solved = self.cone, 0
        if self.order is not None:
            solved = self.order.base.shape[-1]
        elif self.elimination is not None:
            solved = len(self.elimination.rows)
        beforehand = f" ({solved} of them solved beforehand)" if solved else ""
        return (
            f"quadratic: cvxpy's program of {cone.n} variables, {cone.dims.zero} equations{beforehand} and "
            f"{cone.dims.nonneg} inequalities, all elements at once by "
            f"{'interop.solve_qp' if cone.dims.nonneg else 'one linear system'}"
        )


def _listed(t: Tensor) -> Tensor:
    """Vectors (…, n) as (elements, n)."""
    return t.reshape(t.shape[:-1].numel(), t.shape[-1])


def _placed(t: Tensor, index: Tensor, part: Tensor) -> Tensor:
    """t with these elements of the batch, counted along all of it, replaced."""
    return _listed(t).index_copy(0, index, part.to(t)).reshape(t.shape)


def _kept(t: Tensor, good: Tensor, dims: int) -> Tensor:
    """t where ``good``, 0 elsewhere."""
    mask = good.reshape(*good.shape, *[1] * dims)
    return torch.where(mask, t.expand(*good.shape, *t.shape[-dims:]), 0.0)


def _convex(p: Tensor) -> Tensor:
    """P raised to least eigenvalue 0: parameters declared PSD are so up to the rounding of their dtype."""
    short = -torch.linalg.eigvalsh(p.detach())[..., :1].clamp(max=0)
    return p + torch.diag_embed(short.expand(p.shape[:-1]))
