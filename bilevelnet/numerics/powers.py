"""Powers of numbers of either sign and of vectors, with their derivative at 0."""

from __future__ import annotations

import torch
from torch import Tensor

from .norms import norm

Scalar = float | Tensor


def signed_power(x: Tensor, e: Scalar) -> Tensor:
    """sign(x)|x|^e for e > 0.

    Its slope at 0 is 0 for e > 1, 1 for e = 1, and infinite for e < 1: there √max, of the dtype's largest number,
    stands for it, so that 0 times it, as where a kink of g holds x at 0, is 0.
    """
    size = torch.where(x < 0, -x, x)
    inner = size > 0
    power = torch.where(inner, size, 1.0) ** e
    return torch.where(inner, torch.where(x < 0, -power, power), _slope_at_zero(x, e) * x)


def radial_power(x: Tensor, e: Scalar) -> Tensor:
    """x‖x‖^{e−1} along the last dimension for e > 0, with the slope at 0 of ``signed_power``."""
    inner = (x != 0).any(-1, keepdim=True)
    size = norm(torch.where(inner, x, 1.0), (-1,))
    over = (size.detach() ** (e - 1) * size.detach().clamp(min=1)).isinf()
    power = x * torch.where(over, 1.0, size) ** (e - 1)
    most = torch.finfo(x.dtype).max
    power = torch.where(over, x * most * most, power)  # ±∞ in value and slope, and 0 where x or what meets it is 0
    return torch.where(inner, power, _slope_at_zero(x, e) * x)


def root_of_square_plus(a: Tensor, p: Scalar) -> Tensor:
    """√(a² + p) for p ≥ 0, not both 0: a² does not overflow, and neither form's derivative cancels where it is used."""
    p = torch.as_tensor(p, dtype=a.dtype, device=a.device)
    size = torch.where(a < 0, -a, a)
    big = (size > 1) & (size > p / size)
    far, near = torch.where(big, size, 1.0), torch.where(big, 1.0, size)
    return torch.where(big, far * (1 + torch.where(big, p, 0.0) / far / far).sqrt(), (near * near + p).sqrt())


def norm_with_one(x: Tensor) -> Tensor:
    """√(1 + ‖x‖²) along the last dimension (kept), smooth at 0 and right where the squares would overflow."""
    largest = x.detach().abs().amax(-1, keepdim=True)
    unit = torch.where((largest > 1e15) & largest.isfinite(), largest, 1.0)
    return unit * (unit**-2 + (x / unit).square().sum(-1, keepdim=True)).sqrt()


def _slope_at_zero(x: Tensor, e: Scalar) -> Scalar:
    most = torch.finfo(x.dtype).max ** 0.5
    if isinstance(e, Tensor):
        e = e.detach().to(x.dtype)
        return torch.where(e > 1, 0.0, torch.where(e == 1, torch.ones_like(e), most))
    return 0.0 if e > 1 else 1.0 if e == 1 else most
