"""BregmanResNet: the families' parameters have the published names, shapes and counts."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from bilevelnet import models
from bilevelnet.models import BregmanResNet

# name: (parameters, depths, bottleneck, groups, base width, classes), as He et al. and torchvision count them.
FAMILIES = {
    "ResNet20": (269_722, (3, 3, 3), False, 1, 64, 10),
    "ResNet32": (464_154, (5, 5, 5), False, 1, 64, 10),
    "ResNet44": (658_586, (7, 7, 7), False, 1, 64, 10),
    "ResNet56": (853_018, (9, 9, 9), False, 1, 64, 10),
    "ResNet110": (1_727_962, (18, 18, 18), False, 1, 64, 10),
    "ResNet18": (11_689_512, (2, 2, 2, 2), False, 1, 64, 1000),
    "ResNet34": (21_797_672, (3, 4, 6, 3), False, 1, 64, 1000),
    "ResNet50": (25_557_032, (3, 4, 6, 3), True, 1, 64, 1000),
    "ResNet101": (44_549_160, (3, 4, 23, 3), True, 1, 64, 1000),
    "ResNet152": (60_192_808, (3, 8, 36, 3), True, 1, 64, 1000),
    "ResNeXt50_32x4d": (25_028_904, (3, 4, 6, 3), True, 32, 4, 1000),
    "ResNeXt101_32x8d": (88_791_336, (3, 4, 23, 3), True, 32, 8, 1000),
    "WideResNet50_2": (68_883_240, (3, 4, 6, 3), True, 1, 128, 1000),
    "WideResNet101_2": (126_886_696, (3, 4, 23, 3), True, 1, 128, 1000),
}


def published_names(depths, bottleneck, groups, base_width, classes) -> Iterator[tuple[str, tuple[int, ...]]]:
    """(name, shape) of the parameters in order, by the rule that the published networks follow."""
    large = classes == 1000
    width = 64 if large else 16

    def norm(name: str, channels: int) -> Iterator[tuple[str, tuple[int, ...]]]:
        yield f"{name}.weight", (channels,)
        yield f"{name}.bias", (channels,)

    yield "conv1.weight", (width, 3, 7, 7) if large else (width, 3, 3, 3)
    yield from norm("bn1", width)
    channels = width
    for i, depth in enumerate(depths):
        c = width * 2**i
        out = 4 * c if bottleneck else c
        inner = c * base_width // 64 * groups
        for k in range(depth):
            at = f"layer{i + 1}.{k}"
            if bottleneck:
                shapes = (inner, channels, 1, 1), (inner, inner // groups, 3, 3), (out, inner, 1, 1)
            else:
                shapes = (c, channels, 3, 3), (c, c, 3, 3)
            for j, shape in enumerate(shapes, 1):
                yield f"{at}.conv{j}.weight", shape
                yield from norm(f"{at}.bn{j}", shape[0])
            if large and k == 0 and (i > 0 or channels != out):
                yield f"{at}.downsample.0.weight", (out, channels, 1, 1)
                yield from norm(f"{at}.downsample.1", out)
            channels = out
    yield "fc.weight", (classes, channels)
    yield "fc.bias", (classes,)


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("version", ["standard", "bregman"])
def test_parameters_are_those_of_the_published_networks(name: str, version: str) -> None:
    count, *rule = FAMILIES[name]
    with torch.device("meta"):
        net = BregmanResNet(name, version=version)
    found = [(n, tuple(p.shape)) for n, p in net.named_parameters()]
    assert found == list(published_names(*rule))
    assert sum(p.numel() for p in net.parameters()) == count
    assert len(net.chain) == 1 + sum(rule[0])


@pytest.mark.heavy
def test_the_network_of_1202_layers() -> None:
    with torch.device("meta"):
        net = BregmanResNet(1202)
    assert [(n, tuple(p.shape)) for n, p in net.named_parameters()] == list(
        published_names((200, 200, 200), False, 1, 64, 10)
    )
    assert sum(p.numel() for p in net.parameters()) == 19_421_274


def test_names_are_read_loosely() -> None:
    for name in ("wide_resnet50_2", "WideResNet50_2"):
        assert models.resnet_families.architecture_of(name).base_width == 128
    assert models.resnet_families.architecture_of(20) is models.resnet_families.architecture_of("resnet20")
