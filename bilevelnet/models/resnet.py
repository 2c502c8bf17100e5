"""The residual networks of the paper, standard and Bregman, on the dual state."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..chain import Chain
from ..couplings import Affine
from ..divergences import Bregman, Zero
from ..errors import InputError
from ..layer import BilevelLayer
from ..solution import check_policy
from ..values import check_floating
from .activation import Activation as ActivationLike
from .activation import pair_of
from .entrywise import check_entrywise
from .mlp import euclidean
from .resnet_blocks import Activation, Residual, Subsample
from .resnet_families import Architecture, architecture_of

VERSIONS = ("bregman", "standard")


class BregmanResNet(nn.Module):
    """Blocks z⁺ = prox^φ_g(L ∇φ(z⁻) + A(z⁻)), A(z) = BN₂ Conv₂ ρ(BN₁ Conv₁ z), ρ = prox^φ_g, and a linear head.

    For g = 0 a block is z⁺ = ρ(ρ⁻¹(z⁻) + A(z⁻)), on the dual state v⁺ = v + A(ρ(v)): nothing is inverted. Stem and
    blocks are the layers of ``chain``. The stem has no residual term, and its coupling ends in the max-pooling, which
    commutes with the increasing ρ. L is the identity, or on the dual state the ``shortcut`` of the architecture.

    ``architecture``: "ResNet20", 32, 44, 56, 110, 1202 (for images of 32 × 32), "ResNet18", 34, 50, 101, 152,
    "ResNeXt50_32x4d", "ResNeXt101_32x8d", "WideResNet50_2", "WideResNet101_2", or an ``Architecture``.
    ``activation``: as for BregmanMLP, softplus unless given. version "standard": z⁺ = ρ(L z⁻ + A(z⁻)), that is
    D = ½‖z − z⁻‖², with ReLU unless given. Both versions have the parameters of torchvision's networks by name and
    shape, so that weights move from one to another; chain[1].coupling.module is layer1[0], and so on.
    ``steps`` = 2 (basic blocks): v ← L v + BN₁ Conv₁ ρ(v), then v ← v + BN₂ Conv₂ ρ(v), two layers a block.

    Input (N, channels, height, width), output (N, classes). Raises InputError for an unknown name, a φ or g that is not
    separable or whose mirror map is not defined on all of ℝ, and for tensors of a wrong shape or dtype; SolveError for
    a state that is not finite, as ``on_failure`` says.
    """

    if TYPE_CHECKING:  # modules that torch types as Tensor | Module

        def __getattr__(self, name: str) -> Any: ...

    def __init__(
        self,
        architecture: str | int | Architecture,
        activation: ActivationLike | None = None,
        version: str = "bregman",
        classes: int | None = None,
        channels: int = 3,
        steps: int = 1,
        on_failure: str = "raise",
    ):
        super().__init__()
        self.architecture = plan = architecture_of(architecture)
        if version not in VERSIONS:
            raise InputError(f"unknown version {version!r}; known: {', '.join(VERSIONS)}")
        if steps not in (1, 2) or (steps == 2 and plan.bottleneck):
            raise InputError(f"steps = {steps}: a block is 1 step, or 2 where it has two convolutions of one width")
        classes = plan.classes if classes is None else classes
        if min(channels, classes) < 1:
            raise InputError(f"channels = {channels} and classes = {classes} are counts, at least 1")
        self.version, self.steps, self.on_failure = version, steps, check_policy(on_failure)
        if version == "bregman":
            phi, g = pair_of(activation or "softplus")
        else:
            phi, g = euclidean(*pair_of(activation or "relu", "euclidean"))
        self.phi, self.g = check_entrywise(phi, g)
        self.rho = Activation(self.phi, self.g)
        self._build(plan, channels, classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def _build(self, plan: Architecture, channels: int, classes: int) -> None:
        kernel, stride = (7, 2) if plan.large else (3, 1)
        self.conv1 = _convolution(channels, plan.width, kernel, stride)
        self.bn1 = nn.BatchNorm2d(plan.width)
        self.maxpool = nn.MaxPool2d(3, 2, 1) if plan.large else nn.Identity()
        width = plan.width
        for i, depth in enumerate(plan.depths):
            blocks = []
            for k in range(depth):
                blocks.append(_block(plan, width, plan.width << i, 2 if i and not k else 1, self.rho))
                width = (plan.width << i) * (4 if plan.bottleneck else 1)
            self.add_module(f"layer{i + 1}", nn.Sequential(*blocks))
        self.fc = nn.Linear(width, classes)
        self._link()

    def _blocks(self) -> list[Residual]:
        blocks = [block for i in range(len(self.architecture.depths)) for block in getattr(self, f"layer{i + 1}")]
        for block in blocks:
            if not isinstance(block, Residual):
                raise InputError(f"a {type(block).__name__} among the blocks: give a Residual, or change its children")
        return blocks

    def _pieces(self) -> list[nn.Module | None]:
        """What the chain is made of."""
        shortcuts = [m for block in self._blocks() for m in (block, block.downsample)]
        return [self.phi, self.g, self.conv1, self.bn1, self.maxpool, *shortcuts]

    def _link(self) -> None:
        # The chain holds the same modules again: it is kept out of the registry, so that each parameter has one name.
        self.rho.bind(self.phi, self.g)
        stem = Affine(nn.Sequential(self.conv1, self.bn1, self.maxpool), event_ndim=3)
        layers = [BilevelLayer(stem, Bregman(self.phi, Zero()), self.g)]
        for block in self._blocks():
            layers += block.layers(self.phi, self.g, self.steps)
        self.__dict__["_linked"] = Chain(*layers, on_failure=self.on_failure), tuple(self._pieces())

    @property
    def chain(self) -> Chain:
        """Stem and blocks as bilevel layers, of the modules that are registered now."""
        made_of = self._linked[1]
        pieces = self._pieces()
        if len(pieces) != len(made_of) or not all(map(_same, pieces, made_of)):
            self._link()  # a module was replaced
        return self._linked[0]

    def forward(self, x: Tensor) -> Tensor:
        self._check(x)
        z = self.chain(x)
        return self.fc(functional.adaptive_avg_pool2d(z, 1).flatten(1))

    def _check(self, x: Tensor) -> None:
        check_floating(x, "x")
        weight = next(self.conv1.parameters(), x)
        channels = getattr(self.conv1, "in_channels", "channels")
        if x.ndim != 4 or (isinstance(channels, int) and x.shape[1] != channels):
            raise InputError(f"x has shape {tuple(x.shape)}; give (N, {channels}, height, width)")
        if x.dtype is not weight.dtype and not torch.is_autocast_enabled(x.device.type):
            raise InputError(f"x is {x.dtype}, the network {weight.dtype}: convert one, e.g. network.to(x.dtype)")

    def extra_repr(self) -> str:
        return (
            f"{self.version}, {len(self.chain)} layers u⁺ = T_g(L u + A(z)), φ = {self.phi.label}, g = {self.g.label}"
        )


def _same(a: nn.Module | None, b: nn.Module | None) -> bool:
    # torch.export gives a new proxy of a module at every access, which has the module's own __dict__
    return a is b or (a is not None and b is not None and vars(a) is vars(b))


def _convolution(d_in: int, d_out: int, kernel: int, stride: int = 1, groups: int = 1) -> nn.Conv2d:
    return nn.Conv2d(d_in, d_out, kernel, stride, padding=kernel // 2, groups=groups, bias=False)


def _block(plan: Architecture, d_in: int, width: int, stride: int, rho: nn.Module) -> Residual:
    if not plan.bottleneck:
        convolutions = [_convolution(d_in, width, 3, stride), _convolution(width, width, 3)]
        return Residual(convolutions, rho, _shortcut(plan, d_in, width, stride))
    inner, d_out = width * plan.base_width // 64 * plan.groups, 4 * width
    convolutions = [
        _convolution(d_in, inner, 1),
        _convolution(inner, inner, 3, stride, plan.groups),
        _convolution(inner, d_out, 1),
    ]
    return Residual(convolutions, rho, _shortcut(plan, d_in, d_out, stride))


def _shortcut(plan: Architecture, d_in: int, d_out: int, stride: int) -> nn.Module | None:
    if stride == 1 and d_in == d_out:
        return None
    if plan.shortcut == "pad":
        return Subsample(stride, d_out - d_in)
    return nn.Sequential(_convolution(d_in, d_out, 1, stride), nn.BatchNorm2d(d_out))
