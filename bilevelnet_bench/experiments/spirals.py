"""Two spirals through 3 layers of 2 neurons: every version and start, 10 seeds."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from rich.console import Console

from .. import figures
from ..separation import by_layer
from ..training import Settings
from ..training.parallel import world
from .job import Job
from .plan import STARTS, VERSIONS, run_all, tell


@dataclass(frozen=True)
class Plan:
    """The authors' settings (SGD, lr 1e-2, batch 16, 500 epochs), and Adam beside."""

    settings: tuple[Settings, ...] = (Settings(500, 16, 1e-2), Settings(100, 16, 1e-2, "adam"))
    seeds: int = 10
    depth: int = 3
    points: tuple[int, int] = (1000, 500)

    def jobs(self) -> list[Job]:
        return [
            Job("spirals", version, inits, self.depth, settings, tuple(range(self.seeds)), self.points, probe=True)
            for settings in self.settings
            for version in VERSIONS
            for inits in [(*STARTS, "zero") if version == "standard" else STARTS]  # zero is the others' identity start
        ]


FULL = Plan()
QUICK = Plan((Settings(6, 16, 1e-2), Settings(3, 16, 1e-2, "adam")), seeds=3, points=(400, 200))


def run(plan: Plan, out: Path, resume: bool, console: Console) -> bool:
    """Train, measure, draw and tell; whether it came to its end."""
    torch.set_num_threads(1)  # networks as small as these lose by a second thread
    jobs = plan.jobs()
    done, whole = run_all(jobs, out, resume, console)
    if world()[0]:
        return whole
    first = {d.run.version: d for d in done if d.run.init == "random" and d.run.optimizer == jobs[0].settings.optimizer}
    networks = {version: d.network for version, d in first.items()}
    data = done[0].data
    separations = {version: by_layer(network, data) for version, network in networks.items()}
    pictures = [
        figures.layers(out / "spirals-layers.png", data, networks, separations),
        figures.by_start(out / "spirals-accuracy.png", [d.run for d in done]),
    ]
    tell(done, pictures, out / "spirals.jsonl", console)
    return whole
