"""Residual networks as they are usually written, ρ after the sum, in torch.nn. Nothing of bilevelnet is in it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import Tensor, nn
from torch.nn import functional


def conv(d_in: int, d_out: int, kernel: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(d_in, d_out, kernel, stride, padding=kernel // 2, bias=False)


def relu() -> nn.Module:
    return nn.ReLU(inplace=True)


class Pad(nn.Module):
    """Every second pixel, with zero channels on both sides."""

    def __init__(self, channels: int):
        super().__init__()
        self.each = channels // 2

    def forward(self, x: Tensor) -> Tensor:
        return functional.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, self.each, self.each))


class Basic(nn.Module):
    """ρ(L z + BN₂ Conv₂ ρ(BN₁ Conv₁ z))."""

    expansion = 1

    def __init__(self, d_in: int, width: int, stride: int, downsample: nn.Module | None, rho: nn.Module):
        super().__init__()
        self.conv1, self.bn1 = conv(d_in, width, 3, stride), nn.BatchNorm2d(width)
        self.conv2, self.bn2 = conv(width, width, 3), nn.BatchNorm2d(width)
        self.relu, self.downsample = rho, downsample

    def forward(self, z: Tensor) -> Tensor:
        a = self.relu(self.bn1(self.conv1(z)))
        a = self.bn2(self.conv2(a))
        a += z if self.downsample is None else self.downsample(z)
        return self.relu(a)


class Bottleneck(nn.Module):
    """ρ(L z + BN₃ Conv₃ ρ(BN₂ Conv₂ ρ(BN₁ Conv₁ z)))."""

    expansion = 4

    def __init__(self, d_in: int, width: int, stride: int, downsample: nn.Module | None, rho: nn.Module):
        super().__init__()
        self.conv1, self.bn1 = conv(d_in, width, 1), nn.BatchNorm2d(width)
        self.conv2, self.bn2 = conv(width, width, 3, stride), nn.BatchNorm2d(width)
        self.conv3, self.bn3 = conv(width, 4 * width, 1), nn.BatchNorm2d(4 * width)
        self.relu, self.downsample = rho, downsample

    def forward(self, z: Tensor) -> Tensor:
        a = self.relu(self.bn1(self.conv1(z)))
        a = self.relu(self.bn2(self.conv2(a)))
        a = self.bn3(self.conv3(a))
        a += z if self.downsample is None else self.downsample(z)
        return self.relu(a)


class ResNet(nn.Module):
    """Stages of blocks; ``large``: the stem of 7 × 7 with max-pooling and shortcuts by 1 × 1 convolutions."""

    def __init__(
        self,
        block: type[Basic | Bottleneck],
        depths: Sequence[int],
        width: int,
        classes: int,
        large: bool,
        activation: Callable[[], nn.Module] = relu,
    ):
        super().__init__()
        self.conv1, self.bn1 = conv(3, width, *((7, 2) if large else (3, 1))), nn.BatchNorm2d(width)
        self.relu = activation()
        self.maxpool = nn.MaxPool2d(3, 2, 1) if large else nn.Identity()
        d_in = width
        for i, depth in enumerate(depths):
            blocks = []
            for k in range(depth):
                stride, d_out = 2 if i and not k else 1, (width << i) * block.expansion
                same = stride == 1 and d_in == d_out
                shortcut = None if same else _shortcut(d_in, d_out, stride, large)
                blocks.append(block(d_in, width << i, stride, shortcut, activation()))
                d_in = d_out
            self.add_module(f"layer{i + 1}", nn.Sequential(*blocks))
        self.stages = len(depths)
        self.avgpool, self.fc = nn.AdaptiveAvgPool2d(1), nn.Linear(d_in, classes)

    def forward(self, x: Tensor) -> Tensor:
        z = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        for i in range(self.stages):
            z = getattr(self, f"layer{i + 1}")(z)
        return self.fc(self.avgpool(z).flatten(1))


def _shortcut(d_in: int, d_out: int, stride: int, large: bool) -> nn.Module:
    return nn.Sequential(conv(d_in, d_out, 1, stride), nn.BatchNorm2d(d_out)) if large else Pad(d_out - d_in)


def resnet20(block: type[Basic] = Basic, activation: Callable[[], nn.Module] = relu, classes: int = 10) -> ResNet:
    return ResNet(block, (3, 3, 3), 16, classes, large=False, activation=activation)
