"""Layers given by a residual or by a map."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Unpack

from torch import Tensor

from .implicit import ImplicitLayer, Options, Shape
from .implicit_equation import Equation, check_fits


class Optimality(Equation):
    """F(z, *x) as given."""

    def forward(self, z: Tensor, *xs: Tensor) -> Tensor:
        return self.call(z, *xs)


class FixedPoint(Equation):
    """F = z − T(z, *x)."""

    contracts = True

    def forward(self, z: Tensor, *xs: Tensor) -> Tensor:
        image = self.call(z, *xs)
        check_fits(image, z, self.label)  # where T(z) broadcasts, z − T(z) would hide it
        return z - image


def from_optimality(F: Callable[..., Any], event_shape: Shape = None, **options: Unpack[Options]) -> ImplicitLayer:
    """The layer z(x) with F(z, *x) = 0, F of the shape of z: layer(*x, init=None), layer.solve(*x, init=None).

    F is an nn.Module, whose parameters are then the layer's, or a function of its arguments alone. z, ``event_shape``
    and ``batch_ndim`` as in ``ImplicitLayer``; ``solver``: Newton(tol, max_iter, largest), which forms and
    factors ∂F/∂z up to ``largest`` entries and works by products (GMRES) beyond. Raises InputError for an F that
    reaches modules around it, couples the batch or has another shape; SolveError, as ``on_failure`` says, for elements
    without a root or with a singular ∂F/∂z.
    """
    return ImplicitLayer(Optimality(F, "F(z, *inputs)"), event_shape, **options)


def from_fixed_point(
    module: Callable[..., Any], event_shape: Shape = None, **options: Unpack[Options]
) -> ImplicitLayer:
    """The layer z(x) = T(z, *x) (a deep equilibrium model: Bai, Kolter & Koltun, 2019), as ``from_optimality`` with
    F = z − T(z, *x), after Anderson's acceleration of the iteration z ← T(z, *x) as far as it goes.

    Warns where T does not contract at the fixed point that was found, by the spectral radius of ∂T/∂z.
    """
    return ImplicitLayer(FixedPoint(module, "T(z, *inputs)"), event_shape, **options)
