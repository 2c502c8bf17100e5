"""What an objective adds up to, entry by entry and group by group, on the way to φ, g and v."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import torch

from ..errors import InputError
from .cvxpy_quantity import Quantity, total
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


class Spot(NamedTuple):
    """weight · h(x_j − shift_j) of the entries j in ``index``, one number each: h = |·|, ½(·)²."""

    index: np.ndarray  # type: ignore[assignment]
    weight: Quantity
    shift: Quantity


class Group(NamedTuple):
    """weight · ‖x_G − t_G‖ over the entries ``index``; t is over all entries."""

    index: np.ndarray  # type: ignore[assignment]
    weight: Quantity
    shift: Quantity


class Composed(NamedTuple):
    """weight · h(M x + o), rows that couple entries or leave some out; ``kind`` names h: abs, square (½‖·‖²), norm,
    largest (norm_inf), huber (its threshold in ``more``), logistic, exp, log_sum_exp.
    """

    kind: str
    rows: Rows
    weight: Quantity
    more: Quantity | None = None


@dataclass
class Parts:
    """Σ ½ m (x − t)² + l x + Σ w φ_name(x) + Σ c |x − t| + huber + norms + Σ w h(M x + o) + constants; n entries."""

    n: int
    linear: list[Quantity] = field(default_factory=list)
    squares: list[Spot] = field(default_factory=list)
    entropies: dict[str, list[Quantity]] = field(default_factory=dict)
    kinks: list[Spot] = field(default_factory=list)
    hubers: list[tuple[Quantity, Quantity, Quantity]] = field(default_factory=list)
    groups: list[Group] = field(default_factory=list)
    largest: list[Group] = field(default_factory=list)
    smooth: list[tuple[str, Entries, Quantity]] = field(default_factory=list)  # w h(s x + o): logistic, exp
    variation: list[Quantity] = field(default_factory=list)
    composed: list[Composed] = field(default_factory=list)
    constants: list[Quantity] = field(default_factory=list)  # of what a constraint may hold

    @property
    def curvature(self) -> Quantity:
        """Σ m."""
        return total([s.weight.spread(s.index, self.n) for s in self.squares])

    @property
    def slope(self) -> Quantity:
        """l − Σ m t."""
        pulls = [-(s.weight * s.shift).spread(s.index, self.n) for s in self.squares]
        return total([*self.linear, *pulls])

    @property
    def plain(self) -> bool:
        """Whether all that enters is linear, a kink, a square, a norm or composed."""
        return not (self.entropies or self.hubers or self.smooth or self.variation)

    def spread(self, e: Entries, q: Quantity, fill: float = 0.0) -> Quantity:
        """One number a row, at the entries of the rows."""
        return q.spread(e.index, self.n, fill)

    def add_entropy(self, name: str, e: Entries, weight: Quantity) -> None:
        self.entropies.setdefault(name, []).append(self.spread(e, weight))

    def add_linear(self, rows: Rows, weight: Quantity) -> None:
        """Σ weight_i (M x + o)_i."""
        e = single(rows)
        pulled = through(rows.matrix, weight) if e is None else self.spread(e, weight * Quantity(e.scale))
        self.linear.append(pulled)
        self.constants.append(summed(weight * rows.offset, rows.matrix.shape[0]))

    def add_kink(self, rows: Rows, weight: Quantity) -> None:
        """Σ weight_i |(M x + o)_i|."""
        own = rows.moving
        if own is not None and own.index is not None and rows.offset.is_number(0.0):
            self.kinks.append(Spot(own.index, weight * own.scale.map(torch.abs), Quantity(0.0)))
        elif (e := single(rows)) is not None:
            self.kinks.append(Spot(e.index, weight * Quantity(np.abs(e.scale)), e.shift))
        elif (step := _differences(rows, self.n)) is not None:
            self.variation.append(weight * Quantity(step))
        else:
            self.composed.append(Composed("abs", rows, weight))

    def add_square(self, rows: Rows, weight: Quantity) -> None:
        """Σ weight_i (M x + o)_i²."""
        if (e := single(rows)) is not None:
            self.squares.append(Spot(e.index, weight * Quantity(2 * e.scale**2), e.shift))
            return
        if (own := rows.moving) is not None:
            if own.index is None:
                self.composed.append(Composed("square", rows, weight * Quantity(2.0)))
                return
            twice = weight * own.scale * Quantity(2.0)
            self.squares.append(Spot(own.index, twice * own.scale, Quantity(0.0)))
            self.linear.append((twice * rows.offset).spread(own.index, self.n))
            self.constants.append(summed(weight * rows.offset * rows.offset, len(own.index)))
            return
        gram = (rows.matrix.T @ rows.matrix).toarray()
        sizes = np.diag(gram)
        if (
            weight.number is None or np.abs(gram - np.diag(sizes)).max() > 1e-13 * sizes.max()
        ):  # rounding of the products
            self.composed.append(Composed("square", rows, weight * Quantity(2.0)))
            return
        self.squares.append(Spot(np.arange(self.n), weight * Quantity(2 * sizes), Quantity(0.0)))
        self.linear.append(through(rows.matrix * 2, weight * rows.offset))
        self.constants.append(summed(weight * rows.offset * rows.offset, rows.matrix.shape[0]))


def single(rows: Rows) -> Entries | None:
    """The rows as Entries, or None where a row has no entry, or several, or shares it with another."""
    if rows.moving is not None:
        return None
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


def summed(q: Quantity, size: int) -> Quantity:
    """The sum of its entries, of which there are ``size``."""
    return q.map(lambda t: t.expand((*t.shape[:-1], size)).sum(-1, keepdim=True))


def _differences(rows: Rows, n: int) -> float | None:
    """c > 0 where the rows are ±c (x_{i+1} − x_i) for every i, else None."""
    m = rows.matrix.toarray()
    if m.shape[0] != n - 1 or n < 2 or not rows.offset.is_number(0.0):
        return None
    first, size = (m != 0).argmax(1), np.abs(m[0]).max()
    m = -m * np.sign(m[np.arange(n - 1), first])[:, None]
    return float(size) if np.array_equal(m[np.argsort(first)], size * np.diff(np.eye(n), axis=0)) else None
