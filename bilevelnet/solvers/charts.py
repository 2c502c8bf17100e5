"""Charts: an interval as the image of the line, and points inside it."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Iterable
from functools import reduce
from typing import Any

import torch
from torch import Tensor

from ..domains import Interval


def chart(domain: Interval, x: Tensor) -> tuple[Tensor, Tensor]:
    """(z, dz/dx) for x ∈ ℝ: z itself, the distance to the one end as e^x, or the sigmoid between two ends."""
    lo, hi = _inward(domain.lo, math.ceil, x), _inward(domain.hi, math.floor, x)
    below, above = (isinstance(e, Tensor) or abs(e) != math.inf for e in (lo, hi))
    if below and above:
        up, down = torch.sigmoid(x), torch.sigmoid(-x)
        # From the nearer end, so that a gap of a few ulp keeps its digits; and about the middle, for those of z near 0.
        outer = torch.where(x < 0, lo + (hi - lo) * up, hi - (hi - lo) * down)
        inner = (lo + hi) / 2 + (hi - lo) / 2 * torch.tanh(x / 2)
        return torch.where(x.abs() < 1, inner, outer), (hi - lo) * up * down
    if below:
        return lo + x.exp(), x.exp()
    if above:
        return hi - (-x).exp(), (-x).exp()
    return x, torch.ones_like(x)


def _inward(end: Any, towards: Callable[[float], int], x: Tensor) -> Any:
    """A number at the end of a domain as one of x's dtype inside of it: π/2 in float32 lies outside of (−π/2, π/2)."""
    if isinstance(end, Tensor) or not math.isfinite(end):
        return end
    mantissa, exponent = math.frexp(end)
    scale = 2 / torch.finfo(x.dtype).eps
    return math.ldexp(towards(mantissa * scale) / scale, exponent)


def origin(domain: Interval, x: Tensor) -> Tensor:
    """The point from which ``chart`` measures z."""
    lo, hi = domain.lo, domain.hi
    below, above = (isinstance(e, Tensor) or abs(e) != math.inf for e in (lo, hi))
    if below and above:
        return torch.where(x.abs() < 1, (lo + hi) / 2, torch.where(x < 0, lo, hi)).to(x.dtype)
    return torch.zeros_like(x) + (lo if below else hi if above else 0.0)


def unchart(domain: Interval, z: Tensor) -> Tensor:
    """x with chart(domain, x)[0] = z."""
    lo, hi = domain.lo, domain.hi
    below, above = (isinstance(e, Tensor) or abs(e) != math.inf for e in (lo, hi))
    if below and above:
        return torch.log(z - lo) - torch.log(hi - z)
    return torch.log(z - lo) if below else -torch.log(hi - z) if above else z


def at_end(domain: Interval, z: Tensor) -> Tensor:
    """Where z is an end of the domain as far as floats tell."""
    near = 8 * torch.finfo(z.dtype).eps * z.abs() + torch.finfo(z.dtype).tiny  # below it floats lose their digits
    return (z - near <= domain.lo) | (z + near >= domain.hi)


def common_domain(phi: Any, terms: list[Any]) -> Interval:
    domain = phi.domain
    for t in terms:
        domain = domain.intersect(t.domain)
    return domain


def total(terms: Iterable[Any]) -> Any:
    """Their sum, without the 0 that ``sum`` starts from, which is one more pass over the entries."""
    terms = list(terms)
    return reduce(operator.add, terms) if terms else 0.0
