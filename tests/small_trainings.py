"""A small set of data, a network whose training draws numbers, and when two trainings are the same."""

from __future__ import annotations

import torch
from torch import nn

import bilevelnet as bln
from bilevelnet_bench.cases import spirals
from bilevelnet_bench.training import Trained

SMALL = spirals.spirals(0, train=96, test=40)


def same(a: Trained, b: Trained) -> bool:
    """To the bit: what happened, and the weights that are left."""
    states = zip(a.network.state_dict().values(), b.network.state_dict().values(), strict=True)
    return a.history == b.history and all(torch.equal(x, y) for x, y in states)


def noisy(seed: int = 0) -> bln.models.BilevelNetwork:
    """With dropout, so that the state of torch's generator counts."""
    network = spirals.network("bregman", seed)
    return bln.models.BilevelNetwork(network.chain, nn.Sequential(nn.Dropout(0.2), network.head))
