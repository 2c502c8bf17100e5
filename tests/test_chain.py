"""Chain: the dual state between layers."""

from __future__ import annotations

import pickle

import pytest
import torch
from torch import nn

import bilevelnet as bln
from bilevelnet import couplings, divergences, legendre, regularizers


def layers(count, width, phi, g=None, scale=None, seed=0):
    torch.manual_seed(seed)
    made = [bln.BilevelLayer(couplings.Bilinear(width, width), divergences.Bregman(phi), g) for _ in range(count)]
    if scale is not None:
        for one in made:
            nn.init.normal_(one.coupling.weight, std=scale / width**0.5)
            nn.init.normal_(one.coupling.bias, std=scale)
    return made


@pytest.mark.parametrize("phi", [legendre.Tanh(), legendre.FermiDirac(), legendre.Atan(), legendre.Softplus()], ids=str)
@pytest.mark.parametrize("g", [None, regularizers.L1(0.05)], ids=["zero", "l1"])
def test_equals_the_layers_one_by_one(phi, g):
    made = [one.double() for one in layers(4, 3, phi, g, 0.5)]
    z0 = phi.grad_conjugate(torch.randn(6, 3, dtype=torch.float64))
    one_by_one = z0
    for one in made:
        one_by_one = one(one_by_one)
    torch.testing.assert_close(bln.Chain(*made)(z0), one_by_one, rtol=1e-11, atol=1e-12)


def test_two_phi_in_turn_hand_on_the_point():
    a, b = legendre.FermiDirac(), legendre.Softplus()
    made = [
        bln.BilevelLayer(couplings.Bilinear(3, 3), divergences.Bregman(p)).double() for p in (a, a, b, legendre.Tanh())
    ]
    chain = bln.Chain(*made[:3])
    assert chain.shares == (False, True, False)
    z = torch.rand(4, 3, dtype=torch.float64) * 0.8 + 0.1
    torch.testing.assert_close(chain(z), made[2](made[1](made[0](z))), rtol=1e-12, atol=0.0)


@pytest.mark.parametrize("equal", [True, False], ids=["two equal objects", "different weights"])
def test_equal_constant_phi_share_the_dual(equal):
    phis = legendre.Tanh(1.5, 0.5), legendre.Tanh(1.5, 0.5 if equal else 0.6)
    chain = bln.Chain(*[bln.BilevelLayer(couplings.Bilinear(2, 2), divergences.Bregman(p)) for p in phis])
    assert chain.shares[1] is equal


class Between(legendre.Separable):
    """−c log z − c log(hi − z), with c in a list and hi in the domain."""

    def __init__(self, c, hi):
        super().__init__()
        self.held, self.domain = [c], bln.domains.Interval(0.0, hi, closed=(False, False))

    def value(self, z):
        return -self.held[0] * (z.log() + (self.domain.hi - z).log())


@pytest.mark.parametrize(("c", "hi"), [(1.0, 2.0), (1.0, 3.0), (4.0, 2.0)])
def test_equal_is_told_by_every_attribute(c, hi):
    assert Between(1.0, 2.0).same_function(Between(c, hi)) is ((c, hi) == (1.0, 2.0))


def test_learned_phi_shares_only_as_one_object():
    def learned():
        return legendre.Tanh(nn.Parameter(torch.tensor(1.0)))

    one, other = learned(), learned()
    for a, b, shared in ((one, one, True), (one, other, False)):
        pair = [bln.BilevelLayer(couplings.Bilinear(2, 2), divergences.Bregman(p)) for p in (a, b)]
        assert bln.Chain(*pair).shares[1] is shared


def test_thousand_layers_in_float32():
    """tanh, width 16, W ~ N(0, 0.1²/16): the dual state keeps what the inverse form loses (facts: 9e-6 against 1.8)."""
    made = layers(1000, 16, legendre.Tanh(), scale=0.1)
    z0 = torch.rand(8, 16) - 0.5
    chain = bln.Chain(*made)
    single, dual = chain(z0, return_dual=True)
    double = chain.double()(z0.double())
    assert (single - double).abs().max() <= 1e-4
    assert dual.dtype is torch.float32


def test_saturated_state_is_not_lost():
    """u = 40 is z = 1 in float64: the chain passes it on, the layer alone refuses it."""
    made = [one.double() for one in layers(2, 2, legendre.Tanh())]
    for one in made:
        nn.init.zeros_(one.coupling.weight)
        nn.init.constant_(one.coupling.bias, 20.0)
    z0 = torch.zeros(1, 2, dtype=torch.float64)
    z, u = bln.Chain(*made)(z0, return_dual=True)
    assert u.tolist() == [[40.0, 40.0]]
    assert z.tolist() == [[1.0, 1.0]]
    with pytest.raises(bln.DomainError, match="Chain"):
        made[1](made[0](z0))


