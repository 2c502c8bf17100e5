"""What is kept of a training of several seeds, as the record (JSON lines) has it."""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, TypeVar

from .. import metrics

T = TypeVar("T", bound=Hashable)


@dataclass(frozen=True)
class Run:
    """One version, initialisation, depth and setting; lists have an entry a seed.

    ``accuracies``: on the test set, NaN where the training failed. ``impact``: the mean over test points of
    ‖z_l − z_{l−1}‖ for l = 1, 2, …. ``probes``, ``fishers``: the separation of the input and after every layer.
    ``losses``: the mean of the training loss over the seeds and the starts trained together, by epoch.
    """

    experiment: str
    version: str
    init: str
    depth: int
    optimizer: str
    settings: str
    seeds: list[int]
    accuracies: list[float]
    impact: list[list[float]] = field(default_factory=list)
    probes: list[list[float]] = field(default_factory=list)
    fishers: list[list[float]] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)
    status: str = "finished"
    device: str = "cpu"

    @property
    def key(self) -> tuple[Any, ...]:
        """A later run of the same key replaces this one."""
        return (self.experiment, self.depth, self.settings, self.version, self.init)

    @property
    def name(self) -> str:
        return f"{self.depth} layers, {self.version}, {self.init}"


NAMES = tuple(f.name for f in fields(Run))


def read(path: Path) -> list[Run]:
    """The last run of every key in a record, in the order in which the keys first came."""
    found: dict[tuple[Any, ...], Run] = {}
    for record in metrics.records(path):
        if record["what"] == "run":
            run = Run(**{name: _numbers(record[name]) for name in NAMES})
            found[run.key] = run
    return list(found.values())


def unique(values: Iterable[T]) -> list[T]:
    """Each value once, in the order of the first."""
    return list(dict.fromkeys(values))


def _numbers(value: Any) -> Any:
    # JSON has no NaN: a record has its name
    if isinstance(value, list):
        return [_numbers(v) for v in value]
    return float(value) if value in ("nan", "inf", "-inf") else value


def failed(count: int) -> list[float]:
    """The accuracies of ``count`` trainings that did not come to an end."""
    return [math.nan] * count
