"""The tables of an experiment, from its runs alone."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from statistics import fmean

from ..sheets import Sheet
from ..statistics import Interval, interval, paired, share_near, trend
from .runs import Run, unique

NOTES = """\
a ± h: mean over the seeds and its 95 % interval (Student); differences are
taken seed by seed. near best: the share of seeds with at least 0.9 of the best
test accuracy at that depth and setting. random, identity, zero: the start.
identity: b = 0, and W = 0 of the bregman (z⁺ = z) and the euclidean version
(z⁺ = ρ(z)), W = I of the standard one, which is then the same network as the
euclidean: they differ by rounding. zero: W = 0 and b = 0, of the standard
version a constant. impact: the mean of ‖z_l − z_{l−1}‖ over test points.
Nothing is chosen on the test set."""
PAIRS = (("bregman", "standard"), ("bregman", "euclidean"), ("euclidean", "standard"))


def sheets(runs: Sequence[Run]) -> list[Sheet]:
    """Of every setting those tables that its runs have figures for."""
    made = []
    for here in by_settings(runs):
        made += [accuracy(here), differences(here), depth_effect(here), impact(here), separation(here)]
    return [sheet for sheet in made if sheet.rows]


def by_settings(runs: Sequence[Run]) -> list[list[Run]]:
    """The runs of each setting."""
    return [[r for r in runs if r.settings == settings] for settings in unique(r.settings for r in runs)]


def title(what: str, runs: Sequence[Run]) -> str:
    """What, by which setting and over how many seeds."""
    return f"{what}; {runs[0].settings}, {len(runs[0].seeds)} seeds"


def find(runs: Sequence[Run], version: str, init: str, depth: int) -> Run | None:
    """The finished run of these names."""
    names = (version, init, depth)
    wanted = [r for r in runs if (r.version, r.init, r.depth) == names and r.status == "finished"]
    return wanted[-1] if wanted else None


def accuracy(runs: Sequence[Run]) -> Sheet:
    """Test accuracy of every run, and how many of its seeds end near the best of that depth."""
    rows = []
    for depth in unique(r.depth for r in runs):
        here = [r for r in runs if r.depth == depth]
        best = max((a for r in here for a in r.accuracies if a == a), default=0.0)
        for r in here:
            low, high = min(r.accuracies), max(r.accuracies)
            near = f"{share_near(r.accuracies, best):.0%}"
            name = r.name if r.status == "finished" else f"{r.name} ({r.status})"
            rows.append((name, str(interval(r.accuracies)), f"{low:.2f} to {high:.2f}", near))
    return Sheet(title("test accuracy", runs), ("run", "mean", "range", "near best"), rows)


def differences(runs: Sequence[Run]) -> Sheet:
    """One version minus another, seed by seed."""
    rows = []
    inits = unique(r.init for r in runs)
    for depth, init, (a, b) in product(unique(r.depth for r in runs), inits, PAIRS):
        first, second = (find(runs, version, init, depth) for version in (a, b))
        if first and second:
            found = paired(first.accuracies, second.accuracies)
            rows.append((f"{depth} layers, {init}: {a} − {b}", signed(found)))
    return Sheet(title("paired differences of test accuracy", runs), ("comparison", "difference"), rows)


def depth_effect(runs: Sequence[Run]) -> Sheet:
    """Accuracy at each depth minus that at the smallest, seed by seed."""
    depths = sorted(unique(r.depth for r in runs))
    rows = []
    for version, init in unique((r.version, r.init) for r in runs):
        found = [find(runs, version, init, depth) for depth in depths]
        if found[0] and all(found) and len(depths) > 1:
            cells = [signed(paired(r.accuracies, found[0].accuracies)) for r in found[1:] if r]
            rows.append((f"{version}, {init}", *cells))
    columns = ("version", *(f"{d} layers" for d in depths[1:]))
    return Sheet(title(f"depth against accuracy, difference to {depths[0]} layers", runs), columns, rows)


def impact(runs: Sequence[Run]) -> Sheet:
    """‖z_l − z_{l−1}‖ against l: Spearman's rank correlation, and the means of the first and the last tenth."""
    rows = []
    for r in runs:
        if r.depth < 10 or not r.impact:
            continue
        tenth = r.depth // 10
        ends = [interval([sum(c[cut]) / tenth for c in r.impact]) for cut in (slice(tenth), slice(-tenth, None))]
        rows.append((r.name, signed(trend(r.impact), 2), *(f"{e.mean:.2g}" for e in ends)))
    return Sheet(title("impact against l", runs), ("run", "rank correlation", "first tenth", "last tenth"), rows)


def separation(runs: Sequence[Run]) -> Sheet:
    """The separation after every layer, means over the seeds."""
    rows = []
    for r in runs:
        for name, curves in (("probe", r.probes), ("Fisher", r.fishers)):
            means = [fmean(values) for values in zip(*curves, strict=True)]
            if means:
                rows.append((f"{r.version}, {r.init}: {name}", *(f"{m:.2f}" for m in means)))
    depth = max((len(r.probes[0]) for r in runs if r.probes), default=1) - 1
    columns = ("run", "input", *(f"layer {k + 1}" for k in range(depth)))
    return Sheet(title("accuracy of a linear probe, Fisher ratio", runs), columns, rows)


def signed(found: Interval, digits: int = 3) -> str:
    return f"{found.mean:+.{digits}f} ± {found.half:.{digits}f}"
