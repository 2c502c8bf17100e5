"""What Newton's method evaluates inside the search operator, on a twin of φ and the terms."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from ..numerics.bracket import Found
from ..numerics.newton import Probe, minimise
from .coordinates import Coordinates
from .newton_system import MatrixFree, System, explicit
from .twin import Twin


class Family:
    """argmin_z φ(z) + Σ h(z) − ⟨z, v⟩, events of ``event_ndim`` dimensions; above ``largest`` entries matrix-free."""

    entrywise = False

    def __init__(self, event_ndim: int, largest: int, phi: Any, *terms: Any):
        self.twin = Twin([phi, *terms])
        own, *others = self.twin.pieces
        self.coordinates = Coordinates(own, others, event_ndim)
        self.event_ndim, self.largest = event_ndim, largest

    def lift(self, tensors: list[Tensor], batched: list[bool]) -> Callable[[Any], Any]:
        """f ↦ f with ``tensors`` in their places: sample by sample where a vmap gave some a dimension in front."""
        if not any(batched):
            self.twin.load(tensors)
            return lambda f: f
        dims = [0 if b else None for b in batched]

        def lifted(f: Any) -> Any:
            def one(own: list[Tensor], *xs: Tensor) -> Any:
                self.twin.load(own)
                return f(*xs)

            return lambda *xs: torch.func.vmap(one, (dims, *[0] * len(xs)))(tensors, *xs)

        return lifted

    def system(self, lift: Any, x: Tensor, event: Any, lifted: bool, patient: bool = False) -> System:
        """H at x."""
        c = self.coordinates
        if event.numel() <= self.largest:
            return explicit(lift(partial(c.curvatures, formed=lifted))(x), patient=patient)
        local, times = lift(c.local)(x), lift(c.products)
        return MatrixFree(local["scale"], local.get("rate"), lambda y: times(x, y), c.unit)

    def solve(
        self, v: Tensor, start: Tensor | None, tensors: list[Tensor], batched: list[bool], max_iter: int, tol: float
    ) -> Found:
        c, lift = self.coordinates, self.lift(tensors, batched)
        event = v.shape[v.ndim - self.event_ndim :]
        look = lift(c.probe)

        def probe(x: Tensor) -> Probe:
            return look(x.unflatten(-1, event), v)

        begin = self._start(self._candidates(lift(c.starts)(v), start), probe)
        patient = True

        def factor(x: Tensor, last: System | None) -> System:
            nonlocal patient
            patient = patient and not (last and last.factored)
            return self.system(lift, x.unflatten(-1, event), event, any(batched), patient)

        found = minimise(probe, factor, begin, max_iter, tol)
        return Found(found.x.unflatten(-1, event), found.code.unflatten(-1, event), found.iterations)

    def _candidates(self, cold: tuple[Tensor, ...], start: Tensor | None) -> tuple[Tensor, ...]:
        """``start`` where all of it is finite."""
        if start is None:
            return cold
        bad = ~start.isfinite()
        for d in range(-self.event_ndim, 0):
            bad = bad.any(d, keepdim=True)
        return tuple(torch.where(bad, c, start) for c in (cold if bool(bad.any()) else cold[:1]))

    def _start(self, candidates: tuple[Tensor, ...], probe: Callable[[Tensor], Probe]) -> Tensor:
        """The candidate of the least objective."""
        best, *others = (c.flatten(-self.event_ndim) for c in candidates)
        if not others:
            return best
        value = probe(best).value.nan_to_num(torch.inf)
        for other in others:
            here = probe(other).value.nan_to_num(torch.inf)
            best, value = torch.where(here < value, other, best), torch.minimum(here, value)
        return best


class LinearFamily(Family):
    """(∂F/∂x)⁻¹ b at the unknown x that the first tensor is, by conjugate gradients."""

    def solve(
        self, v: Tensor, start: Tensor | None, tensors: list[Tensor], batched: list[bool], max_iter: int, tol: float
    ) -> Found:
        (x, *own), (first, *flags) = tensors, batched
        if any(flags) and not first:
            x = x.expand(len(v), *x.shape)
        event = v.shape[v.ndim - self.event_ndim :]
        system = self.system(self.lift(own, flags), x, event, any(flags))
        y = self.inverse(system, v.flatten(-self.event_ndim))
        y = y.unflatten(-1, event)
        return Found(y, torch.zeros_like(y, dtype=torch.int8), 0)

    def inverse(self, system: System, b: Tensor) -> Tensor:
        return system.inverse(b)


class TransposedFamily(LinearFamily):
    """(∂F/∂x)⁻ᵀ b."""

    def inverse(self, system: System, b: Tensor) -> Tensor:
        return system.transposed(b)
