"""What is measured: time, peak memory, error; and the record of it, one JSON object a line."""

from __future__ import annotations

import contextlib
import datetime
import json
import math
import os
import platform
import statistics
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.benchmark import Timer

import bilevelnet as bln

Call = Callable[[], Any]
Function = Callable[[Tensor], Tensor]


class Spread(NamedTuple):
    """Median and quartiles of ``samples`` timings."""

    median: float
    low: float
    high: float
    samples: int


class Comparison(NamedTuple):
    """Seconds a call of each contender, and of each the ratio to the last one, pair by pair."""

    times: dict[str, Spread]
    ratios: dict[str, Spread]


def spread(samples: list[float]) -> Spread:
    """Median and quartiles (inclusive: of these samples, not of a population)."""
    if len(samples) == 1:
        return Spread(samples[0], samples[0], samples[0], 1)
    low, median, high = statistics.quantiles(samples, n=4, method="inclusive")
    return Spread(median, low, high, len(samples))


def interleave(contenders: dict[str, Call], rounds: int, seconds: float = 0.02) -> Comparison:
    """Time the contenders in turn, ``rounds`` times, in alternating order; the last one is the baseline.

    A timing repeats the call for about ``seconds``. Ratios are taken within a round, so that what slows the machine
    for longer than a round falls on both sides.
    """
    threads = torch.get_num_threads()
    timers = {name: Timer("call()", globals={"call": call}, num_threads=threads) for name, call in contenders.items()}
    for timer in timers.values():
        timer.timeit(1)  # a first call allocates, and may compile
    counts = {name: max(1, round(seconds / timer.timeit(1).mean)) for name, timer in timers.items()}
    samples: dict[str, list[float]] = {name: [] for name in timers}
    for i in range(rounds):
        for name in list(timers)[:: 1 if i % 2 else -1]:
            samples[name].append(timers[name].timeit(counts[name]).mean)
    base = samples[list(timers)[-1]]
    ratios = {name: spread([a / b for a, b in zip(s, base, strict=True)]) for name, s in samples.items()}
    return Comparison({name: spread(s) for name, s in samples.items()}, ratios)


def forward(function: Function, x: Tensor) -> Call:
    """A forward without a graph."""

    def call() -> None:
        with torch.no_grad():
            function(x)

    return call


def forward_backward(function: Function, x: Tensor, seed: int = 0) -> Call:
    """Gradients of x and of the parameters cleared, a forward, and the backward of one fixed random cotangent.

    (The sum of the outputs would do for most functions, but its gradient is 0 through a simplex.)
    """
    leaves = [t for t in (x, *(function.parameters() if isinstance(function, nn.Module) else ())) if t.requires_grad]
    with torch.no_grad():
        shape = function(x).shape
    c = cotangent(shape, x.dtype, seed)

    def call() -> None:
        for leaf in leaves:
            leaf.grad = None
        function(x).backward(c)

    return call


def cotangent(shape: Sequence[int], dtype: torch.dtype, seed: int = 0) -> Tensor:
    """N(0, 1), what ``forward_backward`` hands to backward."""
    return torch.randn(tuple(shape), generator=torch.Generator().manual_seed(seed), dtype=dtype)


def peak_memory(call: Call) -> int:
    """The most bytes that ``call`` holds at one time beyond those held before it, from the profiler's allocations."""
    activities = [torch.profiler.ProfilerActivity.CPU]
    with _silent_stderr(), torch.profiler.profile(activities=activities, profile_memory=True) as profile:
        call()
    events = [e for e in profile.profiler.kineto_results.events() if e.name() == "[memory]"]  # type: ignore[union-attr]
    held = peak = 0
    for event in sorted(events, key=lambda e: e.start_ns()):
        held += event.nbytes()
        peak = max(peak, held)
    return peak


def error(a: Tensor, b: Tensor) -> float:
    """max |a − b|, NaN where either has one."""
    return float((a.double() - b.double()).abs().max())


def environment() -> dict[str, Any]:
    """The machine, the threads, the versions and the date."""
    return {
        "machine": _processor(),
        "system": platform.platform(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "bilevelnet": bln.__version__,
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }


def record(path: Path, **fields: Any) -> None:
    """Append the fields and the environment to ``path`` as one JSON line; a NamedTuple becomes an object.

    JSON has no NaN and no infinity: they are written as strings.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(_plain({**environment(), **fields}), ensure_ascii=False, allow_nan=False) + "\n")


def records(path: Path) -> list[dict[str, Any]]:
    """What ``record`` wrote to ``path``, in order. InputError for a line that is none of it, as one cut short."""
    found = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        try:
            one = json.loads(line)
        except json.JSONDecodeError:
            one = None
        if not isinstance(one, dict) or "what" not in one:
            raise bln.InputError(f"{path}, line {number}, is no record of this bench: delete it, or move the file")
        found.append(one)
    return found


def _plain(value: Any) -> Any:
    if hasattr(value, "_asdict"):
        value = value._asdict()
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


@contextlib.contextmanager
def _silent_stderr() -> Iterator[None]:
    """Some builds of torch's profiler log to the file descriptor itself, where no Python setting reaches."""
    sys.stderr.flush()
    kept, null = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(null, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(null)


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    names = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    model = next((line.split(":", 1)[1].strip() for line in names if line.startswith("model name")), "")
    return model or platform.processor() or platform.machine()
