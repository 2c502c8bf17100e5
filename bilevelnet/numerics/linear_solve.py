"""y = M⁻¹ b for an M known to the search operator by a handle, differentiable in b any number of times.

M⁻¹ is linear: forward mode is M⁻¹ again, reverse mode M⁻ᵀ, which has a handle of its own.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .search import search


class LinearSolve(torch.autograd.Function):
    """apply(b, handle, transposed handle, *tensors): ``tensors`` are those of the families, without derivatives."""

    generate_vmap_rule = True

    @staticmethod
    def forward(b: Tensor, handle: int, transposed: int, *tensors: Tensor) -> Tensor:
        return search(b, None, tensors, handle, 0, 0.0)[0]

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        _, ctx.handle, ctx.transposed, *tensors = inputs
        ctx.save_for_backward(*tensors)
        ctx.save_for_forward(*tensors)

    @staticmethod
    def backward(ctx: Any, cotangent: Tensor) -> Any:
        tensors = ctx.saved_tensors
        return LinearSolve.apply(cotangent, ctx.transposed, ctx.handle, *tensors), None, None, *[None] * len(tensors)

    @staticmethod
    def jvp(ctx: Any, tangent: Tensor, *rest: Any) -> Any:
        return LinearSolve.apply(tangent, ctx.handle, ctx.transposed, *ctx.saved_tensors)
