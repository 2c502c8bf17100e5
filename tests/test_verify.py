"""verify: certificates of layers, chains and pairs, against solutions that share no code with the solvers."""

from __future__ import annotations

import copy
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import mpmath as mp
import pytest
import torch
from rich.cells import cell_len
from scipy.optimize import brentq
from torch import Tensor, nn

import bilevelnet as bln
from bilevelnet.certificates import atlas, compare
from bilevelnet.certificates.independent import Inclusion
from bilevelnet.certificates.theorem import row_of

ROOT = Path(bln.__file__).parent.parent
SAMPLES = 4
ACTIVATED = {
    "tanh": (bln.legendre.Tanh, torch.tanh, torch.atanh),
    "sigmoid": (bln.legendre.FermiDirac, torch.sigmoid, torch.logit),
    "isru": (bln.legendre.Hellinger, lambda v: v / (1 + v * v).sqrt(), lambda z: z / ((1 - z) * (1 + z)).sqrt()),
    "atan": (bln.legendre.Atan, torch.atan, torch.tan),
    "softplus": (bln.legendre.Softplus, nn.functional.softplus, lambda z: z + (-torch.expm1(-z)).log()),
    "asinh": (bln.legendre.Cosh, torch.asinh, torch.sinh),
    "softsign": (bln.legendre.Softsign, nn.functional.softsign, lambda z: z / (1 - z.abs())),
}  # fmt: skip


def bilinear(phi: Any, g: Any = None, reference: Any = None, d_in: int = 3, d_out: int = 3) -> bln.BilevelLayer:
    torch.manual_seed(0)
    return bln.BilevelLayer(bln.couplings.Bilinear(d_in, d_out), bln.divergences.Bregman(phi, reference), g)


def linear(layer: bln.BilevelLayer, z: Tensor) -> Tensor:
    return nn.functional.linear(z, layer.coupling.weight, layer.coupling.bias)


@pytest.mark.parametrize("name", ACTIVATED)
def test_bregman_mlp(name: str) -> None:
    phi, rho, inverse = ACTIVATED[name]
    layer = bilinear(phi())
    certificate = bln.verify(layer, lambda z: rho(inverse(z) + linear(layer, z)), SAMPLES)
    assert certificate.passed, certificate
    assert certificate.theorem.startswith("theorem, row ii")


@pytest.mark.parametrize("name", atlas.NETWORKS)
def test_networks_of_every_row_of_the_theorem(name: str) -> None:
    torch.manual_seed(0)
    layer, neural = atlas.NETWORKS[name]()
    certificate = bln.verify(layer, neural, SAMPLES)
    assert certificate.passed, certificate
    expected = {"MLP": "i", "Bregman MLP": "ii", "ResNet block": "iv", "Bregman ResNet": "iv", "identity": "v"}
    assert row_of(layer) == ("iii" if "g ≠ 0" in name else expected[name.partition(",")[0]])


def test_a_learned_weight_of_g_is_compared_too() -> None:
    layer = bilinear(bln.legendre.Tanh(), bln.regularizers.L1(nn.Parameter(torch.tensor(0.3))))
    certificate = bln.verify(layer, samples=SAMPLES)
    assert certificate.passed, certificate
    assert "gradient in regularizer.raw_lam" in {row.compared for row in certificate.rows}


def test_the_layer_is_given_back_as_it_was() -> None:
    layer = bilinear(bln.legendre.Tanh()).train()
    layer(torch.zeros(2, 3)).sum().backward()
    weight, before = layer.coupling.weight, copy.deepcopy(layer.state_dict())
    grad = weight.grad.clone()
    bln.verify(layer, lambda z: torch.tanh(torch.atanh(z) + linear(layer, z)), SAMPLES)
    assert layer.coupling.weight is weight
    assert layer.training
    assert weight.dtype is torch.float32
    assert torch.equal(weight.grad, grad)
    assert all(torch.equal(t, before[name]) for name, t in layer.state_dict().items())


def test_what_the_neural_form_raises_is_a_failure() -> None:
    layer = bilinear(bln.legendre.Tanh())
    for neural in (lambda z: 1 / 0, lambda z: z[:1], lambda z: z.sum(0, keepdim=True).float() @ layer.coupling.weight):
        certificate = bln.verify(layer, neural, SAMPLES)
        assert {row.compared for row in certificate.failures} == {"neural form: value"}
        assert "Error" in certificate.failures[0].where


def test_a_chain_in_both_spaces() -> None:
    torch.manual_seed(0)
    chain = bln.models.BregmanMLP([3, 3, 2], bln.legendre.Atan())
    certificate = bln.verify(chain, samples=SAMPLES)
    assert certificate.passed, certificate
    assert {row.compared.partition(":")[0] for row in certificate.rows} == {"layer 0", "layer 1", "chain"}
    assert bln.verify(bln.Chain(*chain, space="dual"), samples=SAMPLES).passed


def test_a_pair_with_its_activation() -> None:
    pair = bln.legendre.Energy(), bln.regularizers.L1(0.5)
    assert bln.verify(pair, nn.Softshrink(0.5), SAMPLES).passed
    assert not bln.verify(pair, nn.Softshrink(0.4), SAMPLES).passed


