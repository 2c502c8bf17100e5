"""The same piece with some of its number weights replaced, so that the laws reach derivatives in them."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from ..piece import Piece, Weight
from ..regularizers import Sum

Change = Callable[[str, float], Any]


def weights(piece: Piece) -> dict[str, float]:
    """The weights of the piece and of the pieces that it is made of which are numbers, by dotted name."""
    found: dict[str, float] = {}

    def note(name: str, value: float) -> float:
        found[name] = value
        return value

    rebuilt(piece, note)
    return found


def rebuilt(piece: Any, change: Change, prefix: str = "") -> Any:
    """The piece built anew, ``change(name, number)`` in place of each number weight.

    A piece whose arguments cannot be read back from its attributes stays as it is.
    """
    cls = type(piece)
    parameters = list(inspect.signature(cls.__init__).parameters.values())[1:]
    if isinstance(piece, Sum) and not all(hasattr(piece, p.name) for p in parameters):
        cls, parameters = Sum, list(inspect.signature(Sum.__init__).parameters.values())[1:]
    if not isinstance(piece, Piece) or not all(hasattr(piece, p.name) for p in parameters):
        return piece
    positional, named = [], {}
    for p in parameters:
        value = getattr(piece, p.name)
        if p.kind is p.VAR_POSITIONAL:
            positional = [rebuilt(part, change, f"{prefix}{k}.") for k, part in enumerate(value)]
        elif isinstance(value, Piece):
            named[p.name] = rebuilt(value, change, f"{prefix}{p.name}.")
        elif isinstance(getattr(cls, p.name, None), Weight) and isinstance(value, (int, float)):
            named[p.name] = change(prefix + p.name, float(value))
        else:
            named[p.name] = value
    return cls(*positional, **named)
