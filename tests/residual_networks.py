"""The networks that the tests of bregmanize rewrite, and images for them."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from bilevelnet_bench.peers import torch_resnet


def images(n: int = 4, side: int = 16, channels: int = 3, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, channels, side, side, generator=generator, dtype=torch.float64)


def ready(net: nn.Module, seed: int = 0) -> nn.Module:
    """In float64 and eval mode, its batch norms with weights and statistics other than 0 and 1."""
    torch.manual_seed(seed)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, std=0.2)
            nn.init.normal_(module.running_mean, std=0.2)
            nn.init.uniform_(module.running_var, 0.5, 2.0)
    return net.double().eval()


def usual(kind: str) -> nn.Module:
    if kind == "ResNet20":
        return ready(torch_resnet.resnet20())
    return ready(torch_resnet.ResNet(torch_resnet.Bottleneck, (2, 1), 4, 3, large=True))


KINDS = ["ResNet20", "bottleneck"]


class Gated(nn.Module):
    """A residual block whose branch is scaled by a gate, as in squeeze and excitation; functional activations."""

    def __init__(self):
        super().__init__()
        self.stem, self.conv, self.gate = nn.Conv2d(2, 2, 1), nn.Conv2d(2, 2, 3, padding=1), nn.Conv2d(2, 2, 1)

    def forward(self, x):
        z = self.stem(x).relu()
        a = torch.relu(self.conv(z))
        a = a * torch.sigmoid(self.gate(a.mean((2, 3), keepdim=True)))
        a += z
        return functional.relu(a, inplace=True)
