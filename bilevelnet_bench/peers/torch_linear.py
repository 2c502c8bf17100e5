"""Networks of torch.nn.Linear and an activation. Nothing of bilevelnet is in them."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn


class Atan(nn.Module):
    """The arctangent, which torch.nn does not have."""

    def forward(self, v: Tensor) -> Tensor:
        return torch.atan(v)


ACTIVATIONS: dict[str, type[nn.Module]] = {"tanh": nn.Tanh, "fermi_dirac": nn.Sigmoid, "atan": Atan}


def sequential(widths: Sequence[int], activation: str) -> nn.Sequential:
    """z⁺ = ρ(W z⁻ + b) through the widths; ``activation`` is the key of the φ with ∇φ* = ρ."""
    kind = ACTIVATIONS[activation]
    return nn.Sequential(*(m for d_in, d_out in pairwise(widths) for m in (nn.Linear(d_in, d_out), kind())))


class Residual(nn.ModuleList):
    """u⁺ = u + W z + b, z⁺ = tanh(u⁺) from u = artanh(z): the least that torch does for a Bregman chain."""

    def __init__(self, widths: Sequence[int]):
        super().__init__(nn.Linear(d_in, d_out) for d_in, d_out in pairwise(widths))

    def forward(self, z: Tensor) -> Tensor:
        u = torch.atanh(z)
        for linear in self:
            u = u + linear(z)
            z = torch.tanh(u)
        return z
