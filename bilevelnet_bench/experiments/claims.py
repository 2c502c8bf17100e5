"""What the paper says of the two spirals, held against the runs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from ..sheets import Sheet
from ..statistics import Interval, interval, paired, trend
from .runs import Run, unique
from .summary import by_settings, find, signed, title

SMALL = 0.05  # of accuracy
HOLDS, FAILS, OPEN = "holds", "does not hold", "undecided"


class Finding(NamedTuple):
    claim: str
    evidence: str
    verdict: str


def sheets(runs: Sequence[Run]) -> list[Sheet]:
    """Of every setting a row a claim. 95 % intervals decide; it is undecided where one holds 0."""
    columns = ("claim", "evidence", "verdict")
    made = [Sheet(title("claims of the paper", here), columns, list(findings(here))) for here in by_settings(runs)]
    return [sheet for sheet in made if sheet.rows]


def findings(runs: Sequence[Run]) -> Iterator[Finding]:
    """Of runs of one setting."""
    depths = sorted(unique(r.depth for r in runs))
    yield from _separates_better(runs, depths[0])
    for depth in depths:
        if depth >= 10:
            yield from _sensitivity(runs, depth)
            yield from _impact_trend(runs, depth)
    if len(depths) > 1:
        yield from _depth(runs, depths[0], depths[-1])


def _separates_better(runs: Sequence[Run], depth: int) -> Iterator[Finding]:
    a, b = (find(runs, version, "random", depth) for version in ("bregman", "standard"))
    if a and b:
        found = paired(a.accuracies, b.accuracies)
        claim = f"{depth} layers: bregman separates better than standard"
        yield Finding(claim, f"accuracy {signed(found)}", _sign(found, 1))


def _sensitivity(runs: Sequence[Run], depth: int) -> Iterator[Finding]:
    """|accuracy from the identity start − from the random start|, seed by seed, standard minus bregman."""
    moved = []
    for version in ("standard", "bregman"):
        a, b = (find(runs, version, init, depth) for init in ("identity", "random"))
        if a and b:
            moved.append([abs(x - y) for x, y in zip(a.accuracies, b.accuracies, strict=True)])
    if len(moved) == 2:
        found = paired(*moved)
        claim = f"{depth} layers: standard is more sensitive to the start than bregman"
        means = " against ".join(f"{interval(m).mean:.3f}" for m in moved)
        yield Finding(claim, f"|identity − random| {means}: {signed(found)}", _sign(found, 1))


def _impact_trend(runs: Sequence[Run], depth: int) -> Iterator[Finding]:
    for version, word, sign in (("standard", "increases", 1), ("bregman", "decreases", -1)):
        run = find(runs, version, "random", depth)
        if run and run.impact:
            found = trend(run.impact)
            claim = f"{depth} layers: impact {word} with l, {version}"
            yield Finding(claim, f"rank correlation {signed(found, 2)}", _sign(found, sign))


def _depth(runs: Sequence[Run], shallow: int, deep: int) -> Iterator[Finding]:
    for version in ("standard", "bregman"):
        a, b = (find(runs, version, "random", depth) for depth in (deep, shallow))
        if a and b:
            found = paired(a.accuracies, b.accuracies)
            if version == "standard":
                claim, verdict = "loses accuracy", _sign(found, -1)
            else:  # the difference + SMALL is positive
                claim, verdict = f"loses less than {SMALL}", _sign(Interval(found.mean + SMALL, found.half), 1)
            claim = f"from {shallow} to {deep} layers {version} {claim}"
            yield Finding(claim, f"accuracy {signed(found)}", verdict)


def _sign(found: Interval, sign: int) -> str:
    if not abs(found.mean) > found.half:
        return OPEN
    return HOLDS if found.mean * sign > 0 else FAILS
