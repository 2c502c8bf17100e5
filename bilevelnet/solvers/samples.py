"""Convexity cannot be decided, but it can be refuted: φ(½a + ½b) ≤ ½φ(a) + ½φ(b) at points drawn in the domain."""

from __future__ import annotations

import math
import weakref
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from ..errors import InputError
from ..legendre import Legendre, Separable
from ..regularizers import Scaled
from ..regularizers.precompose import LinearMap
from ..values import readable

SCALES = (0.1, 1.0, 4.0)
# Of the largest value at the points of a scale: sums of 5 to 500 terms that cancel were off by 13 eps of it at most.
ROUNDING = 1000
_seen: weakref.WeakSet[Any] = weakref.WeakSet()


def refute(pieces: Sequence[Any], like: Tensor, point: Any) -> None:
    """InputError, with two points, where a piece is not convex between points of ``like``'s shape, cannot be evaluated
    there, or has not one number an event. Each piece is looked at once, where values can be read; of φ, where it is
    given by its value alone.

    ``point``: ℝⁿ → the domain.
    """
    fresh = [p for p in map(core, pieces) if p not in _seen and not _stated(p)]
    if not fresh or not like.numel() or not readable(like, *(t for p in fresh for t in p.tensors())):
        return
    with torch.no_grad():
        for piece in fresh:
            _check_shape(piece, like.shape, _called(piece.value, piece.label, point(torch.zeros_like(like))).shape)
            for k, scale in enumerate(SCALES):
                a, b = (scale * _drawn(like, 2 * k + end) for end in (0, 1))
                for far in (b, torch.where(_single(piece, like), b, a)):
                    _check_chord(piece, point(a), point(far))
    _seen.update(fresh)


def refute_maps(lenses: Sequence[Any], like: Tensor) -> None:
    """InputError, with two points, where a module that a term is precomposed with is not affine between points of
    ``like``'s shape, or cannot be evaluated there. Each is looked at once, where values can be read.
    """
    for lens in lenses:
        modules = [m for m in lens.maps if isinstance(m, LinearMap) and m.module is not None]
        if all(m in _seen for m in modules) or not like.numel() or not readable(like, *lens.term.tensors()):
            continue
        with torch.no_grad():
            for k, scale in enumerate(SCALES):
                a, b = (scale * _drawn(like, 2 * k + end) for end in (0, 1))
                ends, between = [_image(lens, x) for x in (a, b)], _image(lens, (a + b) / 2)
                largest = torch.stack([*ends, between]).abs().nan_to_num(0.0, 0.0).max()
                off = (between - (ends[0] + ends[1]) / 2).abs().max()
                if bool(off > ROUNDING * torch.finfo(a.dtype).eps * largest):
                    raise InputError(
                        f"the module in {lens.term.label} is not affine: halfway between two points its value is off "
                        f"the mean of theirs by {float(off):.4g}; give a Linear, a convolution or the like without "
                        f"an activation (a convex function of z as a whole is a bilevelnet.regularizers.Smooth)"
                    )
        _seen.update(modules)


def _image(lens: Any, z: Tensor) -> Tensor:
    return _called(lens.image, f"the module in {lens.term.label}", z)


def _drawn(like: Tensor, k: int) -> Tensor:
    """Points spread like the normal law, the same at every run: a vmap, even one of something else, forbids chance."""
    steps = torch.arange(like.numel(), dtype=torch.float64, device=like.device) + k / math.e
    golden = (steps * (math.sqrt(5) - 1) / 2) % 1  # equidistributed in [0, 1)
    return torch.special.ndtri(golden.clamp(1e-6, 1 - 1e-6)).reshape(like.shape).to(like.dtype)


def _single(piece: Any, like: Tensor) -> Tensor:
    """One entry of each event, another from event to event: along it a sum over the entries is one function."""
    size = math.prod(like.shape[like.ndim - piece.event_ndim :])
    entries = torch.arange(like.numel(), device=like.device).reshape(like.shape)
    return entries % size == (entries // size) % size


def core(piece: Any) -> Any:
    """The function inside weights and linear maps, as far as it acts on z itself."""
    return core(piece.inner) if isinstance(piece, Scaled) else piece


def _stated(piece: Any) -> bool:
    """Whether it is a φ of which more than the value is given."""
    return isinstance(piece, Legendre) and type(piece).grad not in (Legendre.grad, Separable.grad)


def _called(function: Callable[[Tensor], Any], name: str, z: Tensor) -> Tensor:
    try:
        found = function(z)
    except Exception as failure:  # a user's function raises what it likes
        raise InputError(
            f"{name} cannot be evaluated at points of shape {tuple(z.shape)} and dtype {z.dtype}: {failure}. "
            f"z has z⁻'s dtype, and is float32 where z⁻ is half: keep learned tensors in it"
        ) from failure
    if not isinstance(found, Tensor):
        raise InputError(f"{name} gives a {type(found).__name__} at points of shape {tuple(z.shape)}; give a tensor")
    return found


def _check_shape(piece: Any, points: torch.Size, found: torch.Size) -> None:
    want = points[: len(points) - piece.event_ndim]
    if found != want:
        raise InputError(
            f"{piece.label}.value gives shape {tuple(found)} for points of shape {tuple(points)}; "
            f"one number an event is {tuple(want)}: sum over the last {piece.event_ndim} dimensions"
        )


def _check_chord(piece: Any, a: Tensor, b: Tensor) -> None:
    ends = piece.value(a), piece.value(b)
    rise = piece.value((a + b) / 2) - (ends[0] + ends[1]) / 2
    largest = torch.stack(ends).abs().nan_to_num(0.0, 0.0).max()
    bad = rise > ROUNDING * torch.finfo(a.dtype).eps * largest  # False for NaN and for infinite ends
    if bool(bad.any()):
        first = tuple(bad.nonzero()[0].tolist())
        shown = ", ".join(
            f"{float(x):.4g}" for x in (ends[0][first], ends[1][first], (ends[0] + ends[1])[first] / 2 + rise[first])
        )
        raise InputError(
            f"{piece.label} is not convex: at two points of sample {first} and halfway between them its value is "
            f"{shown}; give a convex function (in a network: nonnegative weights and convex increasing activations "
            f"after the first layer)"
        )
