"""The residual networks of the paper, as numbers."""

from __future__ import annotations

from dataclasses import dataclass

from ..errors import InputError


@dataclass(frozen=True)
class Architecture:
    """One residual network: a stem, ``len(depths)`` stages of blocks, a linear head.

    depths: blocks of each stage; every stage but the first halves the side and doubles the channels. width: channels
    of the stem, and of the first stage but for the factor 4 of a bottleneck. bottleneck: 1×1, 3×3, 1×1 instead of
    3×3, 3×3. groups, base_width: of the 3×3 convolution of a bottleneck, which has groups · c · base_width/64 channels
    where a plain one has c. large: a stem of 7×7, stride 2, and max-pooling instead of 3×3. shortcut: L where the shape
    changes, "pad" (every second pixel, zero channels on both sides: option A) or "projection" (1×1 convolution and
    batch norm: option B). classes: of the head, unless given.
    """

    depths: tuple[int, ...]
    width: int = 64
    bottleneck: bool = False
    groups: int = 1
    base_width: int = 64
    large: bool = True
    shortcut: str = "projection"
    classes: int = 1000

    def __post_init__(self) -> None:
        if self.shortcut not in ("pad", "projection"):
            raise InputError(f'unknown shortcut {self.shortcut!r}; known: "pad", "projection"')
        if not self.depths or min(self.depths) < 1:
            raise InputError(f"depths are the blocks of each stage, at least 1, not {self.depths}")
        if min(self.width, self.groups, self.base_width, self.classes) < 1:
            raise InputError(f"width, groups, base_width and classes are counts, at least 1: {self}")
        if self.bottleneck and self.width * self.base_width < 64:
            each = self.width * self.base_width / 64
            raise InputError(f"width · base_width/64 = {each:g} channels a group: at least 1")


def _cifar(depth: int) -> Architecture:
    """6n + 2 layers in 3 stages of n basic blocks, for images of 32 × 32 (He et al., 2015)."""
    return Architecture(((depth - 2) // 6,) * 3, width=16, large=False, shortcut="pad", classes=10)


ARCHITECTURES: dict[str, Architecture] = {
    **{f"ResNet{depth}": _cifar(depth) for depth in (20, 32, 44, 56, 110, 1202)},
    "ResNet18": Architecture((2, 2, 2, 2)),
    "ResNet34": Architecture((3, 4, 6, 3)),
    "ResNet50": Architecture((3, 4, 6, 3), bottleneck=True),
    "ResNet101": Architecture((3, 4, 23, 3), bottleneck=True),
    "ResNet152": Architecture((3, 8, 36, 3), bottleneck=True),
    "ResNeXt50_32x4d": Architecture((3, 4, 6, 3), bottleneck=True, groups=32, base_width=4),
    "ResNeXt101_32x8d": Architecture((3, 4, 23, 3), bottleneck=True, groups=32, base_width=8),
    "WideResNet50_2": Architecture((3, 4, 6, 3), bottleneck=True, base_width=128),
    "WideResNet101_2": Architecture((3, 4, 23, 3), bottleneck=True, base_width=128),
}


def architecture_of(name: str | int | Architecture) -> Architecture:
    """The architecture of a name ("ResNet20", "wide_resnet50_2", 20), or the one given.

    Case and underscores do not matter. Raises InputError, with the list of what is known.
    """
    if isinstance(name, Architecture):
        return name
    wanted = _plain(f"resnet{name}" if isinstance(name, int) else str(name))
    for known, architecture in ARCHITECTURES.items():
        if _plain(known) == wanted:
            return architecture
    raise InputError(
        f"unknown architecture {name!r}; known: {', '.join(ARCHITECTURES)}, or an Architecture of your own"
    )


def _plain(name: str) -> str:
    return name.lower().replace("_", "")
