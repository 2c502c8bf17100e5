"""Wrong layers, each made from a right one by one change, are refused; the right ones are accepted."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import bilevelnet as bln

SAMPLES = 4
SCALARS = {
    name: [
        key for key, cls in registry.items() if cls(**cls.examples[0]).event_ndim == 0
    ]
    for name, registry in (("phi", bln.legendre.registry), ("g", bln.regularizers.registry))
}  # fmt: skip


def sigmoid_layer() -> bln.BilevelLayer:
    torch.manual_seed(0)
    return bln.BilevelLayer(bln.couplings.Bilinear(3, 3), bln.divergences.Bregman(bln.legendre.FermiDirac()))


def linear(layer: bln.BilevelLayer, z: Tensor) -> Tensor:
    return z @ layer.coupling.weight.mT + layer.coupling.bias


# z⁻ ↦ z⁺ of the layer above, with one change in each; "right" has none.
Form = Callable[[bln.BilevelLayer, Tensor], Tensor]
FORMS: dict[str, Form] = {
    "right": lambda m, z: torch.sigmoid(torch.logit(z) + linear(m, z)),
    "log(z/(1 + z)) for the inverse": lambda m, z: torch.sigmoid(torch.log(z / (1 + z)) + linear(m, z)),
    "no residual term": lambda m, z: torch.sigmoid(linear(m, z)),
    "the Euclidean residual term": lambda m, z: torch.sigmoid(z + linear(m, z)),
    "a sign": lambda m, z: torch.sigmoid(torch.logit(z) - linear(m, z)),
    "a factor": lambda m, z: torch.sigmoid(torch.logit(z) + 1.0001 * linear(m, z)),
    "a transposed weight": lambda m, z: torch.sigmoid(torch.logit(z) + z @ m.coupling.weight + m.coupling.bias),
    "swapped rows": lambda m, z: torch.sigmoid(torch.logit(z) + linear(m, z).roll(1, -1)),
    "no bias": lambda m, z: torch.sigmoid(torch.logit(z) + z @ m.coupling.weight.mT),
    "the bias twice": lambda m, z: torch.sigmoid(torch.logit(z) + linear(m, z) + m.coupling.bias),
    "a clamp at 1e-5": lambda m, z: torch.sigmoid(torch.logit(z.clamp(1e-5, 1 - 1e-5)) + linear(m, z)),
    "an error of 1e-6": lambda m, z: torch.sigmoid(torch.logit(z) + linear(m, z)) + 1e-6,
    "an error of 2e-12 in v": lambda m, z: torch.sigmoid(torch.logit(z) + linear(m, z) + 2e-12),
    "an error of 1e-15": lambda m, z: torch.sigmoid(torch.logit(z) + linear(m, z)) + 1e-15,  # large where z is small
    "detached": lambda m, z: torch.sigmoid(torch.logit(z) + linear(m, z)).detach(),
    "W detached": lambda m, z: torch.sigmoid(
        torch.logit(z) + z @ m.coupling.weight.detach().mT + m.coupling.bias
    ),
    "b detached": lambda m, z: torch.sigmoid(torch.logit(z) + z @ m.coupling.weight.mT + m.coupling.bias.detach()),
    "z⁻ detached in A": lambda m, z: torch.sigmoid(torch.logit(z) + linear(m, z.detach())),
    "z⁻ detached in D": lambda m, z: torch.sigmoid(torch.logit(z.detach()) + linear(m, z)),
    "the input of another sample": lambda m, z: torch.sigmoid(torch.logit(z) + linear(m, z.roll(1, 0))),
    "another activation": lambda m, z: (1 + torch.tanh((torch.logit(z) + linear(m, z)) / 1.99)) / 2,
    "float32 inside": lambda m, z: torch.sigmoid(torch.logit(z) + linear(m, z)).float().double(),
    "a sum over the batch": lambda m, z: torch.sigmoid(torch.logit(z) + linear(m, z)).sum(0),
}  # fmt: skip


@pytest.mark.parametrize("name", FORMS)
def test_neural_forms(name: str) -> None:
    layer = sigmoid_layer()
    certificate = bln.verify(layer, lambda z: FORMS[name](layer, z), samples=9)
    assert certificate.passed == (name == "right"), certificate
    assert all(row.compared.startswith("neural form: ") for row in certificate.failures)


def test_a_stale_bias_is_refused() -> None:
    layer = sigmoid_layer()
    stale = layer.coupling.bias.detach().double().clone()
    form = lambda z: torch.sigmoid(torch.logit(z) + z @ layer.coupling.weight.mT + stale)  # noqa: E731
    failed = {row.compared for row in bln.verify(layer, form, samples=SAMPLES).failures}
    assert failed == {
        "neural form: value",  # with moved weights
        "neural form: gradient in z⁻",
        "neural form: gradient in W",
        "neural form: gradient in b",
    }


class Published(bln.legendre.FermiDirac):
    """The inverse of the sigmoid as published in bregmanet 1.0.0."""

    def grad(self, z: Tensor) -> Tensor:
        return torch.log(z / (1 + z))


class PublishedRelu(bln.legendre.Squareplus):
    """ρ(v) = (v + √(v² + c))/2 with z + 1/z in the place of its inverse z − c/(4z)."""

    def grad(self, z: Tensor) -> Tensor:
        return z + 1 / z


class Clamped(bln.legendre.Tanh):
    """artanh of a clamped z."""

    def grad(self, z: Tensor) -> Tensor:
        return torch.atanh(z.clamp(-1 + 1e-5, 1 - 1e-5))


class WrongConjugate(bln.legendre.Atan):
    """A mirror map that is no inverse of ∇φ."""

    def grad_conjugate(self, u: Tensor) -> Tensor:
        return torch.atan(1.00001 * u)


@pytest.mark.parametrize("phi", [Published, PublishedRelu, Clamped, WrongConjugate])
def test_wrong_pieces(phi: Any) -> None:
    torch.manual_seed(0)
    layer = bln.BilevelLayer(bln.couplings.Bilinear(3, 3), bln.divergences.Bregman(phi()))
    x = None
    if phi is Clamped:  # differs beyond the clamp only
        x = torch.tensor([[1 - 1e-7, 0.1, -0.3], [0.2, -1 + 1e-6, 0.0]], dtype=torch.float64)
    assert not bln.verify(layer, samples=12 if x is None else x).passed


class Transposed(bln.couplings.Bilinear):
    def forward(self, z: Tensor) -> Tensor:
        return nn.functional.linear(z, self.weight.mT, self.bias)


class Stale(bln.couplings.Bilinear):
    """Uses the bias that it was made with."""

    def __init__(self, *args: Any):
        super().__init__(*args)
        self.register_buffer("old", self.bias.detach().clone())

    def forward(self, z: Tensor) -> Tensor:
        return nn.functional.linear(z, self.weight, self.old)


class NoResidual(bln.BilevelLayer):
    def forward(self, z: Tensor) -> Tensor:
        return self.divergence.phi.grad_conjugate(self.coupling(z))


class Swapped(bln.BilevelLayer):
    """Applies the regularizer to v as if φ were ½‖·‖²."""

    def forward(self, z: Tensor) -> Tensor:
        v = self.divergence.phi.grad(z) + self.coupling(z)
        return self.regularizer.prox(self.divergence.phi.grad_conjugate(v))


class Detached(bln.BilevelLayer):
    def forward(self, z: Tensor) -> Tensor:
        out = super().forward(z)
        return out.detach() + 0 * z


def made(layer: Any = bln.BilevelLayer, coupling: Any = bln.couplings.Bilinear, g: Any = None) -> bln.BilevelLayer:
    torch.manual_seed(0)
    return layer(coupling(3, 3), bln.divergences.Bregman(bln.legendre.Tanh()), g)


@pytest.mark.parametrize(
    "layer",
    [
        pytest.param(made(coupling=Transposed), id="transposed"),
        pytest.param(made(coupling=Stale), id="stale"),
        pytest.param(made(NoResidual), id="no residual"),
        pytest.param(made(Swapped, g=bln.regularizers.L1(0.3)), id="prox of another phi"),
        pytest.param(made(Detached), id="detached"),
    ],
)
def test_wrong_layers(layer: bln.BilevelLayer) -> None:
    assert not bln.verify(layer, samples=SAMPLES).passed


def test_a_wrong_reference_of_the_widths_is_refused() -> None:
    """ρ⁻¹(A z) with A row-stochastic is not A ρ⁻¹(z)."""
    torch.manual_seed(0)
    reference = bln.divergences.RowStochastic(4, 3)
    layer = bln.BilevelLayer(
        bln.couplings.Bilinear(4, 3), bln.divergences.Bregman(bln.legendre.FermiDirac(), reference)
    )
    right = lambda z: torch.sigmoid(torch.logit(z @ reference.weight.mT) + linear(layer, z))  # noqa: E731
    wrong = lambda z: torch.sigmoid(torch.logit(z) @ reference.weight.mT + linear(layer, z))  # noqa: E731
    assert bln.verify(layer, right, samples=SAMPLES).passed
    assert not bln.verify(layer, wrong, samples=SAMPLES).passed


def random_layer(k: int) -> bln.BilevelLayer | None:
    """φ, g, widths, reference and coupling drawn by k; None where the pieces do not go together."""
    rng = random.Random(k)
    torch.manual_seed(k)
    phi_key, g_key = rng.choice(SCALARS["phi"]), rng.choice([*SCALARS["g"], *["zero"] * 8])
    phi = bln.legendre.get(phi_key, **rng.choice(bln.legendre.registry[phi_key].examples))
    g = bln.regularizers.get(g_key, **rng.choice(bln.regularizers.registry[g_key].examples))
    phi = 2.0 * phi if rng.random() < 0.2 else phi
    g = 0.5 * g if rng.random() < 0.2 else g
    d_in = rng.choice([1, 2, 3, 5])
    d_out = rng.choice([d_in, d_in, 4])
    references: list[Any] = [
        lambda: bln.divergences.RowStochastic(d_in, d_out),
        lambda: bln.divergences.Dual(nn.Linear(d_in, d_out, bias=False)),
        bln.divergences.Zero,
    ]
    same = [lambda: None] * 3 if d_in == d_out else []
    reference = rng.choice([*same, *references])()
    branch = nn.Sequential(nn.Linear(d_in, 6), nn.Tanh(), nn.Linear(6, d_out))
    coupling = rng.choice([bln.couplings.Bilinear(d_in, d_out), bln.couplings.Affine(branch)])
    try:
        return bln.BilevelLayer(coupling, bln.divergences.Bregman(phi, reference), g)
    except bln.InputError:  # the domains do not meet
        return None


def accepted(numbers: range) -> int:
    """How many of the drawn layers are certified; those that have no minimiser anywhere say so, and do not count."""
    count = 0
    for k in numbers:
        layer = random_layer(k)
        if layer is None:
            continue
        certificate = bln.verify(layer, samples=SAMPLES, seed=k)
        nowhere = [row for row in certificate.failures if "has a minimiser" in row.where]
        assert certificate.passed or nowhere, f"{k}: {certificate}"
        count += certificate.passed
    return count


def test_random_right_layers_are_accepted() -> None:
    assert accepted(range(20)) >= 16


def test_an_elu_near_the_end_of_its_domain_is_accepted() -> None:
    """α = 0.4, z⁻ within 4e-8 of −α: 1 + z⁻/α holds 9 digits, (α + z⁻)/α all."""
    assert accepted(range(1237, 1238)) == 1


@pytest.mark.heavy
def test_two_hundred_random_right_layers_are_accepted() -> None:
    assert accepted(range(1000, 1240)) >= 200
