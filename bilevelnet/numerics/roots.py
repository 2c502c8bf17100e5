"""Roots in closed form of the scalar equations that absorbing a term leads to.

Coefficients are numbers or tensors and may be 0 where the equation still makes sense; every function keeps
its digits on the whole line and is differentiable to second order there.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .attach import attach, exponential_term
from .half import in_float32
from .powers import root_of_square_plus

Scalar = float | Tensor


@in_float32
def wright_omega(x: Tensor) -> Tensor:
    """ω > 0 with ω + log ω = x (Corless & Jeffrey, The Wright omega function, 2002)."""
    omega = _omega(x.detach())
    inner = (omega > 0) & omega.isfinite()
    safe = torch.where(inner, omega, 1.0)
    root = attach(lambda y: y + y.exp() - x, safe.log(), 1 + safe)  # y = log ω
    return torch.where(inner, safe * (root - root.detach()).exp(), omega)


def _omega(x: Tensor) -> Tensor:
    # Two steps of the fourth-order iteration of Fritsch, Shafer and Crowley (CACM 16, 1973). Below −37 the
    # root is e^x to the last digit; above 1e15 it is x − log x, where squares would overflow in float32.
    inside = x.clamp(-37, 1e15)
    low = inside.clamp(max=1.0).exp()
    high = inside.clamp(min=1.0)
    omega = torch.where(inside <= 1, low * (1 + low / 6) / (1 + low), high - high.log() * (high / (1 + high)))
    for _ in range(2):
        r = inside - omega - omega.log()
        q = 2 * (1 + omega) * (1 + omega + 2 / 3 * r)
        omega = omega * (1 + r / (1 + omega) * (q - r) / (q - 2 * r))
    above = x - x.clamp(1e15, torch.finfo(x.dtype).max).log()
    return torch.where(x < -37, x.exp(), torch.where(x > 1e15, above, omega))


@in_float32
def log_linear_root(v: Tensor, m: Scalar, s: Scalar = 1.0) -> Tensor:
    """z > 0 with s log z + m z = v, for m ≥ 0 and s ≥ 0 (s = 0: max(v, 0)/m).

    With ω = ω(v/s + log(m/s)): z = ω s/m, or exp(v/s − ω) where ω < 1, which also serves m = 0.
    """
    z, _, move, inner = _log_linear(v, m, s)
    return torch.where(inner, torch.where(inner, z, 1.0) * move.exp(), z)


@in_float32
def log_reciprocal_root(v: Tensor, s: Scalar, k: Scalar) -> Tensor:
    """z > 0 with s log z − k/z = v, for s, k ≥ 0: 1/z solves s log y + k y = −v, and need not be formed."""
    _, z, move, inner = _log_linear(-v, k, s)
    inner = inner & z.isfinite()
    return torch.where(inner, torch.where(inner, z, 1.0) * (-move).exp(), z)


def _log_linear(v: Tensor, m: Scalar, s: Scalar) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """z, 1/z, the derivatives of log z on a tensor of zeros, and where they hold (z neither 0 nor ∞)."""
    m = torch.as_tensor(m, dtype=v.dtype, device=v.device)
    s = torch.as_tensor(s, dtype=v.dtype, device=v.device)
    fixed, m0, s0 = v.detach(), m.detach(), s.detach()
    unit = torch.where(s0 > 0, s0, 1.0)
    omega = _omega(fixed / unit + (m0 / unit).log())
    rest = fixed / unit - omega
    z = torch.where(omega > 1, omega * unit / m0, rest.exp())
    reciprocal = torch.where(omega > 1, m0 / unit / omega, (-rest).exp())
    z = torch.where(s0 > 0, z, fixed.clamp(min=0) / m0)
    reciprocal = torch.where(s0 > 0, reciprocal, 1 / z)
    # Derivatives in y = log z, where the slope s + m z is positive; z exp(y − stop(y)) keeps the digits of z.
    inner = (z > 0) & z.isfinite()
    safe = torch.where(inner, z, 1.0)
    start = safe.log()
    exponential = exponential_term(m, start, safe)
    y = attach(lambda y: s * y + exponential(y) - v, start, s0 + m0 * safe)
    return z, reciprocal, y - y.detach(), inner


@in_float32
def quadratic_root(v: Tensor, m: Scalar, k: Scalar) -> Tensor:
    """z ≥ 0 with m z − k/z = v, for m, k ≥ 0 (m = 0 needs v < 0; k = 0 gives max(v, 0)/m).

    z = (v + √(v² + 4mk))/(2m) for v ≥ 0, else 2k/(√(v² + 4mk) − v): no difference of near numbers on either side.
    """
    product = 4 * m * k
    up = v >= 0
    size = torch.where(up, v, -v)  # |v| with the derivative 1 at 0, where abs has 0
    root = root_of_square_plus(size, product)
    above = (size + root) / torch.where(up, 2 * torch.as_tensor(m, dtype=v.dtype, device=v.device), 1.0)
    below = 2 * k / torch.where(up, 1.0, size + root)
    return torch.where(up, above, below)
