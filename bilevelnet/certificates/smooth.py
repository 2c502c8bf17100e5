"""Smooth functions that couple the entries of a vector: Newton steps on the derivatives of their values."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ..domains import Interval
from ..legendre import Legendre
from ..regularizers import Regularizer
from ..solvers.newton import rough
from .compare import EPS
from .roots import chart, rate

Solve = Callable[[Tensor], Tensor]

STEPS, HALVINGS = 60, 30
RESTING = EPS**0.5  # of s: a step whose square is rounding; where there is no minimiser steps stay long


def choose(phi: Legendre, g: Regularizer) -> tuple[str, Solve] | None:
    """The solution for φ steep, on ℝⁿ or a box, and g without kinks."""
    pieces = (phi, *g.terms())
    if max(p.event_ndim for p in pieces) != 1 or not phi.steep or any(rough(t) for t in g.terms()):
        return None
    if not all(isinstance(p.domain, Interval) and p.domain in (phi.domain, Interval()) for p in pieces):
        return None
    return "Newton steps on the derivatives of the values", Smooth(phi, g)


class Smooth:
    """argmin F(z) = φ(z) + g(z) − ⟨z, v⟩ over s, z = chart(s): s moves by −(dz/ds)⁻¹ (∇²F)⁻¹ ∇F.

    A step is halved until F falls, or its gradient to a half. From where it is short two more go in full length.
    """

    def __init__(self, phi: Legendre, g: Regularizer):
        self.pieces, self.ends = (phi, *g.terms()), (phi.domain.lo, phi.domain.hi)

    def __call__(self, v: Tensor) -> Tensor:
        s = v / (1 + v.abs())  # off 0, where the Hessian of a power is singular
        value, slope, step = self._at(s, v)
        for _ in range(STEPS):
            old = (s, value, slope, step)
            length = torch.where(_short(step, s), 0.0, torch.ones_like(value))
            for _ in range(HALVINGS):
                trial = s + length * step
                new = (trial, *self._at(trial, v))
                better = (new[1] < value) | (new[2] <= slope / 2) | (length == 0)
                if bool(better.all()):
                    break
                length = torch.where(better, length, length / 2)
            s, value, slope, step = (torch.where(better, b, a) for a, b in zip(old, new, strict=True))
            if bool(((length == 0) | ~better).all()):
                break
        rests = _short(step, s)
        for _ in range(2):
            s = s + step
            step = self._at(s, v)[2]
        return torch.where(rests, chart(s, *self.ends), torch.nan)

    def _at(self, s: Tensor, v: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """F, the size of ∇F, and Newton's step in s, of each vector."""
        with torch.enable_grad():
            z = chart(s, *self.ends).requires_grad_()
            values = [p.value(z) if p.event_ndim else p.value(z).sum(-1) for p in self.pieces]
            value = sum(values) - (z * v).sum(-1)
            (gradient,) = torch.autograd.grad(value.sum(), z, create_graph=True)
            rows = [torch.autograd.grad(d.sum(), z, retain_graph=True)[0] for d in gradient.unbind(-1)]
        gradient = gradient.detach()
        step, _ = torch.linalg.solve_ex(torch.stack(rows, -2), gradient.unsqueeze(-1))
        step = -step.squeeze(-1) / rate(s, *self.ends)
        return value.detach().unsqueeze(-1), gradient.abs().amax(-1, keepdim=True), step


def _short(step: Tensor, s: Tensor) -> Tensor:
    return (step.abs() <= RESTING * (1 + s.abs())).all(-1, keepdim=True)
