"""What the paper says of the two spirals, held against the runs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from ..sheets import Sheet
from ..statistics import Interval, paired, trend
from .runs import Run, unique
from .summary import find, settings_of, signed

HOLDS, FAILS, OPEN = "holds", "does not hold", "undecided"


class Finding(NamedTuple):
    claim: str
    evidence: str
    verdict: str


def sheet(runs: Sequence[Run]) -> Sheet:
    """A row a claim and setting. 95 % intervals decide; it is undecided where one holds 0."""
    rows = [(f.claim, f.evidence, f.verdict) for f in findings(runs)]
    return Sheet("claims of the paper in these runs", ("claim", "evidence", "verdict"), rows)


def findings(runs: Sequence[Run]) -> Iterator[Finding]:
    shallow = min((r.depth for r in runs), default=0)
    for depth, optimizer in settings_of(runs):
        where = f"{depth} layers, {optimizer}"
        if depth == shallow:
            yield from _separates_better(runs, depth, optimizer, where)
        if depth >= 10:
            yield from _sensitivity(runs, depth, optimizer, where)
            yield from _impact_trend(runs, depth, optimizer, where)
    for optimizer in unique(r.optimizer for r in runs):
        yield from _depth(runs, optimizer)


def _separates_better(runs: Sequence[Run], depth: int, optimizer: str, where: str) -> Iterator[Finding]:
    a, b = (find(runs, version, "random", depth, optimizer) for version in ("bregman", "standard"))
    if a and b:
        found = paired(a.accuracies, b.accuracies)
        yield Finding(f"{where}: bregman separates better than standard", f"accuracy {signed(found)}", _sign(found, 1))


def _sensitivity(runs: Sequence[Run], depth: int, optimizer: str, where: str) -> Iterator[Finding]:
    # over seeds and the random and identity starts together
    ranges = {}
    for version in ("bregman", "standard"):
        found = [find(runs, version, init, depth, optimizer) for init in ("random", "identity")]
        values = [a for r in found if r for a in r.accuracies]
        if values:
            ranges[version] = (min(values), max(values))
    if len(ranges) == 2:
        width = {version: high - low for version, (low, high) in ranges.items()}
        shown = ", ".join(f"{version} {low:.2f} to {high:.2f}" for version, (low, high) in ranges.items())
        verdict = HOLDS if width["bregman"] < width["standard"] else FAILS
        yield Finding(f"{where}: standard is more sensitive to the start than bregman", shown, verdict)


def _impact_trend(runs: Sequence[Run], depth: int, optimizer: str, where: str) -> Iterator[Finding]:
    for version, word, sign in (("standard", "increases", 1), ("bregman", "decreases", -1)):
        run = find(runs, version, "random", depth, optimizer)
        if run and run.impact:
            found = trend(run.impact)
            yield Finding(
                f"{where}: impact {word} with l, {version}", f"rank correlation {signed(found, 2)}", _sign(found, sign)
            )


def _depth(runs: Sequence[Run], optimizer: str) -> Iterator[Finding]:
    depths = sorted(unique(r.depth for r in runs))
    if len(depths) < 2:
        return
    for version, words, sign in (("standard", "loses accuracy", -1), ("bregman", "loses no accuracy", 0)):
        a, b = (find(runs, version, "random", depth, optimizer) for depth in (depths[-1], depths[0]))
        if a and b:
            found = paired(a.accuracies, b.accuracies)
            verdict = _sign(found, sign) if sign else (FAILS if _sign(found, -1) == HOLDS else HOLDS)
            claim = f"{optimizer}: {version} {words} from {depths[0]} to {depths[-1]} layers"
            yield Finding(claim, f"accuracy {signed(found)}", verdict)


def _sign(found: Interval, sign: int) -> str:
    if not abs(found.mean) > found.half:
        return OPEN
    return HOLDS if found.mean * sign > 0 else FAILS
