"""The pieces of a scalar activation that is known by its values: a potential, and a knot for each flat part."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from ..legendre import Energy, Legendre
from ..legendre.activation import Activation, ActivationPotential, check_gradient, frozen, name_of
from ..regularizers import Excess, PiecewiseLinear, Regularizer, Zero
from .activation_profile import Flat, Profile


def recovered(activation: Activation, known: Profile, nonexpansive: bool, stated: bool) -> tuple[Legendre, Regularizer]:
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
    phi = ActivationPotential(rho, lo, hi, sigma=1.0 if nonexpansive else 0.0, stated=stated)
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
        self.activation = activation
        self.below, self.above = flats[0].left == -math.inf, flats[-1].right == math.inf
        inner = [f for f in flats if math.isfinite(f.left) and math.isfinite(f.right)]
        self.shifts = _shifts(inner)
        self.ends = [f.left - s for f, s in zip(inner, self.shifts, strict=False)]  # of the intervals, in w
        low, high = flats[0].right - self.shifts[0], flats[-1].left - self.shifts[-1]
        self.inner = (low if self.below else -math.inf, high if self.above else math.inf)
        self.__name__ = name_of(activation)

    def slopes(self) -> list[float]:
        """Those of g, from the left to the right."""
        return [*([-math.inf] if self.below else []), *self.shifts, *([math.inf] if self.above else [])]

    def forward(self, w: Tensor) -> Tensor:
        ends, shifts = w.new_tensor(self.ends), w.new_tensor(self.shifts)
        shift = shifts[torch.searchsorted(ends, w.detach().contiguous())]
        inside = w.clamp(*self.inner)  # beyond it ρ is flat
        return self.activation(inside + shift) + (w - inside)


def _shifts(inner: list[Flat]) -> list[float]:
    """s_k of the intervals between the flat parts that have two ends."""
    shifts = [0.0]
    for f in inner:
        shifts.append(shifts[-1] + f.right - f.left)
    base = 0.0
    for k, f in enumerate(inner):
        if f.left > 0:
            break
        base = shifts[k] - f.left if f.right > 0 else shifts[k + 1]
    return [s - base for s in shifts]
