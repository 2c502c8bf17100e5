"""Sparsemax and entmax 1.5 of the package entmax (Peters, Niculae & Martins, 2019), over the last dimension."""

from __future__ import annotations

from collections.abc import Callable

import entmax
from torch import Tensor

FUNCTIONS = {"sparsemax": entmax.sparsemax, "entmax 1.5": entmax.entmax15}


def function(problem: str, k: int | None = None) -> Callable[[Tensor], Tensor]:
    """v ↦ z; with k the threshold is sought among the k largest entries first, without it by sorting."""
    chosen = FUNCTIONS[problem]
    return lambda v: chosen(v, dim=-1, k=k)
