"""The derivative of a function that acts entry by entry, through every torch transform."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


def derivative(f: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """f'(x), entry by entry, differentiable again."""
    return torch.func.grad(lambda t: f(t).sum())(x)
