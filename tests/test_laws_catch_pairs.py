"""Every law of a closed form and of a layer catches the fault that it is there for: one planted fault a law."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from faults import assert_caught
from torch import Tensor

import bilevelnet as bln
from bilevelnet import couplings, divergences, legendre, regularizers
from bilevelnet.closed_forms.plan import ClosedFormMap
from bilevelnet.testing import check_closed_form, check_layer, closed_form, layer


def patch(monkeypatch: pytest.MonkeyPatch, methods: dict[str, Any]) -> None:
    """Methods of every closed form replaced: what a wrong rule in the tables would be."""
    for name, wrap in methods.items():
        monkeypatch.setattr(ClosedFormMap, name, wrap(getattr(ClosedFormMap, name)))


def on_primal(change: Any) -> dict[str, Any]:
    """z changed both in ``primal`` and in ``solve``."""
    return {
        "primal": lambda old: lambda self, v: change(self, v, old(self, v)),
        "solve": lambda old: lambda self, v, *a: (o := old(self, v, *a))._replace(z=change(self, v, o.z)),
    }


def detached(self: Any, v: Tensor, z: Tensor) -> Tensor:
    return z.detach() + 0 * v


def first_order_only(self: Any, v: Tensor, z: Tensor) -> Tensor:
    x = v.detach().requires_grad_() if not v.requires_grad else v
    with torch.enable_grad():
        slope = (
            torch.autograd.grad(z.sum(), x, retain_graph=True)[0].detach() if z.requires_grad else torch.zeros_like(v)
        )
    return z.detach() + slope * (v - v.detach())


def collapse(self: Any, v: Tensor, z: Tensor) -> Tensor:
    return z.reshape(-1).reshape(z.shape) if z.ndim < 3 else z * 1.001


def host(self: Any, v: Tensor, z: Tensor) -> Tensor:
    return z if float(v.detach().sum()) < 1e30 else -z


PAIR: dict[str, tuple[Any, Any, dict[str, Any], str]] = {
    "dual off": (
        legendre.FermiDirac,
        lambda: regularizers.L1(0.3),
        {"solve": lambda old: lambda self, v, *a: (o := old(self, v, *a))._replace(dual=o.dual * 1.001)},
        "v − u ∈ ∂g(z), by the solution's residual",
    ),
    "dual of another point": (
        legendre.FermiDirac,
        lambda: regularizers.L1(0.3),
        on_primal(lambda self, v, z: z * (1 - 1e-9)),
        "u = ∇φ(z)",
    ),
    "wrong vector": (
        legendre.Energy,
        regularizers.Simplex,
        {"solve": lambda old: lambda self, v, *a: old(self, v, *a)._replace(z=v.softmax(-1), dual=v.softmax(-1))},
        "g(w) ≥ g(z) + ⟨v − u, w − z⟩",
    ),
    "z off by 1e-12": (
        legendre.Tanh,
        lambda: regularizers.L1(0.3),
        on_primal(lambda self, v, z: z * (1 + 1e-12)),
        "z is the root found by bisection",
    ),
    "knot missed by an ulp": (
        legendre.Tanh,
        lambda: regularizers.Box(-0.5, 0.25),
        on_primal(lambda self, v, z: torch.nextafter(z, -torch.ones_like(z) * torch.inf) + 0 * v),
        "on a knot z is the knot, dz/dv = 0",
    ),
    "wrong status": (
        lambda: legendre.get("burg"),
        regularizers.Zero,
        {"status": lambda old: lambda self, v: torch.zeros_like(v, dtype=torch.int64)},
        "status tells where a minimiser exists",
    ),
    "gradient detached": (
        legendre.FermiDirac,
        regularizers.Zero,
        on_primal(detached),
        "dz/dv by differences of the root",
    ),
    "second derivative detached": (
        legendre.FermiDirac,
        regularizers.Zero,
        on_primal(first_order_only),
        "d²z/dv² by differences",
    ),
    "weight detached": (
        legendre.BoltzmannShannon,
        lambda: regularizers.SquaredL2(0.7),
        {"primal": lambda old: lambda self, v: _without_weights(self, old, v)},
        "dz/dθ for every weight",
    ),
    "not monotone": (
        legendre.Energy,
        regularizers.Zero,
        on_primal(lambda self, v, z: -z),
        "v ↦ z is monotone, 1/σ-Lipschitz",
    ),
    "float32 too coarse": (
        legendre.Tanh,
        regularizers.Zero,
        on_primal(lambda self, v, z: z if v.dtype is torch.float64 else (z + 100) - 100),
        "float32 agrees with float64",
    ),
    "NaN in the tail": (
        legendre.FermiDirac,
        regularizers.Zero,
        on_primal(lambda self, v, z: z * v.exp() / v.exp()),
        "no NaN at |v| up to 700, dtype kept",
    ),
    "batch dimensions mixed up": (
        legendre.Energy,
        regularizers.Zero,
        on_primal(collapse),
        "batch shapes, empty, strided",
    ),
    "reads values": (legendre.Energy, regularizers.Zero, on_primal(host), "vmap, vmap of grad"),
    "backward alone": (
        legendre.Energy,
        regularizers.Zero,
        on_primal(lambda self, v, z: _Doubled.apply(z)),
        "jvp agrees with backward",
    ),
}


class _Doubled(torch.autograd.Function):
    """The identity with a backward of 2 and a forward mode of 1."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor) -> Tensor:
        return x.clone()

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        pass

    @staticmethod
    def backward(ctx: Any, d: Tensor) -> Tensor:
        return 2 * d

    @staticmethod
    def jvp(ctx: Any, d: Tensor) -> Tensor:
        return d.clone()


