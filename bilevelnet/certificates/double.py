"""Modules lent in float64 and eval mode, and given back as they were."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from .norms import pin_eps


@contextmanager
def in_double(module: nn.Module, neural: Any = None) -> Iterator[Any]:
    """A copy of the module in float64 and eval mode; with ``neural`` the module itself is so too, for the time being.

    A claimed neural form reads the weights of the module itself, so those take float64 numbers in the same Parameters,
    and their own numbers, gradients, buffers and modes back at the end. ``neural`` is treated alike
    where it is a Module.
    """
    twin = copy.deepcopy(module)
    pin_eps(twin)
    twin = twin.double().eval()
    lent = [] if neural is None else [module, *([neural] if isinstance(neural, nn.Module) else [])]
    kept = [_State(m) for m in lent]
    pinned = [p for m in lent for p in pin_eps(m)]
    try:
        for m in lent:
            m.double().eval()
        yield twin
    finally:
        for state in kept:
            state.restore()
        for p in pinned:
            p.eps = None  # type: ignore[assignment]


class _State:
    """The numbers, gradients, buffers and modes of a module."""

    def __init__(self, module: nn.Module):
        self.parameters = [(p, p.data, p.grad) for p in module.parameters()]
        self.buffers = [(m, name, t) for m in module.modules() for name, t in m._buffers.items()]
        self.modes = [(m, m.training) for m in module.modules()]
        for p, _, _ in self.parameters:
            p.grad = None
        # In place they would change what is kept.
        for p, data, _ in self.parameters:
            p.data = torch.empty_like(data).copy_(data)

    def restore(self) -> None:
        for p, data, grad in self.parameters:
            p.grad = None
            p.data, p.grad = data, grad
        for m, name, t in self.buffers:
            m._buffers[name] = t
        for m, training in self.modes:
            m.training = training
