"""Chains to time: v = u + W tanh(u) + b, layer after layer of one width."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

import bilevelnet as bln


@dataclass(frozen=True)
class ChainCase:
    """``depth`` layers of ``width`` neurons, ρ = tanh, on ``batch`` points."""

    depth: int
    width: int
    batch: int

    @property
    def name(self) -> str:
        return f"{self.depth} x {self.width}, batch {self.batch}"

    @property
    def widths(self) -> list[int]:
        return [self.width] * (self.depth + 1)

    def chain(self) -> bln.Chain:
        """Weights as torch.nn.Linear draws them."""
        return bln.models.BregmanMLP(self.widths, bln.legendre.Tanh())

    def points(self) -> Tensor:
        """Uniform in (−0.9, 0.9), inside dom φ."""
        return 1.8 * torch.rand(self.batch, self.width) - 0.9


CASES = (ChainCase(4, 256, 128), ChainCase(2, 1024, 1024), ChainCase(100, 2, 16), ChainCase(100, 2, 1000))
QUICK = (ChainCase(2, 8, 4),)
