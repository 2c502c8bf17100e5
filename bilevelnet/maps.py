"""The contract of a map v ↦ z, which a solver binds to one pair (φ, g)."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from torch import Tensor


class Outcome(NamedTuple):
    """Of one solve. ``status`` broadcasts to the shape of z (event dimensions kept as 1); so does what
    ``residual()`` gives, of a solver that knows it better than g's own distance does, and ``error_bound()``, of one
    that has a bound of ‖z − z*‖ of its own (None where φ is not strongly convex).
    """

    z: Tensor
    dual: Tensor | None
    status: Tensor
    iterations: int | Tensor
    multipliers: dict[str, Tensor]
    residual: Callable[[], Tensor] | None = None
    error_bound: Callable[[], Tensor | None] | None = None


class Near(NamedTuple):
    """A point near the solution, from which a search starts, with the multipliers that its solver gave."""

    z: Tensor
    dual: Tensor
    multipliers: dict[str, Tensor]


class Map:
    """v ↦ z = prox^φ_g(v), bound to one (φ, g).

    A ``direct`` map is a formula: it has ``state``, ``primal`` and ``status`` too, and a forward computes no status
    where one look at v, and at z if it ``may_overflow``, tells that all is well. ``whole``: every finite v has a
    solution. ``trivial``: u = v.
    """

    name: str
    direct = False
    whole = False
    may_overflow = False
    trivial = False

    def solve(self, v: Tensor, init: Near | None = None) -> Outcome:
        """The Outcome at v; a search starts from ``init``."""
        raise NotImplementedError

    def state(self, v: Tensor) -> tuple[Tensor, Tensor | None]:
        """(u, z) for v, z None where it is ∇φ*(u) and nobody has computed it."""
        raise NotImplementedError

    def primal(self, v: Tensor) -> Tensor:
        """z alone."""
        raise NotImplementedError

    def status(self, v: Tensor) -> Tensor:
        """Status entry by entry."""
        raise NotImplementedError

    def explain(self) -> str:
        """What the map does, in one line."""
        raise NotImplementedError
