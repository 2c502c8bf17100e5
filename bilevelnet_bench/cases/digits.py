"""The 8 × 8 digits of scikit-learn, and networks 64 → 32 → 32 with ρ = sigmoid."""

from __future__ import annotations

import torch
from torch import nn

import bilevelnet as bln

from .data import Data

CLASSES = 10
WIDTHS = (64, 32, 32)


def digits(seed: int, test: int = 360) -> Data:
    """z = 0.05 + 0.9 pixel/16 ∈ [0.05, 0.95], inside dom φ of Fermi-Dirac; 1437 training and 360 test images."""
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    x, y = load_digits(return_X_y=True)
    x_train, x_test, y_train, y_test = train_test_split(x, y, test_size=test, random_state=seed, stratify=y)
    z_train, z_test = (torch.as_tensor(0.05 + 0.9 * a / 16, dtype=torch.float32) for a in (x_train, x_test))
    return Data(z_train, torch.as_tensor(y_train), z_test, torch.as_tensor(y_test))


def network(version: str, seed: int, init: str = "random") -> bln.models.BilevelNetwork:
    """64 → 32 → 32 and a linear head. Where widths differ the Bregman reference is L ∇φ(z⁻), L learned."""
    torch.manual_seed(seed)
    chain = bln.models.BregmanMLP(WIDTHS, "sigmoid", version=version, init=init)
    return bln.models.BilevelNetwork(chain, nn.Linear(WIDTHS[-1], CLASSES))
