"""One training of a version and depth, over all starts and seeds at once, and what is measured of it."""

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
    """The record of a start, and its first seed's network and data to draw."""

    run: Run
    network: bln.models.BilevelNetwork
    data: Data


@dataclass(frozen=True)
class Job:
    """``inits``: the starts, which are trained as one stack: a step of 20 small networks takes the time of one of 10.

    ``points``: training and test points. ``probe``: whether to measure the separation after every layer.
    """

    experiment: str
    version: str
    inits: tuple[str, ...]
    depth: int
    settings: Settings
    seeds: tuple[int, ...]
    points: tuple[int, int] = (1000, 500)
    probe: bool = False

    @property
    def name(self) -> str:
        return f"{self.depth} layers, {self.version}, {self.settings.optimizer}"

    def run(self, out: Path, resume: bool) -> list[Done]:
        """Train, from ``out``/checkpoints where ``resume``, and measure: a line a start in ``out``/EXPERIMENT.jsonl."""
        starts = [(init, seed) for init in self.inits for seed in self.seeds]
        networks = [spirals.network(self.version, seed, self.depth, init) for init, seed in starts]
        data = [spirals.spirals(seed, *self.points) for seed in self.seeds] * len(self.inits)
        path = out / "checkpoints" / self.experiment / f"{self.name.replace(', ', '-').replace(' ', '-')}.pt"
        stacked, points = stack.stack(networks), stack.stack_data(data)
        seeds = [seed for _, seed in starts]
        found: dict[str, Any]
        try:
            trained = train(stacked, points, self.settings, seeds, self.name, path, resume)
        except NonFiniteLoss as failure:
            found, status, losses = {"accuracies": failed(len(starts))}, str(failure), []
        else:
            stack.unstack(stacked, networks)
            found = {"accuracies": trained.accuracy, "impact": _impact(stacked, points)}
            found |= self._separation(networks, data)
            status, losses = trained.status, [epoch.loss / len(starts) for epoch in trained.history]
        return [
            self._done(out, init, networks[part.start], data[part.start], found, part, losses=losses, status=status)
            for init, part in zip(self.inits, self._parts(), strict=True)
        ]

    def _parts(self) -> list[slice]:
        """Where the networks of each start are in the stack."""
        n = len(self.seeds)
        return [slice(k * n, (k + 1) * n) for k in range(len(self.inits))]

    def _done(
        self,
        out: Path,
        init: str,
        network: bln.models.BilevelNetwork,
        data: Data,
        found: dict[str, Any],
        part: slice,
        **common: Any,
    ) -> Done:
        """Of one start, after its line in the record."""
        run = Run(
            experiment=self.experiment,
            version=self.version,
            init=init,
            depth=self.depth,
            optimizer=self.settings.optimizer,
            settings=str(self.settings),
            seeds=list(self.seeds),
            **{name: values[part] for name, values in found.items()},
            **common,
        )
        if world()[0] == 0:
            log = out / f"{self.experiment}.jsonl"
            metrics.record(log, what="run", all_settings=asdict(self.settings), **asdict(run))
        return Done(run, network, data)

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
