"""The multilayer perceptrons of the paper."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import nn

from ..chain import Chain
from ..couplings import Bilinear
from ..divergences import Bregman, Dual, Zero
from ..errors import InputError
from ..layer import BilevelLayer
from ..legendre import Legendre
from ..regularizers import Regularizer

VERSIONS = ("bregman", "standard")


class BregmanMLP(Chain):
    """Layers of widths d_0 → d_1 → … with one (φ, g), ρ = ∇φ*; g = 0 unless given.

    version "bregman": z⁺ = ρ(ρ⁻¹(z⁻) + W z⁻ + b), "standard": z⁺ = ρ(W z⁻ + b), both with ρ replaced by prox^φ_g where
    g ≠ 0. Where widths differ, the Bregman residual is L ρ⁻¹(z⁻), L a learned linear map of the dual that starts as
    the identity padded with zeros. init "random": as torch.nn.Linear; "zero": W = 0 and b = 0, the identity map.
    Raises InputError for fewer than two widths or an unknown version or init.
    """

    def __init__(
        self,
        widths: Sequence[int],
        phi: Legendre,
        g: Regularizer | None = None,
        version: str = "bregman",
        init: str = "random",
        on_failure: str = "raise",
    ):
        if len(widths) < 2:
            raise InputError(f"widths are d_0, d_1, …: at least two, not {list(widths)}")
        if version not in VERSIONS:
            raise InputError(f"unknown version {version!r}; known: {', '.join(VERSIONS)}")
        if init not in ("random", "zero"):
            raise InputError(f"unknown init {init!r}; known: random, zero")
        layers = []
        for d_in, d_out in pairwise(widths):
            reference = Zero() if version == "standard" else None if d_in == d_out else Dual(_padding(d_in, d_out))
            coupling = Bilinear(d_in, d_out)
            if init == "zero":
                nn.init.zeros_(coupling.weight)
                nn.init.zeros_(coupling.bias)
            layers.append(BilevelLayer(coupling, Bregman(phi, reference), g))
        super().__init__(*layers, on_failure=on_failure)


def _padding(d_in: int, d_out: int) -> nn.Linear:
    linear = nn.Linear(d_in, d_out, bias=False)
    with torch.no_grad():
        linear.weight.copy_(torch.eye(d_out, d_in))
    return linear
