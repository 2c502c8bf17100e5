"""Test accuracy by epoch."""

from __future__ import annotations

import statistics
from pathlib import Path

from .style import COLOURS, LINES, figure


def training(path: Path, curves: dict[str, dict[str, list[list[float]]]]) -> Path:
    """A panel a data set: test accuracy after each epoch, a thin line a seed, a thick one for their mean."""
    with figure(path, 1, len(curves), 3.2) as (_, axes):
        for axis, (name, networks) in zip(axes[0], curves.items(), strict=True):
            for c, (version, runs) in enumerate(networks.items()):
                for run in runs:
                    axis.plot(range(1, len(run) + 1), run, LINES[c], color=COLOURS[c], alpha=0.3, linewidth=0.8)
                mean = [statistics.fmean(values) for values in zip(*runs, strict=True)]
                epochs = range(1, len(mean) + 1)
                axis.plot(epochs, mean, LINES[c], color=COLOURS[c], linewidth=2.2, label=version.capitalize())
            axis.set(title=f"{name}, {len(runs)} seeds", xlabel="epoch", ylabel="test accuracy")
            axis.set_ylim(top=1.01)
            axis.legend(loc="lower right")
    return path
