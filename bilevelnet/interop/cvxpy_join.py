"""Sums over parts of the entries as sums over all: however a problem splits a norm, it is one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from ..errors import InputError
from .cvxpy_parts import Composed, Group, Parts, Spot, summed
from .cvxpy_quantity import Quantity, total


def joined(spots: Sequence[Spot], n: int) -> list[tuple[Quantity, Quantity]]:
    """(weight, shift) of all entries: one for the spots whose entries are apart, or whose shift is the same number."""
    found: list[Any] = []
    for s in spots:
        weight, shift, own = s.weight.spread(s.index, n), s.shift.spread(s.index, n), np.zeros(n, bool)
        own[s.index] = True
        for k, (used, w, t) in enumerate(found):
            if not (used & own).any() or _same(t, shift, used & own):
                new = np.flatnonzero(own & ~used)
                moved = t + _at(shift, n).take(new).spread(new, n) if len(new) else t
                found[k] = used | own, w + weight, moved
                break
        else:
            found.append((own, weight, shift))
    return [(w, t) for _, w, t in found]


def apart(groups: Sequence[Group]) -> list[list[Group]]:
    """The groups in lists of which each holds an entry at most once."""
    lists: list[list[Group]] = []
    for g in groups:
        free = (some for some in lists if not any(np.isin(g.index, other.index).any() for other in some))
        if (some := next(free, None)) is None:
            lists.append([g])
        else:
            some.append(g)
    return lists


class Ball(NamedTuple):
    """‖M x − shift‖ ≤ radius, in the norm ``kind`` ("norm" is 2, "abs" is 1), M = 1 where it is None; ``square``: the
    radius², which must not be negative.
    """

    kind: str
    radius: Quantity
    shift: Quantity
    matrix: Any = None


def ball(parts: Parts) -> Ball:
    """The set where the parts are ≤ 0, as a ball whose radius may come out NaN (of a negative square) or negative."""
    level, flat = -total(parts.constants), total(parts.linear).is_number(0.0)
    kinds = [k for k in ("kinks", "squares", "groups", "largest", "composed") if getattr(parts, k)]
    if len(kinds) != 1 or not parts.plain:
        raise InputError("a constraint on a sum of atoms of different kinds")
    if kinds == ["squares"]:
        return _centred(parts, level)
    spots = joined(parts.kinks, parts.n) if kinds == ["kinks"] else []
    if flat and len(spots) == 1:
        (weight, shift) = spots[0]
        return Ball("abs", level / _number(weight), shift)
    if flat and len(parts.groups) == 1 and len(parts.groups[0].index) == parts.n:
        g = parts.groups[0]
        return Ball("norm", level / _number(g.weight), g.shift)
    one: Sequence[Composed] = parts.composed
    if flat and len(one) == 1 and one[0].kind in ("abs", "norm", "square"):
        kind, rows, weight, _ = one[0]
        radius = level / _number(weight)
        if kind == "square":
            kind, radius = "norm", (radius * Quantity(2.0)).map(lambda t: t.sqrt())
        return Ball(kind, radius, -rows.offset, rows.matrix)
    raise InputError("a constraint on a sum of atoms that is no ball")


def _centred(parts: Parts, level: Quantity) -> Ball:
    """Σ ½ w (x − t)² + l x ≤ level: ½ m ‖x − c‖² ≤ level − its least value, which is computed at c."""
    m = _number(parts.curvature)
    centre = -(parts.slope / m)
    excess = [summed(total(parts.linear) * centre, parts.n)]
    for s in parts.squares:
        gap = _at(centre, parts.n).take(s.index) - s.shift
        excess.append(summed(s.weight * gap * gap * Quantity(0.5), len(s.index)))
    square = (level - total(excess)) * Quantity(2.0) / m
    return Ball("norm", square.map(lambda t: t.sqrt()), centre)


def _number(weight: Quantity) -> Quantity:
    """The weight, one positive number for all entries."""
    if weight.number is None or weight.number <= 0:
        raise InputError("a constraint on atoms whose weights are parameters, or differ")
    return Quantity(weight.number)


def _at(q: Quantity, n: int) -> Quantity:
    return q.map(lambda t: t.expand((*t.shape[:-1], n)))


def _same(a: Quantity, b: Quantity, where: np.ndarray) -> bool:
    if a.fixed is None or b.fixed is None:
        return False
    n = len(where)
    return bool((_at(a, n).fixed == _at(b, n).fixed)[..., where].all())  # type: ignore[index]
