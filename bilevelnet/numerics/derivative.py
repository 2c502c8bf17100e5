"""Derivatives of a function that acts entry by entry."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch._C import _functorch

from ..values import tracked


def derivative(f: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """f'(x), entry by entry, differentiable again, through every torch transform.

    Plain autograd where nobody asks for a derivative of it: half the work.
    """
    if torch.is_grad_enabled() or tracked(x) or _transformed():
        d = torch.func.grad(lambda t: f(t).sum())(x)
        # Of a constant torch may give zeros without memory, on which tolist() and numpy() end the process.
        return d if torch.compiler.is_compiling() or not d._is_zerotensor() else d.clone()
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        return _gradient(f(x), x, again=False)


def derivatives(f: Callable[[Tensor], Tensor], x: Tensor) -> tuple[Tensor, Tensor]:
    """(f'(x), f''(x)), entry by entry, as values: f' is formed once for both."""
    if tracked(x) or _transformed():
        slope, pull, *_ = torch.func.vjp(lambda t: derivative(f, t), x)
        return slope.detach(), pull(torch.ones_like(slope))[0].detach()
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        slope = _gradient(f(x), x, again=True)
        return slope.detach(), _gradient(slope, x, again=False)


def _transformed() -> bool:
    """Whether a transform of torch.func is under way, in which no tensor may ask for its gradient."""
    return _functorch.peek_interpreter_stack() is not None


def _gradient(y: Tensor, x: Tensor, again: bool) -> Tensor:
    if not y.requires_grad:  # a constant
        return torch.zeros_like(x)
    return torch.autograd.grad(y, x, torch.ones_like(y), create_graph=again, materialize_grads=True)[0]
