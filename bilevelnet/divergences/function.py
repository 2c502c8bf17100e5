"""Any function D(z, z⁻), smooth and convex in z."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from ..domains import Interval, Reals
from ..errors import InputError
from .base import Divergence
from .given import GivenEntries, GivenVector, checked
from .references import Zero


class Function(Divergence):
    """D(z, z⁻) = function(z, z⁻), smooth and convex in z on ``domain`` (strictly, unless f or g is).

    ``function``: a torch.nn.Module, or a function without learned tensors in its closure. ``event_ndim`` = 1: vectors,
    one value a sample; 0: entry by entry, a value for each, which the scalar, multiplier and splitting solvers take
    with any g of theirs. z⁻ must lie inside ``domain`` too. The function must give the same value each time (no
    dropout, no batch statistics): it is evaluated many times a solve. Convexity is refuted on samples at the first
    call, or at the solution (status invalid).

    Raises InputError for another type, or a domain that is no interval.
    """

    def __init__(self, function: Any, domain: Any = None, event_ndim: int = 1):
        super().__init__()
        domain = Reals() if domain is None else domain
        if not isinstance(domain, Interval) or not domain.constant:
            raise InputError(
                f"divergences.Function: the domain is an interval with fixed ends, entry by entry, not {domain}; "
                f"other sets are constraints: put them into g"
            )
        if not isinstance(event_ndim, int) or event_ndim < 0:
            raise InputError(f"event_ndim counts the dimensions of one value of D, 0 or more, not {event_ndim}")
        self.function, self.event_ndim = checked(function, "divergences.Function"), event_ndim
        self.reference, self.moves = Zero(), True
        rest = domain.inner()
        self.__dict__["phi"] = (
            GivenVector(function, domain, event_ndim, rest) if event_ndim else GivenEntries(function, domain, rest)
        )

    @property
    def label(self) -> str:
        return self.phi.label

    def value(self, z: Tensor, z_prev: Tensor) -> Tensor:
        return self.function(z, z_prev)

    def place(self, z_prev: Tensor) -> None:
        self.phi.place(z_prev)

    def clear(self) -> None:
        self.phi.clear()
