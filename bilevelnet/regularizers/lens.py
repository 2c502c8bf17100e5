"""A term of g as b(A z): its body b, which has a prox, behind an affine map A of events."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from .base import Regularizer
from .calculus import Scaled
from .precompose import LinearMap, Precomposed
from .translate import MovedKnots, Translated

Step = Callable[[Tensor], Tensor]


class Lens:
    """b(A z) with A the composition of ``maps``, each K z for a LinearMap K, or z − s; none: A is the identity."""

    def __init__(self, term: Regularizer):
        self.term = term
        self.body, self.maps = _split(term)

    @property
    def plain(self) -> bool:
        """Whether A is the identity."""
        return not self.maps

    def image(self, z: Tensor) -> Tensor:
        """A z."""
        for m in self.maps:
            z = m.image(z) if isinstance(m, LinearMap) else z - m.s
        return z

    def linear(self, z: Tensor) -> Tensor:
        """A z − A 0."""
        for m in self.maps:
            z = m.linear(z) if isinstance(m, LinearMap) else z
        return z

    def shapes(self, z: Tensor) -> list[tuple[int, ...]]:
        """The shapes of z and of its image after each map."""
        shapes = [tuple(z.shape)]
        for m in self.maps:
            shapes.append(m.shape(shapes[-1], z) if isinstance(m, LinearMap) else shapes[-1])
        return shapes

    def adjoint(self, y: Tensor, z: Tensor) -> Tensor:
        """Aᵀ y, of the shape of z."""
        for m, shape in zip(reversed(self.maps), reversed(self.shapes(z)[:-1]), strict=True):
            y = m.adjoint(y, shape) if isinstance(m, LinearMap) else y
        return y

    def matrix(self, event: tuple[int, ...], like: Tensor) -> Tensor | None:
        """A as (M, n) on flattened events, without a graph; None for the identity."""
        if not any(isinstance(m, LinearMap) for m in self.maps):
            return None
        n = torch.Size(event).numel()
        units = torch.eye(n, dtype=like.dtype, device=like.device).reshape(n, *event)
        return self.linear(units).reshape(n, -1).mT.detach()


def labels(terms: Sequence[Regularizer]) -> list[str]:
    """Their names, with a number where several have one name."""
    names = [t.label for t in terms]
    return [n if names.count(n) == 1 else f"{n} ({k})" for k, n in enumerate(names)]


def _split(term: Any) -> tuple[Any, list[Any]]:
    if isinstance(term, Precomposed):
        body, maps = _split(term.body)
        return body, [term.linear, *maps]
    if isinstance(term, (Translated, MovedKnots)):
        body, maps = _split(term.body)
        return (body, [term.offset, *maps]) if maps else (term, [])
    if isinstance(term, Scaled):
        body, maps = _split(term.inner)
        return (Scaled(body, term.factor), maps) if maps else (term, [])
    return term, []
