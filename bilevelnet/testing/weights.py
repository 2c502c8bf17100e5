"""The same piece with some of its number weights replaced, so that the laws reach derivatives in them."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from ..piece import Piece, Weight
from ..regularizers.base import Scaled, Sum

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
    if isinstance(piece, Scaled):
        inner = rebuilt(piece.inner, change, f"{prefix}inner.")
        return Scaled(inner, rebuilt(piece.factor, change, f"{prefix}factor."))  # type: ignore[arg-type]
    cls = type(piece)
    names = list(inspect.signature(cls.__init__).parameters)[1:]
    if cls is not Sum and all(hasattr(piece, n) for n in names):
        arguments = {n: getattr(piece, n) for n in names}
        for name, value in arguments.items():
            if isinstance(getattr(cls, name, None), Weight) and isinstance(value, (int, float)):
                arguments[name] = change(prefix + name, float(value))
        return cls(**arguments) if arguments else piece
    if isinstance(piece, Sum):
        parts = [rebuilt(p, change, f"{prefix}{k}.") for k, p in enumerate(piece.parts)]
        return Sum(*parts)
    return piece
