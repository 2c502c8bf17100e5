"""bregmanize: existing residual networks on the dual state, block by block."""

from __future__ import annotations

import copy
import math
import pickle
from itertools import pairwise

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

import bilevelnet as bln
from bilevelnet import legendre, regularizers
from bilevelnet.models import BregmanResNet, bregmanize, pre_activation
from bilevelnet.models.bregmanize_bound import gap
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


@pytest.mark.parametrize("kind", KINDS)
def test_the_twin_is_the_limit_and_the_bound_holds(kind: str) -> None:
    net, x = usual(kind), images()
    betas = (1.0, 10.0, 100.0)
    reports = [bregmanize(net, {nn.ReLU: legendre.Softplus(beta)}, example=x).report for beta in betas]
    for report in reports:
        for block in report.blocks:
            # Rounding adds some 1e-15 of A, of size 1 to 10, to a difference of exact values within the bound.
            assert 0 < block.difference <= block.bound + 1e-13
    for before, after in pairwise(reports):
        for a, b in zip(before.blocks, after.blocks, strict=True):
            assert math.isclose(a.bound, 10 * b.bound, rel_tol=1e-12)  # proportional to log 2/β
        assert after.from_twin < before.from_twin / 2
    sharp = bregmanize(net, {nn.ReLU: legendre.Softplus(beta=1e7)}, example=x)
    assert sharp.report.from_twin == (sharp(x) - pre_activation(net)(x)).abs().max() < 1e-5
    assert sharp.report.from_original > 1e-2  # the limit is another network than the original


def test_the_bound_by_hand() -> None:
    """‖W₂‖ (1 + ‖W₁‖) log 2/β for one channel, and what it is attained by but for the slope of ρ in between."""

    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Linear(1, 1, bias=False), nn.Linear(1, 1, bias=False)

        def forward(self, z):
            z = functional.relu(z)
            return functional.relu(z + self.b(functional.relu(self.a(z))))

    net = Block().double()
    nn.init.constant_(net.a.weight, -3.0)
    nn.init.constant_(net.b.weight, 2.0)
    block = bregmanize(net, {nn.ReLU: legendre.Softplus(beta=4.0)}, example=torch.zeros(1, 1).double()).report.blocks[0]
    assert math.isclose(block.bound, 2 * (1 + 3) * math.log(2) / 4, rel_tol=1e-14)
    by_hand = 2 * math.log1p(math.exp(-3 * math.log(2))) / 4  # at u = 0
    assert math.isclose(block.difference, by_hand, rel_tol=1e-14)


@pytest.mark.parametrize(
    ("phi", "g", "want"),
    [
        (legendre.Softplus(beta=2.0), None, math.log(2) / 2),
        (legendre.Squareplus(4.0), None, 1.0),
        (legendre.Elu(1.0), None, 1.0),
        (legendre.Energy(), regularizers.Nonneg(), 0.0),
        (legendre.FermiDirac(), regularizers.Nonneg(), None),
    ],
    ids=["softplus", "squareplus", "elu", "relu", "sigmoid"],
)
def test_the_gap_to_relu_is_its_supremum(phi, g, want: float | None) -> None:
    g = regularizers.Zero() if g is None else g
    found = gap(phi, g, nn.ReLU)
    if want is None:
        v = torch.linspace(-50, 50, 1001, dtype=torch.float64)
        assert found >= (bln.bregman_prox(phi, g, v) - v.relu()).abs().max()
    else:
        assert math.isclose(found, want, rel_tol=1e-7, abs_tol=1e-9)  # at 1e8 a double has 8 digits after the point


def test_bounds_only_where_they_are_known() -> None:
    assert gap(legendre.Burg(), regularizers.Zero(), nn.ReLU) is None  # σ = 0
    assert gap(legendre.Softplus(), regularizers.Zero(), nn.Tanh) is None
    ours = bregmanize(Gated().double(), {nn.ReLU: legendre.Softplus()}, example=images(channels=2))
    (block,) = ours.report.blocks
    assert block.changed
    assert block.bound is None
    assert block.difference > 0
    assert "not known" in str(ours.report)


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


def test_functional_activations_and_any_branch() -> None:
    net, x = Gated().double(), images(channels=2)
    assert torch.equal(bregmanize(net, {nn.ReLU: "relu"})(x), net(x))
    rho = functional.softplus
    v = net.stem(x)
    a = rho(net.conv(rho(v)))
    want = rho(v + a * torch.sigmoid(net.gate(a.mean((2, 3), keepdim=True))))
    torch.testing.assert_close(bregmanize(net, {nn.ReLU: "softplus"})(x), want, rtol=1e-14, atol=1e-14)


