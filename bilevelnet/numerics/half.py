"""Half precision in, half precision out, for what torch has no half-precision kernel for, or what needs the range."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar

import torch
from torch import Tensor

from ..values import HALF

Result = TypeVar("Result", bound=Callable[..., Tensor])


def in_float32(f: Result) -> Result:
    """f, computed in float32 where a tensor argument is in half precision, and rounded to it."""

    @wraps(f)
    def widened(*args: Any, **rest: Any) -> Tensor:
        halves = [a.dtype for a in args if isinstance(a, Tensor) and a.dtype in HALF]
        if not halves:
            return f(*args, **rest)
        wide = [a.to(torch.float32) if isinstance(a, Tensor) and a.dtype in HALF else a for a in args]
        return f(*wide, **rest).to(halves[0])

    return widened  # type: ignore[return-value]
