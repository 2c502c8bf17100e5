"""bregmanize: existing residual networks on the dual state, block by block."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from residual_networks import KINDS, Gated, images, ready, usual
from torch import Tensor, nn

import bilevelnet as bln
from bilevelnet import legendre, regularizers
from bilevelnet.models import BregmanResNet, bregmanize
from bilevelnet_bench.peers import torch_resnet


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("pair", ["relu", (legendre.Energy(), regularizers.Nonneg())], ids=["name", "pair"])
def test_a_standard_network_is_bilevel_as_it_stands(kind: str, pair) -> None:
    net, x = usual(kind), images()
    ours = bregmanize(net, {nn.ReLU: pair}, example=x)
    assert torch.equal(ours(x), net(x))
    assert (ours.report.from_original, ours.report.from_twin) == (0.0, 0.0)
    assert all(block.changed and block.bound == block.difference == 0 for block in ours.report.blocks)
    for net_ in (ours, net):
        net_.train()
    assert torch.equal(ours(x), net(x))
    for (name, a), (_, b) in zip(ours.state_dict().items(), net.state_dict().items(), strict=True):
        assert torch.equal(a, b), name  # statistics of the batch norms too


@pytest.mark.parametrize("kind", KINDS)
def test_the_changed_blocks_are_layers_of_the_formula(kind: str) -> None:
    """argmin f + D + g of each block, as a layer called alone, is what the original block computes."""
    net, x = usual(kind), images()
    ours = bregmanize(net, {nn.ReLU: "relu"})
    z = net.maxpool(net.relu(net.bn1(net.conv1(x))))
    blocks = [b for i in range(net.stages) for b in getattr(net, f"layer{i + 1}")]
    for block, layer in zip(blocks, ours.report.layers, strict=True):
        assert isinstance(layer, bln.BilevelLayer)
        want = block(z)
        assert torch.equal(layer(z), want)
        assert bool((layer.solve(z).residual <= 1e-12).all())
        z = want


@pytest.mark.parametrize("name", ["relu", "softplus"])
def test_the_blocks_are_certified(name: str) -> None:
    net = ready(torch_resnet.ResNet(torch_resnet.Basic, (1, 1), 4, 3, large=False))
    layers = bregmanize(net, {nn.ReLU: name}).report.layers
    z = bregmanize(net, {nn.ReLU: name}).report.layers[0](0.5 + images(2, side=4, channels=4).abs())
    for layer in layers:
        certificate = bln.verify(layer, samples=z)
        assert certificate.passed, certificate
        z = layer(z)


@pytest.mark.parametrize("kind", KINDS)
def test_equals_the_bregman_network_of_the_same_weights(kind: str) -> None:
    net, x, phi = usual(kind), images(), legendre.Softplus(beta=3.0)
    architecture = 20 if kind == "ResNet20" else bln.models.Architecture((2, 1), width=4, bottleneck=True, classes=3)
    built = BregmanResNet(architecture, phi).double().eval()
    built.load_state_dict(net.state_dict())
    ours = bregmanize(net, {nn.ReLU: phi})
    assert list(ours.state_dict()) == list(net.state_dict())
    torch.testing.assert_close(ours(x), built(x), rtol=1e-13, atol=1e-13)
    z = built.chain[0](x)
    for layer, block in zip(list(built.chain)[1:], ours.report.layers, strict=True):
        torch.testing.assert_close(block(z), layer(z), rtol=1e-13, atol=1e-13)
        z = layer(z)


def test_a_learned_activation_is_one_parameter() -> None:
    net, x = usual("bottleneck"), images()
    phi = legendre.Softplus(nn.Parameter(torch.tensor(2.0, dtype=torch.float64)))
    ours = bregmanize(net, {nn.ReLU: phi})
    names = [n for n, _ in ours.named_parameters() if "beta" in n]
    assert len(names) == 1
    assert len(ours.state_dict()) == len(net.state_dict()) + 1
    other = copy.deepcopy(ours)
    ours(x).sum().backward()
    assert bool(phi.raw_beta.grad != 0)
    assert other.get_parameter(names[0]).grad is None


def test_the_original_is_left_alone() -> None:
    net, x = usual("ResNet20"), images()
    net.layer1.train()
    before, flags = copy.deepcopy(net.state_dict()), [m.training for m in net.modules()]
    ours = bregmanize(net, {nn.ReLU: "softplus"}, example=x)
    assert flags == [m.training for m in net.modules()]
    assert all(torch.equal(a, b) for a, b in zip(before.values(), net.state_dict().values(), strict=True))
    assert ours.get_submodule("layer1.0.bn1").training
    assert not ours.get_submodule("layer2.0.bn1").training
    assert ours.conv1 is not net.conv1


def test_copies_keep_the_report_on_their_own_modules() -> None:
    net, x = usual("bottleneck"), images()
    ours = bregmanize(net, {nn.ReLU: "softplus"}, example=x)
    for other in (copy.deepcopy(ours), pickle.loads(pickle.dumps(ours))):
        assert torch.equal(other(x), ours(x))
        assert str(other.report) == str(ours.report)
        layer = other.report.layers[0]
        assert layer.coupling.module.get_submodule("layer1.0.conv1") is other.get_submodule("layer1.0.conv1")
        assert other.get_submodule("layer1.0.conv1") is not ours.get_submodule("layer1.0.conv1")


def test_compiles_exports_and_trains() -> None:
    torch.compiler.reset()
    ours, x = bregmanize(usual("bottleneck"), {nn.ReLU: "softplus"}), images()
    compiled = torch.compile(ours, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(x), ours(x), rtol=1e-13, atol=1e-14)
    torch.testing.assert_close(torch.export.export(ours, (x,)).module()(x), ours(x), rtol=1e-13, atol=1e-14)
    ours.train()(x).square().sum().backward()
    assert all(p.grad is not None and bool(p.grad.any()) for p in ours.parameters())


class Untraceable(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x if x.sum() > 0 else -x


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: bregmanize(Untraceable(), {nn.ReLU: "softplus"}), "cannot trace Untraceable"),
        (lambda: bregmanize(torch.relu, {nn.ReLU: "softplus"}), "takes a torch.nn.Module"),
        (lambda: bregmanize(BregmanResNet(20), {nn.ReLU: "softplus"}), "bilevel layers already"),
        (lambda: bregmanize(Gated(), {nn.ReLU: "softplus"}, torch.zeros(0, 2, 4, 4)), "example is empty"),
        (lambda: bregmanize(Gated(), {}), "replace maps"),
        (lambda: bregmanize(Gated(), {"relu": "softplus"}), "classes of modules"),
        (lambda: bregmanize(Gated(), {nn.ReLU(): "softplus"}), "classes of modules"),
        (lambda: bregmanize(Gated(), {nn.ReLU: "swish"}), "unknown activation"),
        (lambda: bregmanize(Gated(), {nn.ReLU: "burg"}), "anywhere in"),
        (lambda: bregmanize(Gated(), {nn.ReLU: legendre.BallHellinger()}), "couples"),
    ],
)
def test_misuse_is_named(call, words: str) -> None:
    with pytest.raises(bln.InputError, match=words):
        call()
