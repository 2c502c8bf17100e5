"""Divergences and regularizers to learn: mixtures of tanh, mixtures of Legendre functions, input-convex networks."""

from __future__ import annotations

import copy
import itertools
import pickle
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import bilevelnet as bln
from bilevelnet.numerics.input_convex import InputConvexNetwork
from bilevelnet.testing import check_layer, check_legendre, check_regularizer

F64 = torch.float64
L, R = bln.legendre, bln.regularizers


def learned(*values: float) -> nn.Parameter:
    return nn.Parameter(torch.tensor(values, dtype=F64) if len(values) > 1 else torch.tensor(values[0], dtype=F64))


def tanh_mixture() -> Any:
    return L.TanhMixture(learned(1.0, 0.5), learned(1.0, 3.0), learned(0.0, -1.0), learned(0.1))


def mixture() -> Any:
    """Σ w_k φ_k on [0, 1], of three functions with different domains and gradients."""
    return learned(0.5) * L.FermiDirac() + learned(0.3) * L.BoltzmannShannon() + learned(0.2) * L.Energy()


# the activations and regularizers to learn, as pairs (φ, g) that act on vectors of width 4
PAIRS: dict[str, Any] = {
    "tanh mixture": lambda: (tanh_mixture(), R.Zero()),
    "tanh mixture + l1": lambda: (tanh_mixture(), R.L1(learned(0.1))),
    "mixture": lambda: (mixture(), R.Zero()),
    "shift, scale, temperature": lambda: (
        learned(0.8) * L.Tanh().affine(scale=learned(2.0), shift=learned(0.1)),
        R.Zero(),
    ),
    "network as φ": lambda: (L.InputConvex((4,), sigma=learned(0.5)), R.Zero()),
    "network as g": lambda: (L.Tanh(), R.InputConvex((4,), lam=learned(0.5))),
    "network as both": lambda: (L.InputConvex((3,)), R.InputConvex((3,)) + R.L1(learned(0.05))),
    "network of vectors": lambda: (L.Tanh(), R.InputConvexVector(4, (6, 5), lam=learned(0.5))),
}


def pair(name: str) -> tuple[Any, Any]:
    phi, g = PAIRS[name]()
    return phi.double(), g.double()


def points(phi: Any) -> tuple[Tensor, Tensor]:
    """z⁻ in int dom φ with targets beside it."""
    z = torch.rand(6, 4, dtype=F64) * 0.6 + 0.2
    return z, (z + 0.1 * torch.rand(6, 4, dtype=F64)).clamp(max=0.9)


def layer(phi: Any, g: Any) -> bln.BilevelLayer:
    return bln.BilevelLayer(bln.couplings.Bilinear(4, 4), bln.divergences.Bregman(phi), g).double()


@pytest.mark.parametrize(
    "make",
    [
        pytest.param(tanh_mixture, id="tanh mixture", marks=pytest.mark.heavy),
        pytest.param(mixture, id="mixture"),
        pytest.param(lambda: L.InputConvex((3,)), id="network"),
    ],
)
def test_laws_of_phi(make: Any) -> None:
    check_legendre(make().double())


@pytest.mark.parametrize("make", [lambda: R.InputConvex((4, 3)), lambda: R.InputConvexVector(3, (4,))], ids=["1", "n"])
def test_laws_of_g(make: Any) -> None:
    check_regularizer(make().double())


@pytest.mark.parametrize("make", [L.InputConvex, R.InputConvex], ids=["φ", "g"])
def test_second_derivative_with_more_weights_than_points(make: Any) -> None:
    piece = make((4, 3)).double()
    z = torch.tensor([-1.0, 0.0, 0.3], dtype=F64)
    differences = (piece.grad(z + 1e-5) - piece.grad(z - 1e-5)) / 2e-5
    torch.testing.assert_close(piece.hessian(z), differences, rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=pytest.mark.heavy if n.startswith("tanh mixture") else ()) for n in PAIRS]
)
def test_laws_of_the_layer(name: str) -> None:
    phi, g = pair(name)
    check_layer(layer(phi, g), points(phi)[0], thorough=False)


@pytest.mark.parametrize("name", PAIRS)
def test_solved_to_rounding(name: str) -> None:
    """∇φ(z) + ∂g(z) ∋ v, with derivatives by autograd of the values; 1e-12 is a thousand ulp of v."""
    phi, g = pair(name)
    v = torch.tensor([[-0.8, 0.2, 0.9, 1.6]], dtype=F64)
    z = bln.bregman_prox(phi, g, v).detach().requires_grad_()
    smooth = phi.value(z).sum() + sum(t.value(z).sum() for t in g.terms() if t.pieces() is None)
    rest = v - torch.autograd.grad(smooth, z)[0]  # in ∂(the piecewise-linear terms)
    for t in (t for t in g.terms() if t.pieces() is not None):
        low, high = t.derivatives(z.detach())
        assert bool(((rest >= low - 1e-12) & (rest <= high + 1e-12)).all())
        break
    else:
        assert float(rest.abs().max()) < 1e-12


