"""What an objective adds up to, entry by entry and group by group, on the way to φ, g and v."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import torch

from ..errors import InputError
from .cvxpy_quantity import Quantity
from .cvxpy_read import Rows


class Entries(NamedTuple):
    """Rows that are s_i x_j + o_i, each an entry j of its own."""

    index: np.ndarray  # type: ignore[assignment]
    scale: np.ndarray
    offset: Quantity

    @property
    def shift(self) -> Quantity:
        """t with s x + o = s (x − t)."""
        return -(self.offset / Quantity(self.scale))


class Group(NamedTuple):
    """weight · ‖x_G − t_G‖ over the entries ``index``; t is over all entries."""

    index: np.ndarray  # type: ignore[assignment]
    weight: Quantity
    shift: Quantity


@dataclass
class Parts:
    """Σ ½ m x² + l x + Σ w φ_name(x) + Σ c |x − t| + Σ huber + norms, of n entries."""

    n: int
    linear: list[Quantity] = field(default_factory=list)
    squares: list[Quantity] = field(default_factory=list)
    entropies: dict[str, list[Quantity]] = field(default_factory=dict)
    kinks: list[tuple[Quantity, Quantity]] = field(default_factory=list)
    hubers: list[tuple[Quantity, Quantity, Quantity]] = field(default_factory=list)
    groups: list[Group] = field(default_factory=list)
    largest: list[Group] = field(default_factory=list)
    variation: list[Quantity] = field(default_factory=list)

    def spread(self, e: Entries, q: Quantity, fill: float = 0.0) -> Quantity:
        """One number a row, at the entries of the rows."""
        return q.spread(e.index, self.n, fill)

    def add_entropy(self, name: str, e: Entries, weight: Quantity) -> None:
        self.entropies.setdefault(name, []).append(self.spread(e, weight))

    def add_linear(self, rows: Rows, weight: Quantity) -> None:
        """Σ weight_i (M x)_i."""
        if (e := single(rows)) is not None:
            self.linear.append(self.spread(e, weight * Quantity(e.scale)))
        else:
            self.linear.append(through(rows.matrix, weight))

    def add_kink(self, rows: Rows, weight: Quantity) -> None:
        """Σ weight_i |(M x + o)_i|."""
        if (e := single(rows)) is not None:
            size = weight * Quantity(np.abs(e.scale))
            self.kinks.append((self.spread(e, size), self.spread(e, e.shift)))
        elif (step := _differences(rows, self.n)) is not None:
            self.variation.append(weight * Quantity(step))
        else:
            raise InputError("|M x + o| with rows of several entries is no sum over entries")

    def add_square(self, rows: Rows, weight: Quantity, middle: np.ndarray | None = None) -> None:
        """Σ weight_i (M x + o)_i², or (M x + o)'P(M x + o) for one weight and P = ``middle``."""
        e = single(rows)
        if e is not None and middle is None:
            self.squares.append(self.spread(e, weight * Quantity(2 * e.scale**2)))
            self.linear.append(self.spread(e, weight * e.offset * Quantity(2 * e.scale)))
            return
        if weight.number is None and weight.fixed is None:
            raise InputError("a quadratic form with a weight that is a parameter is no sum over entries")
        m = rows.matrix.toarray()
        c = np.broadcast_to(weight.fixed.numpy(), m.shape[0])  # type: ignore[union-attr]
        inner = np.diag(c) if middle is None else middle * c[0]
        q = 2 * m.T @ inner @ m
        diagonal = np.diag(q)
        if np.abs(q - np.diag(diagonal)).max() > 1e-13 * np.abs(q).max():
            raise InputError("a quadratic form couples the entries")
        self.squares.append(Quantity(diagonal.copy()))
        self.linear.append(through(inner @ rows.matrix * 2, rows.offset))


def single(rows: Rows) -> Entries | None:
    """The rows as Entries, or None where a row has no entry, or several, or shares it with another."""
    matrix = rows.matrix.tocoo()
    order = np.argsort(matrix.row, kind="stable")
    row, index, scale = matrix.row[order], matrix.col[order], matrix.data[order]
    if len(row) != matrix.shape[0] or (row != np.arange(len(row))).any() or len(set(index.tolist())) < len(index):
        return None
    return Entries(index, scale, rows.offset)


def entries(rows: Rows, what: str) -> Entries:
    """The rows as Entries; InputError where they are not."""
    found = single(rows)
    if found is None:
        raise InputError(f"{what} of sums of several entries, or of one entry twice, is no sum over entries")
    return found


def through(matrix: Any, weight: Quantity) -> Quantity:
    """M'w."""
    dense = torch.from_numpy(np.ascontiguousarray(matrix.toarray() if hasattr(matrix, "toarray") else matrix))
    return weight.map(lambda w: w.expand((*w.shape[:-1], len(dense))) @ dense.to(w))


def uniform_scale(e: Entries, what: str) -> float:
    """|s| of a norm, which must be the same in each entry."""
    sizes = np.abs(e.scale)
    if np.ptp(sizes) > 1e-14 * sizes[0]:
        raise InputError(f"{what} of entries with different factors is no norm of the catalogue")
    return float(sizes[0])


def _differences(rows: Rows, n: int) -> float | None:
    """c > 0 where the rows are ±c (x_{i+1} − x_i) for every i, else None."""
    m = rows.matrix.toarray()
    if m.shape[0] != n - 1 or n < 2 or not rows.offset.is_number(0.0):
        return None
    first, size = (m != 0).argmax(1), np.abs(m[0]).max()
    m = -m * np.sign(m[np.arange(n - 1), first])[:, None]
    return float(size) if np.array_equal(m[np.argsort(first)], size * np.diff(np.eye(n), axis=0)) else None
