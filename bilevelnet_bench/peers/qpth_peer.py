"""Quadratic programs by qpth (Amos & Kolter, OptNet, 2017), at its own settings."""

from __future__ import annotations

from collections.abc import Callable

import torch
from qpth.qp import QPFunction
from torch import Tensor


def program(Q: Tensor, G: Tensor, h: Tensor) -> Callable[[Tensor], Tensor]:
    """q ↦ argmin_z ½ zᵀQz + qᵀz under G z ≤ h."""
    solve, none = QPFunction(verbose=-1, check_Q_spd=False), torch.Tensor()
    return lambda q: solve(Q, q, G, h, none, none)
