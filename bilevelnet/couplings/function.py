"""Couplings convex but not affine in z."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from ..divergences.given import GivenTerm, checked, evaluate
from ..errors import InputError
from .affine import Coupling


class Function(Coupling):
    """f(z, z⁻) = function(z, z⁻), one value a sample, smooth and convex in z.

    ``function``: a torch.nn.Module, or a function without learned tensors in its closure; ``event_ndim`` is the number
    of last dimensions of one sample. It must give the same value each time (no dropout, no batch statistics): it is
    evaluated many times a solve, on a copy. Convexity is refuted on samples at the first call, or at the
    solution (status invalid). Raises InputError for another type.
    """

    affine = False
    moves = True

    def __init__(self, function: Any, event_ndim: int = 1):
        super().__init__()
        if not isinstance(event_ndim, int) or event_ndim < 1:
            raise InputError(f"event_ndim counts the dimensions of one sample, at least 1, not {event_ndim}")
        self.function, self.event_ndim = checked(function, "couplings.Function"), event_ndim
        self.__dict__["term"] = GivenTerm(function, event_ndim)  # a view of the same tensors, no state of its own

    def value(self, z: Tensor, z_prev: Tensor) -> Tensor:
        return evaluate(self.function, z, z_prev, self.event_ndim)

    def place(self, z_prev: Tensor) -> None:
        """z⁻ into the term of g that f is."""
        self.term.place(z_prev)

    def clear(self) -> None:
        self.term.clear()
