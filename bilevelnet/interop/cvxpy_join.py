"""Sums over parts of the entries as sums over all: however a problem splits a norm, it is one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import scipy.sparse as sp
import torch

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
    """‖M x − shift‖ ≤ radius, in the norm ``kind`` ("norm" is 2, "abs" is 1), M = 1 where it is None; a radius that is
    negative or NaN is of an empty set.
    """

    kind: str
    radius: Quantity
    shift: Quantity
    matrix: Any = None


def ball(parts: Parts) -> Ball:
    """The set where the sum of the parts is ≤ 0; InputError where it is no ball."""
    n, level, flat = parts.n, -total(parts.constants), total(parts.linear).is_number(0.0)
    kinds = [k for k in ("kinks", "squares", "groups", "composed") if getattr(parts, k)]
    if len(kinds) != 1 or not parts.plain:
        raise InputError("a constraint on a sum of atoms of different kinds")
    if kinds == ["squares"]:
        return _centred(parts, level)
    spots = joined(parts.kinks, n)
    if flat and len(spots) == 1:
        return _scaled("abs", *spots[0], level, n)
    if flat and len(parts.groups) == 1:
        g = parts.groups[0]
        return _scaled("norm", g.weight.spread(g.index, n), g.shift, level, n)
    one: Sequence[Composed] = parts.composed
    if flat and len(one) == 1 and one[0].kind in ("abs", "norm", "square") and one[0].weight.number is not None:
        kind, rows, weight, _ = one[0]
        radius = level / weight
        if kind == "square":
            kind, radius = "norm", (radius * Quantity(2.0)).map(torch.sqrt)
        return Ball(kind, radius, -rows.offset, rows.matrix)
    raise InputError("a constraint on a sum of atoms that is no ball")


def _centred(parts: Parts, level: Quantity) -> Ball:
    """Σ ½ w (x − t)² + l x ≤ level: ½ ‖√m (x − c)‖² ≤ level − its least value, which is computed at c."""
    m, n = parts.curvature, parts.n
    linear = total(parts.linear)
    if m.fixed is None or not linear.map(lambda c, m: torch.where(m == 0, c, 0.0), m).is_number(0.0):
        raise InputError("a constraint on squares whose weights are parameters, or that is linear in some entries")
    centre = -parts.slope.map(lambda c, m: c / torch.where(m == 0, 1.0, m), m)
    least = [summed(linear * centre, n)]
    for s in parts.squares:
        gap = _at(centre, n).take(s.index) - s.shift
        least.append(summed(s.weight * gap * gap * Quantity(0.5), len(s.index)))
    square = (level - total(least)) * Quantity(2.0)
    return _scaled("norm", m.map(torch.sqrt), centre, square.map(torch.sqrt), n)


def _scaled(kind: str, weight: Quantity, shift: Quantity, radius: Quantity, n: int) -> Ball:
    """‖weight (x − shift)‖ ≤ radius, over the entries whose weight is not 0."""
    if weight.fixed is None or bool((weight.fixed < 0).any()):
        raise InputError("a constraint on atoms whose weights are parameters")
    every = np.broadcast_to(weight.fixed.numpy(), n)
    used = np.flatnonzero(every)
    size = every[used]
    if np.ptp(size) <= 1e-14 * size[0]:  # a few roundings of one factor
        radius, size = radius / Quantity(size[0]), np.ones(len(used))
        if len(used) == n:
            return Ball(kind, radius, shift)
    matrix = sp.csr_array((size, (np.arange(len(used)), used)), shape=(len(used), n))
    return Ball(kind, radius, _at(shift, n).take(used) * Quantity(size), matrix)


def _at(q: Quantity, n: int) -> Quantity:
    return q.map(lambda t: t.expand((*t.shape[:-1], n)))


def _same(a: Quantity, b: Quantity, where: np.ndarray) -> bool:
    if a.fixed is None or b.fixed is None:
        return False
    n = len(where)
    return bool((_at(a, n).fixed == _at(b, n).fixed)[..., where].all())  # type: ignore[index]
