"""BregmanResNet: the formula of the block, the dual state, copies, transforms, export."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from pathlib import Path

import onnxruntime
import pytest
import torch
from torch import Tensor, nn

import bilevelnet as bln
from bilevelnet import legendre
from bilevelnet.models import Architecture, BregmanResNet
from bilevelnet_bench.peers import torch_resnet

BASIC = Architecture((1, 1), width=4, large=False, shortcut="pad", classes=3)
BOTTLENECK = Architecture((2, 1), width=4, bottleneck=True, groups=2, base_width=32, classes=3)
BLOCKS = [pytest.param(BASIC, id="basic"), pytest.param(BOTTLENECK, id="bottleneck")]
# ρ and ρ⁻¹ by hand, with the φ whose mirror map it is.
Function = Callable[[Tensor], Tensor]
ACTIVATIONS: dict[str, tuple[Function, Function]] = {
    "softplus": (nn.functional.softplus, lambda z: z + torch.log(-torch.expm1(-z))),
    "sigmoid": (torch.sigmoid, torch.logit),
    "atan": (torch.atan, torch.tan),
    "elu": (nn.functional.elu, lambda z: torch.where(z > 0, z, torch.log1p(z.clamp(max=0)))),
}


def images(n: int = 4, side: int = 8, seed: int = 0) -> Tensor:
    return torch.randn(n, 3, side, side, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def network(architecture, activation="softplus", seed: int = 0, **settings) -> BregmanResNet:
    """In eval mode and float64, batch norms with statistics and weights other than 0 and 1."""
    torch.manual_seed(seed)
    net = BregmanResNet(architecture, activation, **settings).double().eval()
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            for tensor in (module.bias, module.running_mean):
                nn.init.normal_(tensor, std=0.2)
            nn.init.uniform_(module.running_var, 0.5, 2.0)
    return net


@pytest.mark.parametrize("plain", ["ResNet20", BOTTLENECK], ids=["ResNet20", "bottleneck"])
def test_the_standard_version_is_the_usual_network_to_the_last_bit(plain) -> None:
    torch.manual_seed(0)
    usual = torch_resnet.resnet20()
    if plain is BOTTLENECK:
        plain = Architecture((2, 1), width=4, bottleneck=True, classes=3)
        usual = torch_resnet.ResNet(torch_resnet.Bottleneck, (2, 1), 4, 3, large=True)
    ours = BregmanResNet(plain, version="standard")
    assert list(ours.state_dict()) == list(usual.state_dict())
    ours.load_state_dict(usual.state_dict())
    x = images(side=16).float()
    assert torch.equal(ours(x), usual(x))  # in training mode, inplace operations of the usual network included
    (a, b) = (torch.autograd.grad(net(x).square().sum(), list(net.parameters())) for net in (ours, usual))
    assert all(torch.equal(p, q) for p, q in zip(a, b, strict=True))


def branch(block: nn.Module, z: Tensor, rho: Function) -> Tensor:
    """BN_k Conv_k ρ(… BN₁ Conv₁ z), from the names of the modules alone."""
    z = block.bn1(block.conv1(z))
    z = block.bn2(block.conv2(rho(z)))
    return block.bn3(block.conv3(rho(z))) if hasattr(block, "conv3") else z


@pytest.mark.parametrize("name", ACTIVATIONS)
@pytest.mark.parametrize("architecture", BLOCKS)
def test_each_block_is_its_formula(architecture: Architecture, name: str) -> None:
    """z ← ρ(L ρ⁻¹(z) + Conv₂ ρ(Conv₁ z)), block by block, and from the image to the head on the dual state."""
    rho, inverse = ACTIVATIONS[name]
    net, x = network(architecture, name), images(side=16)
    z = net.maxpool(rho(net.bn1(net.conv1(x))))  # the pooling after ρ, as usually written
    # Each step of the formula loses what ρ⁻¹ ∘ ρ loses, some 1e-15 relative to 1/ρ'; the states stay below 10.
    close = {"rtol": 1e-11, "atol": 1e-12}
    torch.testing.assert_close(net.chain[0](x), z, **close)
    blocks = [block for i in range(len(architecture.depths)) for block in getattr(net, f"layer{i + 1}")]
    for layer, block in zip(list(net.chain)[1:], blocks, strict=True):
        u = inverse(z)
        want = rho((u if block.downsample is None else block.downsample(u)) + branch(block, z, rho))
        assert layer.coupling.module is block
        torch.testing.assert_close(layer(z), want, **close)
        z = want
    torch.testing.assert_close(net(x), net.fc(z.mean((-2, -1))), **close)


def test_two_steps_a_block() -> None:
    net, x = network(BASIC, "atan", steps=2), images()
    v = net.bn1(net.conv1(x))
    for block in (net.layer1[0], net.layer2[0]):
        shortcut = v if block.downsample is None else block.downsample(v)
        v = shortcut + block.bn1(block.conv1(torch.atan(v)))
        v = v + block.bn2(block.conv2(torch.atan(v)))
    z, u = net.chain(x, return_dual=True)
    torch.testing.assert_close(u, v, rtol=1e-13, atol=1e-13)
    torch.testing.assert_close(z, torch.atan(v), rtol=1e-13, atol=1e-13)
    assert len(net.chain) == 5


def test_the_shortcut_of_option_a_keeps_every_second_pixel() -> None:
    u = torch.arange(32.0).reshape(1, 2, 4, 4)
    got = network(BASIC).layer2[0].downsample(u)
    assert got.shape == (1, 6, 2, 2)
    assert torch.equal(got[:, 2:4], u[:, :, ::2, ::2])
    assert not got[:, [0, 1, 4, 5]].any()


@pytest.mark.parametrize("version", ["bregman", "standard"])
@pytest.mark.parametrize("architecture", BLOCKS)
def test_every_parameter_gets_a_gradient(architecture: Architecture, version: str) -> None:
    torch.manual_seed(0)
    net = BregmanResNet(architecture, "softplus", version).double()  # in training mode
    net(images(side=16)).square().sum().backward()
    assert all(p.grad is not None and bool(p.grad.any()) for p in net.parameters())


def test_standard_with_another_activation() -> None:
    net, x = network(BASIC, "softplus", version="standard"), images()
    rho = nn.functional.softplus
    z = rho(net.bn1(net.conv1(x)))
    for block in (net.layer1[0], net.layer2[0]):
        z = rho((z if block.downsample is None else block.downsample(z)) + branch(block, z, rho))
    torch.testing.assert_close(net.chain(x), z, rtol=1e-13, atol=1e-13)


def test_weights_move_between_versions() -> None:
    standard, net = network(BOTTLENECK, None, version="standard"), network(BOTTLENECK, "softplus", seed=1)
    net.load_state_dict(standard.state_dict())
    sharp = network(BOTTLENECK, legendre.Softplus(beta=1e6))
    sharp.load_state_dict(standard.state_dict())
    x = images(side=16)
    assert not torch.allclose(net(x), standard(x))
    first = [n.chain[0](x) for n in (standard, sharp)]
    torch.testing.assert_close(*first, rtol=0, atol=1e-6)  # log 2/β = 7e-7 is all that the stems differ by


@pytest.mark.parametrize("learned", [False, True], ids=["number", "learned"])
def test_copies_hold_together(learned: bool) -> None:
    phi = legendre.Softplus(nn.Parameter(torch.tensor(2.0, dtype=torch.float64)) if learned else 2.0)
    net, x = network(BOTTLENECK, phi), images(side=16)
    for other in (copy.deepcopy(net), pickle.loads(pickle.dumps(net))):
        assert torch.equal(other(x), net(x))
        assert other.chain[1].coupling.module is other.layer1[0]
        assert other.chain[1].divergence.phi is other.phi
        nn.init.zeros_(other.layer1[0].bn3.weight)  # what is changed by name is changed in the chain
        assert not torch.equal(other(x), net(x))
    assert [n for n in net.state_dict() if "phi" in n] == (["phi.raw_beta"] if learned else [])


@pytest.mark.parametrize("steps", [1, 2])
def test_a_module_that_is_replaced_is_replaced_in_the_chain(steps: int) -> None:
    net, gray = network(BASIC, steps=steps), images()[:, :1]
    net.conv1 = nn.Conv2d(1, 4, 3, padding=1, bias=False).double()
    net.layer1[0].conv2 = nn.Conv2d(4, 4, 1, bias=False).double()
    net.layer2[0].downsample = nn.Conv2d(4, 8, 1, 2, bias=False).double()
    net.phi = legendre.Tanh()
    v = net.bn1(net.conv1(gray))
    for block in (net.layer1[0], net.layer2[0]):
        u = v if block.downsample is None else block.downsample(v)
        if steps == 1:
            v = u + branch(block, torch.tanh(v), torch.tanh)
        else:
            v = u + block.bn1(block.conv1(torch.tanh(v)))
            v = v + block.bn2(block.conv2(torch.tanh(v)))
    torch.testing.assert_close(net.chain(gray), torch.tanh(v), rtol=1e-13, atol=1e-13)
    net.layer1[0] = copy.deepcopy(net.layer1[0])
    assert net.chain[1].coupling.module is net.layer1[0] or steps == 2
    nn.init.zeros_(net.layer1[0].bn2.weight)
    assert not torch.allclose(net.chain(gray), torch.tanh(v))
    net(gray).sum().backward()
    assert all(p.grad is not None for p in net.parameters())


def test_a_learned_activation_gets_its_gradient() -> None:
    net = network(BASIC, legendre.Softplus(nn.Parameter(torch.tensor(2.0, dtype=torch.float64))))
    net(images()).sum().backward()
    assert bool(net.phi.raw_beta.grad != 0)


@pytest.mark.parametrize("version", ["bregman", "standard"])
def test_one_graph_under_compile(version: str) -> None:
    torch.compiler.reset()
    net, x = network(BOTTLENECK, None, version=version), images(side=16)
    compiled = torch.compile(net, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(x), net(x), rtol=1e-13, atol=1e-14)
    parameters = list(net.parameters())
    a, b = (torch.autograd.grad(f(x).sum(), parameters) for f in (compiled, net))
    for got, want in zip(a, b, strict=True):
        torch.testing.assert_close(got, want, rtol=1e-11, atol=1e-12)  # sums over pixels in another order


@pytest.mark.parametrize(
    ("architecture", "activation"), [(BASIC, "isru"), (BOTTLENECK, "softplus")], ids=["basic", "bottleneck"]
)
def test_export_and_onnx(architecture: Architecture, activation: str, tmp_path: Path) -> None:
    net = network(architecture, activation).float()
    x = 30 * images(side=16).float()  # states of some hundred, where ρ⁻¹(ρ(u)) has lost all digits
    want = net(x).detach()
    exported = torch.export.export(net, (x,))
    assert not {"expm1", "log", "rsqrt"} & {
        getattr(n.target, "__name__", "").split(".")[0] for n in exported.graph.nodes
    }
    torch.testing.assert_close(exported.module()(x), want, rtol=1e-6, atol=1e-6)
    path = tmp_path / "net.onnx"
    torch.onnx.export(net, (x,), path, dynamo=True, verbose=False)
    session = onnxruntime.InferenceSession(path)
    (got,) = session.run(None, {session.get_inputs()[0].name: x.numpy()})
    # Convolutions of another library in float32: some ulps of their sums, of the size of the largest output.
    torch.testing.assert_close(torch.from_numpy(got), want, rtol=0, atol=1e-5 * float(want.abs().max()))


@pytest.mark.parametrize("architecture", BLOCKS)
def test_the_dual_state_is_float32_under_autocast_and_in_half_precision(architecture: Architecture) -> None:
    net, x = network(architecture).float(), images(side=16).float()
    want = net.chain(x)
    with torch.autocast("cpu", torch.bfloat16):
        z, u = net.chain(x, return_dual=True)
        assert net(x).dtype is torch.bfloat16
    assert (z.dtype, u.dtype) == (torch.float32, torch.float32)
    # A is bfloat16: 2^-9 relative to its terms, of size 1 to 4, a few times over.
    torch.testing.assert_close(z, want, rtol=0.1, atol=0.1)
    z, u = net.bfloat16().chain(x.bfloat16(), return_dual=True)
    assert (z.dtype, u.dtype) == (torch.bfloat16, torch.float32)
    torch.testing.assert_close(z.float(), want, rtol=0.2, atol=0.2)  # and so are the weights


@pytest.mark.parametrize("architecture", BLOCKS)
def test_channels_last_stays(architecture: Architecture) -> None:
    net, x = network(architecture), images(side=16)
    want = net.chain(x)
    got = net.to(memory_format=torch.channels_last).chain(x.to(memory_format=torch.channels_last))
    assert got.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(got, want, rtol=1e-11, atol=1e-12)


def test_transforms() -> None:
    net, x = network(BASIC), images()
    torch.testing.assert_close(torch.func.vmap(net)(x[:, None])[:, 0], net(x), rtol=1e-12, atol=1e-13)
    state = {n: 0.5 * p.detach() for n, p in net.named_parameters()}
    got = torch.func.functional_call(net, state, (x,))
    assert not torch.equal(got, net(x))
    net.load_state_dict(state, strict=False)
    assert torch.equal(got, net(x))


def test_a_bad_image_does_not_spoil_the_batch() -> None:
    x = images()
    x[1, 0, 2, 2] = torch.nan
    with pytest.raises(bln.SolveError, match="state"):
        network(BASIC)(x)
    net = network(BASIC, on_failure="nan")
    out = net(x)
    assert out[1].isnan().all()
    good = [0, 2, 3]
    torch.testing.assert_close(out[good], net(x[good]), rtol=1e-12, atol=1e-13)
    assert net(x[:0]).shape == (0, 3)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: BregmanResNet("ResNet19"), "ResNet18"),
        (lambda: BregmanResNet(20, version="plain"), "standard"),
        (lambda: BregmanResNet(50, steps=2), "two convolutions"),
        (lambda: BregmanResNet(20, classes=0), "at least 1"),
        (lambda: BregmanResNet(20, "burg"), "anywhere in"),
        (lambda: BregmanResNet(20, legendre.BallHellinger()), "couples"),
        (lambda: BregmanResNet(20, "swish"), "unknown activation"),
        (lambda: network(BASIC)(torch.zeros(3, 8, 8)), "shape"),
        (lambda: network(BASIC)(torch.zeros(1, 1, 8, 8)), "shape"),
        (lambda: network(BASIC)(torch.zeros(1, 3, 8, 8)), "convert"),
        (lambda: network(BASIC)(torch.zeros(1, 3, 8, 8, dtype=torch.int64)), "floating"),
        (lambda: Architecture((1,), shortcut="none"), "projection"),
        (lambda: Architecture((1,), width=0), "counts, at least 1"),
        (lambda: Architecture((1,), width=8, bottleneck=True, groups=32, base_width=4), "0.5 channels a group"),
    ],
)
def test_misuse_is_named(call, words: str) -> None:
    with pytest.raises(bln.InputError, match=words):
        call()


def test_another_block_is_a_residual() -> None:
    net = network(BASIC)
    net.layer1[0] = nn.Identity()
    with pytest.raises(bln.InputError, match="Identity among the blocks"):
        net(images())
