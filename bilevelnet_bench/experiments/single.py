"""One network, trained once: the loop by itself, alone or under torchrun."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

import bilevelnet as bln

from .. import metrics
from ..cases import digits, spirals
from ..cases.data import Data
from ..training import Settings, train
from ..training.parallel import world

TASKS: dict[str, tuple[Callable[[int], Data], Callable[..., bln.models.BilevelNetwork]]] = {
    "spirals": (spirals.spirals, spirals.network),
    "digits": (digits.digits, digits.network),
}


def run(
    task: str, settings: Settings, seed: int, out: Path, resume: bool, console: Console, **architecture: Any
) -> bool:
    """Train, print and record; whether it came to its end. ``architecture``: version, init; layers of the spirals."""
    if task not in TASKS:
        raise bln.InputError(f"unknown task {task!r}; known: {', '.join(TASKS)}")
    torch.set_num_threads(1)
    data, network = TASKS[task]
    name = "-".join(map(str, (task, *architecture.values(), settings.optimizer, f"seed{seed}")))
    path = out / "checkpoints" / f"{name}.pt"
    trained = train(network(seed=seed, **architecture), data(seed), settings, seed, name, path, resume)
    rank, size = world()
    if rank == 0:
        log = out / "train.jsonl"
        metrics.record(
            log,
            what="training",
            task=task,
            **architecture,
            seed=seed,
            settings=asdict(settings),
            processes=size,
            status=trained.status,
            accuracy=trained.accuracy,
            best_epoch=trained.best_epoch,
            losses=[epoch.loss for epoch in trained.history],
            accuracies=trained.accuracies,
        )
        console.print(
            f"{name}: {trained.status} after {len(trained.history)} epochs, test accuracy {trained.accuracy:.3f}, "
            f"lowest loss in epoch {trained.best_epoch}",
            highlight=False,
        )
        for written in (path, log):
            console.print(f"wrote {written}", soft_wrap=True)
    return trained.status != "interrupted"
