"""One training of a version, initialisation and depth, over all seeds at once, and what is measured of it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch

import bilevelnet as bln

from .. import metrics
from ..cases import spirals, stack
from ..cases.data import Data
from ..separation import by_layer
from ..training import NonFiniteLoss, Settings, train
from ..training.parallel import world
from .runs import Run, failed


class Done(NamedTuple):
    """The record, and the first seed's network and data to draw."""

    run: Run
    network: bln.models.BilevelNetwork
    data: Data


@dataclass(frozen=True)
class Job:
    """``points``: training and test points. ``probe``: whether to measure the separation after every layer."""

    experiment: str
    version: str
    init: str
    depth: int
    settings: Settings
    seeds: tuple[int, ...]
    points: tuple[int, int] = (1000, 500)
    probe: bool = False

    @property
    def name(self) -> str:
        return f"{self.depth} layers, {self.version}, {self.init}, {self.settings.optimizer}"

    def run(self, out: Path, resume: bool) -> Done:
        """Train from ``out``/checkpoints where ``resume``, measure, and add a line to ``out``/EXPERIMENT.jsonl."""
        networks = [spirals.network(self.version, seed, self.depth, self.init) for seed in self.seeds]
        data = [spirals.spirals(seed, *self.points) for seed in self.seeds]
        path = out / "checkpoints" / self.experiment / f"{self.name.replace(', ', '-').replace(' ', '-')}.pt"
        stacked = stack.stack(networks)
        about: dict[str, Any] = {
            "depth": self.depth,
            "version": self.version,
            "init": self.init,
            "seeds": list(self.seeds),
        }
        about |= {"experiment": self.experiment, "optimizer": self.settings.optimizer, "settings": str(self.settings)}
        try:
            trained = train(stacked, stack.stack_data(data), self.settings, self.seeds, self.name, path, resume)
        except NonFiniteLoss as failure:
            run = Run(**about, accuracies=failed(len(self.seeds)), status=str(failure))
        else:
            stack.unstack(stacked, networks)
            losses = [epoch.loss / len(self.seeds) for epoch in trained.history]
            run = Run(
                **about,
                accuracies=trained.accuracy,
                impact=_impact(stacked, stack.stack_data(data)),
                losses=losses,
                status=trained.status,
                **self._separation(networks, data),
            )
        if world()[0] == 0:
            metrics.record(
                out / f"{self.experiment}.jsonl", what="run", all_settings=asdict(self.settings), **asdict(run)
            )
        return Done(run, networks[0], data[0])

    def _separation(self, networks: list[bln.models.BilevelNetwork], data: list[Data]) -> dict[str, Any]:
        if not self.probe:
            return {}
        found = [by_layer(network, one) for network, one in zip(networks, data, strict=True)]
        return {
            "probes": [[s.probe for s in layers] for layers in found],
            "fishers": [[s.fisher for s in layers] for layers in found],
        }


@torch.no_grad()
def _impact(network: bln.models.BilevelNetwork, data: Data) -> list[list[float]]:
    """Mean over the test points of ‖z_l − z_{l−1}‖, a row a network of the stack."""
    z = torch.stack(network.representations(data.x_test))
    return (z[1:] - z[:-1]).norm(dim=-1).mean(-1).T.tolist()
