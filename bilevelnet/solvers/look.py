"""What derivatives tell of the z that a scalar search found."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from .. import regularizers
from ..closed_forms.absorb import keeps_more
from ..legendre import Separable
from ..numerics.derivative import derivatives
from ..values import readable
from .charts import at_end, common_domain, total


class Look(NamedTuple):
    """Entry by entry: whether z is on a kink; whether φ + h is convex around it; w − h'(z); and whether ∇φ(z) keeps
    more digits of u than that.
    """

    jump: Tensor
    sound: Tensor
    dual: Tensor
    cancels: Tensor


def look_at(phi: Any, terms: list[Any], rough: list[Any], z: Tensor, w: Tensor, jump: Tensor) -> tuple[Tensor, ...]:
    """The fields of a Look at z, a root of ∇φ + Σ h' = w; the terms ``rough`` may have kinks."""
    (level, *pushes), (bend, *bends) = derivatives_of([phi, *terms], z)
    push, rest = (total(d) if terms else torch.zeros_like(z) for d in (pushes, bends))
    slope = level + push
    sound = ~(bend + rest < 0)
    lost = slope.isnan()
    if _some(lost):
        sound = sound & ~(lost & ~at_end(common_domain(phi, terms), z))
    if rough:
        left, right = (sum(ends).detach() for ends in zip(*(t.derivatives(z) for t in rough), strict=True))
        # 1: slopes of the user's may be a rest of terms of that size, whose rounding is no kink.
        noise = torch.finfo(z.dtype).eps ** 0.5 * (1 + left.abs() + right.abs())
        jump, sound = jump | (right - left > noise), sound & ~(left - right > noise)
    return jump, sound, w - push, keeps_more(level, bend, push, rest, w, z)


def _some(mask: Tensor) -> bool:
    """Whether any of it may be true."""
    return not readable(mask) or mask.is_cuda or bool(mask.any())


def derivatives_of(pieces: Sequence[Any], z: Tensor) -> tuple[list[Tensor], list[Tensor]]:
    """First and second derivatives of every piece at z."""
    derived = (Separable.grad, regularizers.Separable.grad)
    pairs = [derivatives(p.value, z) if type(p).grad in derived else (p.grad(z), p.hessian(z)) for p in pieces]
    return [first for first, _ in pairs], [second for _, second in pairs]
