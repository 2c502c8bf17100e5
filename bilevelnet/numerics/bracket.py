"""A bracketing root search for increasing functions, entry by entry."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

# Codes of a search, per entry: found; stopped at max_iter; no change of sign; f jumps over 0 at x.
FOUND, LIMIT, NONE, JUMP = 0, 1, 2, 3

# (value, slope, and a call that gives the size of the terms of the value, asked for at few x only)
Evaluation = tuple[Tensor, Tensor, Callable[[], Tensor]]
Function = Callable[[Tensor], Evaluation]


class Found(NamedTuple):
    """The root x of each entry, its code, and the number of evaluations."""

    x: Tensor
    code: Tensor
    iterations: int


def bracketed_root(f: Function, start: Tensor, max_iter: int = 100, tol: float = 0.0) -> Found:
    """x with f(x) = 0 for f increasing on ℝ, jumps allowed; f as ``Function`` says.

    Newton where it stays inside the bracket and halves the step before; else, while a side is open, a step outward
    that grows beyond all bounds in some 20 steps, and then bisection in asinh x, some 60 from any bracket; within
    eps/16 of 0 in log x, 0 and the least number first, so that a root at 0 is told from one at 1e-300. A Newton step
    far beyond such a step is not taken: where f is almost flat it would leave for 1e300. A value of ±∞ counts by its
    sign, NaN as a step too far, and where the search starts as no value at all. An entry is done where |value| ≤ tol or
    below the rounding of its terms, where Newton no longer moves x, or where the bracket is down to neighbouring
    floats: there f jumps, and 0 is taken where the bracket holds it. On a GPU the host looks every eighth step.
    """
    eps, tiny = torch.finfo(start.dtype).eps, torch.finfo(start.dtype).tiny
    x, best, size_of_step, reach = start, start, torch.full_like(start, torch.inf), 1 + start.abs()
    lo, hi = torch.full_like(x, -torch.inf), torch.full_like(x, torch.inf)
    code = torch.full_like(x, LIMIT, dtype=torch.int8)
    iteration = 0
    for iteration in range(1, max_iter + 1):
        value, slope, size_of = f(x)
        size = size_of()
        size = torch.where(size.isinf(), 0.0, size)  # of terms that overflow: then a value is no rounding of them
        lost = value.isnan() & (x == best)
        value = torch.where(value.isnan() & ~lost, torch.where(x > best, torch.inf, -torch.inf).to(x.dtype), value)
        best = torch.where(value.isinf(), best, x)
        below = value < 0
        lo, hi = torch.where(below, torch.maximum(lo, x), lo), torch.where(below | lost, hi, torch.minimum(hi, x))
        step = torch.where(slope.isinf(), torch.nan, value / slope)
        newton, moved = x - step, step.abs()
        small = value.isfinite() & ((value.abs() <= tol) | (value.abs() <= 2 * eps * size))
        resting = value.isfinite() & (moved <= eps * x.abs())
        width = hi - lo
        is_open = width.isinf()
        size_of_x = torch.maximum(lo.abs(), hi.abs())
        ulps = (2 * eps * size_of_x).clamp(min=tiny)
        tight = ~is_open & (width <= ulps)
        active = code == LIMIT
        # At a jump the value is far above rounding and what the slope gives over some ulp, of x and of terms of size 1.
        some = 16 * ulps.clamp(min=eps / 16)
        rounded = value.isfinite() & (value.abs() <= torch.maximum(slope * some, 64 * eps * size))
        jump = tight & ~resting & ~rounded
        zero_inside = (lo <= 0) & (hi >= 0)
        ended = small | resting | tight
        free = (newton >= lo) & (newton <= hi) & _short(moved, x)
        last = torch.where(jump, torch.where(zero_inside, 0.0, x), torch.where(free, newton, x))
        inside = (newton > lo) & (newton < hi) & (2 * moved <= size_of_step) & ~(is_open & (moved > 64 * reach))
        middle = torch.where(
            width <= 0.5 * (1 + lo.abs()), lo + width / 2, torch.sinh((torch.asinh(lo) + torch.asinh(hi)) / 2)
        )
        near_zero = size_of_x <= eps / 16
        middle = torch.where(near_zero, _middle_near_zero(lo, hi, tiny), middle)
        inside &= ~(near_zero & zero_inside)  # Newton halves x without end where f jumps at 0 from a value near 0
        other = torch.where(is_open, torch.where(below, x + reach, x - reach), middle)
        reach = torch.where(is_open & ~inside, torch.maximum(4 * reach, reach**1.5), reach)
        size_of_step = torch.where(inside, moved, torch.inf)
        step_to = torch.where(inside, newton, other)
        spent = ~ended & step_to.isinf()
        code = torch.where(
            active & (ended | spent), torch.where(spent, NONE, torch.where(jump, JUMP, FOUND)).to(torch.int8), code
        )
        x = torch.where(active, torch.where(ended, last, torch.where(spent, x, step_to)), x)
        if (not x.is_cuda or iteration % 8 == 0) and not bool((code == LIMIT).any()):
            break
    return Found(x, code, iteration)


def _middle_near_zero(lo: Tensor, hi: Tensor, tiny: float) -> Tensor:
    """0 between the signs, the least normal number beside 0, else the geometric mean."""
    mean = hi.sign() * (lo.abs().clamp(min=tiny).sqrt() * hi.abs().clamp(min=tiny).sqrt())
    return torch.where(lo == 0, tiny, torch.where(hi == 0, -tiny, torch.where(lo * hi.sign() < 0, 0.0, mean)))


def newton(f: Function, start: Tensor, first: int, steps: int, tol: float = 0.0) -> Found:
    """Bare Newton steps from ``start``, ``steps`` at most: FOUND where |f| is below tol or the rounding of x and of the
    terms of f, else LIMIT. It looks whether all are at evaluation ``first`` and every other one; on a GPU at the end.
    """
    eps, tiny, x = torch.finfo(start.dtype).eps, torch.finfo(start.dtype).tiny, start
    iteration = 0
    for iteration in range(1, steps + 1):
        value, slope, size = f(x)
        step = x - value / slope
        if iteration == steps or (iteration >= first and (iteration - first) % 2 == 0 and not x.is_cuda):
            rounding = 2 * eps * size() + slope * (2 * eps * x.abs()) + max(tol, tiny)
            found = (value.abs() < rounding) & (rounding < torch.inf)  # terms that overflow round nothing
            if iteration == steps or bool(found.all()):
                break
        x = step
    return Found(torch.where(_short(step - x, x), step, x), torch.where(found, FOUND, LIMIT).to(torch.int8), iteration)


def _short(step: Tensor, x: Tensor) -> Tensor:
    """Whether a last Newton step, which costs nothing, moves x by its rounding alone.

    A longer one comes of a value that is all rounding and of a small slope; the function may bend within it.
    """
    return step.abs() <= 64 * torch.finfo(x.dtype).eps * x.abs()
