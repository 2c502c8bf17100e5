"""A user's function of (z, z⁻) as a function of z: z⁻ is a tensor of it, put there for one solve."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from ..domains import Reals
from ..errors import InputError
from ..legendre import Legendre, Separable
from ..regularizers import Regularizer


def checked(function: Any, who: str) -> Any:
    """The function; InputError where it is none, or where what it closes over would get no gradient."""
    if not callable(function) or isinstance(function, type):
        raise InputError(f"{who} takes a torch.nn.Module or a function of (z, z⁻), not {function!r}")
    if inspect.isfunction(function):
        for name, value in inspect.getclosurevars(function).nonlocals.items():
            if isinstance(value, nn.Module) or (isinstance(value, Tensor) and value.requires_grad):
                raise InputError(
                    f"{who}: the function closes over {name}, a {type(value).__name__} whose gradient would be lost; "
                    f"give a torch.nn.Module that holds it, with forward(z, z_prev)"
                )
    return function


def evaluate(function: Callable[[Tensor, Tensor], Tensor], z: Tensor, z_prev: Tensor, event_ndim: int) -> Tensor:
    """function(z, z⁻), one number an event; images and the like on one batch dimension, which convolutions ask for."""
    if event_ndim and z_prev.ndim >= event_ndim:
        z_prev = z_prev.expand(*z.shape[: z.ndim - event_ndim], *z_prev.shape[z_prev.ndim - event_ndim :])
    if event_ndim < 2:
        return function(z, z_prev)
    batch = z.shape[: z.ndim - event_ndim]
    z, z_prev = (t.reshape(math.prod(batch), *t.shape[t.ndim - event_ndim :]) for t in (z, z_prev))
    value = function(z, z_prev)
    return value.reshape(*batch, *value.shape[1:])


class _Given:
    """``z_prev`` is a buffer, two entries ``rest`` inside the domain as long as no solve is under way."""

    def hold(self: Any, function: Any, domain: Any, event_ndim: int, rest: float) -> None:
        self.function, self.domain, self.event_ndim = function, domain, event_ndim
        self.register_buffer("z_prev", torch.full((2,), rest), persistent=False)
        self.empty = (self.z_prev,)  # in a tuple, beside the tensors of the piece

    @property
    def label(self: Any) -> str:
        return getattr(self.function, "__name__", type(self.function).__name__)

    def value(self: Any, z: Tensor) -> Tensor:
        return evaluate(self.function, z, self.z_prev, self.event_ndim)

    def place(self: Any, z_prev: Tensor) -> None:
        self._buffers["z_prev"] = z_prev

    def clear(self: Any) -> None:
        self._buffers["z_prev"] = self.empty[0]  # the same as ever: a new one would carry a transform under way

    def same_function(self, other: Any) -> bool:
        return False  # it is another at the next z⁻


class GivenTerm(_Given, Regularizer):
    """f(·, z⁻), convex and smooth, as a term of g."""

    event_ndim = 1

    def __init__(self, function: Any, event_ndim: int):
        Regularizer.__init__(self)
        self.hold(function, Reals(), event_ndim, 0.0)


class GivenVector(_Given, Legendre):
    """D(·, z⁻), convex and smooth in whole events, as φ."""

    def __init__(self, function: Any, domain: Any, event_ndim: int, rest: float):
        Legendre.__init__(self)
        self.hold(function, domain, event_ndim, rest)


class GivenEntries(_Given, Separable):
    """D(·, z⁻), convex and smooth entry by entry, as φ."""

    def __init__(self, function: Any, domain: Any, rest: float):
        Separable.__init__(self)
        self.hold(function, domain, 0, rest)