def test_dual_space_starts_from_u():
    made = [one.double() for one in layers(3, 2, legendre.FermiDirac(), scale=0.3)]
    u0 = torch.tensor([[0.3, -2.0]], dtype=torch.float64)
    got = bln.Chain(*made, space="dual")(u0)
    torch.testing.assert_close(got, bln.Chain(*made)(u0.sigmoid()), rtol=1e-13, atol=0.0)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_keeps_a_float32_state(dtype):
    made = [one.to(dtype) for one in layers(3, 4, legendre.Tanh(), regularizers.L1(0.01))]
    z, u = bln.Chain(*made)(torch.zeros(2, 4, dtype=dtype), return_dual=True)
    assert z.dtype is dtype
    assert u.dtype is torch.float32
    assert bool(z.isfinite().all())


def test_autocast_keeps_a_float32_state():
    made = layers(3, 4, legendre.Tanh())
    with torch.autocast("cpu", torch.bfloat16):
        z, u = bln.Chain(*made)(torch.zeros(2, 4), return_dual=True)
    assert z.dtype is u.dtype is torch.float32


def test_compiles_to_one_graph_with_gradients():
    torch.compiler.reset()
    chain = bln.Chain(*layers(3, 4, legendre.Tanh(), regularizers.L1(0.05))).double()
    z = torch.rand(5, 4, dtype=torch.float64) - 0.5
    compiled = torch.compile(chain, fullgraph=True, backend="aot_eager")
    wants = torch.autograd.grad(chain(z).sum(), list(chain.parameters()))
    gots = torch.autograd.grad(compiled(z).sum(), list(chain.parameters()))
    for got, want in zip(gots, wants, strict=True):
        torch.testing.assert_close(got, want, rtol=1e-12, atol=1e-14)


def test_transforms_and_copies():
    chain = bln.Chain(*layers(2, 3, legendre.FermiDirac())).double()
    z = torch.rand(4, 3, dtype=torch.float64) * 0.8 + 0.1
    want = chain(z)
    torch.testing.assert_close(torch.func.vmap(chain)(z), want, rtol=1e-14, atol=0.0)
    assert torch.equal(pickle.loads(pickle.dumps(chain))(z), want)
    assert chain(z[:0]).shape == (0, 3)
    assert chain(z.reshape(2, 1, 2, 3)).shape == (2, 1, 2, 3)
    parameters = {n: p.detach() for n, p in chain.named_parameters()}
    got = torch.func.grad(lambda p: torch.func.functional_call(chain, p, (z,)).sum())(parameters)
    for name, p in chain.named_parameters():
        (d,) = torch.autograd.grad(chain(z).sum(), p)
        torch.testing.assert_close(got[name], d, rtol=1e-13, atol=1e-15)
    x = z[:2].clone().requires_grad_()
    assert torch.autograd.gradcheck(chain, (x,), check_forward_ad=True)
    assert torch.autograd.gradgradcheck(chain, (x,))


def test_each_coupling_runs_once():
    chain = bln.Chain(*layers(3, 2, legendre.Tanh(), regularizers.Box(-0.5, 0.5)))
    calls = []
    for k, one in enumerate(chain):
        one.coupling.register_forward_hook(lambda *_, k=k: calls.append(k))
    chain(torch.zeros(1, 2))
    assert calls == [0, 1, 2]


def test_failures_inside_follow_the_policy():
    """Burg has no minimiser once v ≥ 0: the second layer pushes one sample there."""
    phi = legendre.get("burg")
    made = [one.double() for one in layers(2, 1, phi)]
    for one, b in zip(made, (0.0, 2.0), strict=True):
        nn.init.zeros_(one.coupling.weight)
        nn.init.constant_(one.coupling.bias, b)
    z0 = torch.tensor([[0.25], [4.0]], dtype=torch.float64)  # u = −4 and −0.25
    with pytest.raises(bln.SolveError, match="1 of 2"):
        bln.Chain(*made)(z0)
    z = bln.Chain(*made, on_failure="nan")(z0)
    assert z[0].item() == pytest.approx(0.5)
    assert bool(z[1].isnan())
    z = torch.func.vmap(bln.Chain(*made))(z0)
    assert z.isnan().flatten().tolist() == [False, True]


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: bln.Chain(nn.Linear(2, 2)), "BilevelLayer"),
        (lambda: bln.Chain(), "at least one"),
        (lambda: bln.Chain(*layers(1, 2, legendre.Tanh()), space="both"), "dual"),
        (lambda: bln.Chain(*layers(1, 2, legendre.Tanh()), on_failure="maybe"), "known: raise"),
    ],
)
def test_wrong_chains(make, words):
    with pytest.raises(bln.InputError, match=words):
        make()
