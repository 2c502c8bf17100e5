"""Euclidean norms with the derivative 0 at 0, to second order, and no overflow in the squares."""

from __future__ import annotations

import torch
from torch import Tensor


def norm(x: Tensor, dims: tuple[int, ...]) -> Tensor:
    """‖x‖ over ``dims``, kept as 1: m ‖x/m‖ with m = max |x| held fixed, which is exact since ‖·‖ is homogeneous."""
    unit = _unit(x.detach().abs().amax(dims, keepdim=True))
    return _root((x / unit).square().sum(dims, keepdim=True), unit)


def group_norms(x: Tensor, groups: Tensor, count: int, dim: int) -> Tensor:
    """‖x_G‖ for each of ``count`` groups along ``dim``; entry i belongs to group ``groups[i]``."""
    shape = list(x.shape)
    shape[dim] = count
    index = groups.reshape([-1 if d == dim % x.ndim else 1 for d in range(x.ndim)]).expand(x.shape)
    largest = x.new_zeros(shape).scatter_reduce(dim, index, x.detach().abs(), "amax")
    unit = _unit(largest)
    squares = (x / unit.gather(dim, index)).square()
    return _root(x.new_zeros(shape).scatter_add(dim, index, squares), unit)


def _unit(largest: Tensor) -> Tensor:
    return torch.where((largest > 0) & largest.isfinite(), largest, 1.0)


def _root(square: Tensor, unit: Tensor) -> Tensor:
    # The root is taken away from 0 only, so that neither it nor its derivatives are infinite there.
    zero = square.detach() == 0
    return torch.where(zero, 0.0, torch.where(zero, 1.0, square).sqrt() * unit)
