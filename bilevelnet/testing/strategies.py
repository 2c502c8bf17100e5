"""Hypothesis strategies: Legendre functions, regularizers, pairs and points, with drawn weights.

Needs the extra ``testing``. A piece's number weights are drawn in their ranges, whatever else it takes comes from its
``examples``; so a new piece is drawn as soon as it is registered.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Sequence
from typing import Any

import torch
from hypothesis import strategies as st
from torch import Tensor

from .. import legendre, regularizers
from ..domains import Interval
from ..errors import InputError
from ..legendre import Legendre
from ..piece import Piece, Weight
from ..regularizers import Regularizer
from .points import Draw, event_of, members


def legendres(classes: Sequence[type[Legendre]] | None = None) -> st.SearchStrategy[Legendre]:
    """A Legendre function of one of the classes, all registered ones unless given."""
    return _pieces(classes or tuple(legendre.registry.values()))


def regularizer_pieces(classes: Sequence[type[Regularizer]] | None = None) -> st.SearchStrategy[Regularizer]:
    """A regularizer of one of the classes, all registered ones unless given."""
    return _pieces(classes or tuple(regularizers.registry.values()))


def sums() -> st.SearchStrategy[Regularizer]:
    """A sum of two or three separable regularizers, some of them scaled, whose domains meet."""
    separable = [c for c in regularizers.registry.values() if not c(**c.examples[0]).event_ndim]
    term = st.one_of(
        regularizer_pieces(separable), st.builds(lambda c, g: c * g, _numbers(0.0, 4.0), regularizer_pieces(separable))
    )
    return st.lists(term, min_size=2, max_size=3).map(_sum).filter(lambda g: g is not None)  # type: ignore[arg-type, return-value]


def pairs() -> st.SearchStrategy[tuple[Legendre, Regularizer]]:
    """(φ, g), g possibly a sum; whether a solver takes it is another matter."""
    return st.tuples(legendres(), st.one_of(regularizer_pieces(), sums()))


def domains(largest: float = 8.0) -> st.SearchStrategy[Interval]:
    """An interval with number ends, some of them infinite, open or closed, at least 0.1 long."""
    ends = st.tuples(_numbers(-largest, largest), _numbers(0.1, largest), st.booleans(), st.booleans())
    closed = st.tuples(st.booleans(), st.booleans())

    def build(drawn: tuple[float, float, bool, bool], closed: tuple[bool, bool]) -> Interval:
        lo, length, below, above = drawn
        return Interval(-math.inf if below else lo, math.inf if above else lo + length, closed)

    return st.builds(build, ends, closed)


def points(domain: Interval, size: int = 8, largest: float = 50.0) -> st.SearchStrategy[Tensor]:
    """A float64 vector inside an interval with number ends."""
    lo, hi = max(float(domain.lo), -largest), min(float(domain.hi), largest)
    inside = st.floats(lo, hi, exclude_min=lo == domain.lo, exclude_max=hi == domain.hi, allow_subnormal=False)
    return st.lists(inside, min_size=size, max_size=size).map(lambda x: torch.tensor(x, dtype=torch.float64))


def duals(phi: Legendre, size: int = 8, largest: float = 30.0) -> st.SearchStrategy[Tensor]:
    """v for a separable φ: a float64 vector in its dual domain."""
    return points(phi.dual_domain, size, largest)


def interior(phi: Legendre, size: int = 8, largest: float = 30.0) -> st.SearchStrategy[Tensor]:
    """z for a separable φ: a float64 vector in int dom φ."""
    return points(phi.domain, size, largest)


def members_of(g: Regularizer) -> st.SearchStrategy[Tensor]:
    """A batch of points of dom g."""
    return st.integers(0, 2**16).map(lambda seed: members(g, event_of(g), Draw(seed)))


def _pieces(classes: Sequence[type]) -> st.SearchStrategy[Any]:
    return st.sampled_from(list(classes)).flatmap(_piece).filter(lambda p: p is not None)


def _piece(cls: type[Piece]) -> st.SearchStrategy[Any]:
    def build(example: dict[str, Any], drawn: dict[str, float], seed: int) -> Any:
        try:
            with torch.random.fork_rng(devices=()):  # a random start can be drawn again
                torch.manual_seed(seed)
                piece: Any = cls(**{**example, **drawn})
            event_of(piece)
            return piece
        except InputError:  # weights that do not go together, as lo > hi, or that no event of the laws suits
            return None

    def seeds(example: dict[str, Any]) -> st.SearchStrategy[int]:
        return st.integers(0, 99) if any(True for _ in cls(**example).parameters()) else st.just(0)

    return st.sampled_from(cls.examples).flatmap(
        lambda example: st.builds(build, st.just(example), st.fixed_dictionaries(_drawn(cls, example)), seeds(example))
    )


def _drawn(cls: type[Piece], example: dict[str, Any]) -> dict[str, st.SearchStrategy[float]]:
    found = {}
    for name in inspect.signature(cls.__init__).parameters:
        weight = getattr(cls, name, None)
        if isinstance(weight, Weight) and isinstance(example.get(name, 1.0), (int, float)):
            found[name] = _range(weight)
    return found


def _range(weight: Weight) -> st.SearchStrategy[float]:
    low, high = weight.low, weight.high
    if math.isinf(low):
        return _numbers(-4.0, 4.0)
    if math.isinf(high):
        return st.one_of(_numbers(low + 0.05, low + 8.0), *([st.just(low)] if weight.closed else []))
    return _numbers(low + 0.05 * (high - low), high - 0.05 * (high - low))


def _numbers(low: float, high: float) -> st.SearchStrategy[float]:
    # Two decimals: counterexamples that can be read, and no weights that only a fuzzer would give.
    return st.integers(math.ceil(low * 100), math.floor(high * 100)).map(lambda k: k / 100)


def _sum(terms: list[Regularizer]) -> Regularizer | None:
    try:
        total = terms[0]
        for t in terms[1:]:
            total = total + t
    except InputError:  # domains that do not meet
        return None
    domain = total.domain
    return None if isinstance(domain, Interval) and domain.constant and domain.lo >= domain.hi else total
