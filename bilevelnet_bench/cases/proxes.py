"""Pairs (φ, g) with a closed form, to set against a conic solver."""

from __future__ import annotations

import torch
from torch import Tensor

import bilevelnet as bln

Pair = tuple[bln.legendre.Legendre, bln.regularizers.Regularizer]


def pairs() -> dict[str, Pair]:
    """By name: φ and g in that order."""
    return {
        "boltzmann_shannon + simplex": (bln.legendre.BoltzmannShannon(), bln.regularizers.Simplex()),
        "energy + box": (bln.legendre.Energy(), bln.regularizers.Box(0.0, 1.0)),
        "fermi_dirac + l1": (bln.legendre.FermiDirac(), bln.regularizers.L1(0.1)),
    }


def points(batch: int, n: int, seed: int = 0) -> Tensor:
    """v ~ N(0, 1) in float64, as the conic solvers work."""
    return torch.randn(batch, n, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
