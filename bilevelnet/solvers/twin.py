"""A copy of pieces whose tensors can be exchanged: what a search evaluates inside its operator."""

from __future__ import annotations

import copy
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from ..numerics.operator import register


def _places(pieces: Sequence[Any]) -> Iterator[tuple[dict[str, Any], str]]:
    for piece in pieces:
        for module in piece.modules():
            for slots in (module._parameters, module._buffers, module.__dict__):
                for name, value in slots.items():
                    if isinstance(value, Tensor):
                        yield slots, name


def tensors_of(pieces: Sequence[Any]) -> list[Tensor]:
    """Every tensor of the pieces, in a fixed order."""
    return [slots[name] for slots, name in _places(pieces)]


class Twin:
    """Copies of ``pieces``; ``load`` puts tensors, in the order of ``tensors_of``, in their places."""

    def __init__(self, pieces: Sequence[Any]):
        # A tensor may be no leaf of autograd, which cannot be copied, and need not be: its shape and dtype are enough.
        memo: dict[int, Any] = {
            id(t): torch.zeros((), dtype=t.dtype, device=t.device).expand(t.shape) for t in tensors_of(pieces)
        }
        self.pieces = copy.deepcopy(list(pieces), memo)
        self.places = list(_places(self.pieces))

    def load(self, tensors: Sequence[Tensor]) -> None:
        for (slots, name), tensor in zip(self.places, tensors, strict=True):
            slots[name] = tensor


Make = Callable[..., Any]
_kept: OrderedDict[tuple[Any, ...], tuple[Any, int]] = OrderedDict()
KEEP = 256


def kept_handle(make: Make, *arguments: Any) -> int:
    """The handle of make(*arguments), made outside the trace and kept alive for the compiled graph that names it."""
    key = (make, *(a if isinstance(a, (int, float)) else id(a) for a in arguments))
    if key not in _kept:
        family = make(*arguments)
        _kept[key] = ((family, arguments), register(family))
        if len(_kept) > KEEP:
            _kept.popitem(last=False)
    return _kept[key][1]


# What torch.compiler.assume_constant_result sets; calling it would import torch._dynamo.
kept_handle._dynamo_marked_constant = True  # type: ignore[attr-defined]


class Held:
    """make(*arguments) for the search operators, made when its handle is first asked for.

    A copy or a pickle of it makes its own: the twin and its handle are this process's.
    """

    def __init__(self, make: Make, *arguments: Any):
        self.make, self.arguments = make, arguments
        self.made: tuple[Any, int] | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        return Held, (self.make, *self.arguments)

    def handle(self) -> int:
        if torch.compiler.is_compiling():
            return kept_handle(self.make, *self.arguments)
        if self.made is None:
            family = self.make(*self.arguments)
            self.made = family, register(family)
        return self.made[1]
