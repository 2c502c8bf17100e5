"""A network that is convex in its input (Amos, Xu & Kolter, 2017)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..errors import InputError
from ..values import without_autocast


class InputConvexNetwork(nn.Module):
    """h(x) = ⟨w, y_K⟩ with y_1 = s(A_1 x + b_1), y_{k+1} = s(W_k y_k + A_{k+1} x + b_{k+1}); W_k, w ≥ 0, s = softplus.

    Smooth, so that Newton's method has its Hessian. ``hidden`` holds the widths of y_1, …, y_K. W_k and w are the
    softplus of raw Parameters, which start where a row sums to 1; A_k and b_k are free. Maps (…, width) to (…), in the
    dtype of x. Raises InputError unless there is a layer, of at least one unit each.
    """

    def __init__(self, width: int, hidden: Sequence[int]):
        super().__init__()
        if width < 1 or isinstance(hidden, int) or not hidden or any(not isinstance(n, int) or n < 1 for n in hidden):
            raise InputError(
                f"an input-convex network has a width and hidden widths of at least 1, not {width}, {hidden}"
            )
        self.skips = nn.ModuleList(nn.Linear(width, n) for n in hidden)
        for skip in self.skips:
            nn.init.normal_(skip.weight, std=1 / math.sqrt(width))  # type: ignore[arg-type]
            nn.init.uniform_(skip.bias, -1, 1)  # type: ignore[arg-type]
        shapes = [*((after, before) for before, after in pairwise(hidden)), (hidden[-1],)]
        self.raw = nn.ParameterList(nn.Parameter(torch.full(s, math.log(math.expm1(1 / s[-1])))) for s in shapes)

    def forward(self, x: Tensor) -> Tensor:
        with without_autocast(x):  # rounded to half precision it is not convex
            y = _softplus(self._skip(0, x))
            for k in range(1, len(self.skips)):
                y = _softplus(self._skip(k, x) + functional.linear(y, self._positive(k - 1, x)))
            return (y * self._positive(-1, x)).sum(-1)

    def _skip(self, k: int, x: Tensor) -> Tensor:
        """A_{k+1} x + b_{k+1}."""
        return functional.linear(x, *(t.to(x.dtype) for t in self.skips[k].parameters()))

    def _positive(self, k: int, like: Tensor) -> Tensor:
        """W_k, or w for the last one, in the dtype of ``like``."""
        return _softplus(self.raw[k]).to(like.dtype)


def _softplus(x: Tensor) -> Tensor:
    """log(1 + e^x), x beyond 40, where e^−x is below eps; beyond torch's own 20 it steps down by 2e-9: not convex."""
    return functional.softplus(x, threshold=40)
