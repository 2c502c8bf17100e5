"""A copy of pieces whose tensors can be exchanged: what the search evaluates inside its operator."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor


class Twin:
    """Copies of ``pieces`` beside them. ``tensors()`` reads every tensor of the originals, ``load`` puts others in the copies."""

    def __init__(self, pieces: Sequence[Any]):
        places: dict[int, tuple[Any, str, str]] = {}
        for module in {id(m): m for p in pieces for m in p.modules()}.values():
            for kind, slots in (("_parameters", module._parameters), ("_buffers", module._buffers), ("", module.__dict__)):
                for name, value in slots.items():
                    if isinstance(value, Tensor):
                        places.setdefault(id(value), (module, kind, name))
        # A tensor may be no leaf of autograd, which cannot be copied, and need not be.
        memo: dict[int, Any] = {address: torch.empty(0) for address in places}
        self.pieces = copy.deepcopy(list(pieces), memo)
        self.sources = list(places.values())
        self.targets = [(memo[id(module)], kind, name) for module, kind, name in self.sources]

    def tensors(self) -> list[Tensor]:
        return [_slots(module, kind)[name] for module, kind, name in self.sources]

    def load(self, tensors: Sequence[Tensor]) -> None:
        for (module, kind, name), tensor in zip(self.targets, tensors, strict=True):
            _slots(module, kind)[name] = tensor


def _slots(module: Any, kind: str) -> dict[str, Any]:
    return getattr(module, kind) if kind else module.__dict__