class Coupled(bln.legendre.Legendre):
    """φ(z) = Σ cosh z_i + ½ (Σ z_i)², of one's own; ``scale`` is 1 where ∇φ is right."""

    event_ndim = 1

    def __init__(self, scale: float = 1.0):
        super().__init__()
        self.scale = scale

    def value(self, z: Tensor) -> Tensor:
        return z.cosh().sum(-1) + z.sum(-1).square() / 2

    def grad(self, z: Tensor) -> Tensor:
        return self.scale * z.sinh() + z.sum(-1, keepdim=True)


def test_pieces_that_couple_the_entries() -> None:
    torch.manual_seed(0)
    network = bln.regularizers.InputConvexVector(3, (3,))
    assert bln.verify((bln.legendre.FermiDirac(), network), samples=SAMPLES).passed
    layer = bln.BilevelLayer(bln.couplings.Bilinear(3, 3), bln.divergences.Bregman(Coupled()), network)
    assert bln.verify(layer, samples=SAMPLES).passed
    assert not bln.verify((Coupled(1.00001), bln.regularizers.Zero()), samples=SAMPLES).passed
    other = bln.regularizers.InputConvexVector(3, (3,))
    claimed = lambda v: bln.bregman_prox(bln.legendre.Energy(), other, v)  # noqa: E731
    assert not bln.verify((bln.legendre.Energy(), network), claimed, SAMPLES).passed


QUADRATIC = torch.tensor([[2.0, 0.7, 0.0], [0.7, 1.0, -0.3], [0.0, -0.3, 0.5]], dtype=torch.float64)
# With all digits: small entries beside a large one, entries on a face by rounding, groups that are 0, sums of norms.
COUPLED = {
    "simplex": lambda: (bln.legendre.FermiDirac(), bln.regularizers.Simplex()),
    "face": lambda: (bln.legendre.Mahalanobis(QUADRATIC), bln.regularizers.Simplex()),
    "groups": lambda: (bln.legendre.Energy(), bln.regularizers.GroupLasso(0.5, groups=((0, 1), (2, 3)))),
    "norms": lambda: (bln.legendre.Energy(), 0.5 * bln.regularizers.LinfNorm(0.6) + bln.regularizers.L1(0.1)),
}


@pytest.mark.parametrize("name", COUPLED)
def test_coupled_pairs_are_accepted(name: str) -> None:
    certificate = bln.verify(COUPLED[name](), samples=24, seed=1)
    assert certificate.passed, certificate.table()


@pytest.mark.parametrize("phi", [bln.legendre.BoltzmannShannon(), bln.legendre.Burg()], ids=["softmax", "burg"])
def test_multipliers_of_the_size_of_v_cost_no_digit(phi: Any) -> None:
    """v reaches 1e5, where a multiplier is known to 1e-11; z to eps. Entries of z below the range are left out."""
    torch.manual_seed(0)
    layer = bln.BilevelLayer(
        bln.couplings.Bilinear(4, 4), bln.divergences.Bregman(phi), bln.regularizers.Simplex()
    ).double()
    certificate = bln.verify(layer, samples=SAMPLES, seed=5)
    assert certificate.passed, certificate.table()
    z = Inclusion(phi, bln.regularizers.Simplex())(torch.tensor([[1e6, -1e6, 0.1]], dtype=torch.float64))
    assert float(z[0, 0]) == 1.0 - float(z[0, 1:].sum())


def test_no_minimiser_anywhere_is_said() -> None:
    layer = bilinear(bln.legendre.Burg())
    with torch.no_grad():
        layer.coupling.bias.fill_(1e12)
    (row,) = bln.verify(layer, samples=SAMPLES).failures
    assert "none of the drawn z⁻ has a minimiser" in row.where


@pytest.mark.parametrize(
    ("layer", "arguments", "words"),
    [
        (nn.Linear(3, 3), {}, "holds no LayerNorm"),
        ("layer", {}, "a pair"),
        ((bln.legendre.Tanh(),), {}, "a pair is"),
        (bln.legendre.Tanh(), {}, "alone is no map"),
        ((bln.legendre.BallHellinger(), bln.regularizers.InputConvexVector(3, (2,))), {}, "nothing independent"),
        (bilinear(bln.legendre.Tanh()), {"samples": 1}, "at least 2"),
        (bilinear(bln.legendre.Tanh()), {"samples": torch.zeros(0, 3)}, "batch"),
        (bilinear(bln.legendre.Tanh()), {"neural": 3}, "neural"),
        (
            bln.BilevelLayer(bln.couplings.Affine(nn.Tanh()), bln.divergences.Bregman(bln.legendre.Tanh())),
            {},
            "samples=a batch",
        ),
    ],
)
def test_misuse(layer: Any, arguments: dict[str, Any], words: str) -> None:
    with pytest.raises(bln.InputError, match=words):
        bln.verify(layer, **arguments)


