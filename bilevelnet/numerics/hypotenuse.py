"""√(1 + x²), the hypotenuse beside 1."""

from __future__ import annotations

import torch
from torch import Tensor


def hypotenuse(x: Tensor) -> Tensor:
    """√(1 + x²) without overflow, entry by entry.

    Under torch.export by sums and products, as ONNX has no hypot: m √((x/m)² + 1/m²), m = max(|x|, 1), whose
    derivative at a fixed m is the exact one.
    """
    if not torch.compiler.is_exporting():
        return torch.hypot(x, torch.ones_like(x))
    m = x.detach().abs().clamp(min=1)
    return m * ((x / m) ** 2 + (1 / m) ** 2).sqrt()