def _without_weights(self: Any, old: Any, v: Tensor) -> Tensor:
    with torch.no_grad():
        z = old(self, v)
    x = v.detach().requires_grad_()
    with torch.enable_grad():
        slope = torch.autograd.grad(old(self, x).sum(), x)[0]
    return z + slope * (v - v.detach())


@pytest.mark.parametrize("fault", PAIR)
def test_pair(fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    make_phi, make_g, methods, law = PAIR[fault]
    patch(monkeypatch, methods)
    assert_caught(check_closed_form(make_phi(), make_g(), raises=False, thorough=False), law)


@pytest.mark.parametrize(
    ("change", "law"),
    [(first_order_only, "gradcheck and gradgradcheck"), (host, "compile gives one graph")],
    ids=["second derivative", "host read"],
)
def test_thorough_pair(change: Any, law: str, monkeypatch: pytest.MonkeyPatch) -> None:
    patch(monkeypatch, on_primal(change))
    assert_caught(check_closed_form(legendre.FermiDirac(), regularizers.Zero(), raises=False), law)


def test_every_law_of_a_pair_has_a_fault() -> None:
    assert {law for *_, law in PAIR.values()} == {law.name for law in closed_form.LAWS}


class WrongLayer(bln.BilevelLayer):
    """A layer whose forward is changed after the fact."""

    def __init__(self, change: Any, phi: Any = None, g: Any = None):
        phi = legendre.FermiDirac() if phi is None else phi
        super().__init__(couplings.Bilinear(3, 3), divergences.Bregman(phi), g)
        self.change = change

    def forward(self, z_prev: Tensor) -> Tensor:
        return self.change(self, z_prev, super().forward(z_prev))

    def solve(self, z_prev: Tensor) -> Any:
        solution = super().solve(z_prev)
        solution.z = self.change(self, z_prev, solution.z)
        return solution


def again(self: Any, z_prev: Tensor, z: Tensor) -> Tensor:
    return z + 0 * self.coupling(z_prev)


class Forgets(bln.BilevelLayer):
    """A weight that is no part of the state."""

    def __init__(self) -> None:
        super().__init__(couplings.Bilinear(3, 3), divergences.Bregman(legendre.FermiDirac()))
        self.coupling._parameters["bias"] = None
        self.shift = [0.0]

    def forward(self, z_prev: Tensor) -> Tensor:
        return super().forward(z_prev) + self.shift[0]

    def __deepcopy__(self, memo: Any) -> Any:
        made = Forgets()
        made.load_state_dict(self.state_dict())
        made.bound.on_failure = self.bound.on_failure
        made.shift = [self.shift[0] + 1e-3]
        return made.double()


LAYER: dict[str, tuple[Any, str]] = {
    "another point": (lambda: WrongLayer(lambda s, x, z: z, g=_LooseL1()), "v ∈ ∇φ(z⁺) + ∂g(z⁺)"),
    "not the minimiser": (lambda: WrongLayer(lambda s, x, z: z * 0.99), "z⁺ minimises f + D + g"),
    "A called twice": (lambda: WrongLayer(again), "A is called exactly once"),
    "state forgotten": (Forgets, "state_dict, deepcopy and pickle"),
    "gradient of a weight lost": (
        lambda: WrongLayer(
            lambda s, x, z: z.detach() + 0 * s.coupling.weight.sum() + 0 * s.coupling.bias.sum() + 0 * x
        ),
        "gradients by differences",
    ),
    "weights held outside": (
        lambda: WrongLayer(lambda s, x, z: z + 0.1 * s.__dict__.setdefault("held", list(s.parameters()))[0].sum()),
        "torch.func.grad of functional_call",
    ),
    "batch mixed": (lambda: WrongLayer(lambda s, x, z: z if z.ndim < 3 else 0.9 * z), "batch shapes, empty, strided"),
    "reads values": (
        lambda: WrongLayer(lambda s, x, z: z if bool((z < 2).all()) else -z),
        "vmap, vmap of grad",
    ),
    "backward alone": (lambda: WrongLayer(lambda s, x, z: _Doubled.apply(z)), "jvp agrees with backward"),
    "dtype lost": (
        lambda: WrongLayer(lambda s, x, z: z.float() * 1.0),
        "dtype kept, no NaN, float32 dual under autocast",
    ),
    "outside the chain": (
        lambda: WrongLayer(lambda s, x, z: 0.5 + 0.9 * (z - 0.5)),
        "a chain is its layers one by one",
    ),
    "batch statistics": (
        lambda: WrongLayer(lambda s, x, z: z + 0 * z.sum()),
        "one NaN sample does not spoil its batch",
    ),
    "dual not exact": (lambda: WrongLayer(lambda s, x, z: z), "W = 0, b = 0, g = 0 leaves u as it is"),
}


class _LooseL1(regularizers.L1):
    """Its distance says what its prox does not do."""

    key = ""

    def __init__(self) -> None:
        super().__init__(0.2)

    def distance(self, z: Tensor, y: Tensor) -> Tensor:
        return super().distance(z, y + 1e-3)


@pytest.mark.parametrize("fault", LAYER)
def test_layer(fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    make, law = LAYER[fault]
    if fault == "dual not exact":
        step = bln.BilevelLayer.step

        def inexact(self: Any, z: Any, u: Any, dtype: Any) -> Any:
            dual, point, status = step(self, z, u, dtype)
            return dual + 1e-16 * dual.abs().clamp(min=1), point, status

        monkeypatch.setattr(bln.BilevelLayer, "step", inexact)
    assert_caught(check_layer(make(), raises=False, thorough=False), law)


def test_every_law_of_a_layer_has_a_fault() -> None:
    assert {law for _, law in LAYER.values()} == {law.name for law in layer.LAWS}
