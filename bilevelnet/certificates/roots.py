"""Roots of increasing functions by a bracketing method of scipy, all entries at once.

Nothing here, nor in the modules that use it, calls a mirror map, a closed form, a proximal operator or a solver of
the library: the certificates compare those with what is found here.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

Function = Callable[[Tensor], Tensor]

REACH = (1.0, 3.0, 9.0, 27.0, 81.0, 243.0, 708.0)  # |s| of the brackets that are tried: e^708 is finite
AROUND = (1e-4, 1e-2, 0.3, 3.0, 27.0, 243.0, 1416.0)  # the same, from a root near by
STEP = 1e-17  # |s| below which it is absolute, so that a root at 0 ends the search
LARGE = 1e300  # what ∞ is for the secant steps of the method


def increasing_root(f: Function, shape: torch.Size, near: Tensor | None = None) -> Tensor:
    """s with f(s−) ≤ 0 ≤ f(s+), entry by entry, for an increasing f of tensors of the given shape; ±∞ where |s| > 708.

    ``near``: the root of a problem near by, around which it is looked for first.

    Chandrupatla's method (scipy.optimize.elementwise.find_root), to 4 ulp: bisection and inverse quadratic steps, so
    that a jump of f is found as surely as a root (Brent's, which brentq takes one number at a time).
    """
    try:
        from scipy.optimize import elementwise
    except ImportError as missing:  # not there, or older than 1.15
        raise ImportError("verify needs scipy 1.15 or later: pip install 'bilevelnet[verify]'") from missing

    start = torch.zeros(shape, dtype=torch.float64) if near is None else near.clamp(-REACH[-1], REACH[-1])
    low, high = _bracket(f, start, REACH if near is None else AROUND)
    good = low.isfinite() & high.isfinite()
    found = torch.where(low.isinf(), low, high)
    full = torch.where(good, low, 0.0)  # the entries that are done keep a point where f is defined

    def some(s: Any, index: Any) -> Any:
        at = torch.from_numpy(index)
        moved = full.reshape(-1).clone()
        moved[at] = torch.from_numpy(s).reshape(at.shape)
        return f(moved.reshape(shape)).clamp(-LARGE, LARGE).reshape(-1)[at].numpy()

    index = good.reshape(-1).nonzero()[:, 0]
    if len(index):
        ends = tuple(end.reshape(-1)[index].numpy() for end in (low, high))
        result = elementwise.find_root(some, ends, args=(index.numpy(),), tolerances={"xatol": STEP})
        root, sides = torch.from_numpy(result.x), torch.stack([torch.from_numpy(end) for end in ends])
        # f is 0 to rounding at an end, and had another sign there when it was asked again.
        lost = torch.from_numpy(result.status == -1)
        if bool(lost.any()):
            sizes = torch.stack([torch.from_numpy(abs(some(end, index.numpy()))) for end in ends])
            root = torch.where(lost, sides.gather(0, sizes.argmin(0, keepdim=True))[0], root)
        found.reshape(-1)[index] = root
    return found


def _bracket(f: Function, start: Tensor, reaches: tuple[float, ...]) -> tuple[Tensor, Tensor]:
    """Ends with f(low) ≤ 0 ≤ f(high), from the start outwards; an infinite one where none is found."""
    near, far = start, torch.full_like(start, torch.nan)
    side = torch.where(f(near) <= 0, 1.0, -1.0).to(torch.float64)
    for reach in reaches:
        open_ = far.isnan()
        if not bool(open_.any()):
            break
        s = torch.where(open_, (start + side * reach).clamp(-REACH[-1], REACH[-1]), near)
        ahead = side * f(s) >= 0
        far, near = torch.where(open_ & ahead, s, far), torch.where(open_ & ~ahead, s, near)
    far = torch.where(far.isnan(), side * torch.inf, far)
    return torch.minimum(near, far), torch.maximum(near, far)


def chart(s: Tensor, lo: Any, hi: Any) -> Tensor:
    """z in the open interval (lo, hi), increasing in s ∈ ℝ: sinh, lo + eˢ, hi − e⁻ˢ, or between the ends the sigmoid.

    Each end is approached with all digits of the distance that z itself can hold.
    """
    lo, hi = (torch.as_tensor(end, dtype=torch.float64) for end in (lo, hi))
    width = hi - lo
    inside = torch.where(s < 0, lo + width * torch.sigmoid(s), hi - width * torch.sigmoid(-s))
    below, above = torch.isinf(lo), torch.isinf(hi)
    z = torch.where(below & above, torch.sinh(s), torch.where(above, lo + s.exp(), inside))
    z = torch.where(below & ~above, hi - (-s).exp(), z)
    return torch.minimum(torch.maximum(z, after(lo, math.inf)), after(hi, -math.inf))


def rate(s: Tensor, lo: Any, hi: Any) -> Tensor:
    """The derivative of ``chart`` in s."""
    lo, hi = (torch.as_tensor(end, dtype=torch.float64) for end in (lo, hi))
    below, above = torch.isinf(lo), torch.isinf(hi)
    inside = (hi - lo) * torch.sigmoid(s) * torch.sigmoid(-s)
    half = torch.where(above, s, -s).exp()
    return torch.where(below & above, s.cosh(), torch.where(below | above, half, inside))


def after(x: Tensor, towards: float) -> Tensor:
    """The next number of x in a direction; an infinite x stays."""
    return torch.where(x.isinf(), x, torch.nextafter(x, torch.full_like(x, towards)))


def slope(value: Function, z: Tensor) -> Tensor:
    """d value/dz, entry by entry, by reverse mode: the derivative comes from the values alone."""
    with torch.enable_grad():
        z = z.detach().requires_grad_()
        (d,) = torch.autograd.grad(value(z).sum(), z)
    return d.detach()
