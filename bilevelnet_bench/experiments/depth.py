"""Two spirals through 3, 10, 30 and 100 layers of 2 neurons: accuracy against depth, and what each layer does."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from rich.console import Console

from .. import figures
from ..training import Settings
from ..training.parallel import world
from .job import Job
from .plan import STARTS, VERSIONS, run_all, tell


@dataclass(frozen=True)
class Plan:
    """The same settings at every depth, of which Adam's rate is one that 100 layers bear; SGD as in ``spirals``."""

    settings: tuple[Settings, ...] = (Settings(60, 16, 2e-3, "adam"), Settings(60, 16, 1e-2))
    seeds: int = 10
    depths: tuple[int, ...] = (3, 10, 30, 100)
    points: tuple[int, int] = (1000, 500)

    def jobs(self) -> list[Job]:
        return [
            Job("depth", version, STARTS, depth, settings, tuple(range(self.seeds)), self.points)
            for settings in self.settings
            for depth in self.depths
            for version in VERSIONS
        ]


FULL = Plan()
QUICK = Plan((Settings(3, 16, 1e-2, "adam"),), seeds=3, depths=(3, 10, 30), points=(400, 200))


def run(plan: Plan, out: Path, resume: bool, console: Console) -> bool:
    """Train, measure, draw and tell; whether it came to its end."""
    torch.set_num_threads(1)  # networks as small as these lose by a second thread
    done, whole = run_all(plan.jobs(), out, resume, console)
    if world()[0]:
        return whole
    runs = [d.run for d in done]
    pictures = [figures.by_depth(out / "depth-accuracy.png", runs)]
    deep = [r for r in runs if r.depth >= 10 and r.impact]
    for optimizer in dict.fromkeys(r.optimizer for r in deep):
        shown = [r for r in deep if r.optimizer == optimizer]
        pictures.append(figures.impact(out / f"depth-impact-{optimizer}.png", shown))
    tell(done, pictures, out / "depth.jsonl", console)
    return whole
