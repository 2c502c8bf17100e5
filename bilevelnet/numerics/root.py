"""Newton's method for F(z) = 0, many systems of n equations side by side, each with a line search of its own."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from .bracket import FOUND, LIMIT, NONE, Found

ARMIJO, TRIALS = 1e-4, 16
JUMPS = 10  # steps that may raise ‖F‖, where F has kinks and no step along Newton's direction lowers it
HOPELESS = 4  # a code beside those of a bracketed root: no step lowers ‖F‖, which is far from 0


class Point(NamedTuple):
    """z, F(z) and ‖F(z)‖ of shape (…, 1)."""

    z: Tensor
    value: Tensor
    size: Tensor


class Slope(Protocol):
    """∂F/∂z at one z."""

    def solve(self, r: Tensor, tol: Tensor | float) -> Tensor:
        """(∂F/∂z)⁻¹ r, to ``tol`` ‖r‖ where it is iterative; not finite where there is none."""

    def rounding(self, z: Tensor) -> Tensor:
        """How far ‖F‖ may be off by the rounding of its terms, from below, of shape (…,)."""


def newton_root(
    residual: Callable[[Tensor], Tensor],
    slope: Callable[[Tensor], Slope],
    start: Tensor,
    max_iter: int = 100,
    tol: float = 0.0,
) -> Found:
    """The roots z of shape (…, n), a code (…,) for each, and the number of Jacobians.

    A step t·d, d = −(∂F/∂z)⁻¹F, is taken where ‖F‖ falls by t/10⁴ of itself. A system is done where ‖F‖ ≤ tol; or where
    Newton's step changes only the last half of the digits of z, so that the root is met to all of them after it; or
    where no step lowers ‖F‖ any more and F is at its rounding.
    """
    half = torch.finfo(start.dtype).eps ** 0.5

    def look(z: Tensor) -> Point:
        value = residual(z)
        return Point(z, value, _norm(value))

    at = look(start)
    first, travel, jumps = at.size, _norm(start), torch.zeros_like(at.size)
    code = torch.where(at.size.isfinite(), LIMIT, NONE)
    iteration = 0
    while True:
        code = torch.where((code == LIMIT) & (at.size <= tol), FOUND, code)
        active = code == LIMIT
        if iteration >= max_iter or not bool(active.any()):
            return Found(at.z, code.squeeze(-1).to(torch.int8), iteration)
        iteration += 1
        # A rough direction will do far from the root (Dembo, Eisenstat & Steihaug, 1982).
        rough = (at.size / first.clamp(min=torch.finfo(start.dtype).tiny)).clamp(half, 0.1)
        here = slope(at.z)
        d = -here.solve(at.value, rough)
        d = torch.where(d.isfinite().all(-1, keepdim=True), d, -at.value)
        level = at.size <= half * first
        near = (_norm(d) <= half * _norm(at.z)) | (level & (_norm(d) <= half * travel))
        whole = look(at.z + d)
        following = _search(look, at, d, whole, active, near)
        moved = following.size < at.size
        rounded = active & ~moved & (near | level | (at.size <= here.rounding(at.z).unsqueeze(-1)))
        jump = active & ~moved & ~rounded & whole.size.isfinite() & (jumps < JUMPS)
        code = torch.where(rounded | (active & moved & near), FOUND, code)
        code = torch.where(active & ~moved & ~rounded & ~jump, HOPELESS, code)
        jumps = jumps + jump
        at = _choose(jump, whole, following)
        travel = torch.maximum(travel, _norm(at.z))


def _search(look: Callable[[Tensor], Point], at: Point, d: Tensor, whole: Point, active: Tensor, near: Tensor) -> Point:
    """The first of the steps t·d, t = 1 and shorter, that lowers ‖F‖ enough; where ``near``, d or none."""
    t, trial, rest, found = torch.ones_like(at.size), whole, active, at
    for _ in range(TRIALS):
        good = rest & (trial.size <= (1 - ARMIJO * t) * at.size)
        found, rest = _choose(good, trial, found), rest & ~good & ~near
        if not bool(rest.any()):
            break
        t = t * torch.where(trial.size.isfinite(), at.size / trial.size, 0.1).clamp(0.1, 0.5)
        trial = look(torch.where(rest, at.z + t * d, at.z))
    return found


def _norm(x: Tensor) -> Tensor:
    return torch.linalg.vector_norm(x, dim=-1, keepdim=True)


def _choose(mask: Tensor, new: Point, old: Point) -> Point:
    return Point(*(torch.where(mask, a, b) for a, b in zip(new, old, strict=True)))
