"""The parts of a residual network: the branch A, the shortcut L, the activation inside."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional

from ..couplings import Affine
from ..divergences import Bregman, Dual
from ..layer import BilevelLayer
from ..legendre import Legendre
from ..prox import Bound
from ..regularizers import Regularizer
from ..values import at_least_float32


class Activation(nn.Module):
    """v ↦ prox^φ_g(v), ρ = ∇φ* where g = 0, in v's dtype.

    φ and g are used, not registered: their tensors are the network's, once, and not those of each of its blocks.
    """

    def __init__(self, phi: Legendre, g: Regularizer):
        super().__init__()
        self.bind(phi, g)

    def bind(self, phi: Legendre, g: Regularizer) -> None:
        """Take another φ and g."""
        self.bound = Bound(phi, g, "auto", "ignore")  # what fails is seen at the end of the chain

    def forward(self, v: Tensor) -> Tensor:
        return self.bound.apply(at_least_float32(v), v.dtype, ())

    def extra_repr(self) -> str:
        return f"{self.bound.prox.phi.label} + {self.bound.prox.g.label}"


class Subsample(nn.Module):
    """L u: every ``stride``-th pixel of u, with ``channels`` zero channels added, half of them on either side.

    On the dual state u = 0 is the point ρ(0).
    """

    def __init__(self, stride: int, channels: int):
        super().__init__()
        self.stride, self.channels = stride, channels

    def forward(self, u: Tensor) -> Tensor:
        u = u[..., :: self.stride, :: self.stride]
        return functional.pad(u, (0, 0, 0, 0, self.channels // 2, self.channels - self.channels // 2))

    def extra_repr(self) -> str:
        return f"stride={self.stride}, channels=+{self.channels}"


class Residual(nn.Module):
    """A(z) = BN_k Conv_k ρ(… ρ(BN₁ Conv₁ z)), the branch of a block; ``downsample`` is L, which acts on u, or None.

    The children are conv1, bn1, conv2, bn2, … and downsample, as in torchvision.
    """

    def __init__(self, convolutions: Sequence[nn.Conv2d], rho: nn.Module, downsample: nn.Module | None):
        super().__init__()
        for k, convolution in enumerate(convolutions, 1):
            self.add_module(f"conv{k}", convolution)
            self.add_module(f"bn{k}", nn.BatchNorm2d(convolution.out_channels))
        self.rho, self.downsample = rho, downsample
        self.depth = len(convolutions)

    def part(self, k: int, z: Tensor) -> Tensor:
        """BN_k Conv_k z."""
        return getattr(self, f"bn{k}")(getattr(self, f"conv{k}")(z))

    def forward(self, z: Tensor) -> Tensor:
        z = self.part(1, z)
        for k in range(2, self.depth + 1):
            z = self.part(k, self.rho(z))
        return z

    def layers(self, phi: Legendre, g: Regularizer, steps: int) -> list[BilevelLayer]:
        """The block as one layer with coupling A, or as one for each convolution: u⁺ = T_g(L u + A(z))."""
        branches: list[nn.Module] = [self] if steps == 1 else [Part(self, k) for k in range(1, self.depth + 1)]
        references = [None if self.downsample is None else Dual(self.downsample), *[None] * (len(branches) - 1)]
        return [
            BilevelLayer(Affine(branch, event_ndim=3), Bregman(phi, reference), g)
            for branch, reference in zip(branches, references, strict=True)
        ]


class Part(nn.Module):
    """BN_k Conv_k of a block, as the block has them when it is called."""

    def __init__(self, block: Residual, k: int):
        super().__init__()
        self.block, self.k = (block,), k  # in a tuple: used, not registered

    def forward(self, z: Tensor) -> Tensor:
        return self.block[0].part(self.k, z)