class Sums(nn.Module):
    """Sums that are no residual block with an activation, each for its reason."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.c, self.d, self.e, self.f = (nn.Linear(3, 3) for _ in range(6))

    def forward(self, x):
        x = torch.relu(x + self.a(x))  # the input of the network is no output of an activation
        y = x + torch.relu(self.b(x))  # nothing follows
        y = torch.relu(self.a(x) + self.b(x))  # two linear sides
        y = torch.tanh(y + self.c(torch.relu(y)))  # tanh follows, which is not replaced
        y = torch.relu(self.d(y))
        y = torch.relu(y + self.e(torch.relu(x)))  # two points
        return torch.relu(y + self.f(y * x))  # the branch reads x too


def test_each_sum_that_is_left_says_why() -> None:
    ours = bregmanize(Sums(), {nn.ReLU: "softplus"})
    words = ["no side", "what follows", "which is the shortcut", "what follows", "one point", "reads more"]
    for block, word in zip(ours.report.blocks, words, strict=True):
        assert not block.changed
        assert word in block.reason
        assert word in str(ours.report)
    assert "8 activations replaced, 0 of 6 sums changed" in str(ours.report)


def test_of_several_terms_the_identity_is_the_shortcut() -> None:
    class Terms(nn.Module):
        def __init__(self, identity: bool):
            super().__init__()
            self.identity, self.inner = identity, nn.ModuleList(nn.Linear(3, 3) for _ in range(3))

        def forward(self, x):
            z = torch.relu(x)
            a, b, c = (linear(z) for linear in self.inner)
            return torch.relu(z + (a + b)) if self.identity else torch.relu((z + torch.relu(a)) + c)

    (inner, block) = bregmanize(Terms(True), {nn.ReLU: "softplus"}).report.blocks
    assert (inner.changed, block.changed) == (False, True)
    for block in bregmanize(Terms(False), {nn.ReLU: "softplus"}).report.blocks:
        assert not block.changed
    assert "which is the shortcut" in block.reason


def test_two_kinds_in_one_block_share_no_dual() -> None:
    class Mixed(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Linear(3, 3), nn.Linear(3, 3)

        def forward(self, x):
            z = torch.sigmoid(self.a(x))
            return torch.relu(z + self.b(z))

    net = Mixed()
    (block,) = bregmanize(net, {nn.ReLU: "softplus", nn.Sigmoid: "sigmoid"}).report.blocks
    assert "φ changes" in block.reason
    one = legendre.Softplus()
    (block,) = bregmanize(net, {nn.ReLU: one, nn.Sigmoid: legendre.Softplus()}).report.blocks
    assert block.changed  # two functions that are the same


class Vectors(nn.Module):
    """Residual layers of vectors with an activation of the user's own class, after a max-pooling."""

    class Bend(nn.Module):
        def forward(self, v: Tensor) -> Tensor:
            return v.clamp(min=0)

    def __init__(self):
        super().__init__()
        self.stem, self.pool = nn.Linear(4, 6), nn.MaxPool1d(2)
        self.inner = nn.ModuleList(nn.Linear(3, 3) for _ in range(3))
        self.bend = self.Bend()

    def forward(self, x: Tensor) -> Tensor:
        z = self.pool(self.bend(self.stem(x)))
        for linear in self.inner:
            z = self.bend(z + linear(z))
        return z


def test_layers_of_vectors_pooling_and_own_activations() -> None:
    torch.manual_seed(0)
    net, x, beta = Vectors().double(), torch.randn(5, 4, dtype=torch.float64), 2.0
    ours = bregmanize(net, {Vectors.Bend: legendre.Softplus(beta)}, example=x)
    v = net.pool(net.stem(x))
    for linear in net.inner:
        v = v + linear(functional.softplus(v, beta))
    torch.testing.assert_close(ours(x), functional.softplus(v, beta), rtol=1e-14, atol=1e-14)
    assert [block.changed for block in ours.report.blocks] == [True] * 3
    assert [layer.coupling.event_ndim for layer in ours.report.layers] == [1] * 3
    assert torch.equal(bregmanize(net, {Vectors.Bend: "relu"})(x), net(x))


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


class Pair(nn.Module):
    """Two inputs, and two outputs where ``both``."""

    def __init__(self, both: bool):
        super().__init__()
        self.both, self.inner = both, nn.Linear(3, 3)

    def forward(self, x: Tensor, y: Tensor):
        z = torch.relu(x + y)
        z = torch.relu(z + self.inner(z))
        return (z, x) if self.both else z


def test_several_inputs() -> None:
    x, y = torch.randn(2, 4, 3)
    report = bregmanize(Pair(False), {nn.ReLU: "softplus"}, example=(x, y)).report
    assert [block.changed for block in report.blocks] == [False, True]
    assert report.from_original > 0
    with pytest.raises(bln.InputError, match="one tensor"):
        bregmanize(Pair(True), {nn.ReLU: "softplus"}, example=(x, y))
    assert bregmanize(Pair(True), {nn.ReLU: "softplus"})(x, y)[1] is x


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


class Overwriting(nn.Module):
    """Reads tensors again after an in-place sum, or after an in-place ReLU, has overwritten them."""

    def __init__(self, how: str):
        super().__init__()
        self.how, self.first, self.branch = how, nn.Linear(4, 4), nn.Linear(4, 4)
        self.relu = nn.ReLU(inplace=how == "module")

    def forward(self, x: Tensor) -> Tensor:
        v = self.first(x)
        if self.how != "sum":
            z = functional.relu_(v) if self.how == "function" else self.relu(v)
            return self.relu(v + self.branch(z)) - v
        z = self.relu(v)
        y = torch.relu(z.add_(self.branch(z)))
        return y + z


@pytest.mark.parametrize("how", ["sum", "module", "function"])
def test_a_tensor_overwritten_in_place_is_read_as_written(how: str) -> None:
    torch.manual_seed(0)
    net = Overwriting(how).double().eval()
    x = torch.randn(8, 4, dtype=torch.float64)
    assert torch.equal(bregmanize(net, {nn.ReLU: "relu"}, example=x)(x), net(x))
