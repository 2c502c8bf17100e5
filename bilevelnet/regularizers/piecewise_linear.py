"""Convex piecewise-linear g: l1, quantile, box and their like are all of it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ..domains import Interval
from ..errors import InputError
from ..numerics import select
from ..piece import Scalar
from .base import Separable


class Piecewise(Separable):
    """Base of every piecewise-linear g: a subclass gives ``pieces()`` = (knots, slopes), and all follows.

    Infinite end slopes are constraints: s_0 = −∞ is z ≥ t_1, s_K = ∞ is z ≤ t_K.
    """

    slope_names: tuple[str, ...] = ()  # of the slopes, for explain

    def pieces(self) -> tuple[Sequence[Scalar], Sequence[Scalar]]:
        raise NotImplementedError(f"{self.label} does not state pieces()")

    @property
    def domain(self) -> Interval:  # type: ignore[override]
        knots, slopes = self.pieces()
        lo = knots[0] if _infinite(slopes[0]) else -math.inf
        hi = knots[-1] if _infinite(slopes[-1]) else math.inf
        return Interval(lo, hi)

    def value(self, z: Tensor) -> Tensor:
        knots, slopes = self.pieces()
        total = torch.zeros_like(z)
        # From the first finite slope on, one ramp a knot; g = 0 at the first knot.
        if not _infinite(slopes[0]):
            total = total + slopes[0] * (z - knots[0]).clamp(max=0)
        for k, slope in enumerate(slopes[1:]):
            if not _infinite(slope):
                ramp = (z - knots[k]).clamp(min=0)
                if k + 1 < len(knots):
                    ramp = torch.minimum(ramp, torch.as_tensor(knots[k + 1] - knots[k], dtype=z.dtype, device=z.device))
                total = total + slope * ramp
        return total

    def derivatives(self, z: Tensor) -> tuple[Tensor, Tensor]:
        knots, slopes = self.pieces()
        left = right = slopes[0] + torch.zeros_like(z)
        for t, s in zip(knots, slopes[1:], strict=True):
            left, right = torch.where(z > t, s, left), torch.where(z >= t, s, right)
        return left, right

    def prox(self, v: Tensor, step: Scalar = 1.0) -> Tensor:
        knots, slopes = self.pieces()
        scaled = [s if _infinite(s) else step * s for s in slopes]
        return select(v, scaled[-1], zip(knots, scaled[:-1], strict=True))

    def expression(self, z: Any) -> Any:
        import cvxpy as cp

        knots, slopes = self.pieces()
        lo, hi = self.domain.lo, self.domain.hi
        constraints = [*([z >= lo] if lo != -math.inf else []), *([z <= hi] if hi != math.inf else [])]
        finite = [s for s in slopes if not _infinite(s)]
        inner = list(knots[1 if _infinite(slopes[0]) else 0 :])[: len(finite) - 1]
        total = finite[0] * cp.sum(z - knots[0])
        for t, (s, after) in zip(inner, zip(finite[:-1], finite[1:], strict=True), strict=True):
            total = total + (after - s) * cp.sum(cp.pos(z - t))
        return total, constraints


class PiecewiseLinear(Piecewise):
    """g with slope s_0 below t_1, s_k on [t_k, t_{k+1}], s_K above t_K, and g(t_1) = 0.

    knots: K ≥ 1 increasing numbers; slopes: K + 1 nondecreasing numbers, the two end ones possibly infinite.
    Raises InputError where the counts differ, the knots do not increase or the slopes decrease (not convex).
    """

    key = "piecewise_linear"
    examples = (
        {"knots": (-0.5, 0.25, 0.6), "slopes": (-1.0, -0.2, 0.3, 2.0)},
        {"knots": (0.1, 0.4, 0.9), "slopes": (-math.inf, -0.5, 0.5, math.inf)},
    )

    def __init__(self, knots: Sequence[float], slopes: Sequence[float]):
        super().__init__()
        self.knots, self.slopes = tuple(float(t) for t in knots), tuple(float(s) for s in slopes)
        if len(self.slopes) != len(self.knots) + 1 or not self.knots:
            raise InputError(
                f"piecewise_linear: K ≥ 1 knots need K + 1 slopes, not {len(self.knots)} and {len(self.slopes)}"
            )
        if any(a >= b for a, b in zip(self.knots, self.knots[1:], strict=False)) or any(map(math.isinf, self.knots)):
            raise InputError(f"piecewise_linear: knots must be finite and increase, not {self.knots}")
        if any(not a <= b for a, b in zip(self.slopes, self.slopes[1:], strict=False)):
            raise InputError(f"piecewise_linear: slopes must not decrease (g would not be convex), not {self.slopes}")
        if any(map(math.isinf, self.slopes[1:-1])) or self.slopes[0] == math.inf or self.slopes[-1] == -math.inf:
            raise InputError("piecewise_linear: only the first slope may be −∞ and the last one ∞")

    def pieces(self) -> tuple[Sequence[Scalar], Sequence[Scalar]]:
        return self.knots, self.slopes

    def extra_repr(self) -> str:
        return f"knots={self.knots}, slopes={self.slopes}"


def _infinite(slope: Scalar) -> bool:
    return not isinstance(slope, Tensor) and math.isinf(slope)
