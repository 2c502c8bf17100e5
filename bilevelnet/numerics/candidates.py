"""Rows made short: the entries that matter, and their way back."""

from __future__ import annotations

import torch
from torch import Tensor


class Candidates:
    """The entries of the rows of a matrix that ``chosen`` marks, as rows of the largest number of them.

    Its size depends on values, so that it suits neither compile nor vmap.
    """

    def __init__(self, chosen: Tensor):
        self.shape, height, device = chosen.shape, len(chosen), chosen.device
        self.index = chosen.flatten().nonzero().squeeze(-1)
        row = self.index // chosen.shape[-1]
        count = row.bincount(minlength=height)
        self.width = max(int(count.max()), 1)
        first = torch.arange(height, device=device) * self.width - (count.cumsum(0) - count)
        self.slot = torch.arange(len(row), device=device) + first[row]

    def pack(self, v: Tensor) -> Tensor:
        """v at the candidates, −∞ beside them."""
        packed = v.new_full((len(v) * self.width,), -torch.inf)
        return packed.scatter(0, self.slot, v.flatten().gather(0, self.index)).view(-1, self.width)

    def unpack(self, packed: Tensor, fill: Tensor) -> Tensor:
        """The packed entries in their places, ``fill`` (one a row) in the others."""
        rest = fill.expand(self.shape).flatten()
        return rest.scatter(0, self.index, packed.flatten().gather(0, self.slot)).view(self.shape)
