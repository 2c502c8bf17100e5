"""Pairs (φ, g) with a closed form, to set against a conic solver."""

from __future__ import annotations

import torch
from torch import Tensor, nn

import bilevelnet as bln


def layers() -> dict[str, bln.BilevelLayer]:
    """v ↦ argmin_z φ(z) + g(z) − ⟨z, v⟩ by name: layers with A(z⁻) = z⁻ and no reference, so that v = z⁻."""
    return {
        "boltzmann_shannon + simplex": _prox(bln.legendre.BoltzmannShannon(), bln.regularizers.Simplex()),
        "energy + box": _prox(bln.legendre.Energy(), bln.regularizers.Box(0.0, 1.0)),
        "fermi_dirac + l1": _prox(bln.legendre.FermiDirac(), bln.regularizers.L1(0.1)),
    }


def _prox(phi: bln.legendre.Legendre, g: bln.regularizers.Regularizer) -> bln.BilevelLayer:
    reference = bln.divergences.Zero()
    return bln.BilevelLayer(bln.couplings.Affine(nn.Identity()), bln.divergences.Bregman(phi, reference), g)


def points(batch: int, n: int, seed: int = 0) -> Tensor:
    """v ~ N(0, 1) in float64, as the conic solvers work."""
    return torch.randn(batch, n, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
