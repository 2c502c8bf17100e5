"""A chain deep enough that every rounding shows: tanh, width 16, W ~ N(0, 0.1²/16), b ~ N(0, 0.1²)."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

import bilevelnet as bln

WIDTH, BATCH, SCALE = 16, 64, 0.1


def deep_chain(depth: int, seed: int = 0) -> bln.Chain:
    """In float64, so that both precisions start from the same weights (float32 rounds them)."""
    torch.manual_seed(seed)
    chain = bln.models.BregmanMLP([WIDTH] * (depth + 1), bln.legendre.Tanh()).double()
    for coupling in couplings(chain):
        nn.init.normal_(coupling.weight, std=SCALE / math.sqrt(WIDTH))
        nn.init.normal_(coupling.bias, std=SCALE)
    return chain.float().double()


def couplings(chain: bln.Chain) -> list[bln.couplings.Bilinear]:
    """W and b of every layer."""
    return [m for m in chain.modules() if isinstance(m, bln.couplings.Bilinear)]


def points(seed: int = 0) -> Tensor:
    """Uniform in (−0.9, 0.9), exact in float32."""
    generator = torch.Generator().manual_seed(seed)
    return (1.8 * torch.rand(BATCH, WIDTH, generator=generator) - 0.9).double()
