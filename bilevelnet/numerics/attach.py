"""Derivatives of a root that was found without a graph."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor


def attach(residual: Callable[[Tensor], Tensor], root: Tensor, slope: Tensor) -> Tensor:
    """The root z of F(z; θ) = 0 with its derivatives in θ, exact to second order in reverse and forward mode.

    Two Newton steps with the slope ∂F/∂z held fixed, each made value-free by subtracting F's own value, so that
    the digits of the root stay those of the search: z ← z − (F(z) − stop(F(z)))/slope. The first carries dz/dθ,
    the second adds F_zz z'² + 2 F_zθ z' + F_θθ.
    """
    root, slope = root.detach(), slope.detach()
    for _ in range(2):
        value = residual(root)
        root = root - (value - value.detach()) / slope
    return root


def exponential_term(c: Tensor, start: Tensor, power: Tensor) -> Callable[[Tensor], Tensor]:
    """t ↦ c e^t in a residual, near t = start, where e^start = power: (c power) e^{t − start}, c as a variable too.

    In reverse mode c e^t passes a factor c on before e^t, which overflows where they are large and small.
    """
    c0, power = c.detach(), power.detach()
    product = c0 * power + (c - c0) * power
    return lambda t: product * (t - start.detach()).exp()
