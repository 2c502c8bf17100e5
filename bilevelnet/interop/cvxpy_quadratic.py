"""The cone program of a problem whose rows are all linear, as a batch of dense quadratic programs."""

from __future__ import annotations

import torch
from torch import Tensor

from ..errors import InputError
from ..solution import INVALID
from ..values import all_finite, readable
from .cvxpy_cone import Cone
from .cvxpy_eliminate import Elimination, Program
from .cvxpy_equations import stationary
from .cvxpy_order import Order
from .cvxpy_values import Values
from .quadratic import Solved
from .quadratic_data import given

LARGEST = 1000  # variables and rows of a program held as dense matrices: 128 of them take 1 GB in float64


Found = tuple[Tensor, Tensor, Tensor, Tensor | None]  # z, y, status, the residual where it was asked for


class Quadratic:
    """(x, y) of min ½x'Px + q'x, A x = b, G x ≤ h; y holds the multipliers of A, then of G."""

    name = "quadratic"

    def __init__(self, cone: Cone):
        if not cone.polyhedral:
            raise InputError("its cone program has other cones than equations and inequalities")
        if cone.n + cone.m > LARGEST:
            raise InputError(f"{cone.n} variables and {cone.m} rows are more than the {LARGEST} that are kept dense")
        self.cone, inequalities = cone, cone.dims.nonneg > 0
        self.elimination = Elimination.of(cone) if inequalities else None
        self.order = None if inequalities else Order(cone)

    def solve(self, values: Values, full: bool) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
        """(x, y, status, the residual where ``full``) of each element of the batch, in float64."""
        program = [t.double() for t in self._data(values)]
        dims = (2, 1, 2, 1, 2, 1)[: len(program)]
        good = torch.ones(values.batch, dtype=torch.bool, device=values.like.device)
        if not all(map(all_finite, program)):
            for t, d in zip(program, dims, strict=True):
                good = good & t.detach().isfinite().flatten(-d).all(-1)
            program = [_kept(t, good, d) for t, d in zip(program, dims, strict=True)]
        program[1] = program[1].expand(*values.batch, self.cone.n)
        if not good.numel():
            x, y = program[1], program[1].new_zeros(*values.batch, self.cone.m)
            return x, y, torch.zeros(values.batch, dtype=torch.int8), y.new_zeros(values.batch)
        if self.cone.P is not None and not self.cone.P.fixed:
            program[0] = _convex(program[0])
        z, y, status, residual = self._solved(program, full)
        return z, y, torch.where(good, status, INVALID), residual

    def _data(self, values: Values) -> tuple[Tensor, ...]:
        """P, q, and A and b of equations alone (A as ``Order`` has it), else A, b, G and h."""
        if self.order is None:
            return self.cone.dense(values)
        return *self.cone.objective(values), self.order.moving(values), self.cone.level(values)

    def _solved(self, program: list[Tensor], full: bool) -> Found:
        if self.order is not None:
            P, q, moving, b = program
            return _stationary(self.order, P, q, moving, b, full)
        whole = Program(*program)
        if self.elimination is None:
            return _searched(whole, full)
        small, moved = self.elimination.reduced(whole)
        z, y, status, residual = _searched(small, full)
        return *self.elimination.recovered(whole, moved, z, y), status, residual

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


def _stationary(order: Order, P: Tensor, q: Tensor, moving: Tensor, b: Tensor, full: bool) -> Found:
    """By one linear system, and by the search for an optimum where that is not safely regular."""
    p = order.equations(P, q, moving, b.expand(*q.shape[:-1], b.shape[-1]))
    z, y, sound = stationary(p)
    with torch.no_grad():
        residual = torch.linalg.vector_norm(torch.cat(p.residual(z, y), -1), dim=-1) if full else None
    z, y = order.back(z, y)
    status = torch.zeros(sound.shape, dtype=torch.int8, device=z.device)
    if readable(sound) and bool(sound.all()):
        return z, y, status.expand(q.shape[:-1]), residual
    empty = q.new_zeros(0, q.shape[-1]), q.new_zeros(0)
    w, u, other, gap = _searched(Program(P, q, order.rows(p), b, *empty), full)
    keep = sound.unsqueeze(-1)
    if residual is not None and gap is not None:
        residual = torch.where(sound, residual, gap)
    return torch.where(keep, z, w), torch.where(keep, y, u), torch.where(sound, status, other), residual


def _searched(p: Program, full: bool) -> Found:
    found = Solved(given(*p), on_failure="ignore")
    return found.z, torch.cat(found.multipliers(), -1), found.status, found.solution().residual if full else None


def _kept(t: Tensor, good: Tensor, dims: int) -> Tensor:
    """t where ``good``, 0 elsewhere."""
    mask = good.reshape(*good.shape, *[1] * dims)
    return torch.where(mask, t.expand(*good.shape, *t.shape[-dims:]), 0.0)


def _convex(p: Tensor) -> Tensor:
    """P raised to least eigenvalue 0: parameters declared PSD are so up to the rounding of their dtype."""
    short = -torch.linalg.eigvalsh(p.detach())[..., :1].clamp(max=0)
    return p + torch.diag_embed(short.expand(p.shape[:-1]))
