"""Jacobians of maps on events, as values."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


def diagonal(f: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """f'(x) of an f that acts entry by entry."""
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        y = f(x)
        if not y.requires_grad:  # a constant
            return torch.zeros_like(x)
        return torch.autograd.grad(y, x, torch.ones_like(y), materialize_grads=True)[0]


def symmetric_jacobian(f: Callable[[Tensor], Tensor], x: Tensor, event_ndim: int) -> Tensor:
    """The Jacobian (…, n, n) of a gradient f of events of x, flattened: symmetric, so that its rows are pulled back."""
    event = x.shape[x.ndim - event_ndim :]
    n, batch = event.numel(), x.shape[: x.ndim - event_ndim]
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        y = f(x)
        if not y.requires_grad:
            return x.new_zeros(*batch, n, n)
        units = torch.eye(n, dtype=x.dtype, device=x.device).reshape(n, *([1] * len(batch)), *event)
        rows = torch.autograd.grad(y, x, units.expand(n, *y.shape), is_grads_batched=True, materialize_grads=True)[0]
    return rows.reshape(n, *batch, n).movedim(0, -2)
