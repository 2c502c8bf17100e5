"""Pieces that are made inside a compiled function: told as constants and tensors, and made again outside of it.

While a function is traced its objects are symbols, which no solver can bind. Their classes and numbers are constants
all the same, and their tensors belong to the graph.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

_STANDARD = frozenset(nn.Module().__dict__)
_TABLES = ("_parameters", "_buffers")


def is_symbol(piece: Any) -> bool:
    """Whether a trace made the piece: it does not run what marks a piece as built."""
    return not piece.__dict__.get("_built")


def recipe(module: Any) -> tuple[tuple[Any, ...], list[Tensor]]:
    """(class, numbers, places of tensors, children) as nested tuples of constants, and the tensors in that order."""
    held = [(table, name, x) for table in _TABLES for name, x in module.__dict__[table].items() if x is not None]
    own = [(name, x) for name, x in module.__dict__.items() if name not in _STANDARD and name != "_built"]
    held = [*held, *(("", name, x) for name, x in own if isinstance(x, Tensor))]
    numbers = tuple((name, x) for name, x in own if not isinstance(x, Tensor))
    places = tuple((table, name, tuple(int(n) for n in x.shape), x.dtype) for table, name, x in held)
    tensors, children = [x for _, _, x in held], []
    for name, child in module.__dict__["_modules"].items():
        inner, more = recipe(child)
        children.append((name, inner))
        tensors = [*tensors, *more]
    return (type(module), numbers, places, tuple(children)), tensors


class Remade:
    """Pieces from their recipes, with places for the tensors, which hold no values in between."""

    def __init__(self, *recipes: tuple[Any, ...]):
        self.places: list[tuple[nn.Module, str, str]] = []
        self.empty: list[Tensor] = []
        self.pieces = [self._make(r) for r in recipes]

    def _make(self, given: tuple[Any, ...]) -> Any:
        kind, numbers, places, children = given
        module = kind.__new__(kind)
        nn.Module.__init__(module)
        module.__dict__.update(numbers)
        for table, name, shape, dtype in places:
            empty = torch.empty(shape, dtype=dtype, device="meta")
            (module.__dict__[table] if table else module.__dict__)[name] = empty
            self.places.append((module, table, name))
            self.empty.append(empty)
        for name, child in children:
            module.__dict__["_modules"][name] = self._make(child)
        module.__dict__["_built"] = True
        return module

    def load(self, tensors: list[Tensor]) -> None:
        for (module, table, name), tensor in zip(self.places, tensors, strict=True):
            if table:
                getattr(module, table)[name] = tensor
            else:
                setattr(module, name, tensor)
