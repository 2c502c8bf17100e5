"""Polyhedral g: those whose epigraph is given by linear rows, so that with a quadratic φ a quadratic program is left.

g(y) = min_t ⟨linear, y⟩ + ⟨cost, t⟩ subject to E (y, t) = e, R (y, t) ≤ r. A piecewise-linear g has an entry t ≥ 0,
t ≥ y − t_k for each knot t_k at which its slope jumps, an l1 ball and the largest entry have t ≥ |y|.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..numerics.kkt import times
from ..piece import Scalar
from ..values import readable
from .affine_set import AffineSet
from .balls import L1Ball
from .calculus import Scaled
from .linf_norm import LinfNorm
from .piecewise_linear import Pieces, _infinite
from .simplex import CappedSimplex, Simplex
from .translate import Translated
from .tv1d import TV1d


class Epigraph(NamedTuple):
    """For y of k entries: linear (…, k), cost (…, l), E (p, k + l), e (…, p), R (…, m, k + l), r (…, m)."""

    linear: Tensor
    cost: Tensor
    equations: Tensor
    level: Tensor
    rows: Tensor
    bound: Tensor


def epigraph(g: Any, k: int, like: Tensor) -> Epigraph | None:
    """That of a g of k entries along the last dimension, in the dtype of ``like``; None where g is not polyhedral."""
    eye = torch.eye(k, dtype=like.dtype, device=like.device)
    if isinstance(g, Scaled) and (inner := epigraph(g.inner, k, like)) is not None:
        c = g.factor.c
        return inner._replace(linear=c * inner.linear, cost=c * inner.cost)
    if isinstance(g, Translated) and (inner := epigraph(g.body, k, like)) is not None:
        s = _vector(g.offset.s, eye)
        moved = (inner.level + s @ inner.equations[:, :k].mT, inner.bound + times(inner.rows[..., :k], s))
        return inner._replace(level=moved[0], bound=moved[1])
    pieces = None if g.event_ndim else g.pieces()
    if pieces is not None:
        return _ramps(pieces, eye, eye)
    if type(g) in _KNOWN and getattr(g, "dim", -1) == -1:
        return _KNOWN[type(g)](g, eye)
    return None


def _ramps(pieces: Pieces, image: Tensor, eye: Tensor) -> Epigraph:
    """Of Σ h((M y)_i), h piecewise linear: slope·M y + Σ jump·t, t ≥ 0, t ≥ M y − t_k, and the ends as rows."""
    knots, slopes = pieces
    linear = _vector(next((s for s in slopes if not _infinite(s)), 0.0), image[:, 0])
    bounds, jumps = [], []
    for t, left, right in zip(knots, slopes, slopes[1:], strict=False):
        if isinstance(t, float) and math.isinf(t):  # an end that is no constraint
            continue
        if _infinite(left) or _infinite(right):
            if isinstance(t, Tensor) or abs(t) < math.inf:
                sign = -1.0 if _infinite(left) else 1.0
                bounds.append(_row(sign * image, sign * _vector(t, image[:, 0])))
        elif isinstance(left, Tensor) or isinstance(right, Tensor) or left != right:
            jumps.append((_vector(t, image[:, 0]), _vector(right - left, image[:, 0])))
    (m, k), extra = image.shape, len(jumps) * len(image)
    slack = torch.eye(extra, dtype=eye.dtype, device=eye.device)
    rows = [torch.cat([a, a.new_zeros(*a.shape[:-1], extra)], -1) for a, _ in bounds]
    rows += [torch.cat([image, -part], 1) for part in slack.split(m)] if jumps else []
    rows += [torch.cat([slack.new_zeros(extra, k), -slack], 1)]
    bound = joined([*(b for _, b in bounds), *(t for t, _ in jumps), slack.new_zeros(extra)])
    cost = joined([eye[0, :0], *(j for _, j in jumps)])
    return Epigraph(linear @ image, cost, eye.new_zeros(0, k + extra), eye[0, :0], stacked(rows), bound)


def _row(row: Tensor, bound: Tensor) -> tuple[Tensor, Tensor]:
    """The rows, 0 ≤ 1 where there is no bound: with a batch where that differs from element to element."""
    void = bound.detach() == math.inf
    if readable(void) and not bool(void.any()):
        return row, bound
    return torch.where(void.unsqueeze(-1), 0.0, row), torch.where(void, 1.0, bound)


def _simplex(g: Any, eye: Tensor) -> Epigraph:
    rows, bound = [-eye], [eye.new_zeros(len(eye))]
    if isinstance(g, CappedSimplex):
        rows, bound = [*rows, eye], [*bound, _vector(g.cap, eye[0])]
    total = _vector(g.radius, eye[0, :1])
    return Epigraph(0 * eye[0], eye[0, :0], torch.ones_like(eye[:1]), total, torch.cat(rows), joined(bound))


def _affine(g: AffineSet, eye: Tensor) -> Epigraph:
    rows, level = g.equations(eye)
    return Epigraph(0 * eye[0], eye[0, :0], rows, _vector(level, rows[:, 0]), eye[:0], eye[0, :0])


def _l1_ball(g: L1Ball, eye: Tensor) -> Epigraph:
    k, zero = len(eye), torch.zeros_like(eye[0])
    rows = [torch.cat([eye, -eye], 1), torch.cat([-eye, -eye], 1), torch.cat([zero, zero + 1])[None]]
    bound = joined([zero, zero, _vector(g.radius, eye[0, :1])])
    return Epigraph(zero, zero, eye.new_zeros(0, 2 * k), zero[:0], torch.cat(rows), bound)


def _largest(g: LinfNorm, eye: Tensor) -> Epigraph:
    zero, below = torch.zeros_like(eye[0]), -torch.ones_like(eye[:, :1])
    rows = torch.cat([torch.cat([eye, below], 1), torch.cat([-eye, below], 1)])
    none = eye.new_zeros(0, len(eye) + 1)
    return Epigraph(zero, _vector(g.lam, eye[0, :1]), none, zero[:0], rows, torch.cat([zero, zero]))


def _variation(g: TV1d, eye: Tensor) -> Epigraph:
    return _ramps(((0.0,), (-g.lam, g.lam)), eye.diff(dim=0), eye)


_KNOWN: dict[type, Callable[[Any, Tensor], Epigraph]] = {
    Simplex: _simplex,
    CappedSimplex: _simplex,
    AffineSet: _affine,
    L1Ball: _l1_ball,
    LinfNorm: _largest,
    TV1d: _variation,
}


def _vector(x: Scalar, like: Tensor) -> Tensor:
    """The weight as (…, k), k the length of ``like``."""
    x = torch.as_tensor(x, dtype=like.dtype, device=like.device)
    return x.expand(*x.shape[:-1], len(like)) if x.ndim else x.expand(len(like))


def stacked(matrices: list[Tensor]) -> Tensor:
    """Rows one below the other, with the batch of any."""
    batch = torch.broadcast_shapes(*(m.shape[:-2] for m in matrices))
    return torch.cat([m.expand(*batch, *m.shape[-2:]) for m in matrices], -2)


def joined(parts: list[Tensor], batch: tuple[int, ...] = ()) -> Tensor:
    """Vectors one behind the other, with the batch of any, and ``batch``."""
    batch = torch.broadcast_shapes(batch, *(p.shape[:-1] for p in parts))
    return torch.cat([p.expand(*batch, p.shape[-1]) for p in parts], -1)
