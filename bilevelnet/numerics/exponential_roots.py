"""Roots of the scalar equations in which an exponential meets a linear term, right where one of them vanishes."""

from __future__ import annotations

import torch
from torch import Tensor

from .attach import attach, exponential_term
from .half import in_float32
from .roots import _omega

Scalar = float | Tensor


@in_float32
def exp_linear_root(v: Tensor, k: Scalar, m: Scalar) -> Tensor:
    """z with k e^z + m z = v, for k > 0 and m ≥ 0 (m = 0: log(v/k), which needs v > 0).

    With ω = ω(v/m + log(k/m)): z = v/m − ω, or log(ω m/k) where ω > 1.
    """
    k, m = (torch.as_tensor(t, dtype=v.dtype, device=v.device) for t in (k, m))
    fixed, k0, m0 = v.detach(), k.detach(), m.detach()
    # Where m z is below half an ulp of v > 0, as at m = 0, the root is that of the exponential alone.
    alone = (fixed > 0) & (m0 * (fixed / k0).log().abs() < fixed * torch.finfo(v.dtype).eps / 4) | (m0 == 0)
    safe = torch.where(alone, 1.0, m0)
    omega = _omega(torch.where(alone, 0.0, fixed / safe + (k0 / safe).log()))
    z = torch.where(omega > 1, (omega * safe / k0).log(), fixed / safe - omega)
    z = torch.where(alone, (fixed / k0).log(), z)
    inner = z.isfinite()
    start = torch.where(inner, z, 0.0)
    # Near 0 a Newton step on k(e^z − 1) + m z = v − k gives the digits that the terms of z had cancelled.
    step = (k0 * start.expm1() + (m0 * start - (fixed - k0))) / (k0 * start.exp() + m0)
    start = torch.where((start.abs() < 1) & inner, start - step, start)
    exponential = exponential_term(k, start, start.exp())
    root = attach(lambda t: exponential(t) + m * t - v, start, k0 * start.exp() + m0)
    return torch.where(inner, root, z)


@in_float32
def expm1_linear_root(v: Tensor, m: Scalar) -> Tensor:
    """t ≤ 0 with t + m(e^t − 1) = v, for v ≤ 0 and m ≥ 0.

    m e^t = ω(v + m + log m) gives t to an ulp of 1; Newton steps on the equation, which does not cancel near t = 0,
    give the digits that remain.
    """
    m = torch.as_tensor(m, dtype=v.dtype, device=v.device)
    fixed, m0 = v.detach(), m.detach()
    omega = _omega(fixed + m0 + m0.log())
    t = torch.where(omega > 1, (omega / m0).log(), fixed + m0 - omega).clamp(max=0)
    for _ in range(2):
        t = (t - (t + m0 * t.expm1() - fixed) / (1 + m0 * t.exp())).clamp(max=0)
    return attach(lambda t: t + m * t.expm1() - v, t, 1 + m0 * t.exp())
