"""Convex quadratic programs side by side: pivoting or an interior point, then the equations of the active rows.

min ½ zᵀQz + qᵀz, (C z − d)_i = 0 for i < p, ≤ 0 for the others. Where the rows that hold with equality are known, z and
their multipliers w solve a linear system, to the last digits: [Q Cᵀ; C 0](z, w) = (−q, d). Which they are, tells
pivoting where the rows are few, else an interior point, to a loose gap at first. A row is counted among them
where its slack is zero to rounding, also with a multiplier of zero: as at any kink, z is then differentiated along it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from .bracket import FOUND, LIMIT
from .interior_point import Interior, advance, begin, remainder
from .kkt import HARD, PROXIMAL, Condensed, Factor, System, largest, times
from .kkt_scaling import Scaled, scaled
from .pivoting import Pivoted, pivoted

GAPS = (1e-5, 1e-8, 1e-11)  # of the interior point, before each look at the active rows
ROUNDS = 10  # changes of the set of active rows before the interior point goes on
PATIENCE = 30  # interior steps for one gap, before an element is asked whether it has a solution at all
NEAR = 1e3  # times eps: by how much a row or a force may be missed, sums of some hundred terms and a condition of ten
NONZERO = 1e-9  # of a projection of a vector of size 1: what a proof may be short of the rounding of its 1e-13 or so
INFEASIBLE, UNBOUNDED, NOT_CONVEX = 10, 11, 12  # codes beside those of bracket.py
# Found, but curvature along the rows held is so small that digits of z are lost, or even half of them.
FAINT, LOST = 13, 14
FAINTEST = 1e-6, 1e-8  # that curvature, in units of the largest: a force left of 1e-13 moves z by 1e-7, 1e-5 at most


class Optimum(NamedTuple):
    """z (B, n), w = (y, λ) (B, r), whether each row is active (B, r), a code an element and the steps of the search.

    An element without a solution has the proof in z or w: C_eqᵀy + Gᵀλ = 0, λ ≥ 0, dᵀw = −1; or Q z = 0, A z = 0,
    G z ≤ 0, qᵀz = −1.
    """

    z: Tensor
    w: Tensor
    active: Tensor
    code: Tensor
    iterations: int


Ask = Callable[[Any, Any], Tensor]
Pair = tuple[Tensor, Tensor]


class Program(NamedTuple):
    """System, q (B, n), d (B, r), p, how many rows are equations, and where in the whole batch each element stands."""

    system: System
    q: Tensor
    d: Tensor
    p: int
    places: Tensor

    def take(self, mask: Tensor) -> Program:
        """The elements of ``mask``."""
        if bool(mask.all()):
            return self
        some = mask.nonzero().squeeze(-1)
        return Program(self.system.take(some), self.q[some], self.d[some], self.p, self.places[some])


def minimise(
    q_matrix: Tensor, q: Tensor, c: Tensor, d: Tensor, p: int, start: Tensor | None, max_iter: int
) -> tuple[Optimum, Scaled]:
    """The Optimum of each program, and the system it was found with; ``start`` is (z, w) of nearby ones."""
    known = scaled(q_matrix, c, q, d)
    system, t, s, cost = known
    program = Program(system, q * t / cost, d * s, p, torch.arange(len(q), device=q.device))
    if start is not None:
        z, w = start.split([q.shape[-1], d.shape[-1]], -1)
        start = torch.cat([z / t, w / s / cost], -1)
    found = _search(program, start, max_iter, prove)
    z, w = found.z * t, found.w * s * cost
    for kind, of, by in ((INFEASIBLE, w, d), (UNBOUNDED, z, q)):
        size = (of * by).sum(-1, keepdim=True).abs()
        of.copy_(torch.where((found.code == kind)[:, None], of / size, of))
    return Optimum(z, w, found.active, found.code, found.iterations), known


def _search(program: Program, start: Tensor | None, max_iter: int, ask: Ask | None) -> Optimum:
    """The Optimum, in scaled terms; ``ask`` writes the elements that have none, and says which."""
    z, w = torch.zeros_like(program.q), torch.zeros_like(program.d)
    convex = program.system.convex.expand(len(z))
    code = torch.where(convex, LIMIT, NOT_CONVEX).to(torch.int8)
    out = Optimum(z, w, torch.zeros_like(w, dtype=torch.bool), code, 0)
    here = program.take(convex)
    if start is not None or program.p == program.d.shape[-1]:
        if start is not None:
            z, w = start.split([z.shape[-1], w.shape[-1]], -1)
        here = here.take(~polish(here, out, z[here.places], w[here.places], w[here.places] > 0))
        if program.p == program.d.shape[-1]:
            if ask is not None and len(here.places):
                ask(here, out)
            return out
    total = 0
    if here.system.thin and len(here.places):
        guess = pivoted(here.system, here.q, here.d, here.p, min(ROUNDS, max_iter))
        total = guess.rounds
        here = here.take(~_confirmed(here, out, guess))
    if not len(here.places):
        return out._replace(iterations=total)
    inside = _Inside(here)
    for gap in GAPS:
        total += inside.advance(gap, min(PATIENCE, max_iter - total))
        z, w, active = inside.point()
        near = remainder(inside.at, here.p).squeeze(-1) <= gap
        # A share of it, so that a solution at 0 is missed by eps of it.
        z_near, w_near = (torch.where(near[:, None], x.abs() / NEAR, 0.0) for x in (z, w))
        solved = polish(here, out, z, w, active, (z_near, w_near))
        stuck = ~solved & ~near
        if ask is not None and bool(stuck.any()):
            solved[stuck] = ask(here.take(stuck), out)
        here = here.take(~solved)
        if not len(here.places):
            return out._replace(iterations=total)
        inside.keep(here, ~solved)
    if ask is not None:
        ask(here, out)
    return out._replace(iterations=total)


def _confirmed(program: Program, out: Optimum, guess: Pivoted) -> Tensor:
    """Write what pivoting found where its signs are right, to the last digits, and say which elements are solved."""
    z, w, active, settled, factor, _ = guess
    near = (z.abs() / NEAR, w.abs() / NEAR)
    if bool(settled.all()):
        return polish(program, out, z, w, active, near, factor)
    solved = polish(
        program.take(settled), out, z[settled], w[settled], active[settled], (near[0][settled], near[1][settled])
    )
    return settled.masked_scatter(settled, solved)


class _Inside:
    """The interior point of the elements of a program, which is condensed to its multipliers where that is less."""

    def __init__(self, program: Program):
        self.program, p = program, program.p
        q, d = program.q, program.d
        if program.system.thin:
            q, d = q[:, :0], d + times(program.system.back.mT, q)
        self.at = begin(self._equations(), q, d, p)

    def _equations(self) -> System | Condensed:
        system = self.program.system
        return Condensed(system) if system.thin else system

    def advance(self, tol: float, max_iter: int) -> int:
        self.at, steps = advance(self._equations(), self.program.p, self.at, tol, max_iter)
        return steps

    def point(self) -> tuple[Tensor, Tensor, Tensor]:
        """(z, w, which rows look active)."""
        (system, q, _, p, _), w = self.program, self.at.w
        z = -system.solve_q(q + times(system.c.mT, w)) if system.thin else self.at.z
        return z, w, torch.nn.functional.pad(w[:, p:] > self.at.s, (p, 0), value=True)

    def keep(self, program: Program, mask: Tensor) -> None:
        if program is not self.program:
            self.program, self.at = program, Interior(*(x[mask] for x in self.at))


def polish(
    program: Program,
    out: Optimum,
    z: Tensor,
    w: Tensor,
    active: Tensor,
    near: Pair | None = None,
    factor: Factor | None = None,
) -> Tensor:
    """Solve by the equations of the active rows, at first those given; write the elements solved, and say which.

    Rows change as long as a multiplier is negative or a row exceeded: Hintermüller, Ito & Kunisch, The primal-dual
    active set strategy as a semismooth Newton method (2002). What is not solved is written as it came. ``near``: |z|
    and |w| that are near, as in ``Factor.refine``. Which rows without a multiplier are held is told by the terms of
    each alone: next to an entry of 1e13 a row of entries near 1 keeps its digits.
    """
    solved = torch.zeros(len(z), dtype=torch.bool, device=z.device)
    equation = torch.arange(w.shape[-1], device=w.device) < program.p
    eps = torch.finfo(z.dtype).eps
    active = active | equation
    out.z[program.places], out.w[program.places], out.active[program.places] = z, w, active
    here, which = program, torch.arange(len(z), device=z.device)
    z_near, w_near = (torch.zeros_like(z), torch.zeros_like(w)) if near is None else near
    for _ in range(ROUNDS):
        system, q, d, _, places = here
        factor = system.exact(active.to(q.dtype) * HARD) if factor is None else factor
        z, w, force, room = factor.refine(-q, d, z, w, (largest(z_near), largest(w_near)))
        excess = times(system.c, z) - d
        reach = torch.maximum(z.abs(), z_near)
        # No larger than q and d make it: a z on its way to infinity would excuse the force that drives it there.
        most = (largest(q) / PROXIMAL + HARD * largest(d)).clamp(min=1.0)  # 1 where both are 0, and so is z
        z_size = torch.minimum(largest(reach), most)
        force_size = largest(q) + largest(torch.maximum(w.abs(), w_near))
        # Not of the multipliers' size: those of rows that contradict have none, and would excuse the contradiction.
        along = (largest(q) + z_size) / HARD
        slack = NEAR * eps * (d.abs() + (z_size + along).unsqueeze(-1))
        load = NEAR * eps * (force_size + z_size).unsqueeze(-1)
        wrong = ~equation & torch.where(active, w < -load, excess > slack)
        stays = ~wrong.any(-1)
        good = stays & (room.abs() <= slack).all(-1) & (force.abs() <= load).all(-1)
        if bool(good.any()):
            reach = times(system.c.abs(), reach) + d.abs() + along.unsqueeze(-1)
            held = active | (excess.abs() <= NEAR * eps * reach)
            w = torch.where(equation, w, w.clamp(min=0))  # what is below 0 is above −load
            least = factor.least
            told = torch.where(least < FAINTEST[1], LOST, torch.where(least < FAINTEST[0], FAINT, FOUND)).to(torch.int8)
            some = slice(None) if bool(good.all()) else good  # a mask of everything copies all the same
            where = places[some]
            out.z[where], out.w[where], out.active[where], out.code[where] = z[some], w[some], held[some], told[some]
            solved[which[some]] = True
        if bool(stays.all()):
            break
        active, factor = active ^ wrong, None
        z, w, active, which, z_near, w_near = (x[~stays] for x in (z, w, active, which, z_near, w_near))
        here = here.take(~stays)
    return solved


def prove(program: Program, out: Optimum) -> Tensor:
    """Write code and proof of the elements that have no solution, and say which.

    The proofs of infeasibility are a cone, along which dᵀw falls most at the projection of −d, and so are the
    directions of recession, with qᵀz: both projections are quadratic programs that have solutions.
    """
    system, q, d, p, index = program
    signs = -torch.eye(d.shape[-1], dtype=d.dtype, device=d.device)[p:]
    w, empty = _projected(-d, _stacked(system.c.mT, signs), q.shape[-1])
    z, endless = _projected(-q, _stacked(system.q, system.c), q.shape[-1] + p)
    endless = endless & ~empty
    for kind, mask, whole, proof in ((INFEASIBLE, empty, out.w, w), (UNBOUNDED, endless, out.z, z)):
        whole[index[mask]], out.code[index[mask]] = proof[mask], kind
    return empty | endless


def _projected(point: Tensor, rows: Tensor, equations: int) -> tuple[Tensor, Tensor]:
    """The projection on {x: rows x = 0 in the first, ≤ 0 in the others}, a cone, so that the point may have size 1;
    and whether it is more than rounding.
    """
    size = largest(point).unsqueeze(-1)
    if not point.shape[-1]:
        return point, point.new_zeros(len(point), dtype=torch.bool)
    unit = point / torch.where(size > 0, size, 1.0)
    eye = torch.eye(point.shape[-1], dtype=point.dtype, device=point.device)
    right, index = point.new_zeros(len(point), rows.shape[-2]), torch.arange(len(point), device=point.device)
    found = _search(Program(System(eye, rows), -unit, right, equations, index), None, 3 * PATIENCE, None)
    return found.z, found.code.ne(LIMIT) & (largest(found.z) > NONZERO)


def _stacked(upper: Tensor, lower: Tensor) -> Tensor:
    batch = max(upper.shape[:-2], lower.shape[:-2], key=len)
    return torch.cat([m.expand(*batch, *m.shape[-2:]) for m in (upper, lower)], -2)
