"""Test accuracy by version, initialisation and depth, a mark a seed."""

from __future__ import annotations

from collections.abc import Sequence
from math import isfinite
from pathlib import Path
from typing import Any

from ..experiments.runs import Run, unique
from ..statistics import interval
from .style import COLOURS, LINES, MARKERS, figure


def _limits(runs: Sequence[Run]) -> tuple[float, float]:
    """From 0.38, chance being 1/2, to 1.02, or as far as marks and intervals go."""
    means = [interval(r.accuracies) for r in runs]
    ends = [end for mean, half in means for end in (mean - half, mean + half)]
    shown = [a for a in (*ends, *(a for r in runs for a in r.accuracies)) if isfinite(a)]
    return min([0.38, *(a - 0.02 for a in shown)]), max([1.02, *(a + 0.01 for a in shown)])


def by_start(path: Path, runs: Sequence[Run]) -> Path:
    """A panel a setting: a column a version and initialisation, a mark a seed, the mean with its 95 % interval."""
    settings, versions = unique(r.settings for r in runs), unique(r.version for r in runs)
    with figure(path, 1, len(settings), 3.4, sharey=True) as (_, axes):
        for axis, setting in zip(axes[0], settings, strict=True):
            shown = [r for r in runs if r.settings == setting]
            for x, run in enumerate(shown):
                c = versions.index(run.version)
                spread = [x - 0.18 + 0.36 * i / max(1, len(run.accuracies) - 1) for i in range(len(run.accuracies))]
                axis.plot(spread, run.accuracies, MARKERS[c], color=COLOURS[c], alpha=0.5, markersize=4)
                mean, half = interval(run.accuracies)
                axis.errorbar(x, mean, half, color="black", capsize=4, linewidth=1.3, marker="_", markersize=12)
            axis.set_xticks(range(len(shown)), [f"{r.version}\n{r.init}" for r in shown], fontsize=7.5)
            axis.set(title=f"{setting}, {len(shown[0].seeds)} seeds")
        axes[0][0].set(ylabel="test accuracy", ylim=_limits(runs))
    return path


def by_depth(path: Path, runs: Sequence[Run]) -> Path:
    """A row an optimizer, a column an initialisation: accuracy against depth, a line a version through its means."""
    rows, columns = unique(r.optimizer for r in runs), unique(r.init for r in runs)
    versions, depths = unique(r.version for r in runs), sorted(unique(r.depth for r in runs))
    with figure(path, len(rows), len(columns), 2.9 * len(rows), sharex=True, sharey=True) as (sheet, axes):
        for row, optimizer in zip(axes, rows, strict=True):
            for axis, init in zip(row, columns, strict=True):
                for c, version in enumerate(versions):
                    key = (optimizer, init, version)
                    shown = [r for r in runs if (r.optimizer, r.init, r.version) == key]
                    if shown:
                        _line(axis, c, version, sorted(shown, key=lambda r: r.depth))
                axis.set(xscale="log", ylim=_limits(runs), title=f"{init} start, {optimizer}")
                axis.set_xticks(depths, depths)
                axis.minorticks_off()
            row[0].set_ylabel("test accuracy")
        for axis in axes[-1]:
            axis.set_xlabel("layers")
        lines = axes[0][0].get_legend_handles_labels()
        sheet.legend(*lines, loc="outside lower center", ncols=len(versions))
    return path


def _line(axis: Any, c: int, version: str, runs: Sequence[Run]) -> None:
    shift = 1.06 ** (c - 1)  # side by side where they coincide
    x = [run.depth * shift for run in runs]
    for at, run in zip(x, runs, strict=True):
        axis.plot([at] * len(run.accuracies), run.accuracies, MARKERS[c], color=COLOURS[c], alpha=0.35, markersize=3.5)
    means, halves = zip(*(interval(run.accuracies) for run in runs), strict=True)
    axis.errorbar(x, means, halves, linestyle=LINES[c], color=COLOURS[c], capsize=3, linewidth=1.6, label=version)
