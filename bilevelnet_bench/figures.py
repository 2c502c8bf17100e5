"""Pictures of the experiments, in PNG. matplotlib is imported when a picture is drawn, without a display."""

from __future__ import annotations

import statistics
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import bilevelnet as bln

from .cases.data import Data
from .separation import Separation
from .training import accuracy

# Okabe and Ito's palette, which the common colour-vision deficiencies keep apart; markers differ too.
COLOURS, TINTS, MARKERS = ("#0072B2", "#D55E00"), ("#CFE5F2", "#F8DCC8"), ("o", "^")
WIDTH, DPI = 9.0, 180  # inches at 100 pixels an inch on a page 900 pixels wide
LIMITS, TICKS = (-1.65, 1.65), (-1.5, 0, 1.5)
STYLE = {
    "font.size": 9.5,
    "axes.titlesize": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.frameon": False,
}


def spirals(
    path: Path, data: Data, networks: dict[str, bln.models.BilevelNetwork], separations: dict[str, list[Separation]]
) -> Path:
    """A row a network: test points with the decision regions, then z after every layer, each with its separation."""
    plt = _pyplot()
    layers = len(next(iter(networks.values())).chain)
    with plt.rc_context(STYLE):
        shape, size = (len(networks), layers + 1), (WIDTH, 2.7 * len(networks))
        figure, axes = plt.subplots(*shape, figsize=size, sharex=True, sharey=True, squeeze=False, layout="constrained")
        figure.get_layout_engine().set(w_pad=0.06, h_pad=0.07, rect=(0, 0, 1, 0.99))
        for row, (name, network) in zip(axes, networks.items(), strict=True):
            with torch.no_grad():
                points = network.representations(data.x_test)
            _regions(row[0], network)
            for k, (axis, z) in enumerate(zip(row, points, strict=True)):
                _scatter(axis, z, data.y_test)
                at = separations[name][k]
                place = f"data; test accuracy {accuracy(network, data):.2f}" if k == 0 else f"after layer {k}"
                axis.set_title(f"{place}\nprobe {at.probe:.2f}, Fisher {at.fisher:.2f}")
                axis.set(xlim=LIMITS, ylim=LIMITS, xticks=TICKS, yticks=TICKS, aspect="equal")
            row[0].set_ylabel(f"{name.capitalize()} MLP\n$z_2$")
        for axis in axes[-1]:
            axis.set_xlabel("$z_1$")
        handles = [_handle(plt, c) for c in range(2)]
        figure.legend(handles, ["first arm", "second arm"], loc="outside lower center", ncols=2, handletextpad=0.2)
        return _save(plt, figure, path)


def training(path: Path, curves: dict[str, dict[str, list[list[float]]]]) -> Path:
    """A panel a data set: test accuracy after each epoch, a thin line a seed, a thick one for their mean."""
    plt = _pyplot()
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(1, len(curves), figsize=(WIDTH, 3.2), squeeze=False, layout="constrained")
        for axis, (name, networks) in zip(axes[0], curves.items(), strict=True):
            for c, (version, runs) in enumerate(networks.items()):
                style = "-" if c == 0 else "--"
                for run in runs:
                    axis.plot(range(1, len(run) + 1), run, style, color=COLOURS[c], alpha=0.3, linewidth=0.8)
                mean = [statistics.fmean(values) for values in zip(*runs, strict=True)]
                axis.plot(
                    range(1, len(mean) + 1), mean, style, color=COLOURS[c], linewidth=2.2, label=version.capitalize()
                )
            axis.set(title=f"{name}, {len(runs)} seeds", xlabel="epoch", ylabel="test accuracy")
            axis.set_ylim(top=1.01)
            axis.legend(loc="lower right")
        return _save(plt, figure, path)


def _regions(axis: Any, network: bln.models.BilevelNetwork, count: int = 300) -> None:
    line = torch.linspace(-1.57, 1.57, count)
    grid = torch.cartesian_prod(line, line)
    with torch.no_grad():
        label = network(grid).argmax(-1).reshape(count, count).T
    axis.contourf(line.numpy(), line.numpy(), label.numpy(), levels=(-0.5, 0.5, 1.5), colors=TINTS)


def _scatter(axis: Any, z: Tensor, y: Tensor) -> None:
    for c in range(2):
        points = z[y == c].numpy()
        axis.scatter(*points.T, s=7, marker=MARKERS[c], color=COLOURS[c], alpha=0.7, linewidths=0, clip_on=False)


def _handle(plt: Any, c: int) -> Any:
    return plt.Line2D([], [], marker=MARKERS[c], color=COLOURS[c], linestyle="none")


def _pyplot() -> Any:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    return pyplot


def _save(plt: Any, figure: Any, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=DPI)
    plt.close(figure)
    return path
