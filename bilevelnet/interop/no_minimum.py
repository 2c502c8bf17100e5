"""Why no minimum of a declarative node was met: its constraints have no common point, or f falls for ever."""

from __future__ import annotations

import torch
from torch import Tensor

from .method_of_multipliers import Constrained, MethodOfMultipliers

NOWHERE, ENDLESS = 8, 9  # codes beside those of a root
FAR = (1e3, 1e6)  # times the way of the search, at which f is looked at


class _Violation:
    """½‖h‖² + ½‖max(g, 0)‖² alone: what the augmented objective is for f = 0 and multipliers 0."""

    def __init__(self, of: Constrained):
        self.constraints, self.largest = of.constraints, of.largest

    def objective(self, y: Tensor, xs: tuple[Tensor, ...], batch: torch.Size) -> Tensor:
        return y.new_zeros(batch)


def why(equation: Constrained, start: Tensor, w: Tensor, inputs: tuple[Tensor, ...]) -> Tensor:
    """A code an element, for a search from ``start`` that ended at w without a minimum; 0 where neither is seen.

    NOWHERE: from w on, the violation of the constraints has a local minimum that is not 0. ENDLESS: along the way of
    the search f is less a thousand times farther on, and no more a million times, where the constraints hold too.
    """
    of = MethodOfMultipliers(_Violation(equation), inputs, w)
    first, last = start[..., : of.n], w[..., : of.n]
    last = torch.where(last.isfinite(), last, first)
    of.nu, of.mu = (torch.zeros_like(c) for c in of.constraints(first))
    of.rho = torch.ones_like(of.rho)
    half = torch.finfo(w.dtype).eps ** 0.5

    def missed(y: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(‖v‖, ‖∂c‖, whether v is no rounding) of the violation v of the constraints c."""
        c = of.constraints(y)
        size, rows = of.violation(*c).squeeze(-1), torch.linalg.matrix_norm(of.rows(y))
        return size, rows, size > half * (rows * torch.linalg.vector_norm(y, dim=-1) + before)

    before = of.violation(*of.constraints(first)).squeeze(-1)
    nearest = of.inner(last).x
    size, rows, apart = missed(nearest)
    for y in (first, last):
        rows = torch.maximum(rows, torch.linalg.matrix_norm(of.rows(y)))
    pull = torch.linalg.vector_norm(of.force(nearest), dim=-1)
    nowhere = apart & (pull <= 1e-4 * rows * size)  # the minimum is met to half of the digits
    moved = torch.linalg.vector_norm(last - first, dim=-1)
    still = moved <= half * torch.linalg.vector_norm(last, dim=-1)  # a way of rounding has no direction
    way = torch.where((nowhere | still).unsqueeze(-1), torch.nan, last - first)
    points = [last, *(last + s * way for s in FAR)]
    values = [equation.objective(y.reshape(inputs[0].shape), inputs[1:], of.batch) for y in points]
    falls = (values[0] > values[1]) & (values[1] >= values[2])
    for y in points:
        falls = falls & ~missed(y)[2]
    return torch.where(nowhere, NOWHERE, torch.where(falls, ENDLESS, 0))
