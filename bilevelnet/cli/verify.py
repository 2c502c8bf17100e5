"""The atlas of certificates as a table of 80 columns, and the certificate of one layer."""

from __future__ import annotations

import json
from typing import Any

import torch
from rich.console import Console
from torch import nn

from ..certificates.atlas import Entry, entries
from ..certificates.certificate import Certificate, wrapped
from ..certificates.verify import verify
from .named import named

WIDTHS = (25, 16, 3, 11, 5, 8, 5)  # with one space between: 79 columns
HEADS = ("φ, or network", "g", "row", "solver", "value", "gradient", "")
LEGEND = """\
row: of the theorem, i to v. value, gradient: the worst errors against an
independent solution from the values of φ and g, in v (or z⁻) and every weight."""


def atlas(console: Console) -> tuple[bool, dict[str, Any]]:
    """Every line as it is found; whether all hold, and the same as plain data."""
    console.print(_line(HEADS), style="bold")
    found = []
    torch.set_num_threads(1)  # tensors of a few numbers: more threads only wait for one another
    for entry in entries():
        found.append(entry)
        console.print(_line(_cells(entry)), style=None if entry.passed else "red")
        if not entry.passed:
            console.print("\n".join(wrapped(entry.failure, "  ")))
    failed = sum(not entry.passed for entry in found)
    console.print(LEGEND)
    console.print(f"{len(found) - failed} of {len(found)} hold" + (f", {failed} FAIL" if failed else ""))
    return not failed, {"passed": not failed, "entries": [plain(entry) for entry in found]}


def one(target: str, samples: int, seed: int, console: Console) -> Certificate:
    """The certificate of a layer, a chain, a block or a pair that is named."""
    certificate = verify(named(target, (nn.Module, tuple, list)), None, samples, seed)
    console.print(certificate.table())
    return certificate


def plain(entry: Entry) -> dict[str, Any]:
    """What JSON has a word for: a number that is not finite as its name."""
    return json.loads(json.dumps(entry.as_dict()), parse_constant=str)


def _cells(entry: Entry) -> tuple[str, ...]:
    errors = (f"{entry.value:.0e}", f"{entry.gradient:.0e}")
    return (entry.phi, entry.g, entry.row, entry.solver, *errors, "holds" if entry.passed else "FAILS")


def _line(cells: tuple[str, ...]) -> str:
    return " ".join(f"{cell:{width}}" for cell, width in zip(cells, WIDTHS, strict=True)).rstrip()
