"""Functions that start with their second-order term, without the cancellation of the first-order ones."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def log1p_minus(x: Tensor) -> Tensor:
    """log(1 + x) − x for x > −1.

    With t = x/(2 + x): log(1 + x) = 2 artanh t and 2t − x = −xt, so near 0 it is t(−x + 2t²(1/3 + t²/5 + …)).
    """
    near = (x > -0.5) & (x < 1)
    small = torch.where(near, x, 0.0)
    t = small / (2 + small)
    square = t * t  # at most 1/9: the eighteenth term is below 1e-17
    series = square / 37
    for n in range(35, 3, -2):
        series = (series + 1 / n) * square
    return torch.where(near, t * (2 * square * (series + 1 / 3) - small), x.log1p() - x)


def expm1(x: Tensor) -> Tensor:
    """e^x − 1, with the derivative e^x to its last digit: that of torch.expm1 is its own value + 1."""
    far = x < -1
    return torch.where(far, torch.where(far, x, 0.0).exp() - 1, torch.where(far, 0.0, x).expm1())


def expm1_minus(x: Tensor) -> Tensor:
    """e^x − 1 − x."""
    near = x.abs() < 1
    small = torch.where(near, x, 0.0)
    series = 1 + small / 19  # x²/2 (1 + x/3 (1 + x/4 (…))), cut at x¹⁹/19!
    for n in range(18, 2, -1):
        series = 1 + small / n * series
    return torch.where(near, small * small / 2 * series, x.expm1() - x)


def log_cosh(x: Tensor) -> Tensor:
    """log cosh x."""
    near = x.abs() < 1
    small = torch.where(near, x, 0.0)
    return torch.where(near, (2 * (small / 2).sinh() ** 2).log1p(), torch.logaddexp(x, -x) - math.log(2))


def two_sided_entropy(t: Tensor) -> Tensor:
    """½[(1 + t) log(1 + t) + (1 − t) log(1 − t)] for −1 ≤ t ≤ 1, the conjugate of log cosh."""
    near = t.abs() < 0.5
    small = torch.where(near, t, 0.0)
    far = torch.special.xlog1py(1 + t, t) + torch.special.xlog1py(1 - t, -t)
    return torch.where(near, small * small.atanh() + (-small * small).log1p() / 2, far / 2)
