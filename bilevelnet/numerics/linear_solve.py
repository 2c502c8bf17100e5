"""y = M⁻¹ b for an M known to the search operator by a handle, differentiable in b any number of times.

M⁻¹ is linear: forward mode is M⁻¹ again, reverse mode M⁻ᵀ, which has a handle of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from .operator import LIBRARY
from .search import search


@dataclass(frozen=True, eq=False)
class Inverse:
    """Handles of M⁻¹ and M⁻ᵀ; ``owner`` is what keeps their families alive until a backward.

    One leaf to every transform: of a tuple the rule of vmap counts the entries, and jvp has one tangent for it.
    """

    handle: int
    transposed: int
    owner: Any = None

    @property
    def mirrored(self) -> Inverse:
        return Inverse(self.transposed, self.handle, self.owner)


class LinearSolve(torch.autograd.Function):
    """apply(b, inverse, *tensors without derivatives)."""

    generate_vmap_rule = True

    @staticmethod
    def forward(b: Tensor, inverse: Inverse, *tensors: Tensor) -> Tensor:
        return search(b, None, tensors, inverse.handle, 0, 0.0)[0]

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        _, ctx.inverse, *tensors = inputs
        ctx.save_for_backward(*tensors)
        ctx.save_for_forward(*tensors)

    @staticmethod
    def backward(ctx: Any, cotangent: Tensor) -> Any:
        tensors = ctx.saved_tensors
        return LinearSolve.apply(cotangent, ctx.inverse.mirrored, *tensors), None, *[None] * len(tensors)

    @staticmethod
    def jvp(ctx: Any, tangent: Tensor, *rest: Any) -> Any:
        return LinearSolve.apply(tangent, ctx.inverse, *ctx.saved_tensors)


def linear_solve(b: Tensor, inverse: Inverse, tensors: Sequence[Tensor]) -> Tensor:
    """M⁻¹ b; ``tensors`` are those of the families."""
    fixed = [t.detach() for t in tensors]
    if torch.compiler.is_compiling():  # a trace takes an operator, which knows no forward mode
        return torch.ops.bilevelnet.linear_solve(b, fixed, inverse.handle, inverse.transposed)
    return LinearSolve.apply(b, inverse, *fixed)


def _operator(b: Tensor, tensors: list[Tensor], handle: int, transposed: int) -> Tensor:
    return search(b, None, tensors, handle, 0, 0.0)[0]


def _context(ctx: Any, inputs: Any, output: Any) -> None:
    _, tensors, ctx.handle, ctx.transposed = inputs
    ctx.save_for_backward(*tensors)


def _backward(ctx: Any, cotangent: Tensor) -> Any:
    tensors = list(ctx.saved_tensors)
    moved = torch.ops.bilevelnet.linear_solve(cotangent.contiguous(), tensors, ctx.transposed, ctx.handle)
    return moved, [None] * len(tensors), None, None


LIBRARY.define("linear_solve(Tensor b, Tensor[] tensors, int handle, int transposed) -> Tensor")
LIBRARY.impl("linear_solve", _operator, "CompositeExplicitAutograd")
torch.library.register_fake("bilevelnet::linear_solve", lambda b, *rest: torch.empty_like(b), lib=LIBRARY)
torch.library.register_autograd("bilevelnet::linear_solve", _backward, setup_context=_context, lib=LIBRARY)
