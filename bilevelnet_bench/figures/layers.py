"""The representation after every layer, with the decision regions there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import bilevelnet as bln

from ..cases.data import Data
from ..separation import Separation
from ..training import accuracy
from .style import COLOURS, MARKERS, TINTS, figure, marker

LIMITS, TICKS, HALF_SIDE = (-1.65, 1.65), (-1.5, 0, 1.5), 1.57


def layers(
    path: Path, data: Data, networks: dict[str, bln.models.BilevelNetwork], separations: dict[str, list[Separation]]
) -> Path:
    """A row a network: test points, then z after every layer, on the regions by which the rest decides."""
    columns = len(next(iter(networks.values())).chain) + 1
    with figure(path, len(networks), columns, 2.7 * len(networks), sharex=True, sharey=True) as (sheet, axes):
        sheet.get_layout_engine().set(w_pad=0.06, h_pad=0.07, rect=(0, 0, 1, 0.99))
        for row, (name, network) in zip(axes, networks.items(), strict=True):
            with torch.no_grad():
                points = network.representations(data.x_test)
            for k, (axis, z) in enumerate(zip(row, points, strict=True)):
                _regions(axis, network, k)
                _scatter(axis, z, data.y_test)
                at = separations[name][k]
                place = f"data; test accuracy {accuracy(network, data):.2f}" if k == 0 else f"after layer {k}"
                axis.set_title(f"{place}\nprobe {at.probe:.2f}, Fisher {at.fisher:.2f}")
                axis.set(xlim=LIMITS, ylim=LIMITS, xticks=TICKS, yticks=TICKS, aspect="equal")
            row[0].set_ylabel(f"{name.capitalize()} MLP\n$z_2$")
        for axis in axes[-1]:
            axis.set_xlabel("$z_1$")
        sheet.legend(
            [marker(0), marker(1)], ["first arm", "second arm"], loc="outside lower center", ncols=2, handletextpad=0.2
        )
    return path


def _regions(axis: Any, network: bln.models.BilevelNetwork, k: int, count: int = 300) -> None:
    # the label of each z after layer k, by the layers that follow and the head
    line = torch.linspace(-HALF_SIDE, HALF_SIDE, count)
    z = torch.cartesian_prod(line, line)
    with torch.no_grad():
        label = network.head(network.chain[k:](z) if k < len(network.chain) else z).argmax(-1)
    label = label.reshape(count, count).T
    axis.contourf(line.numpy(), line.numpy(), label.numpy(), levels=(-0.5, 0.5, 1.5), colors=TINTS)


def _scatter(axis: Any, z: Tensor, y: Tensor) -> None:
    for c in range(2):
        points = z[y == c].numpy()
        axis.scatter(*points.T, s=7, marker=MARKERS[c], color=COLOURS[c], alpha=0.7, linewidths=0, clip_on=False)
