"""The atlas: which pairs (φ, g) of the catalogue, and which networks, are the argmin layers of the theorem."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import nn

from ..comparison import Row
from ..couplings import Affine, Bilinear
from ..divergences import Bregman, Dual, Zero
from ..errors import InputError
from ..layer import BilevelLayer
from ..legendre import Energy, FermiDirac, Softplus, Tanh
from ..legendre import registry as legendres
from ..regularizers import L1, Nonneg
from ..regularizers import Zero as NoRegularizer
from ..regularizers import registry as regularizers
from ..solvers import bind
from . import theorem
from .certificate import Certificate
from .verify import verify

SAMPLES = 6
COMMON = ("zero", "l1", "nonneg", "squared_l2")  # with every φ
FIRST = ("energy", "fermi_dirac", "tanh")  # with every g that is separable; energy with the others too


@dataclass(frozen=True)
class Entry:
    """One line of the atlas. ``row`` is the theorem's; ``failure`` says what was found where it fails."""

    phi: str
    g: str
    row: str
    solver: str
    value: float
    gradient: float
    passed: bool
    failure: str = ""

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def entries() -> Iterator[Entry]:
    """The pairs, then the networks, one after the other as they are verified."""
    for phi, g in pairs():
        yield pair(phi, g)
    for name, make in NETWORKS.items():
        torch.manual_seed(0)
        layer, neural = make()
        certificate = verify(layer, neural, SAMPLES)
        solver = layer.bound.map.name
        yield _entry(name, layer.regularizer.label, theorem.row_of(layer), solver, certificate)


def pairs() -> list[tuple[str, str]]:
    """Keys of φ and g: every φ with the common g, and the first φ with every g."""
    keys = [(phi, g) for phi in legendres for g in regularizers if g in COMMON or phi in FIRST]
    return [(phi, g) for phi, g in keys if _fits(phi, g)]


def pair(phi: str, g: str) -> Entry:
    """The certificate of one pair, at the first examples of both, in a line."""
    pieces = example(legendres[phi]), example(regularizers[g])
    certificate = verify(pieces, None, SAMPLES)
    return _entry(phi, g, theorem.of_pair(*pieces), bind(*pieces, "auto")[0].name, certificate)


def example(cls: Any) -> Any:
    """The first example of a class."""
    return cls(**cls.examples[0])


def _entry(phi: str, g: str, row: str, solver: str, certificate: Certificate) -> Entry:
    failure = "" if certificate.passed else _told(certificate.failures[0])
    errors = certificate.worst("value"), certificate.worst("gradient")
    return Entry(phi, g, row, solver, *errors, certificate.passed, failure)


def _told(row: Row) -> str:
    return f"{row.compared}: error {row.error:.2e}, tolerance {row.tolerance:.2e}, {row.where}"


def _fits(phi: str, g: str) -> bool:
    """Whether the examples have one size, a solver takes them, and something independent of it is known."""
    from .independent import Inclusion

    pieces = example(legendres[phi]), example(regularizers[g])
    if pieces[1].event_ndim and phi != FIRST[0]:
        return False
    if pieces[0].width and pieces[1].width and pieces[0].width != pieces[1].width:
        return False
    try:
        bind(*pieces, "auto")
        Inclusion(*pieces)
    except InputError:
        return False
    return True


Network = tuple[BilevelLayer, Callable[[torch.Tensor], torch.Tensor]]


def _linear(layer: BilevelLayer, z: torch.Tensor) -> torch.Tensor:
    return nn.functional.linear(z, layer.coupling.weight, layer.coupling.bias)  # type: ignore[arg-type]


def _perceptron() -> Network:
    layer = BilevelLayer(Bilinear(4, 3), Bregman(Energy(), Zero()), Nonneg())
    return layer, lambda z: torch.relu(_linear(layer, z))


def _residual_perceptron() -> Network:
    layer = BilevelLayer(Bilinear(3, 3), Bregman(Energy()), L1(0.3))
    return layer, lambda z: nn.functional.softshrink(z + _linear(layer, z), 0.3)


def _sigmoid() -> Network:
    layer = BilevelLayer(Bilinear(3, 3), Bregman(FermiDirac()), NoRegularizer())
    return layer, lambda z: torch.sigmoid(torch.logit(z) + _linear(layer, z))


def _regularized() -> Network:
    layer = BilevelLayer(Bilinear(3, 3), Bregman(Tanh()), Nonneg())
    return layer, lambda z: torch.tanh(torch.relu(torch.atanh(z) + _linear(layer, z)))


def _resnet() -> Network:
    branch = nn.Sequential(nn.Conv2d(2, 2, 3, padding=1), nn.ReLU(), nn.Conv2d(2, 2, 3, padding=1))
    layer = BilevelLayer(Affine(branch, event_ndim=3), Bregman(Energy()), Nonneg())
    return layer, lambda z: torch.relu(z + branch(z))


def _bregman_resnet() -> Network:
    branch = nn.Sequential(nn.Linear(3, 4), nn.Softplus(), nn.Linear(4, 3))
    layer = BilevelLayer(Affine(branch), Bregman(Softplus()), NoRegularizer())
    return layer, lambda z: nn.functional.softplus(z + (-torch.expm1(-z)).log() + branch(z))


def _identity() -> Network:
    layer = BilevelLayer(Bilinear(3, 3), Bregman(Tanh()), NoRegularizer())
    for p in layer.coupling.parameters():
        nn.init.zeros_(p)
    return layer, lambda z: torch.tanh(torch.atanh(z) + _linear(layer, z))


def _widths() -> Network:
    lift = nn.Linear(4, 3, bias=False)
    layer = BilevelLayer(Bilinear(4, 3), Bregman(FermiDirac(), Dual(lift)), NoRegularizer())
    return layer, lambda z: torch.sigmoid(lift(torch.logit(z)) + _linear(layer, z))


# Layers with the neural form that the theorem gives them, written by hand.
NETWORKS: dict[str, Callable[[], Network]] = {
    "MLP, ReLU(Wz + b)": _perceptron,
    "MLP, residual softshrink": _residual_perceptron,
    "Bregman MLP, sigmoid": _sigmoid,
    "Bregman MLP, 4 → 3 widths": _widths,
    "Bregman MLP, tanh, g ≠ 0": _regularized,
    "ResNet block, ReLU": _resnet,
    "Bregman ResNet, softplus": _bregman_resnet,
    "identity, W = 0, b = 0": _identity,
}
