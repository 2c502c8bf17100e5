"""Damped Newton steps for many smooth convex problems min_x E(z(x)) side by side, each with a line search of its own.

The unknown x is a coordinate of z in which the domain of E is the whole space, so that no step leaves it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from .bracket import FOUND, LIMIT, NONE, Found

STALLED, INDEFINITE = 4, 5  # codes beside those of a bracketed root: no descent left; E is not convex at x
ARMIJO, SHRINK, GROW = 1e-4, 0.1, 4.0  # of a step: the fall asked of E, the least and the largest change of t
REUSE = 0.1  # a Hessian serves again as long as it brought the gradient down by this factor
FALLS = 0.9  # of |∇E|, where E itself no longer tells: more than rounding changes


class Probe(NamedTuple):
    """At x: E and the size of its terms (…, 1), ∇E = dE/dz and the size of its terms (…, n)."""

    value: Tensor
    value_size: Tensor
    force: Tensor
    force_size: Tensor


class Factored(Protocol):
    """The Hessian of E at a point. ``shifted`` (…, 1): where it was not positive definite; ``factored``: whether it was
    costly, so that it serves again.
    """

    shifted: Tensor
    factored: bool

    def step(self, force: Tensor) -> tuple[Tensor, Tensor]:
        """(the Newton step in x, λ² = ⟨∇E, H⁻¹∇E⟩ of shape (…, 1))."""


def minimise(
    probe: Callable[[Tensor], Probe],
    factor: Callable[[Tensor, Any], Factored],
    start: Tensor,
    max_iter: int = 200,
    tol: float = 0.0,
) -> Found:
    """The minimisers x of shape (…, n), their codes of the same shape, and the number of evaluations of ∇E.

    ``factor(x, last)``: the Hessian at x, ``last`` being the one before.

    A step t·d is taken where E falls by t λ²/10⁴, or, where λ² is below the rounding of E, where |∇E| falls; else t
    shrinks to the minimum of the parabola through what is known. An element is done where |∇E| ≤ tol or below the
    rounding of its terms, or where λ² is and a fresh Newton step does not bring |∇E| down. The others go on
    without it. A Hessian that was factored is kept as long as its steps bring every |∇E| down tenfold.
    """
    eps = torch.finfo(start.dtype).eps
    x, at = start, probe(start)
    code = torch.full_like(at.value, LIMIT, dtype=torch.int8)
    size, largest, t = _norm(at.force), _norm(at.force_size), torch.ones_like(at.value)
    endless = at.value_size.clamp(min=1.0) / eps  # an E that fell as far below 0 has no floor
    hessian: Factored | None = None
    step, decrease, fresh, onward = x, at.value, True, True
    iteration = 1
    while True:
        code = torch.where((code == LIMIT) & ~(at.value.isfinite() & size.isfinite()), NONE, code)
        code = torch.where((code == LIMIT) & (size <= (4 * eps * _norm(at.force_size)).clamp(min=tol)), FOUND, code)
        active = code == LIMIT
        if iteration >= max_iter or not bool(active.any()):
            break
        iteration += 1
        if onward:
            hessian = factor(x, hessian) if fresh or hessian is None else hessian
            step, decrease = hessian.step(torch.where(active, at.force, 0.0))
        trial = torch.where(active, x + t * step, x)
        new = probe(trial)
        # A difference of two values of E, each wrong by some 4 eps of its terms.
        new_size, near = _norm(new.force), decrease <= 8 * eps * at.value_size
        falls = (new.value <= at.value - ARMIJO * t * decrease) & ~new.force.isnan().any(-1, keepdim=True)
        good = active & torch.where(near, new_size < FALLS * size, falls)
        resting = t * _norm(step) <= eps * (_norm(x) + _norm(step))
        ended = active & ~good & (near | resting) if fresh else torch.zeros_like(active)
        # Where even Newton's step leaves a gradient of more than half of the digits, E has a kink.
        lost = torch.where(at.value < -endless, NONE, STALLED)
        code = torch.where(ended, torch.where(size <= eps**0.5 * largest, FOUND, lost).to(torch.int8), code)
        rejected = active & ~good & ~ended
        shorter = _shorter(t, new.value - at.value, decrease)
        t = torch.where(rejected, shorter, (GROW * t).clamp(max=1.0)) if fresh else torch.ones_like(t)
        reuse = not bool((rejected | good & (new_size > REUSE * size)).any())
        x, at = torch.where(good, trial, x), Probe(*(torch.where(good, b, a) for a, b in zip(at, new, strict=True)))
        size, largest = torch.where(good, new_size, size), torch.maximum(largest, _norm(at.force_size))
        onward = not fresh or bool(good.any())
        fresh = not (onward and reuse and hessian is not None and hessian.factored)
    hessian = factor(x, None) if hessian is None else hessian
    code = torch.where(hessian.shifted & (code == FOUND), INDEFINITE, code).to(torch.int8)
    return Found(x, code.expand_as(x).contiguous(), iteration)


def _norm(x: Tensor) -> Tensor:
    return torch.linalg.vector_norm(x, dim=-1, keepdim=True)


def _shorter(t: Tensor, rise: Tensor, decrease: Tensor) -> Tensor:
    """Where the parabola with E' = −λ² at 0 and E(t) − E(0) = ``rise`` is least, in [t/10, t/2]."""
    best = decrease * t**2 / (2 * (rise + decrease * t))
    return torch.where(best.isfinite(), torch.minimum(torch.maximum(best, SHRINK * t), t / 2), SHRINK * t)


def attached(residual: Callable[[Tensor], Tensor], root: Tensor, inverse: Callable[[Tensor], Tensor]) -> Tensor:
    """``attach`` for vectors: the root of F(z; θ) = 0 with its derivatives, ``inverse`` = (∂F/∂z)⁻¹ held fixed."""
    root = root.detach()
    for _ in range(2):
        value = residual(root)
        root = root - inverse(value - value.detach())
    return root
