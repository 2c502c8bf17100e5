"""The demo: train, draw, solve the lower levels a second time, time a step."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from torch import nn
from tqdm import tqdm

import bilevelnet as bln

from . import figures, metrics
from .cases import digits, spirals, stack
from .cases.data import Data
from .peers import torch_linear
from .separation import Separation, by_layer
from .training import Settings, train

VERSIONS = ("bregman", "standard")
NOTES = """\
± is the standard deviation over the seeds; what is not accuracy is of seed 0.
probe: test accuracy of a linear classifier on z; Fisher: scatter between
classes over scatter within, on test points; for the input and every layer.
argmin again: bilevelnet.verify on the trained chain; the worst differences to
an independent solution of its argmin problems, and to differences of that.
step: forward + backward of the layers on one batch, and its ratio to the same
widths of nn.Linear and activation in one run, 1 thread, median \\[quartiles]."""


@dataclass(frozen=True)
class Plan:
    """How much of it: seeds of each training, samples of each network solved again, rounds of each timing."""

    spirals: Settings
    digits: Settings
    seeds: int
    samples: tuple[int, int]
    rounds: int


FULL = Plan(Settings(120, 16, 1e-2), Settings(30, 32, 1e-2, "adam"), seeds=5, samples=(10, 5), rounds=25)
QUICK = Plan(Settings(2, 50, 1e-2), Settings(1, 100, 1e-2, "adam"), seeds=2, samples=(2, 1), rounds=3)


@dataclass(frozen=True)
class Task:
    """A data set with its network: both from a seed."""

    name: str
    data: Callable[[int], Data]
    network: Callable[[str, int], bln.models.BilevelNetwork]
    widths: tuple[int, ...]
    activation: str
    settings: Settings

    def __str__(self) -> str:
        return f"{self.name}: {' → '.join(map(str, self.widths))}, φ = {self.activation}; {self.settings}"


def run(plan: Plan, out: Path, console: Console) -> None:
    """Everything, ending with the table and the paths of the pictures and the record."""
    torch.set_num_threads(1)  # networks as small as these lose by a second thread
    tasks = (
        Task("spirals", spirals.spirals, spirals.network, (2, 2, 2, 2), "atan", plan.spirals),
        Task("digits", digits.digits, digits.network, digits.WIDTHS, "fermi_dirac", plan.digits),
    )
    log = out / "demo.jsonl"
    table = Table(title="bilevelnet demo", title_justify="left")
    for column, justify in (("", "left"), ("Bregman", "right"), ("standard", "right")):
        table.add_column(column, justify=justify)  # type: ignore[arg-type]
    curves: dict[str, dict[str, list[list[float]]]] = {}
    pictures = []
    for task, samples in zip(tasks, plan.samples, strict=True):
        console.print(f"{task}; seeds 0 to {plan.seeds - 1}")
        first, curves[task.name] = {}, {}
        for version in VERSIONS:
            first[version], curves[task.name][version] = _train(task, version, plan.seeds)
        _accuracy(table, log, task, curves[task.name])
        data = task.data(0)
        if task.name == "spirals":
            separations = {version: by_layer(network, data) for version, network in first.items()}
            _separation(table, log, separations)
            pictures.append(figures.layers(out / "demo-spirals.png", data, first, separations))
        _argmin(table, log, task, first, data, samples)
        _step(table, log, task, first, data, plan.rounds)
        table.add_section()
    pictures.append(figures.training(out / "demo-training.png", curves))
    console.print(table)
    console.print(NOTES)
    for path in (*pictures, log):
        console.print(f"wrote {path}", soft_wrap=True)


def _train(task: Task, version: str, seeds: int) -> tuple[bln.models.BilevelNetwork, list[list[float]]]:
    """The network of seed 0, and for each seed the test accuracy after every epoch; all seeds are trained at once."""
    networks = [task.network(version, seed) for seed in range(seeds)]
    stacked, data = stack.stack(networks), stack.stack_data([task.data(seed) for seed in range(seeds)])
    trained = train(stacked, data, task.settings, range(seeds), f"{task.name}, {version}")
    if trained.status == "interrupted":
        raise KeyboardInterrupt
    stack.unstack(stacked, networks)
    return networks[0], [list(curve) for curve in zip(*trained.accuracies, strict=True)]


def _accuracy(table: Table, log: Path, task: Task, curves: dict[str, list[list[float]]]) -> None:
    cells = []
    for version, runs in curves.items():
        values = [curve[-1] for curve in runs]  # after the last epoch: nothing is chosen on the test set
        mean, deviation = statistics.fmean(values), statistics.stdev(values)
        metrics.record(
            log,
            what="test accuracy",
            task=task.name,
            version=version,
            values=values,
            mean=mean,
            deviation=deviation,
            settings=str(task.settings),
        )
        cells.append(f"{mean:.3f} ± {deviation:.3f}")
    table.add_row(f"{task.name}: test accuracy, {len(values)} seeds", *cells)


def _separation(table: Table, log: Path, separations: dict[str, list[Separation]]) -> None:
    for version, found in separations.items():
        metrics.record(log, what="separation by layer", task="spirals", version=version, seed=0, layers=found)
    for name in Separation._fields:
        cells = [" ".join(f"{getattr(s, name):.2f}" for s in found) for found in separations.values()]
        label = "probe" if name == "probe" else "Fisher"
        table.add_row(f"  {label}, input to layer 3", *cells)


def _argmin(table: Table, log: Path, task: Task, networks: dict[str, Any], data: Data, samples: int) -> None:
    verdicts, errors = [], []
    for version, network in tqdm(networks.items(), desc=f"{task.name}, argmin solved again", ncols=80, leave=False):
        certificate = bln.verify(network.chain, samples=data.x_test[:samples])
        metrics.record(log, what="argmin", task=task.name, version=version, certificate=certificate.as_dict())
        verdicts.append("certified" if certificate.passed else "FAILS")
        errors.append(tuple(certificate.worst(part) for part in ("value", "gradient")))
    values, gradients = zip(*errors, strict=True)
    table.add_row("  argmin again", *verdicts)
    table.add_row("  argmin again: value", *(f"{error:.1e}" for error in values))
    table.add_row("  argmin again: gradient", *(f"{error:.1e}" for error in gradients))


def _step(table: Table, log: Path, task: Task, networks: dict[str, Any], data: Data, rounds: int) -> None:
    x = data.x_train[: task.settings.batch]
    contenders: dict[str, nn.Module] = {version: network.chain for version, network in networks.items()}
    contenders["torch"] = torch_linear.sequential(task.widths, task.activation)
    calls = {name: metrics.forward_backward(module, x) for name, module in contenders.items()}
    found = metrics.interleave(calls, rounds)
    metrics.record(log, what="step", task=task.name, batch=len(x), times=found.times, ratios=found.ratios)
    table.add_row("  step", *(f"{found.times[v].median * 1e6:.0f} µs" for v in networks))
    label = f"  ÷ nn.Linear's {found.times['torch'].median * 1e6:.0f} µs"
    table.add_row(label, *(_ratio(found.ratios[v]) for v in networks))


def _ratio(spread: metrics.Spread) -> str:
    return f"{spread.median:.2f} [{spread.low:.2f}, {spread.high:.2f}]"
