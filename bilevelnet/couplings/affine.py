"""Couplings affine in z: f(z, z⁻) = −⟨z, A(z⁻)⟩, A any module."""

from __future__ import annotations

import math
from typing import Any

from torch import Tensor, nn

from ..errors import InputError


class Coupling(nn.Module):
    """f. ``event_ndim``: the number of last dimensions of one sample. Calling it on z⁻ gives A(z⁻) where it is
    ``affine`` in z; else it is a ``term`` of g, which takes z⁻ by ``place`` for one solve.
    """

    event_ndim = 1
    affine = True
    moves = False
    term: Any = None

    def value(self, z: Tensor, z_prev: Tensor) -> Tensor:
        """f(z, z⁻), one value a sample."""
        return -(z * self(z_prev)).sum(tuple(range(-self.event_ndim, 0)))


class Bilinear(Coupling, nn.Linear):
    """f(z, z⁻) = −⟨z, W z⁻ + b⟩; weight (d_out, d_in), bias (d_out,) and their start as in torch.nn.Linear."""

    def __init__(self, d_in: int, d_out: int, bias: bool = True):
        nn.Linear.__init__(self, d_in, d_out, bias)


class Affine(Coupling):
    """f(z, z⁻) = −⟨z, A(z⁻)⟩ with A = ``module``, e.g. the branch of a residual block.

    ``event_ndim`` is 1 for vectors, 3 for images. A is called exactly once a forward, on one batch dimension (which
    convolutions and batch norms ask for), whatever the batch shape of z⁻.
    """

    def __init__(self, module: nn.Module, event_ndim: int = 1):
        super().__init__()
        if not isinstance(module, nn.Module):
            raise InputError(f"Affine takes a torch.nn.Module, not a {type(module).__name__}")
        if not isinstance(event_ndim, int) or event_ndim < 1:
            raise InputError(f"event_ndim counts the dimensions of one sample, at least 1, not {event_ndim}")
        self.module, self.event_ndim = module, event_ndim

    def forward(self, z_prev: Tensor) -> Tensor:
        batch, event = z_prev.shape[: -self.event_ndim], z_prev.shape[-self.event_ndim :]
        if len(batch) == 1:
            return self._called(z_prev)
        a = self._called(z_prev.reshape(math.prod(batch), *event))
        return a.reshape(*batch, *a.shape[1:])

    def _called(self, z: Tensor) -> Tensor:
        try:
            return self.module(z)
        except RuntimeError as error:
            dtypes = {p.dtype for p in self.module.parameters() if p.is_floating_point()}
            if not dtypes or z.dtype in dtypes:
                raise
            names = ", ".join(sorted(map(str, dtypes)))
            raise InputError(f"z⁻ is {z.dtype}, the coupling {names}: convert one, e.g. layer.to(z.dtype)") from error
