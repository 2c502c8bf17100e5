"""Fenchel-Young losses and the gap of a layer: closed formulas, finite differences, zeros, misuse."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

import bilevelnet as bln

F64 = torch.float64
L, R = bln.legendre, bln.regularizers


def scores() -> Tensor:
    return (3 * torch.randn(6, 5, dtype=F64)).requires_grad_()


def labels() -> Tensor:
    return functional.one_hot(torch.arange(6) % 5, 5).to(F64)


def sparsemax_loss(v: Tensor, y: Tensor) -> Tensor:
    """½‖y − v‖² − ½‖p − v‖² with p the projection onto the simplex, by bisection on its threshold."""
    low, high = v.amin(-1, keepdim=True) - 1, v.amax(-1, keepdim=True)
    for _ in range(80):
        middle = (low + high) / 2
        over = (v - middle).clamp(min=0).sum(-1, keepdim=True) > 1
        low, high = torch.where(over, middle, low), torch.where(over, high, middle)
    p = (v - low).clamp(min=0)
    return ((y - v).square().sum(-1) - (p - v).square().sum(-1)) / 2


# (φ, g, the loss in closed form, labels); the tolerance 1e-13 is some ulp of the terms, which reach 50
KNOWN: dict[str, tuple[Any, Any, Any, Any]] = {
    "cross-entropy": (
        L.BoltzmannShannon,
        R.Simplex,
        lambda v, y: functional.cross_entropy(v, y, reduction="none"),
        labels,
    ),
    "soft labels": (
        L.BoltzmannShannon,
        R.Simplex,
        lambda v, y: (torch.xlogy(y, y) - y * v.log_softmax(-1)).sum(-1),
        lambda: torch.rand(6, 5, dtype=F64).softmax(-1),
    ),
    "sparsemax": (L.Energy, R.Simplex, sparsemax_loss, labels),
    "logistic": (
        L.FermiDirac,
        R.Zero,
        lambda v, y: functional.binary_cross_entropy_with_logits(v, y, reduction="none"),
        labels,
    ),
    "squared": (L.Energy, R.Zero, lambda v, y: (v - y).square() / 2, labels),
    "poisson": (L.BoltzmannShannon, R.Zero, lambda v, y: v.exp() + torch.xlogy(y, y) - y - v * y, labels),
    "perceptron": (lambda: 1e-9 * L.Energy(), lambda: R.Box(0, 1), lambda v, y: v.relu() - v * y, labels),
}


@pytest.mark.parametrize("name", KNOWN)
def test_closed_formulas(name: str) -> None:
    make_phi, make_g, formula, points = KNOWN[name]
    loss, v, y = bln.fenchel_young(make_phi(), make_g()), scores(), points()
    tolerance = 1e-8 if name == "perceptron" else 1e-13  # there φ is smoothed by 1e-9
    assert torch.allclose(loss(v, y), formula(v, y), rtol=tolerance, atol=tolerance)
    (got,) = torch.autograd.grad(loss(v, y).sum(), v)
    z = bln.bregman_prox(loss.phi, loss.g, v.detach())
    assert torch.allclose(got, z - y, rtol=1e-14, atol=1e-14)  # ∇ = prox − y, to some ulp of z


@pytest.mark.parametrize("name", ["cross-entropy", "sparsemax", "logistic", "poisson"])
def test_derivatives_by_differences(name: str) -> None:
    make_phi, make_g, _, points = KNOWN[name]
    loss, y = bln.fenchel_young(make_phi(), make_g()), points()[:2]
    v = scores().detach()[:2].requires_grad_()
    assert torch.autograd.gradcheck(lambda v: loss(v, y), (v,), check_forward_ad=True)
    assert torch.autograd.gradgradcheck(lambda v: loss(v, y), (v,))
    inside = (0.8 * y + 0.04).requires_grad_()

    def shifted(v: Tensor, y: Tensor) -> Tensor:  # on the simplex, along it: off it the loss is infinite
        return loss(v, y - y.sum(-1, keepdim=True) / 5 + 0.2) if loss.g.event_ndim else loss(v, y)

    assert torch.autograd.gradcheck(shifted, (v, inside))


@pytest.mark.parametrize("key", [k for k, c in L.registry.items() if not c(**c.examples[0]).event_ndim])
def test_zero_at_the_prox_and_nowhere_else(key: str) -> None:
    phi = L.registry[key](**L.registry[key].examples[0])
    v = torch.tensor([-0.7, -0.3] if phi.dual_domain.hi < 1 else [0.3, 0.7], dtype=F64)
    loss, z = bln.fenchel_young(phi), bln.bregman_prox(phi, R.Zero(), v)
    assert torch.equal(loss(v, z), torch.zeros_like(v))
    assert bool((loss(v, bln.bregman_prox(phi, R.Zero(), 0.9 * v)) > 0).all())


@pytest.mark.parametrize("key", [k for k, c in L.registry.items() if not c(**c.examples[0]).event_ndim])
def test_labels_on_the_ends_of_the_domain(key: str) -> None:
    """Finite, by (φ + g)(y) + (φ + g)*(v) − ⟨v, y⟩, where the end belongs to dom φ."""
    phi = L.registry[key](**L.registry[key].examples[0])
    domain = phi.domain
    ends = [
        float(e)
        for e, closed in zip((domain.lo, domain.hi), domain.closed, strict=True)
        if closed and abs(float(e)) < 1e9
    ]
    y = torch.tensor(ends, dtype=F64)
    v = torch.full_like(y, -0.3)
    want = phi.value(y) + phi.conjugate(v) - v * y
    assert torch.allclose(bln.fenchel_young(phi)(v, y), want, rtol=1e-12, atol=1e-14)


def test_large_scores_and_masks() -> None:
    loss = bln.fenchel_young(L.BoltzmannShannon(), R.Simplex())
    v = torch.tensor([[1000.0, 0.0, -torch.inf, 3.0]], dtype=F64, requires_grad=True)
    y = torch.tensor([[0.0, 1.0, 0.0, 0.0]], dtype=F64)
    out = loss(v, y)
    assert out.tolist() == [1000.0]
    assert torch.equal(torch.autograd.grad(out.sum(), v)[0], torch.tensor([[1.0, -1.0, 0.0, 0.0]], dtype=F64))


def test_learned_weights() -> None:
    """A weight of φ and one of g, and a constraint that moves with its weight, by differences."""

    def learned(beta: Tensor, lam: Tensor, radius: Tensor) -> Tensor:
        v, y = torch.tensor([-1.0, 0.4, 2.0], dtype=F64), torch.tensor([0.2, 0.1, 0.7], dtype=F64)
        smooth = bln.fenchel_young(L.Softplus(beta), R.SquaredL2(lam))(v, y)
        ball = bln.fenchel_young(L.Energy(), R.Simplex(radius))(v, y * radius.detach())
        return smooth.sum() + ball

    weights = tuple(torch.tensor(x, dtype=F64, requires_grad=True) for x in (1.3, 0.4, 1.0))
    got = torch.autograd.grad(learned(*weights), weights)
    h = 1e-6
    for k in range(2):  # the radius moves the domain of y too
        moved = [[w.detach() + s * h * (i == k) for i, w in enumerate(weights)] for s in (1, -1)]
        assert float(got[k]) == pytest.approx(float(learned(*moved[0]) - learned(*moved[1])) / (2 * h), rel=1e-6)
    tau = float((bln.solve_prox(L.Energy(), R.Simplex(), torch.tensor([-1.0, 0.4, 2.0], dtype=F64))).dual.amax() - 2.0)
    assert float(got[2]) == pytest.approx(-tau, rel=1e-12)  # −d min/dr = −τ, z = v + τ on the support


def test_transforms_dtypes_copies() -> None:
    loss, v, y = bln.fenchel_young(L.BoltzmannShannon(), R.Simplex()), scores(), labels()
    want = loss(v, y)
    assert torch.allclose(torch.func.vmap(loss)(v, y), want)
    assert torch.allclose(torch.compile(loss, fullgraph=True, backend="aot_eager")(v, y), want)
    assert torch.equal(copy.deepcopy(loss)(v, y), want)
    assert torch.equal(pickle.loads(pickle.dumps(loss))(v, y), want)
    for dtype in (torch.float32, torch.bfloat16, torch.float16):
        got = loss(v.to(dtype), y.to(dtype))
        assert got.dtype is dtype
        assert torch.allclose(got.double(), want, rtol=100 * torch.finfo(dtype).eps, atol=100 * torch.finfo(dtype).eps)
    assert loss(v[:0], y[:0]).shape == (0,)
    assert loss(v.reshape(2, 3, 5), y.reshape(2, 3, 5)).shape == (2, 3)
    along = bln.fenchel_young(L.BoltzmannShannon(), R.Simplex(dim=-2))
    assert torch.allclose(along(v.T.reshape(5, 6), y.T.reshape(5, 6)), want)


def test_misuse_and_policies() -> None:
    loss, v, y = bln.fenchel_young(L.BoltzmannShannon(), R.Simplex()), scores().detach(), labels()
    for bad, message in ((y[:, :3], "one_hot"), (y.long(), "dtype"), (None, "torch tensor")):
        with pytest.raises(bln.InputError, match=message):
            loss(v, bad)
    with pytest.raises(bln.InputError, match="expected a Legendre"):
        bln.fenchel_young(R.Simplex(), L.Energy())  # type: ignore[arg-type]
    outside = y.clone()
    outside[2] = 2 * y[2]
    with pytest.raises(bln.DomainError, match="1 of 6 elements, first at \\(2,\\)"):
        loss(v, outside)
    others = torch.arange(6) != 2
    for policy, kind in (("nan", torch.isnan), ("ignore", torch.isinf)):
        got = bln.fenchel_young(L.BoltzmannShannon(), R.Simplex(), on_failure=policy)(v, outside)
        assert bool(kind(got[2]))
        assert torch.equal(got[others], loss(v, y)[others])
    with pytest.warns(RuntimeWarning, match="leaves"):
        bln.fenchel_young(L.Energy(), R.Nonneg(), on_failure="warn")(torch.zeros(2), torch.tensor([1.0, -1.0]))
    with pytest.raises(bln.SolveError, match="unbounded"):
        bln.fenchel_young(L.Burg())(torch.tensor([1.0]), torch.tensor([1.0]))
    assert bool(torch.func.vmap(loss)(v, outside)[2].isnan())  # nothing can raise there
    nan = v.clone()
    nan[1, 0] = torch.nan
    got = bln.fenchel_young(L.BoltzmannShannon(), R.Simplex(), on_failure="nan")(nan, y)
    assert got.isnan().tolist() == [False, True, False, False, False, False]


def layers() -> dict[str, bln.BilevelLayer]:
    def layer(phi: Any, g: Any = None, reference: Any = None) -> bln.BilevelLayer:
        return bln.BilevelLayer(bln.couplings.Bilinear(4, 4), bln.divergences.Bregman(phi, reference), g).double()

    return {
        "tanh": layer(L.Tanh()),
        "fermi_dirac + l1": layer(L.FermiDirac(), R.L1(0.2)),
        "softmax": layer(L.BoltzmannShannon(), R.Simplex()),
        "ball": layer(L.BallHellinger()),
        "mlp": layer(L.Energy(), R.Nonneg(), bln.divergences.Zero()),
        "scalar": layer(L.Tanh(), R.Huber(0.7, 0.3) + R.L1(0.1)),
        "image": bln.BilevelLayer(
            bln.couplings.Affine(nn.Conv2d(2, 2, 3, padding=1), event_ndim=3), bln.divergences.Bregman(L.Atan())
        ).double(),
    }


@pytest.mark.parametrize("name", layers())
def test_the_gap_of_a_layer(name: str) -> None:
    """The objective at z minus that at z⁺, to the rounding of its terms; zero at z⁺ to the last bit."""
    layer = layers()[name]
    shape = (3, 2, 4, 4) if name == "image" else (3, 4)
    z_prev = (0.2 * torch.rand(shape, dtype=F64) + 0.1).requires_grad_()
    best = layer(z_prev)
    assert torch.equal(layer.gap(z_prev, best.detach()), torch.zeros(3, dtype=F64))
    mean = best.detach().mean(-1, keepdim=True) if name == "softmax" else 0.9 * best.detach() + (name == "mlp")
    z = (0.7 * best.detach() + 0.3 * mean).requires_grad_()
    objective = layer.problem.objective
    want = objective(z, z_prev) - objective(best, z_prev)
    assert torch.allclose(layer.gap(z_prev, z), want, rtol=1e-11, atol=1e-14)
    assert bool((layer.gap(z_prev, z) >= 0).all())
    inputs = [z_prev, z, *layer.parameters()]
    got = torch.autograd.grad(layer.gap(z_prev, z).sum(), inputs)
    for d, x in zip(got, inputs, strict=True):
        direction = torch.randn(x.shape, dtype=F64)
        direction = direction - direction.mean(-1, keepdim=True) if name == "softmax" and x is z else direction
        at = x.detach().clone()
        values = []
        for s in (1, -1):
            with torch.no_grad():
                x.copy_(at + s * 1e-6 * direction)
                values.append(layer.gap(z_prev, z).sum())
                x.copy_(at)
        difference = float(values[0] - values[1]) / 2e-6
        assert float((d * direction).sum()) == pytest.approx(difference, rel=1e-5, abs=1e-8)  # central differences


def test_lifted_training_lowers_the_gap() -> None:
    """Gradient steps on weights and candidate together, as lifted Bregman training takes them."""
    torch.manual_seed(0)
    layer = layers()["tanh"]
    x, z = torch.rand(8, 4, dtype=F64) - 0.5, nn.Parameter(0.1 * torch.rand(8, 4, dtype=F64))
    optimizer = torch.optim.SGD([z, *layer.parameters()], lr=0.1)
    gaps = []
    for _ in range(30):
        optimizer.zero_grad()
        gap = layer.gap(x, z).sum()
        gap.backward()
        optimizer.step()
        gaps.append(gap.item())
    assert gaps[-1] < 1e-2 * gaps[0]


def test_gap_misuse() -> None:
    layer = layers()["fermi_dirac + l1"]
    z = torch.full((2, 4), 0.5, dtype=F64)
    with pytest.raises(bln.InputError, match="the layer gives"):
        layer.gap(z, z[:, :3])
    with pytest.raises(bln.InputError, match="torch tensor"):
        layer.gap(z, 1.0)  # type: ignore[arg-type]
    with pytest.raises(bln.DomainError, match="z leaves"):
        layer.gap(z, 3 * z)
    layer = bln.BilevelLayer(layer.coupling, layer.divergence, on_failure="nan")
    bad = z.clone()
    bad[0, 0] = 2.0
    assert layer.gap(bad, z).isnan().tolist() == [True, False]
    assert layer.gap(z, bad).isnan().tolist() == [True, False]
    assert layer.gap(z[:0], z[:0]).shape == (0,)
