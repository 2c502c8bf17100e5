"""Chain: layers in sequence on the dual state."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from .errors import InputError
from .layer import BilevelLayer
from .solution import CONVERGED, INVALID, check_policy, settle, worst
from .values import at_least_float32, extremes, readable


class Chain(nn.Module):
    """Layers in sequence. Neighbours that share φ (the same object, or equal and without tensors) hand on u = ∇φ(z):

        v = u + A(∇φ*(u)),  u⁺ = T_g(v),

    so nothing is inverted between them, nothing is clamped, and no digit of a saturated z is lost; the state is at
    least float32. Elsewhere z is handed on. ``space="dual"`` starts from u0 = x instead of z0 = x.

    Input and output as for BilevelLayer. ``chain(x, return_dual=True)`` gives (z, u). z0 and the last state are
    checked, and states between them only where a layer has no solution for some v; failures follow the chain's
    ``on_failure``, not the layers'. Raises InputError where a layer is no BilevelLayer or widths do not follow.
    """

    def __init__(self, *layers: BilevelLayer, space: str = "primal", on_failure: str = "raise"):
        for layer in layers:
            if not isinstance(layer, BilevelLayer):
                raise InputError(
                    f"Chain takes BilevelLayers, not a {type(layer).__name__}; a head goes after the chain"
                )
        if not layers:
            raise InputError("Chain needs at least one layer")
        if space not in ("primal", "dual"):
            raise InputError(f'space is "primal" or "dual", not {space!r}')
        if space == "dual" and layers[0].problem.divergence.moves:
            raise InputError('space="dual" starts from ∇φ(z⁻), but φ of the first layer depends on z⁻: start from z⁻')
        for a, b in pairwise(layers):
            d_out, d_in = getattr(a.coupling, "out_features", None), getattr(b.coupling, "in_features", None)
            if None not in (d_out, d_in) and d_out != d_in:
                raise InputError(f"a layer of {d_out} features is followed by one that takes {d_in}")
        super().__init__()
        for i, layer in enumerate(layers):
            self.add_module(str(i), layer)
        self.space, self.on_failure = space, check_policy(on_failure)
        # Whether each layer takes over the u of the layer before it.
        phis = [layer.problem.phi for layer in layers]
        self.shares = (space == "dual", *(a.same_function(b) for a, b in pairwise(phis)))

    def __len__(self) -> int:
        return len(self._modules)

    def __iter__(self) -> Iterator[Any]:
        return iter(self._modules.values())

    def __getitem__(self, index: Any) -> Any:
        """A layer, or for a slice the chain of those layers (they are shared, not copied)."""
        layers: list[Any] = list(self._modules.values())
        if not isinstance(index, slice):
            return layers[index]
        start = index.indices(len(layers))[0]
        return Chain(*layers[index], space=self.space if start == 0 else "primal", on_failure=self.on_failure)

    def forward(self, x: Tensor, return_dual: bool = False) -> Any:
        layers: list[BilevelLayer] = list(self._modules.values())  # type: ignore[arg-type]
        layers[0].check_input(x)
        dtype, phi = x.dtype, layers[0].problem.phi
        z, u = (None, at_least_float32(x)) if self.space == "dual" else (x, None)
        failures = []
        for i, (layer, shared) in enumerate(zip(layers, self.shares, strict=True)):
            if not shared:  # another φ: hand on the point, and look whether it lies in the new domain
                z = phi.grad_conjugate(u) if z is None else z  # type: ignore[arg-type]
                u = None
                outside = layer.domain_status(z, self.on_failure, f"z⁻ of layer {i}" if i else "z⁻")
                z = layer.inside(z, outside)
                failures.append(outside)
            u, z, status = layer.step(z, u, dtype)
            phi = layer.problem.phi
            failures.append(status)
        z = phi.grad_conjugate(u) if z is None else z  # type: ignore[arg-type]
        z = self._settled(z, u, [f for f in failures if f is not None], layers[-1].dims)
        z = z if z.dtype is dtype else z.to(dtype)
        return (z, u) if return_dual else z

    def _settled(self, z: Tensor, u: Tensor | None, failures: list[Tensor], dims: tuple[int, ...]) -> Tensor:
        state = z if u is None else u
        if self.on_failure == "ignore" or not state.numel():
            return z
        if not failures and readable(state):
            ((low, high),) = extremes(state)
            if -math.inf < low and high < math.inf:
                return z
        status = worst(torch.where(state.isfinite(), CONVERGED, INVALID), dims)
        for failure in failures:
            status = torch.maximum(status, failure)
        return settle(z, status, dims, self.on_failure, "the chain's state")