@pytest.mark.parametrize("name", PAIRS)
def test_every_parameter_has_its_derivative(name: str) -> None:
    """By central differences of a loss in every Parameter of (φ, g), along one direction each."""
    torch.manual_seed(1)
    phi, g = pair(name)
    v = torch.tensor([[-0.8, 0.35, 0.9, 1.6]], dtype=F64)
    weights = list(itertools.chain(phi.parameters(), g.parameters()))
    assert weights
    d = torch.randn(1, 4, dtype=F64)
    got = torch.autograd.grad((bln.bregman_prox(phi, g, v) * d).sum(), weights)
    h = 1e-5
    for w, dw in zip(weights, got, strict=True):
        direction = torch.randn(w.shape, dtype=F64)
        values = []
        for s in (1, -1):
            with torch.no_grad():
                w.add_(s * h * direction)
                values.append(float((bln.bregman_prox(phi, g, v) * d).sum()))
                w.sub_(s * h * direction)
        difference = (values[0] - values[1]) / (2 * h)
        assert float((dw * direction).sum()) == pytest.approx(difference, rel=1e-6, abs=1e-9)


@pytest.mark.parametrize("name", PAIRS)
def test_trained_end_to_end(name: str) -> None:
    """Two layers and (φ, g) together on a small regression: the loss falls, and every Parameter moves."""
    phi, g = pair(name)
    z, target = points(phi)
    chain = bln.Chain(layer(phi, g), layer(phi, g))
    weights = {n: p.detach().clone() for n, p in chain.named_parameters()}
    optimizer = torch.optim.Adam(chain.parameters(), lr=0.02)
    losses = []
    for _ in range(25):
        optimizer.zero_grad()
        loss = (chain(z) - target).square().mean()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]
    assert all(not torch.equal(weights[n], p) for n, p in chain.named_parameters())


@pytest.mark.heavy
def test_the_example_learns_an_activation(tmp_path: Path) -> None:
    script = Path(__file__).parents[1] / "docs" / "examples" / "learn_activation.py"
    picture = tmp_path / "learned.png"
    done = subprocess.run([sys.executable, str(script), str(picture)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found = re.search(r"learned activation: ([\d.]+)", done.stdout)
    assert found is not None
    assert float(found[1]) > 0.93
    assert picture.stat().st_size > 10_000


def test_the_dual_state_of_a_tanh_mixture_inverts_nothing() -> None:
    phi = tanh_mixture()
    u = torch.randn(5, 4, dtype=F64)
    zero = layer(phi, R.Zero())
    for p in zero.coupling.parameters():
        nn.init.zeros_(p)
    z, dual = bln.Chain(zero, zero, space="dual")(u, return_dual=True)
    assert torch.equal(dual, u)
    assert torch.equal(z, phi.grad_conjugate(u))


def test_a_network_is_convex_and_nothing_else() -> None:
    network = InputConvexNetwork(3, (5, 4)).double()
    nn.init.normal_(network.raw[0])
    x, y, t = torch.randn(200, 3, dtype=F64), torch.randn(200, 3, dtype=F64), torch.rand(200, 1, dtype=F64)
    chord = t[:, 0] * network(x) + (1 - t[:, 0]) * network(y)
    assert bool((network(t * x + (1 - t) * y) <= chord + 1e-14).all())
    assert network(torch.zeros(2, 0, 3)).shape == (2, 0)
    for width, hidden in ((0, (2,)), (1, ()), (1, (0,)), (1, (2.0,)), (1, 3)):
        with pytest.raises(bln.InputError, match="hidden widths"):
            InputConvexNetwork(width, hidden)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["network as both", "network of vectors"])
def test_networks_in_layers(name: str) -> None:
    """vmap, copies, pickles, state_dict, an empty batch, float32, one bad sample."""
    phi, g = pair(name)
    one = layer(phi, g)
    one.bound.on_failure = "nan"
    z, _ = points(phi)
    out = one(z)
    assert torch.allclose(torch.func.vmap(one)(z), out)
    assert torch.equal(copy.deepcopy(one)(z), out)
    assert torch.equal(pickle.loads(pickle.dumps(one))(z), out)
    other = layer(*pair(name))
    other.load_state_dict(one.state_dict())
    assert torch.equal(other(z), out)
    assert one(z[:0]).shape == (0, 4)
    bad = z.clone()
    bad[1, 2] = torch.nan
    assert one(bad).isnan().all(-1).tolist() == [k == 1 for k in range(6)]
    assert torch.allclose(one(bad)[2:], out[2:], atol=1e-14)
    single = copy.deepcopy(one).float()(z.float())
    assert single.dtype is torch.float32
    assert torch.allclose(single.double(), out, atol=1e-5)


@pytest.mark.parametrize(
    "make",
    [
        lambda end: bln.regularizers.Box(-1.0, end),
        lambda end: bln.regularizers.CappedSimplex(1.0, end),
        lambda end: bln.regularizers.L1(0.1).translate(end),
    ],
)
def test_a_learned_knot_whose_level_overflows_has_no_gradient(make: Any) -> None:
    """sinh(1e4) is infinite, and no entry is near the knot."""
    end = torch.tensor(1e4, requires_grad=True)
    z = bln.bregman_prox(bln.legendre.Cosh(), make(end), torch.tensor([[0.5, -0.2, 0.3]]))
    assert torch.autograd.grad(z.square().sum(), end)[0] == 0
