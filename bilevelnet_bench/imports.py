"""Problems of cvxpy imported, against cvxpylayers with its defaults: a forward and backward, building, errors."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn
from tqdm import tqdm

import bilevelnet as bln

from . import metrics

OURS, PEER = "bilevelnet", "cvxpylayers"


@dataclass(frozen=True)
class Plan:
    """``sizes``: in place of those of each case; ``rounds`` of each timing."""

    batch: int = 128
    rounds: int = 3
    builds: int = 5
    sizes: tuple[int, ...] | None = None


FULL, QUICK = Plan(), Plan(batch=2, rounds=1, builds=1, sizes=(5,))


class First(nn.Module):
    """The first tensor ↦ the first variable; the other tensors are its parameters."""

    def __init__(self, layer: Callable[..., Any], others: list[Tensor]):
        super().__init__()
        self.layer, self.others = layer, nn.ParameterList([nn.Parameter(t.clone()) for t in others])

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x, *self.others)[0]


def run(plan: Plan, only: str | None, out: Path, console: Console) -> bool:
    """A table of times and one of errors, and the record; False where ``only`` names no problem."""
    if not importlib.util.find_spec(PEER):
        console.print("cvxpylayers is not installed: pip install 'bilevelnet\\[conic]'")
        return True
    from .cases.imports import CASES

    chosen = [(c, n) for c in CASES if only is None or only.lower() in c.name.lower() for n in plan.sizes or c.sizes]
    if not chosen:
        return False

    log = out / "imports.jsonl"
    threads = f"{torch.get_num_threads()} threads"
    title = f"Imported against {PEER} {_version()}, fwd + bwd, batch {plan.batch}, {threads}"
    times = _table(title, "solver", "µs a\nsample", "peer's", "times faster\n[quartiles]", "asked")
    columns = "ms", "peer's", "ratio\n[quartiles]", "z", "grad.", "peer's", "grad."
    precision = _table("Building a layer, and the largest errors", *columns)
    for case, n in tqdm(chosen, desc="imports", ncols=80, leave=False):
        _case(case, n, plan, log, times, precision)
    console.print(times)
    console.print(precision)
    console.print(f"wrote {log}", soft_wrap=True)
    return True


def _case(case: Any, n: int, plan: Plan, log: Path, times: Table, precision: Table) -> None:
    from cvxpylayers.torch import CvxpyLayer

    makers: dict[str, Callable[..., Any]] = {OURS: bln.from_cvxpy, PEER: CvxpyLayer}
    building = _building(makers, case, n, plan.builds)
    first, *others = case.draw(n, plan.batch)
    layers = {name: makers[name](*case.build(n)) for name in (PEER, OURS)}  # the last is the baseline
    functions = {name: First(layer, others) for name, layer in layers.items()}
    inputs = {name: first.clone().requires_grad_() for name in functions}
    calls = {name: metrics.forward_backward(f, inputs[name]) for name, f in functions.items()}
    found = metrics.interleave(calls, plan.rounds)
    told = {name: _errors(case, f, inputs[name]) for name, f in functions.items()}
    ratio, solver = found.ratios[PEER], layers[OURS].route.name
    metrics.record(
        log,
        what="import",
        case=case.name,
        peer=_version(),
        size=n,
        batch=plan.batch,
        solver=solver,
        seconds=found.times,
        ratio=ratio,
        asked=case.asked(n),
        building=building.times,
        building_ratio=building.ratios[OURS],
        errors=told,
    )
    times.add_row(
        f"{case.name}, {n}",
        solver.replace("_", " "),
        *(_short(found.times[name].median * 1e6 / plan.batch) for name in (OURS, PEER)),
        f"{_short(ratio.median)} [{_short(ratio.low)}, {_short(ratio.high)}]",
        f"{case.asked(n):g}",
    )
    slower = building.ratios[OURS]
    precision.add_row(
        f"{case.name}, {n}",
        *(f"{building.times[name].median * 1e3:,.0f}" for name in (OURS, PEER)),
        f"{slower.median:.2g} [{slower.low:.2g}, {slower.high:.2g}]",
        *(f"{e:.0e}" for name in (OURS, PEER) for e in told[name]),
    )


def _building(makers: dict[str, Callable[..., Any]], case: Any, n: int, count: int) -> metrics.Comparison:
    """Seconds to build a layer, and the ratio to the last maker's; each time of a problem that is new to cvxpy, which
    keeps what it has compiled.
    """
    samples: dict[str, list[float]] = {name: [] for name in makers}
    for _ in range(count + 1):
        for name, make in makers.items():
            given = case.build(n)
            start = time.perf_counter()  # torch's Timer would build once before, of the same problem
            make(*given)
            samples[name].append(time.perf_counter() - start)
    kept = {name: s[1:] for name, s in samples.items()}  # the first may import
    base = kept[list(makers)[-1]]
    ratios = {name: metrics.spread([a / b for a, b in zip(s, base, strict=True)]) for name, s in kept.items()}
    return metrics.Comparison({name: metrics.spread(s) for name, s in kept.items()}, ratios)


def _version() -> str:
    return importlib.metadata.version(PEER)


def _errors(case: Any, function: First, x: Tensor) -> tuple[float, float]:
    """max |Δz| and, over all the tensors, max |Δ∇|, beside the exact solution."""
    given = [x, *function.others]
    z, expected = function(x), case.exact(*given)
    c = metrics.cotangent(z.shape, z.dtype)
    gradients = (torch.autograd.grad((t * c).sum(), given) for t in (z, expected))
    return metrics.error(z.detach(), expected.detach()), max(map(metrics.error, *gradients))


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, padding=(0, 0, 0, 1))
    table.add_column("problem, n", no_wrap=True)
    for column in columns:
        table.add_column(column, justify="right", no_wrap=True)
    return table


def _short(ratio: float) -> str:
    return f"{ratio:,.0f}" if ratio >= 100 else f"{ratio:.3g}"
