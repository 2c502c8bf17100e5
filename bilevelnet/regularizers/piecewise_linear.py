"""Convex piecewise-linear g: l1, quantile, box and their like are all of it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from ..domains import Interval
from ..errors import InputError
from ..numerics import select
from ..piece import Scalar
from .base import Regularizer, Separable, as_constant

Pieces = tuple[Sequence[Scalar], Sequence[Scalar]]


class Piecewise(Separable):
    """Base of every piecewise-linear g: a subclass gives ``pieces()`` = (knots, slopes), and all follows.

    Infinite end slopes are constraints: s_0 = −∞ is z ≥ t_1, s_K = ∞ is z ≤ t_K.
    """

    slope_names: tuple[str, ...] = ()  # of the slopes, for explain

    def pieces(self) -> Pieces:
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

    def grad(self, z: Tensor) -> Tensor:
        return self.derivatives(z)[1]  # autograd adds up both sides of a knot

    def prox(self, v: Tensor, step: Scalar = 1.0) -> Tensor:
        knots, slopes = self.pieces()
        scaled = [s if _infinite(s) else step * s for s in slopes]
        jumps = (
            (t, left)
            for t, left, right in zip(knots, scaled, scaled[1:], strict=False)
            if isinstance(left, Tensor) or isinstance(right, Tensor) or left != right  # with λ = 0 nothing jumps
        )
        return select(v, scaled[-1], jumps)

    def conjugate(self, y: Tensor) -> Tensor:
        return linear_conjugate(self, [self.pieces()], y)

    def expression(self, z: Any) -> Any:
        import cvxpy as cp

        knots, slopes = ([as_constant(t) for t in part] for part in self.pieces())
        constraints = [*([z >= knots[0]] if _infinite(slopes[0]) else [])]
        constraints += [*([z <= knots[-1]] if _infinite(slopes[-1]) else [])]
        finite = [s for s in slopes if not _infinite(s)]
        inner = list(knots[1 if _infinite(slopes[0]) else 0 :])[: len(finite) - 1]
        total = cp.sum(cp.multiply(finite[0], z - knots[0]))
        for t, (s, after) in zip(inner, pairwise(finite), strict=True):
            total = total + cp.sum(cp.multiply(after - s, cp.pos(z - t)))
        return total, constraints


class PiecewiseLinear(Piecewise):
    """g with slope s_0 below t_1, s_k on [t_k, t_{k+1}], s_K above t_K, and g(t_1) = 0.

    knots: K ≥ 1 increasing numbers; slopes: K + 1 nondecreasing numbers, the two end ones possibly infinite. Either may
    be a tensor with its K or K + 1 values, all finite, along the last dimension, or a Parameter, which learns its
    first value and the logarithms (inverse softplus) of its gaps. Raises InputError where the counts differ, the
    knots do not increase or the slopes decrease (not convex).
    """

    key = "piecewise_linear"
    examples = (
        {"knots": (-0.5, 0.25, 0.6), "slopes": (-1.0, -0.2, 0.3, 2.0)},
        {"knots": (0.1, 0.4, 0.9), "slopes": (-math.inf, -0.5, 0.5, math.inf)},
    )

    def __init__(self, knots: Sequence[float] | Tensor, slopes: Sequence[float] | Tensor):
        super().__init__()
        for name, values in (("knots", knots), ("slopes", slopes)):
            self._hold(name, values)
        count, above = (_count(t) for t in (self.knots, self.slopes))
        if above != count + 1 or count < 1:
            raise InputError(f"piecewise_linear: K ≥ 1 knots need K + 1 slopes, not {count} and {above}")
        if isinstance(self.slopes, tuple) and (
            any(map(math.isinf, self.slopes[1:-1])) or self.slopes[0] == math.inf or self.slopes[-1] == -math.inf
        ):
            raise InputError("piecewise_linear: only the first slope may be −∞ and the last one ∞")

    def check_weights(self) -> None:
        for name in ("knots", "slopes"):
            if f"raw_{name}" not in self._parameters:  # the image of a raw Parameter keeps the order
                self._check_order(name, getattr(self, name))

    def _check_order(self, name: str, values: tuple[float, ...] | Tensor) -> Tensor:
        """The values as a table; InputError where they do not increase, or are not finite."""
        table = values.detach() if isinstance(values, Tensor) else torch.tensor(values, dtype=torch.float64)
        gaps = table.diff(dim=-1)
        if bool(((gaps <= 0) if name == "knots" else ~(gaps >= 0)).any()):
            wanted = "increase" if name == "knots" else "not decrease (g would not be convex)"
            raise InputError(f"piecewise_linear: {name} must {wanted}, not {_shown(values)}")
        if (name == "knots" or isinstance(values, Tensor)) and not bool(table.isfinite().all()):
            raise InputError(f"piecewise_linear: {name} must be finite, not {_shown(values)}; for a constraint add Box")
        return table

    def _hold(self, name: str, values: Sequence[float] | Tensor) -> None:
        if isinstance(values, torch.nn.Parameter):
            table = self._check_order(name, values)
            gaps = table.diff(dim=-1)
            if bool((gaps == 0).any()):
                raise InputError(f"piecewise_linear: learned {name} start with differences above 0")
            raw = torch.cat([table[..., :1], gaps + torch.log(-torch.expm1(-gaps))], -1)
            self.register_parameter(f"raw_{name}", torch.nn.Parameter(raw))
        elif isinstance(values, Tensor):
            self.register_buffer(f"{name}_value", values)
        else:
            self.__dict__[f"_{name}"] = tuple(float(t) for t in values)

    def _held(self, name: str) -> Any:
        raw = self._parameters.get(f"raw_{name}")
        if raw is not None:
            return torch.cat([raw[..., :1], functional.softplus(raw[..., 1:], threshold=40)], -1).cumsum(-1)
        return self._buffers[f"{name}_value"] if f"{name}_value" in self._buffers else self.__dict__[f"_{name}"]

    @property
    def knots(self) -> Any:
        """t_1 < … < t_K: numbers, or a tensor with a graph."""
        return self._held("knots")

    @property
    def slopes(self) -> Any:
        """s_0 ≤ … ≤ s_K, likewise."""
        return self._held("slopes")

    def pieces(self) -> Pieces:
        return tuple(t.unbind(-1) if isinstance(t, Tensor) else t for t in (self.knots, self.slopes))  # type: ignore[return-value]

    def extra_repr(self) -> str:
        return f"knots={_shown(self.knots)}, slopes={_shown(self.slopes)}"


def linear_conjugate(g: Regularizer, pieces: Sequence[Pieces], y: Tensor) -> Tensor:
    """g*(y) = max over the knots t of dom g of t y − g(t), for y between the end slopes, for a sum of ``pieces``."""
    low, high = (sum(p[1][end] for p in pieces) for end in (0, -1))
    best = torch.full_like(y, -torch.inf)
    for t in (0.0, *(t for p in pieces for t in p[0])):  # 0: where g is linear it has no knot
        knot = torch.as_tensor(t, dtype=y.dtype, device=y.device)
        best = torch.maximum(best, torch.where(g.domain.contains(knot), knot * y - g.value(knot), -torch.inf))
    return torch.where((y >= low) & (y <= high), best, torch.inf)


def constraint_pieces(domain: Interval) -> Pieces:
    """(knots, slopes) of the indicator of an interval."""
    low, high = (isinstance(e, Tensor) or math.isfinite(e) for e in (domain.lo, domain.hi))
    knots = [*([domain.lo] if low else []), *([domain.hi] if high else [])]
    return knots, [*([-math.inf] if low else []), 0.0, *([math.inf] if high else [])]


def left_slopes(pieces: Sequence[Pieces]) -> Iterator[tuple[Scalar, Scalar]]:
    """(t, the slope of the sum just left of t) for every knot of every term; no order is needed."""
    for knots, slopes in pieces:
        for t, left, right in zip(knots, slopes, slopes[1:], strict=False):
            if isinstance(left, Tensor) or isinstance(right, Tensor) or left != right:  # with λ = 0 nothing jumps
                yield t, sum(_slope_before(t, *p) for p in pieces)


def _slope_before(t: Scalar, knots: Sequence[Scalar], slopes: Sequence[Scalar]) -> Scalar:
    slope = slopes[0]
    for knot, after in zip(knots, slopes[1:], strict=True):
        if t is knot:  # a term's own knot: the slope before it, whatever the numbers
            return slope
        if isinstance(t, Tensor) or isinstance(knot, Tensor):
            like: Any = t if isinstance(t, Tensor) else knot
            slope = torch.where(
                torch.as_tensor(t > knot, device=like.device), _tensor(after, like), _tensor(slope, like)
            )
        elif t > knot:
            slope = after
    return slope


def _tensor(x: Scalar, like: Tensor) -> Tensor:
    return torch.as_tensor(x, dtype=like.dtype, device=like.device)


def step_slope(slope: Scalar, step: Scalar) -> Scalar:
    """step · slope; an infinite slope is a constraint and stays one."""
    return slope if _infinite(slope) else step * slope


def _infinite(slope: Any) -> bool:
    return not isinstance(slope, Tensor) and abs(slope) == math.inf  # math.isinf does not trace


def _count(values: Any) -> int:
    return values.shape[-1] if isinstance(values, Tensor) else len(values)


def _shown(values: Any) -> Any:
    return f"tensor{tuple(values.shape)}" if isinstance(values, Tensor) else tuple(values)
