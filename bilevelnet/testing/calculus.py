"""Derivatives by autograd and by differences, and roots by plain bisection: what the laws compare pieces with."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from .points import Event

Function = Callable[[Tensor], Tensor]
EPS = torch.finfo(torch.float64).eps
STEPS = (-1.0, -0.25, 0.0, 0.25, 1.0)  # of central differences


def slope(f: Function, x: Tensor, create_graph: bool = False) -> Tensor:
    """df/dx by reverse mode, for a scalar function a point: of the shape of x (zeros where f ignores x)."""
    x = x if x.requires_grad else x.detach().requires_grad_()
    y = f(x)
    if not y.requires_grad:
        raise AssertionError("the result carries no gradient: it was detached somewhere")
    (d,) = torch.autograd.grad(y.sum(), x, create_graph=create_graph, materialize_grads=True)
    return d


def jacobian(f: Function, x: Tensor, event: Event) -> Tensor:
    """df/dx in coordinates of the event, (…, m, m); entry by entry where the event is ()."""
    if not event.ndim:
        return slope(f, x)
    basis = event.basis(x)
    t = torch.zeros(*x.shape[: -event.ndim], len(basis), dtype=x.dtype, device=x.device, requires_grad=True)
    y = f(x + torch.tensordot(t, basis, 1))
    if not y.requires_grad:
        raise AssertionError("the result carries no gradient: it was detached somewhere")
    y = coordinates(y, event)
    rows = [torch.autograd.grad(y[..., k].sum(), t, retain_graph=True)[0] for k in range(len(basis))]
    return torch.stack(rows, -2)


def coordinates(x: Tensor, event: Event) -> Tensor:
    """x in the orthonormal coordinates of its event."""
    return x.flatten(-event.ndim) @ event.basis(x).flatten(1).mT if event.ndim else x


def sensitivity(f: Function, x: Tensor, event: Event) -> Tensor:
    """‖df/dx‖ ‖x‖, one number a point: by how much a relative rounding of x moves f(x)."""
    if not f(x.detach().requires_grad_()).requires_grad:
        return torch.zeros_like(event.norm(x))
    j = jacobian(f, x, event)
    size = torch.linalg.matrix_norm(j, 2) if event.ndim else j.abs()
    return size * event.norm(x)


def difference(f: Function, x: Tensor, step: Tensor, direction: Tensor, event: Event) -> tuple[Tensor, Tensor]:
    """The slopes of a scalar f below and above x, (f(x) − f(x − hd))/h and (f(x + hd) − f(x))/h."""
    middle, move = f(x), event.expand(step) * direction
    return (middle - f(x - move)) / step, (f(x + move) - middle) / step


def difference_step(size: Tensor) -> Tensor:
    """h at which central differences lose least: h² against eps/h."""
    return 1e-5 * (1 + size.abs())


def central(y: Tensor, h: Tensor | float, norm: Function) -> tuple[Tensor, Tensor, Tensor]:
    """The derivative from the values at ``STEPS`` times h, where it is smooth (two steps and both sides agree), and by
    how much the two steps differ. The sides differ by h y'' and a jump of y': what does not fall with h is the jump."""
    coarse, fine = (y[4] - y[0]) / (2 * h), (y[3] - y[1]) / (h / 2)
    far, near = (y[4] - 2 * y[2] + y[0]) / h, (y[3] - 2 * y[2] + y[1]) / (h / 4)
    size, change, jump = norm(fine), norm(fine - coarse), norm(4 * near - far) / 3
    calm = (norm(far) <= 1e-2 * size + 1e-7) & (change <= 1e-5 * size + 1e-8)
    return fine, calm & (jump <= 1e-6 * size + 1e-7), change


def bisect(increasing: Function, lo: Tensor, hi: Tensor) -> Tensor:
    """The largest float64 z in [lo, hi] with increasing(z) ≤ 0, entry by entry.

    Bisection over the floating-point numbers in their order, so 64 steps reach it at any scale. It assumes nothing of
    the function but that it increases.
    """
    low, high = _rank(lo), _rank(hi)
    for _ in range(64):
        middle = (low | high) - ((low ^ high) >> 1)  # rounded up, without overflow
        below = increasing(_unrank(middle)) <= 0
        low, high = torch.where(below, middle, low), torch.where(below, high, torch.maximum(low, middle - 1))
    return _unrank(low)


def _rank(x: Tensor) -> Tensor:
    bits = (x + 0.0).view(torch.int64)
    return torch.where(bits >= 0, bits, torch.iinfo(torch.int64).min - bits)


def _unrank(rank: Tensor) -> Tensor:
    return torch.where(rank >= 0, rank, torch.iinfo(torch.int64).min - rank).view(torch.float64)
