"""The Bregman block as it is usually coded, on the primal state: z⁺ = ρ(ρ⁻¹(clamp z) + A(z)), in plain torch."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .torch_resnet import Basic, ResNet, resnet20

CLAMP = 1e-5


class InverseBasic(Basic):
    """ρ the softplus, ρ⁻¹(z) = z + log(1 − e^{−z}); new channels are filled with ρ(0), whose inverse is 0."""

    def forward(self, z: Tensor) -> Tensor:
        a = self.relu(self.bn1(self.conv1(z)))
        a = self.bn2(self.conv2(a))
        z = z.clamp(min=CLAMP)
        u = z + torch.log(-torch.expm1(-z))
        a += u if self.downsample is None else self.downsample(u)
        return self.relu(a)


def inverse_resnet20() -> ResNet:
    return resnet20(InverseBasic, nn.Softplus)
