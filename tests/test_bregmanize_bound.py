"""bregmanize: the twin as the limit, the gap to ReLU, the bound of each block."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch
from residual_networks import KINDS, Gated, images, usual
from torch import nn
from torch.nn import functional

import bilevelnet as bln
from bilevelnet import legendre, regularizers
from bilevelnet.models import bregmanize, pre_activation
from bilevelnet.models.bregmanize_bound import gap


@pytest.mark.parametrize("kind", KINDS)
def test_the_twin_is_the_limit_and_the_bound_holds(kind: str) -> None:
    net, x = usual(kind), images()
    betas = (1.0, 10.0, 100.0)
    reports = [bregmanize(net, {nn.ReLU: legendre.Softplus(beta)}, example=x).report for beta in betas]
    for report in reports:
        for block in report.blocks:
            # Rounding adds some 1e-15 of A, of size 1 to 10, to a difference of exact values within the bound.
            assert 0 < block.difference <= block.bound + 1e-13
    for before, after in pairwise(reports):
        for a, b in zip(before.blocks, after.blocks, strict=True):
            assert math.isclose(a.bound, 10 * b.bound, rel_tol=1e-12)  # proportional to log 2/β
        assert after.from_twin < before.from_twin / 2
    sharp = bregmanize(net, {nn.ReLU: legendre.Softplus(beta=1e7)}, example=x)
    assert sharp.report.from_twin == (sharp(x) - pre_activation(net)(x)).abs().max() < 1e-5
    assert sharp.report.from_original > 1e-2  # the limit is another network than the original


def test_the_bound_by_hand() -> None:
    """‖W₂‖ (1 + ‖W₁‖) log 2/β for one channel, and what it is attained by but for the slope of ρ in between."""

    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Linear(1, 1, bias=False), nn.Linear(1, 1, bias=False)

        def forward(self, z):
            z = functional.relu(z)
            return functional.relu(z + self.b(functional.relu(self.a(z))))

    net = Block().double()
    nn.init.constant_(net.a.weight, -3.0)
    nn.init.constant_(net.b.weight, 2.0)
    block = bregmanize(net, {nn.ReLU: legendre.Softplus(beta=4.0)}, example=torch.zeros(1, 1).double()).report.blocks[0]
    assert math.isclose(block.bound, 2 * (1 + 3) * math.log(2) / 4, rel_tol=1e-14)
    by_hand = 2 * math.log1p(math.exp(-3 * math.log(2))) / 4  # at u = 0
    assert math.isclose(block.difference, by_hand, rel_tol=1e-14)


@pytest.mark.parametrize(
    ("phi", "g", "want"),
    [
        (legendre.Softplus(beta=2.0), None, math.log(2) / 2),
        (legendre.Squareplus(4.0), None, 1.0),
        (legendre.Elu(1.0), None, 1.0),
        (legendre.Energy(), regularizers.Nonneg(), 0.0),
        (legendre.FermiDirac(), regularizers.Nonneg(), None),
    ],
    ids=["softplus", "squareplus", "elu", "relu", "sigmoid"],
)
def test_the_gap_to_relu_is_its_supremum(phi, g, want: float | None) -> None:
    g = regularizers.Zero() if g is None else g
    found = gap(phi, g, nn.ReLU)
    if want is None:
        v = torch.linspace(-50, 50, 1001, dtype=torch.float64)
        assert found >= (bln.bregman_prox(phi, g, v) - v.relu()).abs().max()
    else:
        assert math.isclose(found, want, rel_tol=1e-7, abs_tol=1e-9)  # at 1e8 a double has 8 digits after the point


def test_bounds_only_where_they_are_known() -> None:
    assert gap(legendre.Burg(), regularizers.Zero(), nn.ReLU) is None  # σ = 0
    assert gap(legendre.Softplus(), regularizers.Zero(), nn.Tanh) is None
    ours = bregmanize(Gated().double(), {nn.ReLU: legendre.Softplus()}, example=images(channels=2))
    (block,) = ours.report.blocks
    assert block.changed
    assert block.bound is None
    assert block.difference > 0
    assert "not known" in str(ours.report)
