"""The cone program of a problem whose rows are all linear, as a batch of dense quadratic programs."""

from __future__ import annotations

import torch
from torch import Tensor

from ..errors import InputError
from ..numerics.kkt import times
from ..solution import INVALID
from ..values import readable
from .cvxpy_cone import Cone
from .cvxpy_eliminate import Elimination, Program
from .cvxpy_equations import stationary
from .cvxpy_values import Values
from .quadratic import Solved
from .quadratic_data import given

LARGEST = 1000  # variables and rows of a program held as dense matrices: 128 of them take 1 GB in float64


class Quadratic:
    """(x, y) of min ½x'Px + q'x, A x = b, G x ≤ h; y holds the multipliers of A, then of G."""

    name = "quadratic"

    def __init__(self, cone: Cone):
        if not cone.polyhedral:
            raise InputError("its cone program has other cones than equations and inequalities")
        if cone.n + cone.m > LARGEST:
            raise InputError(f"{cone.n} variables and {cone.m} rows are more than the {LARGEST} that are kept dense")
        self.cone, self.elimination = cone, Elimination.of(cone)

    def solve(self, values: Values, full: bool) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
        """(x, y, status, the residual where ``full``) of each element of the batch, in float64."""
        program, dims = [t.double() for t in self.cone.dense(values)], (2, 1, 2, 1, 2, 1)
        good = torch.ones(values.batch, dtype=torch.bool, device=values.like.device)
        for t, d in zip(program, dims, strict=True):
            good = good & t.detach().isfinite().flatten(-d).all(-1)
        if not readable(good) or not bool(good.all()):
            program = [_kept(t, good, d) for t, d in zip(program, dims, strict=True)]
        else:
            program[1] = program[1].expand(*values.batch, self.cone.n)
        if not good.numel():
            x, y = program[1], program[1].new_zeros(*values.batch, self.cone.m)
            return x, y, torch.zeros(values.batch, dtype=torch.int8), y.new_zeros(values.batch)
        if self.cone.P is not None and not self.cone.P.fixed:
            program[0] = _convex(program[0])
        whole = Program(*program)
        small, moved = whole, None
        if self.elimination is not None:
            small, moved = self.elimination.reduced(whole)
        z, y, status, residual = _minimum(small, full)
        if self.elimination is not None and moved is not None:
            z, y = self.elimination.recovered(whole, moved, z, y)
        return z, y, torch.where(good, status, INVALID), residual

    def explain(self) -> str:
        cone, solved = self.cone, 0 if self.elimination is None else len(self.elimination.rows)
        beforehand = f" ({solved} of them solved beforehand)" if solved else ""
        return (
            f"quadratic: cvxpy's program of {cone.n} variables, {cone.dims.zero} equations{beforehand} and "
            f"{cone.dims.nonneg} inequalities, all elements at once by "
            f"{'interop.solve_qp' if cone.dims.nonneg else 'one linear system'}"
        )


Found = tuple[Tensor, Tensor, Tensor, Tensor | None]


def _minimum(p: Program, full: bool) -> Found:
    """(z, y, status, the residual where ``full``): of equations alone by one linear system, where that is regular."""
    if p.h.shape[-1]:
        return _searched(p, full)
    z, y, sound = stationary(p)
    residual = _residual(p, z, y) if full else None
    status = torch.zeros_like(sound, dtype=torch.int8)
    if readable(sound) and bool(sound.all()):
        return z, y, status, residual
    w, u, other, gap = _searched(p, full)
    keep = sound.unsqueeze(-1)
    if residual is not None and gap is not None:
        residual = torch.where(sound, residual, gap)
    return torch.where(keep, z, w), torch.where(keep, y, u), torch.where(sound, status, other), residual


@torch.no_grad()
def _residual(p: Program, z: Tensor, y: Tensor) -> Tensor:
    force = times(p.P, z) + p.q + times(p.A.mT, y)
    return torch.linalg.vector_norm(torch.cat([force, times(p.A, z) - p.b], -1), dim=-1)


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
