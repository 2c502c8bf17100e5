"""Normalisation layers as mirror maps: RMSNorm and LayerNorm as argmin_z φ(z) + g(z) − ⟨z, x⟩, then gain and bias.

Without gain and bias RMSNorm(x; ε) = √n ρ(x/√(nε)) with ρ(u) = u/√(1 + ‖u‖²), the mirror map of

    φ(z) = n√ε (−√(1 − ‖z‖²/n))  on ‖z‖ ≤ √n,

and LayerNorm is the same with g the indicator of {Σz = 0}: there ∇φ(z) = x − mean(x).
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import InputError
from ..legendre import BallHellinger, Legendre
from ..regularizers import AffineSet, Regularizer, Zero
from .independent import Inclusion

NAMES = ("LayerNorm", "RMSNorm")
EPS = ("eps", "variance_epsilon", "epsilon")


class Norm:
    """What a normalisation module is said to be: (φ, g), gain and bias. ``centred`` for LayerNorm."""

    def __init__(self, name: str, module: nn.Module, flipped: bool = False):
        self.name, self.module, self.flipped = name, module, flipped
        self.centred = "LayerNorm" in type(module).__name__
        self.width = _width(name, module)
        eps: Any = next((getattr(module, key) for key in EPS if hasattr(module, key)), None)
        if not isinstance(eps, float) or eps <= 0:
            raise InputError(f"{name}: {type(module).__name__} with eps = {eps}: φ needs eps > 0")
        n, self.eps = self.width, eps
        self.phi: Legendre = n * math.sqrt(eps) * BallHellinger().affine(scale=math.sqrt(n))
        self.g: Regularizer = AffineSet((1.0,) * n, 0.0) if self.centred else Zero()
        self.inclusion = Inclusion(self.phi, self.g)

    @property
    def claim(self) -> str:
        """In words, with LayerNorm's convention of the mean."""
        if self.centred:
            mean = "the stream is v, u = v − mean(v), and the next block ignores the mean"
            return f"LayerNorm: φ = ball_hellinger, g the indicator of Σz = 0; {mean}"
        return "RMSNorm: φ = ball_hellinger, g = 0; the stream is u itself"

    def flip(self, x: Tensor) -> Tensor:
        """Between the (T, B, n) that a block without batch_first hands to its norms, and (B, T, n)."""
        return x.transpose(0, 1) if self.flipped else x

    def dual(self, v: Tensor) -> Tensor:
        """u = ∇φ(z) at z = argmin φ + g − ⟨·, v⟩: v, less what ∂g takes."""
        return v - v.mean(-1, keepdim=True) if self.centred else v

    def affine(self, z: Tensor) -> Tensor:
        """gain z + bias."""
        gain, bias = (getattr(self.module, name, None) for name in ("weight", "bias"))
        z = z if gain is None else gain * z
        return z if bias is None else z + bias

    def plain(self, v: Tensor) -> Tensor:
        """torch's own normalisation, without gain and bias."""
        if self.centred:
            return nn.functional.layer_norm(v, (self.width,), eps=self.eps)
        return nn.functional.rms_norm(v, (self.width,), eps=self.eps)


def norms_of(block: nn.Module, flipped: bool) -> list[Norm]:
    """The normalisation modules of a block, by the name of their class."""
    return [Norm(name, m, flipped) for name, m in block.named_modules() if type(m).__name__.endswith(NAMES)]


def _width(name: str, module: nn.Module) -> int:
    shape = getattr(module, "normalized_shape", None)
    weight = getattr(module, "weight", None)
    if shape is None and isinstance(weight, Tensor):
        shape = tuple(weight.shape)
    if shape is None or len(shape) != 1:
        raise InputError(f"{name}: {type(module).__name__} over {shape}; a norm over the last dimension is known")
    return int(shape[0])


def pin_eps(module: nn.Module) -> list[nn.Module]:
    """RMSNorm(eps=None) takes the eps of its input's dtype: fix that of the weights', so that
    float64 does not change it.

    Returns the modules that were changed.
    """
    changed: list[Any] = [m for m in module.modules() if isinstance(m, nn.RMSNorm) and m.eps is None]
    for m in changed:
        dtype = m.weight.dtype if m.weight is not None else torch.get_default_dtype()
        m.eps = torch.finfo(dtype).eps
    return changed
