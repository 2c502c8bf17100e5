"""Scales of quadratic programs in which the least and the largest entries of Q and of each row of C are about 1."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from .kkt import System, largest

ROUNDS = 2


class Scaled(NamedTuple):
    """System of Q̃ = T Q T/γ and C̃ = S C T, with z = T z̃ and w = γ S w̃, all of them powers of two."""

    system: System
    t: Tensor
    s: Tensor
    cost: Tensor


def scaled(q_matrix: Tensor, c: Tensor, q: Tensor, d: Tensor) -> Scaled:
    """The scaled system; where Q = 0, γ makes q/γ as large as d."""
    t, s = _scales(q_matrix, c)
    size = (q_matrix * t.unsqueeze(-1) * t.unsqueeze(-2)).abs().amax((-2, -1))
    cost = _power_of_two(torch.where(size > 0, size, _some(largest(q * t)) / _some(largest(d * s)))).unsqueeze(-1)
    size = _power_of_two(_some(size))
    q_matrix = q_matrix * ((t / size.unsqueeze(-1)).unsqueeze(-1) * t.unsqueeze(-2))
    return Scaled(System(q_matrix, c * (s.unsqueeze(-1) * t.unsqueeze(-2))), t, s, cost)


def _scales(q_matrix: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
    """(t, s) for which the rows of S C T have norm 1, and the columns of [T Q T/γ; S C T] norms about 1.

    Ruiz, A scaling algorithm to equilibrate both rows and columns norms in matrices (2001); what is only a matter of
    units, of the rows of C and of the objective, is taken off at once.
    """
    batch = max((q_matrix.shape[:-2], c.shape[:-2]), key=len)
    t = q_matrix.new_ones(*batch, q_matrix.shape[-1])
    for _ in range(ROUNDS):
        curvature = t * _norms(q_matrix, t)
        unit = curvature.amax(-1, keepdim=True)
        curvature, s = curvature / torch.where(unit > 0, unit, 1.0), 1 / _some(_norms(c, t))
        t = t / _some((curvature**2 + (t * _norms(c.mT, s)) ** 2).sqrt()).sqrt()
    return _power_of_two(t), _power_of_two(1 / _some(_norms(c, t)))


def _norms(matrix: Tensor, x: Tensor) -> Tensor:
    """The norm of each row of M diag(x)."""
    if not matrix.shape[-1]:
        return matrix.new_zeros(matrix.shape[:-1])
    return torch.linalg.vector_norm(matrix * x.unsqueeze(-2), dim=-1)


def _some(x: Tensor) -> Tensor:
    return torch.where(x > 0, x, 1.0)


def _power_of_two(x: Tensor) -> Tensor:
    return x.log2().round().exp2()