def test_the_independent_solution_is_that_of_brentq_and_mpmath() -> None:
    v = torch.tensor([-3.0, -0.2, 0.4, 2.5], dtype=torch.float64)
    z = Inclusion(bln.legendre.FermiDirac(), bln.regularizers.SquaredL2(0.7))(v)
    for x, found in zip(v.tolist(), z.tolist(), strict=True):
        f = lambda t, x=x: mp.log(t / (1 - t)) + mp.mpf(0.7) * t - x  # noqa: E731
        assert abs(found - float(mp.findroot(f, (1e-9, 1 - 1e-9), solver="anderson"))) < 4e-16
        assert abs(found - brentq(lambda t, f=f: float(f(t)), 1e-12, 1 - 1e-12, xtol=1e-15)) < 4e-15


SHARED = {"closed_forms", "solvers", "prox", "numerics", "maps"}


@pytest.mark.parametrize("name", ["roots", "entrywise", "independent", "coupled", "vector", "reference"])
def test_the_independent_solution_shares_no_code_with_the_solvers(name: str) -> None:
    source = (ROOT / "bilevelnet" / "certificates" / f"{name}.py").read_text(encoding="utf-8")
    imports = [line for line in source.splitlines() if line.startswith(("from ..", "import"))]
    assert not [line for line in imports if any(f"..{unit}" in line for unit in SHARED)]
    assert not [call for call in ("grad_conjugate(", ".prox(", ".conjugate(", "bregman_prox") if call in source]


def kinked(neural: Any = None) -> Any:
    """z⁺ = z⁻ + relu(z⁻), its kinks at two of the entries given and near a third."""
    layer = bln.BilevelLayer(bln.couplings.Affine(nn.ReLU()), bln.divergences.Bregman(bln.legendre.Energy()))
    x = torch.tensor([[0.0, 0.7, -0.3], [1.2, 0.0, 1e-11]], dtype=torch.float64)
    return bln.verify(layer, neural, samples=x)


def test_points_at_a_kink_are_left_out_and_counted() -> None:
    certificate = kinked()
    assert certificate.passed, certificate
    (row,) = [r for r in certificate.rows if r.compared == "gradient in z⁻"]
    assert row.left_out == 3
    assert "3 points left out" in certificate.table()
    assert all(cell_len(line) <= 80 for line in certificate.table().splitlines())
    assert json.loads(certificate.to_json())["rows"][1]["left_out"] == 3


@pytest.mark.parametrize(
    "neural",
    [
        lambda z: z + z.detach().relu(),
        lambda z: z.detach() + z.relu(),
        lambda z: z + z.relu() + 1e-6 * (z - z.detach()),
    ],
    ids=["branch detached", "stream detached", "a slope 1e-6 off"],
)
def test_wrong_gradients_beside_kinks_are_refused(neural: Any) -> None:
    assert {row.compared for row in kinked(neural).failures} == {"neural form: gradient in z⁻"}


@pytest.mark.parametrize("jump", [1e-8, 1e-3, 1e-2, 0.1, 1.0])
@pytest.mark.parametrize("order", [1, 2])
def test_differences_across_a_kink_bound_their_error(jump: float, order: int) -> None:
    """A jump of z' or z'' anywhere on the stencil: left out, or |fine − z'(0)| ≤ gap."""
    p = torch.linspace(-2.5, 2.5, 1001, dtype=torch.float64)
    z = lambda t: jump * (compare.STEP * (t - p)).clamp(min=0) ** order / order  # noqa: E731
    slope = compare.Slope.of(None, p, torch.stack([z(t) for t in compare.STEPS]), z(0.0))
    truth = jump * (-compare.STEP * p).clamp(min=0) ** (order - 1) * (p < 0)
    off = torch.where(slope.smooth & (p != 0), (slope.fine - truth).abs(), 0.0)
    assert bool((off <= slope.gap * (1 + 1e-9) + 1e-15).all())
    assert bool(slope.smooth[p.abs() > 2].all())
    assert bool((~slope.smooth[p.abs() < 1.9]).any()) == (jump > (1e-6 if order == 1 else 0.05))


def test_table_json_and_plot(tmp_path: Path) -> None:
    layer = bilinear(bln.legendre.Tanh())
    certificate = bln.verify(layer, lambda z: torch.tanh(linear(layer, z)), SAMPLES)
    assert all(cell_len(line) <= 80 for line in certificate.table().splitlines())
    assert "counterexample to 'neural form: value': z⁻ = " in certificate.table()
    data = json.loads(certificate.to_json())
    assert not data["passed"]
    assert [row["compared"] for row in data["rows"]] == [row.compared for row in certificate.rows]
    certificate.plot(tmp_path / "figure.png")
    assert (tmp_path / "figure.png").stat().st_size > 5000


def test_the_same_seed_gives_the_same_certificate() -> None:
    layer = bilinear(bln.legendre.Tanh())
    first, second, other = (bln.verify(layer, samples=SAMPLES, seed=s) for s in (1, 1, 2))
    assert first.rows == second.rows != other.rows


def test_verify_loads_nothing_heavy_until_it_runs() -> None:
    heavy = ("scipy", "mpmath", "matplotlib", "cvxpy")
    code = f"import sys, bilevelnet as bln; bln.verify; print([m for m in {heavy!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.strip() == "[]"
