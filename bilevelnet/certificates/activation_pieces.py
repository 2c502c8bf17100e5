"""The pieces of a scalar activation that is known by its values: a potential, and a knot for each flat part."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from ..legendre import Energy, Legendre
from ..legendre.activation import Activation, ActivationPotential, check_gradient, frozen, name_of
from ..regularizers import Excess, PiecewiseLinear, Regularizer, Zero
from .activation_profile import Flat, Profile


def recovered(activation: Activation, known: Profile, nonexpansive: bool) -> tuple[Legendre, Regularizer]:
    """(φ, g) of ρ: φ' is ρ⁻¹ without its jumps, which are the flat parts of ρ and make the piecewise-linear g.

    With ``nonexpansive``: (½z², g + φ − ½z²).
    """
    check_gradient(activation)
    rho = frozen(activation)
    lo, hi, g = known.lo, known.hi, None
    if known.flats:
        rho = Unflattened(rho, known.flats)
        lo, hi = (-math.inf if rho.below else lo), (math.inf if rho.above else hi)
        g = PiecewiseLinear([f.level for f in known.flats], rho.slopes())
    phi = ActivationPotential(rho, lo, hi, sigma=1.0 if nonexpansive else 0.0)
    if not nonexpansive:
        return phi, Zero() if g is None else g
    return Energy(), Excess(phi) if g is None else Excess(phi) + g


class Unflattened(nn.Module):
    """ρ with its flat parts taken out, strictly increasing: w ↦ ρ(w + s_k), v = w + s_k between two of them.

    Beyond a flat part without an end it goes on with slope 1. Then ρ = (∇φ + ∂g)⁻¹ for ∇φ* = this map and g with the
    slopes s_k, −∞ and ∞ at flat parts without an end. v = 0 has s_k = 0, or lies in the middle of a jump of g'.
    """

    def __init__(self, activation: Activation, flats: tuple[Flat, ...]):
        super().__init__()
        self.activation, self.flats = activation, flats
        self.below, self.above = flats[0].left == -math.inf, flats[-1].right == math.inf
        self.__name__ = name_of(activation)

    def shifts(self) -> list[float]:
        """s_k of the intervals between the flat parts, one more than there are flat parts with both ends."""
        inner = [f for f in self.flats if math.isfinite(f.left) and math.isfinite(f.right)]
        shifts = [0.0]
        for f in inner:
            shifts.append(shifts[-1] + f.right - f.left)
        base = 0.0
        for k, f in enumerate(inner):
            if f.left > 0:
                break
            base = shifts[k] - f.left if f.right > 0 else shifts[k + 1]
        return [s - base for s in shifts]

    def slopes(self) -> list[float]:
        """Those of g, from the left to the right."""
        return [*([-math.inf] if self.below else []), *self.shifts(), *([math.inf] if self.above else [])]

    def forward(self, w: Tensor) -> Tensor:
        shifts = self.shifts()
        v, k = w + shifts[0], 0
        low = high = None
        for f in self.flats:
            if f.left == -math.inf:
                low = f.right - shifts[0], f.level
            elif f.right == math.inf:
                high = f.left - shifts[-1], f.level
            else:
                k += 1
                v = torch.where(w > f.right - shifts[k], w + shifts[k], v)
        inside = w
        for end, bound in ((low, torch.maximum), (high, torch.minimum)):
            if end is not None:
                v = bound(v, w.new_tensor(end[0] + (shifts[0] if end is low else shifts[-1])))
                inside = bound(inside, w.new_tensor(end[0]))
        return self.activation(v) + (w - inside)
