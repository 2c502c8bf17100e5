"""Two spirals, and the networks of 2 neurons a layer (Frecon, Gasso, Pontil, Salzo, ICML 2022)."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

import bilevelnet as bln

from .data import Data

HALF_SIDE = 1.57  # below π/2 by 8e-4: every point lies in int dom φ of the arctangent


def spirals(seed: int, train: int = 1000, test: int = 500) -> Data:
    """θ = 2π√U, U uniform on (0, 1), radius 2θ + π, noise N(0, 1); the second arm is the first turned by π.

    Each coordinate is rescaled to [−1.57, 1.57] over training and test points together, half of them on each arm.
    """
    generator = torch.Generator().manual_seed(seed)
    total = train + test
    theta = 2 * math.pi * torch.rand(total, generator=generator).sqrt()
    arm = (2 * theta + math.pi)[:, None] * torch.stack([theta.cos(), theta.sin()], 1)
    label = torch.arange(total) % 2
    points = arm * (1 - 2 * label)[:, None] + torch.randn(total, 2, generator=generator)
    points = rescaled(points, HALF_SIDE)
    return Data(points[:train], label[:train], points[train:], label[train:])


def rescaled(points: Tensor, half_side: float) -> Tensor:
    """Each coordinate mapped affinely onto [−half_side, half_side]."""
    low, high = points.amin(0), points.amax(0)
    unit = (points - low) / (high - low)
    return (half_side * (2 * unit - 1)).clamp(-half_side, half_side)  # the clamp only undoes rounding at the ends


def network(version: str, seed: int, layers: int = 3, init: str = "random") -> bln.models.BilevelNetwork:
    """``layers`` layers of 2 neurons with ρ = atan, and a linear head of 2 classes."""
    torch.manual_seed(seed)
    chain = bln.models.BregmanMLP([2] * (layers + 1), "atan", version=version, init=init)
    return bln.models.BilevelNetwork(chain, nn.Linear(2, 2))
