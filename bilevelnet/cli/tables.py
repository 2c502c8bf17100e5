"""The catalogue in 80 columns: two lines a function, and one letter a pair."""

from __future__ import annotations

import textwrap
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

from ..solvers import registry
from .catalog import SIZES, STATED, Record

LETTERS = {"conic": "k"}  # else the first letter of the name that no earlier solver has
NONE, UNFIT = "·", "≠"


def legendre_functions(console: Console, records: list[Record]) -> None:
    """Two lines a φ."""
    heads = ("key", "class", "dom φ", "σ", "dom φ*", "root")
    rows = [
        (
            r["key"],
            r["class"] + (f"({', '.join(r['parameters'])})" if r["parameters"] else ""),
            r["domain"],
            f"{r['strong_convexity']:.3g}",
            r["dual_domain"] or "",
            r["root"] or "",
        )
        for r in records
    ]
    _title(console, f"{len(records)} Legendre functions φ")
    _note(
        console,
        "Domains and σ (strong convexity) are those of the first example; dom φ* is shown where it is not the whole "
        "space; root = the unknown of the scalar solver, u = ∇φ(z) or a chart of dom φ (z, log or logit).",
    )
    _cards(console, heads, rows, [r["formula"] for r in records])


def convex_regularizers(console: Console, records: list[Record]) -> None:
    """Two lines a g."""
    heads = ("key", "parameters", "dom g", "kind", "stated")
    rows = [
        (
            r["key"],
            ", ".join(r["parameters"]),
            r["domain"],
            r["kind"],
            " ".join(name[0] if name in r["stated"] else NONE for name in STATED),
        )
        for r in records
    ]
    _title(console, f"{len(records)} regularizers g")
    _note(
        console,
        f"dom g is that of the first example; stated: {', '.join(f'{name[0]} = {name}' for name in STATED)}; "
        "the rest is derived, or said to be missing.",
    )
    _cards(console, heads, rows, [r["formula"] for r in records])


def known_sums(console: Console, known: Record) -> None:
    """The spans, then the pairs."""
    _title(console, "Known ψ = φ + h: (∇ψ)⁻¹ is a formula")
    _note(console, "By the span of ∇ψ, for sums of any number of its terms:")
    rows = [(s["gradient"], s["inverse"]) for s in known["spans"]]
    sums = ["; ".join([*s["phi"], *(" + ".join(pair) for pair in s["sums"])]) for s in known["spans"]]
    _cards(console, ("∇ψ(z)", "(∇ψ)⁻¹"), rows, sums)
    _note(console, "Pair by pair:")
    rows = [(f"{p['phi']} + {p['h']}", p["inverse"]) for p in known["pairs"]]
    _cards(console, ("φ + h", "(∇ψ)⁻¹"), rows, [p["rule"] for p in known["pairs"]])


def pairs(console: Console, records: list[Record]) -> None:
    """A row a φ, a column a g, in as many blocks as the width asks for."""
    letters = solver_letters()
    cells = {(r["phi"], r["g"]): _letter(r, letters) for r in records}
    rows, columns = (list(dict.fromkeys(r[name] for r in records)) for name in ("phi", "g"))
    _title(console, "The solver that auto chooses for (φ, g), at the first example of each")
    counts = Counter(cells.values())
    meaning = {**{letter: name.replace("_", " ") for name, letter in letters.items()}, NONE: "none", UNFIT: SIZES}
    _note(console, ", ".join(f"{letter} = {name} ({counts[letter]})" for letter, name in meaning.items()))
    label = max(map(len, rows)) + 1
    count = max(1, (console.width - label) // 2)
    for start in range(0, len(columns), count):
        block = columns[start : start + count]
        height = max(map(len, block))
        for line in zip(*(key.rjust(height) for key in block), strict=True):
            _line(console, " " * label + " ".join(line), "bold")
        for phi in rows:
            _line(console, phi.ljust(label) + " ".join(cells[phi, g] for g in block))
        console.print()


SECTIONS: dict[str, Callable[[Console, Any], None]] = {
    "legendre": legendre_functions,
    "regularizers": convex_regularizers,
    "known": known_sums,
    "pairs": pairs,
}


def solver_letters() -> dict[str, str]:
    """One letter a solver of the registry."""
    letters: dict[str, str] = {}
    for name in registry:
        letters[name] = LETTERS.get(name) or next(c for c in name if c not in letters.values())
    return letters


def _letter(record: Record, letters: dict[str, str]) -> str:
    if record["solver"] is None:
        return UNFIT if record["reason"].startswith(SIZES) else NONE
    return letters[record["solver"]]


def _cards(console: Console, heads: Sequence[str], rows: Sequence[Sequence[str]], below: Sequence[str]) -> None:
    """Aligned columns, and under each row a line of text that wraps at spaces only where it must."""
    widths = [max(map(cell_len, column)) for column in zip(heads, *rows, strict=True)]
    _line(console, _aligned(heads, widths), "bold")
    for row, text in zip(rows, below, strict=True):
        _line(console, _aligned(row, widths))
        for part in wrapped(text, console.width - 4):
            _line(console, "    " + part, "cyan")
    console.print()


def wrapped(text: str, width: int) -> list[str]:
    """Lines broken after a comma, semicolon or colon outside brackets, and at other spaces only where they must be."""
    lines: list[str] = []
    for clause in _clauses(text):
        if lines and cell_len(lines[-1]) + 1 + cell_len(clause) <= width:
            lines[-1] += " " + clause
        else:
            lines += textwrap.wrap(clause, width)
    return lines


def _clauses(text: str) -> list[str]:
    clauses, depth = [""], 0
    for word in text.split(" "):
        clauses[-1] += word + " "
        depth += sum((c in "([{") - (c in ")]}") for c in word)
        if word[-1:] in (",", ";", ":") and not depth:
            clauses.append("")
    return [clause.strip() for clause in clauses]


def _aligned(row: Sequence[str], widths: Sequence[int]) -> str:
    return " ".join(cell + " " * (width - cell_len(cell)) for cell, width in zip(row, widths, strict=True)).rstrip()


def _title(console: Console, text: str) -> None:
    console.print(Text(text, style="bold underline"))


def _note(console: Console, text: str) -> None:
    for line in wrapped(text, console.width):
        _line(console, line)


def _line(console: Console, text: str, style: str = "") -> None:
    console.print(Text(text.rstrip(), style=style))
