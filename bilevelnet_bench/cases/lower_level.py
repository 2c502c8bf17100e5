"""A layer's argmin problem read from its weights, solved by ``inclusion``, and compared with what the layer returns."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any, NamedTuple

import mpmath as mp
import torch
from torch import Tensor

import bilevelnet as bln

from . import inclusion

STEP = 1e-12  # of the central differences: h² = 1e-24, and 1e-35/h = 1e-23 of the roots' own error

REFERENCES = {bln.divergences.Identity: "identity", bln.divergences.Dual: "dual", bln.divergences.Zero: "zero"}

Vector = list[Any]  # of mpf


class Difference(NamedTuple):
    """The worst differences over ``problems`` samples, each relative to the largest entry of its sample."""

    value: float
    gradient: float
    problems: int

    def worst(self, other: Difference) -> Difference:
        value, gradient = max(self.value, other.value), max(self.gradient, other.gradient)
        return Difference(value, gradient, self.problems + other.problems)


class LowerLevel(NamedTuple):
    """z⁺ = argmin_z φ(z) + g(z) − ⟨z, v⟩ with v = r + W z⁻ + b and r = ∇φ(z⁻), L ∇φ(z⁻) or 0."""

    phi: inclusion.Phi
    g: inclusion.G
    reference: str  # "identity", "dual" or "zero"

    def solve(self, state: Vector, dual: bool, weight: list[Vector], bias: Vector, linear: list[Vector]) -> Vector:
        """z⁺ from z⁻ = ``state``, or from ∇φ(z⁻) = ``state`` where ``dual``: then z⁻ is a root too."""
        z = [inclusion.minimiser(x, self.phi) for x in state] if dual else state
        v = [mp.fdot(row, z) + b for row, b in zip(weight, bias, strict=True)]
        if self.reference != "zero":
            u = state if dual else [self.phi.slope(x) for x in z]
            u = [mp.fdot(row, u) for row in linear] if self.reference == "dual" else u
            v = [a + r for a, r in zip(v, u, strict=True)]
        return [inclusion.minimiser(x, self.phi, self.g) for x in v]


def read(layer: bln.BilevelLayer) -> LowerLevel:
    """The problem that the layer's pieces name: keys of φ and g, and the kind of its reference."""
    reference = REFERENCES[type(layer.divergence.reference)]
    lam = getattr(layer.regularizer, "lam", 0.0)
    return LowerLevel(inclusion.phi(layer.divergence.phi.key), inclusion.g(layer.regularizer.key, lam), reference)


def compare(chain: bln.Chain, z0: Tensor, seed: int = 0) -> Difference:
    """Every layer at the states that the samples z0 reach in it, in float64: values and gradients.

    Gradient: the reverse-mode Jacobians in the state, W, b (and L), applied to a random direction in all of them,
    against central differences of the independent solution along it.
    """
    chain = copy.deepcopy(chain).double()
    z0 = z0.double()
    generator = torch.Generator().manual_seed(seed)
    total = Difference(0.0, 0.0, 0)
    layers: list[Any] = list(chain)
    for index, layer in enumerate(layers):
        states, step = z0, layer
        if index > 0:
            states = chain[:index](z0, return_dual=True)[1].detach()
            step = bln.Chain(layer, space="dual")
        for state in states:
            total = total.worst(_compare_one(layer, step, state, index > 0, generator))
    return total


def _compare_one(
    layer: bln.BilevelLayer, step: torch.nn.Module, state: Tensor, dual: bool, generator: torch.Generator
) -> Difference:
    names, weights = zip(*step.named_parameters(), strict=True)
    inputs = (state, *(w.detach() for w in weights))

    def library(state: Tensor, *weights: Tensor) -> Tensor:
        return torch.func.functional_call(step, dict(zip(names, weights, strict=True)), (state,))

    direction = [torch.randn(x.shape, generator=generator, dtype=x.dtype) for x in inputs]
    jacobians = torch.autograd.functional.jacobian(library, inputs)
    derivative = sum(torch.tensordot(j, d, d.ndim) for j, d in zip(jacobians, direction, strict=True))
    solve = _independent(layer, names, dual, inputs, direction)
    with mp.workdps(inclusion.DIGITS):
        z, forward, backward = solve(0), solve(mp.mpf(STEP)), solve(-mp.mpf(STEP))
        slope = [(a - b) / (2 * mp.mpf(STEP)) for a, b in zip(forward, backward, strict=True)]
        value = library(*inputs).detach()
        return Difference(_relative(value, z), _relative(derivative, slope), 1)  # type: ignore[arg-type]


def _independent(
    layer: bln.BilevelLayer, names: tuple[str, ...], dual: bool, inputs: tuple[Tensor, ...], direction: list[Tensor]
) -> Callable[[Any], Vector]:
    """h ↦ z⁺ at inputs + h direction."""
    level = read(layer)
    exact = {name: (_exact(x), _exact(d)) for name, x, d in zip(("state", *names), inputs, direction, strict=True)}

    def moved(ending: str, h: Any) -> Any:
        found = [pair for name, pair in exact.items() if name.endswith(ending)]
        return _along(*found[0], h) if found else []

    def solve(h: Any) -> Vector:
        pieces = (moved(ending, h) for ending in ("coupling.weight", "coupling.bias", "reference.linear.weight"))
        return level.solve(moved("state", h), dual, *pieces)

    return solve


def _exact(x: Tensor) -> Any:
    return mp.mpf(x.item()) if x.ndim == 0 else [_exact(row) for row in x]


def _along(x: Any, d: Any, h: Any) -> Any:
    return [_along(a, b, h) for a, b in zip(x, d, strict=True)] if isinstance(x, list) else x + h * d


def _relative(found: Tensor, reference: Vector) -> float:
    gaps = [abs(mp.mpf(a) - b) for a, b in zip(found.tolist(), reference, strict=True)]
    return float(max(gaps) / max(abs(b) for b in reference))
