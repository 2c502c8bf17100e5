"""The training loop of the experiments: mini-batches in a seeded order, a progress bar, test accuracy by epoch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch

import bilevelnet as bln

from .cases.data import Data


@dataclass(frozen=True)
class Settings:
    """``optimizer`` is "sgd" or "adam"."""

    epochs: int
    batch: int
    lr: float
    optimizer: str = "sgd"

    def __str__(self) -> str:
        return f"{self.optimizer}, lr {self.lr:g}, batch {self.batch}, {self.epochs} epochs"


class Trained(NamedTuple):
    network: bln.models.BilevelNetwork
    accuracies: list[float]  # on the test set, after each epoch

    @property
    def accuracy(self) -> float:
        """After the last epoch: nothing is chosen on the test set."""
        return self.accuracies[-1]


def train(network: bln.models.BilevelNetwork, data: Data, settings: Settings, seed: int, label: str) -> Trained:
    """The upper level by stochastic gradients. ``seed`` orders the mini-batches; ``label`` names the bar."""
    from tqdm import tqdm

    generator = torch.Generator().manual_seed(seed)
    kind = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam}[settings.optimizer]
    optimizer = kind(network.parameters(), lr=settings.lr)
    accuracies = []
    with tqdm(range(settings.epochs), desc=label, unit="epoch", ncols=80, leave=False) as bar:
        for _ in bar:
            for index in torch.randperm(len(data.x_train), generator=generator).split(settings.batch):
                optimizer.zero_grad()
                network.objective(data.x_train[index], data.y_train[index]).backward()
                optimizer.step()
            accuracies.append(accuracy(network, data))
            bar.set_postfix(test=f"{accuracies[-1]:.3f}", refresh=False)
    return Trained(network, accuracies)


def accuracy(network: bln.models.BilevelNetwork, data: Data) -> float:
    """The share of test points whose largest score is their label's."""
    with torch.no_grad():
        return float((network(data.x_test).argmax(-1) == data.y_test).float().mean())
