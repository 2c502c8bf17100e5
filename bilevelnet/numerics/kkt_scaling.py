"""Scales of quadratic programs in which the least and the largest entries of Q and of each row of C are about 1."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from .kkt import System, largest, times

ROUNDS = 2
FAINT = 1e-280  # a sum of squares below this has lost digits, or has no terms but 0


class Scaled(NamedTuple):
    """System of Q̃ = T Q T/γ and C̃ = S C T, with z = T z̃ and w = γ S w̃, all of them powers of two."""

    system: System
    t: Tensor
    s: Tensor
    cost: Tensor


def scaled(q_matrix: Tensor, c: Tensor, q: Tensor, d: Tensor) -> Scaled:
    """The scaled system of the symmetric part of Q; where Q = 0, γ makes q/γ as large as d."""
    double = q_matrix + q_matrix.mT
    t, s, size = _scales(double, c)
    cost = _power_of_two(torch.where(size > 0, size, _some(largest(q * t)) / _some(largest(d * s)))).unsqueeze(-1)
    share = t / (2 * _power_of_two(_some(size))).unsqueeze(-1)
    matrix = double * (share.unsqueeze(-1) * t.unsqueeze(-2))
    return Scaled(System(matrix, c * (s.unsqueeze(-1) * t.unsqueeze(-2))), t, s, cost)


def _scales(q_matrix: Tensor, c: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """(t, s, γ) for which the rows of S C T have norm 1, and the columns of [T Q T/γ; S C T] norms about 1.

    Ruiz, A scaling algorithm to equilibrate both rows and columns norms in matrices (2001); what is only a matter of
    units, of the rows of C and of the objective, is taken off at once.
    """
    batch = max((q_matrix.shape[:-2], c.shape[:-2]), key=len)
    t = q_matrix.new_ones(*batch, q_matrix.shape[-1])
    q_squares, c_squares = q_matrix.square(), c.square()
    unit = units = q_matrix.new_ones(())
    if _beyond(q_squares.flatten(-2).sum(-1)) or _beyond(c_squares.sum(-1)):
        unit, units = (_power_of_two(_some(largest(x))) for x in (q_matrix.flatten(-2), c))
        q_squares, c_squares = (q_matrix / unit[..., None, None]).square(), (c / units.unsqueeze(-1)).square()
    for last in (*[False] * ROUNDS, True):
        curvature = t * times(q_squares, t.square()).sqrt()
        size = curvature.amax(-1)
        s = 1 / _some(times(c_squares, t.square()).sqrt())
        if not last:
            share = (curvature / _some(size).unsqueeze(-1)).square()
            t = t / _some((share + t.square() * times(c_squares.mT, s.square())).sqrt()).sqrt()
    return _power_of_two(t), _power_of_two(s) / units, size * unit


def _beyond(squares: Tensor) -> bool:
    if not squares.numel():
        return False
    least, most = torch.aminmax(squares)
    return bool((least < FAINT) | most.isinf())


def _some(x: Tensor) -> Tensor:
    return torch.where(x > 0, x, 1.0)


def _power_of_two(x: Tensor) -> Tensor:
    return x.log2().round().exp2()
