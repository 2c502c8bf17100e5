"""bregmanize: which sums of a traced network are changed, and why the others are left."""

from __future__ import annotations

import pytest
import torch
from residual_networks import Gated, images
from torch import Tensor, nn
from torch.nn import functional

import bilevelnet as bln
from bilevelnet import legendre
from bilevelnet.models import bregmanize


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


class Writing(nn.Module):
    """z⁺ = write(z, b), with b linear: a residual layer in which something is written in place."""

    def __init__(self, write):
        super().__init__()
        self.a, self.b, self.write = nn.Linear(4, 4), nn.Linear(4, 4), write
        self.b.same = nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return self.write(torch.relu(self.a(x)), self.b)


def _assigned(z, b):
    t = b(z)
    t += z
    functional.relu(t, True)
    return t


def _counted(z, b):
    n = z.shape[0]
    m = n
    m += 0
    return torch.relu_(torch.add(z, b(z).view(n, -1), alpha=1))


@pytest.mark.parametrize("write", [_assigned, _counted, lambda z, b: b(z).add_(z).relu_()])
def test_writing_in_place_is_undone(write) -> None:
    net, x = Writing(write).double(), torch.randn(3, 4, dtype=torch.float64)
    for pair in ("relu", legendre.Softplus(2.0)):
        ours = bregmanize(net, {nn.ReLU: pair}, example=x)
        assert ours.report.blocks[0].changed
        rho = torch.relu if pair == "relu" else lambda v: functional.softplus(v, 2.0)
        v = net.a(x)
        v = (v.relu() if pair == "relu" else v) + net.b(rho(v))
        torch.testing.assert_close(ours(x), rho(v), rtol=1e-13, atol=1e-13)


def _view(z, b):
    t = z + b(z)
    t.view(-1).relu_()
    return t


def _view_assigned(z, b):
    y = z.reshape(-1)
    y *= 0.5
    return torch.relu(z + b(z))


def _old_view(z, b):
    y = z[:, :2]
    z.mul_(2.0)
    return torch.relu(z + b(torch.cat([y, y], 1)))


def _transposed(z, b):
    z.T.mul_(2.0)
    return torch.relu(z + b(z))


def _module(z, b):
    b.same(z).mul_(2.0)
    return torch.relu(z + b(z))


def _dropped(z, b):
    functional.dropout(z, 0.5, False).mul_(2.0)
    return torch.relu(z + b(z))


@pytest.mark.parametrize("write", [_view, _view_assigned, _old_view, _transposed, _module, _dropped])
def test_writing_on_memory_that_has_another_name_is_refused(write) -> None:
    with pytest.raises(bln.InputError, match="read afterwards: write it out of place"):
        bregmanize(Writing(write), {nn.ReLU: "relu"})


def _part_assigned(z, b):
    y = b(z)
    y[:, 0] = 0.0
    return torch.relu(z + y)


def test_assigning_to_a_part_is_refused_with_the_remedy() -> None:
    with pytest.raises(bln.InputError, match=r"a part of b, x\[\.\.\.\] = y.*torch\.where\(mask, y, x\)"):
        bregmanize(Writing(_part_assigned), {nn.ReLU: "relu"})


def test_a_weighted_sum_is_left() -> None:
    net = Writing(lambda z, b: torch.relu(torch.add(z, b(z), alpha=0.5)))
    (block,) = bregmanize(net, {nn.ReLU: "softplus"}).report.blocks
    assert not block.changed
    assert "alpha = 0.5" in block.reason


def test_what_is_bregmanized_already_is_refused() -> None:
    ours = bregmanize(Writing(_assigned), {nn.ReLU: "softplus"})
    with pytest.raises(bln.InputError, match="made of bilevel layers already: build it, or bregmanize the original"):
        bregmanize(ours, {nn.ReLU: "relu"})


@pytest.mark.parametrize(
    ("write", "reason"),
    [
        (lambda z, b: torch.relu(0.5 * z + b(torch.relu(b(z)))), "the shortcut carries u through mul"),
        (lambda z, b: torch.relu(sum([z, b(z)])), "the shortcut carries u as it stands"),  # 0 + z + b(z)
        (lambda z, b: torch.relu(0.5 * z + b(z)), "which is the shortcut?"),
        (lambda z, b: torch.relu(1 / (1 + z) + b(z)), "the shortcut carries u through Linear"),  # 1/z is not linear
        (lambda z, b: torch.relu(z - b(z)), "it subtracts its second term"),
    ],
)
def test_a_term_with_numbers_is_linear_and_a_difference_is_left(write, reason: str) -> None:
    torch.manual_seed(0)
    net, x = Writing(write).double(), torch.randn(3, 4, dtype=torch.float64)
    exact = bregmanize(net, {nn.ReLU: "relu"}, example=x)
    assert torch.equal(exact(x), net(x))
    (block,) = exact.report.blocks
    assert reason in block.reason
    assert block.changed == reason.startswith("the shortcut carries")
    if block.changed:
        assert bln.verify(block.layer, samples=torch.rand(2, 4)).passed
