"""A loss or a gradient that is not finite names the layer where it began."""

from __future__ import annotations

import math

import pytest
import torch
from small_trainings import SMALL
from torch import nn

import bilevelnet as bln
from bilevelnet_bench.cases import spirals
from bilevelnet_bench.cases.data import Data
from bilevelnet_bench.training import NonFiniteLoss, Settings, train


def overflowing(layer: int) -> bln.models.BilevelNetwork:
    """ρ = exp, of which one layer is so steep that the first step overflows there."""
    chain = bln.models.BregmanMLP([2, 2, 2, 2], "boltzmann_shannon", version="standard", init="zero")
    with torch.no_grad():
        chain[layer].coupling.bias.fill_(200.0)
    return bln.models.BilevelNetwork(chain, nn.Linear(2, 2))


def poisoned(layer: int) -> bln.models.BilevelNetwork:
    network = spirals.network("bregman", 0)
    with torch.no_grad():
        network.chain[layer].coupling.weight[0, 0] = math.nan
    return network


class Root(nn.Module):
    """√|z|, finite with an infinite derivative at 0."""

    def forward(self, z):
        return z.abs().sqrt()


@pytest.mark.parametrize("layer", [0, 1, 2])
def test_a_loss_that_is_not_finite_names_the_layer(layer: int) -> None:
    with pytest.raises(NonFiniteLoss, match=rf"epoch 1, step 1; it began in layer {layer + 1}: its z") as found:
        train(overflowing(layer), SMALL, Settings(2, 16, 1e-2), 0)
    assert (found.value.epoch, found.value.step) == (1, 1)
    with pytest.raises(NonFiniteLoss, match=rf"layer {layer + 1}: its coupling.weight"):
        train(poisoned(layer), SMALL, Settings(2, 16, 1e-2), 0)


def test_a_gradient_that_is_not_finite_names_its_place() -> None:
    chain = bln.models.BregmanMLP([2, 2, 2], "atan", version="standard", init="zero")
    network = bln.models.BilevelNetwork(chain, nn.Sequential(Root(), nn.Linear(2, 2)))
    with pytest.raises(NonFiniteLoss, match=r"the gradient is not finite .* the gradient of layer 2: coupling\.bias"):
        train(network, SMALL, Settings(2, 16, 1e-2), 0)


def test_input_and_head_are_named_too() -> None:
    data = Data(SMALL.x_train.clone(), *SMALL[1:])
    network = bln.models.BilevelNetwork(bln.models.BregmanMLP([2, 2], "tanh", version="standard"), nn.Linear(2, 2))
    with torch.no_grad():
        network.head.weight.fill_(math.inf)
    with pytest.raises(NonFiniteLoss, match=r"the head: its weight"):
        train(network, data, Settings(1, 16, 1e-2), 0)
