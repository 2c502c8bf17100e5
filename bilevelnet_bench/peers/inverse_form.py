"""The layer as it is usually coded, on the primal state: z⁺ = tanh(artanh(z⁻) + W z⁻ + b), in plain torch."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor
from torch.nn import functional


def inverse_chain(z: Tensor, weights: Iterable[tuple[Tensor, Tensor]], clamp: float | None = None) -> Tensor:
    """The layers (W, b) in turn; with ``clamp`` = c, z⁻ is clamped to [−1 + c, 1 − c] before the inverse."""
    for weight, bias in weights:
        inside = z if clamp is None else z.clamp(-1 + clamp, 1 - clamp)
        z = torch.tanh(torch.atanh(inside) + functional.linear(z, weight, bias))
    return z
