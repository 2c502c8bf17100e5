"""How far each layer moves the points."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from ..experiments.runs import Run, unique
from .style import COLOURS, LINES, figure


def impact(path: Path, runs: Sequence[Run]) -> Path:
    """Of one setting: a row a start, a column a depth; mean ‖z_l − z_{l−1}‖ by l, median and quartiles over seeds."""
    rows, versions = unique(r.init for r in runs), unique(r.version for r in runs)
    depths = sorted(unique(r.depth for r in runs))
    with figure(path, len(rows), len(depths), 2.5 * len(rows), sharey=True, sharex="col") as (sheet, axes):
        sheet.suptitle(f"{runs[0].settings}, {len(runs[0].seeds)} seeds", fontsize=10)
        for row, init in zip(axes, rows, strict=True):
            for axis, depth in zip(row, depths, strict=True):
                for run in (r for r in runs if (r.init, r.depth) == (init, depth)):
                    c = versions.index(run.version)
                    moves = torch.tensor(run.impact)
                    low, middle, high = (torch.quantile(moves, q, dim=0) for q in (0.25, 0.5, 0.75))
                    layer = range(1, depth + 1)
                    axis.fill_between(layer, low, high, color=COLOURS[c], alpha=0.18, linewidth=0)
                    axis.plot(layer, middle, LINES[c], color=COLOURS[c], linewidth=1.6, label=run.version)
                axis.set(yscale="log", title=f"{depth} layers, {init} start")
            row[0].set_ylabel("$\\|z_l - z_{l-1}\\|$")
            row[0].legend(loc="lower left", fontsize=8)
        for axis in axes[-1]:
            axis.set_xlabel("layer l")
    return path
