"""Layers read out of cvxpy problems and written as such: f, D and g, values and gradients against cvxpylayers."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import cvxpy as cp
import numpy as np
import pytest
import torch
from catalog import LEGENDRE, REGULARIZERS, Spec, cases
from cvxpylayers.torch import CvxpyLayer

import bilevelnet as bln

F64 = torch.float64
TIGHT = {"tol_gap_abs": 1e-12, "tol_gap_rel": 1e-12, "tol_feas": 1e-12}
# What Clarabel reaches in z, asked for a gap of 1e-12 (it stops above that in the exponential and power cones, and z is
# off by the square root of the gap), and diffcp in its adjoint.
VALUE, GRADIENT = 5e-5, 2e-4


class Leaves(NamedTuple):
    """z, z⁻, W, b and a weight, with values."""

    z: Any
    p: Any
    W: Any
    b: Any
    lam: Any


def leaves(n: int = 3, width: int = 3) -> Leaves:
    draw = np.random.default_rng(n + width)
    return Leaves(
        cp.Variable(n, name="z"),
        cp.Parameter(width, name="z_prev"),
        cp.Parameter((n, width), name="W", value=draw.standard_normal((n, width))),
        cp.Parameter(n, name="b", value=draw.standard_normal(n)),
        cp.Parameter(nonneg=True, name="lam", value=0.3),
    )


# D + g, the constraints, and whether lam is among them; f is added.
FORMS: dict[str, Callable[[Leaves], tuple[Any, ...]]] = {
    "relu": lambda s: (cp.sum_squares(s.z) / 2, s.z >= 0),
    "residual": lambda s: (cp.sum_squares(s.z - s.p) / 2 + s.lam * cp.norm1(s.z),),
    "scaled_residual": lambda s: (2 * cp.sum_squares(s.p - s.z) + cp.sum_squares(s.z - 1), s.z <= 1),
    "group": lambda s: (cp.sum_squares(s.z - s.p) / 2 + 2 * s.lam * cp.norm(s.z),),
    "softmax": lambda s: (cp.sum(cp.kl_div(s.z, s.p)), cp.sum(s.z) == 1),
    "relative_entropy": lambda s: (cp.sum(cp.rel_entr(s.z, s.p)) + cp.sum_squares(s.z) / 2,),
    "sigmoid": lambda s: (cp.sum(cp.kl_div(s.z, s.p) + cp.kl_div(1 - s.z, 1 - s.p)),),
    "entropy_without_reference": lambda s: (-cp.sum(cp.entr(s.z)), s.z >= 0.1),
}


def problem_of(s: Leaves, name: str) -> tuple[cp.Problem, list[Any]]:
    """−⟨z, W z⁻ + b⟩ + D + g, DPP by y = W'z; and the learned parameters."""
    value, *constraints = FORMS[name](s)
    y = cp.Variable(s.p.size)
    problem = cp.Problem(cp.Minimize(value - y @ s.p - s.b @ s.z), [y == s.W.T @ s.z, *constraints])
    return problem, [p for p in problem.parameters() if p is not s.p]


@pytest.mark.parametrize("name", FORMS)
def test_agrees_with_cvxpylayers(name: str) -> None:
    s = leaves()
    problem, learned = problem_of(s, name)
    layer = bln.BilevelLayer.from_cvxpy(problem, s.z, s.p, learned)
    other = CvxpyLayer(problem, [s.p, *learned], [s.z], solver_args={"solve_method": "Clarabel", **TIGHT})
    z_prev = 0.2 + 0.6 * torch.rand(4, 3, dtype=F64)
    tensors = [torch.as_tensor(p.value, dtype=F64).requires_grad_() for p in learned]
    one, two = (z_prev.clone().requires_grad_() for _ in range(2))
    ours, (theirs,) = layer(one), other(two, *tensors)
    torch.testing.assert_close(ours, theirs, atol=VALUE, rtol=VALUE)
    c = torch.randn(4, 3, dtype=F64)
    ours.backward(c)
    theirs.backward(c)
    expected = {p.name(): t.grad for p, t in zip(learned, tensors, strict=True)} | {"z_prev": two.grad}
    found = {"z_prev": one.grad}
    for path, t in layer.named_parameters():
        last = path.split(".")[-1].removeprefix("raw_").replace("weight", "W").replace("bias", "b")
        found[last] = t.grad
        if path.endswith("raw_lam"):  # λ = softplus(raw), and c times the problem's own
            lam = layer.regularizer.lam.detach()
            found[last] = t.grad / -torch.expm1(-lam) * (lam / s.lam.value)
    assert found.keys() == expected.keys()
    for key, g in expected.items():
        torch.testing.assert_close(found[key], g, atol=GRADIENT, rtol=GRADIENT, msg=lambda m, key=key: f"{key}: {m}")


def test_pieces_are_those_of_the_problem() -> None:
    s = leaves()
    layer = bln.BilevelLayer.from_cvxpy(*_read(s, "residual"))
    assert type(layer.coupling) is bln.couplings.Bilinear
    assert torch.equal(layer.coupling.weight, torch.from_numpy(s.W.value))
    assert type(layer.divergence.reference) is bln.divergences.Identity
    assert (layer.divergence.phi.label, layer.regularizer.label) == ("energy", "l1")
    assert float(layer.regularizer.lam.detach()) == pytest.approx(0.3, rel=1e-15)
    layer = bln.BilevelLayer.from_cvxpy(*_read(s, "scaled_residual"))
    assert layer.divergence.phi.scale == 4  # 2‖z − z⁻‖²
    assert "squared_l2" in layer.regularizer.label
    assert type(bln.BilevelLayer.from_cvxpy(*_read(s, "relu")).divergence.reference) is bln.divergences.Zero


def _read(s: Leaves, name: str) -> tuple[Any, ...]:
    problem, learned = problem_of(s, name)
    return problem, s.z, s.p, learned


SPELLINGS: dict[str, Callable[[Leaves], Any]] = {
    "affine_map": lambda s: s.z @ (s.W @ s.p + s.b),
    "row_times_matrix": lambda s: (s.z @ s.W) @ s.p + s.b @ s.z,
    "transposed": lambda s: s.p @ s.W.T @ s.z + s.z.T @ s.b,
    "entrywise": lambda s: cp.sum(cp.multiply(s.W @ s.p + s.b, s.z)),
    "halves": lambda s: cp.scalar_product(s.z, s.W @ s.p) / 2 + s.z @ (s.W @ (s.p / 2)) + cp.sum(cp.multiply(s.z, s.b)),
    "columns": lambda s: s.b @ s.z + sum(s.p[j] * (s.W[:, j] @ s.z) for j in range(4)),
    "trace": lambda s: cp.trace(cp.reshape(s.W @ s.p + s.b, (3, 1), "F") @ cp.reshape(s.z, (1, 3), "F")),
}


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_the_coupling_is_read_however_it_is_written(spelling: str) -> None:
    s = leaves(3, 4)
    problem = cp.Problem(cp.Maximize(SPELLINGS[spelling](s) - cp.sum_squares(s.z) / 2), [s.z >= 0])
    layer = bln.BilevelLayer.from_cvxpy(problem, s.z, s.p, [s.W, s.b])
    assert type(layer.coupling) is bln.couplings.Bilinear
    z_prev = torch.randn(5, 4, dtype=F64)
    weight, bias = torch.from_numpy(s.W.value), torch.from_numpy(s.b.value)
    torch.testing.assert_close(layer(z_prev), (z_prev @ weight.mT + bias).relu(), atol=1e-14, rtol=1e-14)


def test_another_affine_coupling_keeps_the_names_of_the_parameters() -> None:
    s = leaves(3, 4)
    problem = cp.Problem(cp.Minimize(cp.sum_squares(s.z - s.W @ s.p - s.b + 1)), [s.z >= 0])
    layer = bln.BilevelLayer.from_cvxpy(problem, s.z, s.p, [s.W, s.b])
    assert [name for name, _ in layer.named_parameters()] == ["coupling.module.W", "coupling.module.b"]
    z_prev, module = torch.randn(2, 5, 4, dtype=F64), layer.coupling.module
    expected = (z_prev @ module.W.mT + module.b - 1).relu()
    torch.testing.assert_close(layer(z_prev), expected, atol=1e-14, rtol=1e-14)
    layer.load_state_dict(layer.state_dict())
    layer.float()
    assert layer(z_prev.float()).dtype is torch.float32


def test_without_values_the_coupling_starts_as_linear() -> None:
    z, p = cp.Variable(3), cp.Parameter(4)
    w, b = cp.Parameter((3, 4), name="W"), cp.Parameter(3, name="b")
    problem = cp.Problem(cp.Minimize(cp.sum_squares(z) / 2 - z @ (w @ p + b)), [z >= 0])
    layer = bln.BilevelLayer.from_cvxpy(problem, z, p, [w, b])
    assert 0 < float(layer.coupling.weight.detach().abs().max()) <= 0.5
    assert w.value is None
    assert z.value is None


REFUSED: dict[str, tuple[Callable[[Leaves], Any], Callable[[Leaves], list[Any]], str]] = {
    "not convex": (lambda s: -cp.sum_squares(s.z), lambda s: [], "not convex"),
    "another variable": (lambda s: cp.sum_squares(s.z - cp.Variable(3, name="w")), lambda s: [], "variable w beside z"),
    "a set that moves": (lambda s: cp.sum_squares(s.z), lambda s: [s.z <= s.p], r"Box.hi depends on z⁻"),
    "a weight in two places": (
        lambda s: cp.sum_squares(s.z) + s.lam * cp.norm1(s.z),
        lambda s: [s.z <= s.lam],
        "lam enters twice",
    ),
    "three in a product": (lambda s: cp.sum_squares(s.z) - s.lam * (s.z @ (s.W @ s.p)), lambda s: [], "once more"),
    "a norm as D": (lambda s: cp.sum_squares(s.z) + cp.norm(s.z - s.p), lambda s: [], "no Bregman divergence"),
    "two entropies as D": (
        lambda s: cp.sum(cp.kl_div(s.z, s.p)) + cp.sum_squares(s.z - s.p),
        lambda s: [],
        "no Bregman divergence of boltzmann_shannon",
    ),
    "a constraint on z⁻": (lambda s: cp.sum_squares(s.z), lambda s: [s.p >= 0], "does not hold z"),
    "a cone": (lambda s: cp.sum_squares(s.z), lambda s: [cp.SOC(s.z[0], s.z[1:])], "a sum of atoms that is no ball"),
    "no strictly convex part": (lambda s: cp.norm1(s.z), lambda s: [], "not strictly convex"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_layer_is_refused(name: str) -> None:
    s = leaves()
    value, constraints, words = REFUSED[name]
    problem = cp.Problem(cp.Minimize(value(s) - s.z @ (s.W @ s.p + s.b)), constraints(s))
    with pytest.raises(bln.InputError, match=words):
        bln.BilevelLayer.from_cvxpy(problem, s.z, s.p, [q for q in problem.parameters() if q is not s.p])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda pr, s: ("x", s.z, s.p, [s.W, s.b]), "takes a cvxpy.Problem"),
        (lambda pr, s: (pr, s.z, s.p, [s.W]), "missing b"),
        (lambda pr, s: (pr, s.z, s.p, [s.W, s.b, s.lam]), "not in it lam"),
        (lambda pr, s: (pr, s.z, s.W, [s.p, s.b]), r"shape \(n,\), not W"),
        (lambda pr, s: (pr, s.p, s.p, [s.W, s.b]), "cvxpy.Variable"),
        (lambda pr, s: (pr, cp.Variable(3, name="q"), s.p, [s.W, s.b]), "q is no variable"),
    ],
)
def test_misuse_is_refused(change: Any, words: str) -> None:
    s = leaves()
    problem = cp.Problem(cp.Minimize(cp.sum_squares(s.z) - s.z @ (s.W @ s.p + s.b)))
    with pytest.raises(bln.InputError, match=words):
        bln.BilevelLayer.from_cvxpy(*change(problem, s))


def solved(written: Any, layer: bln.BilevelLayer, z_prev: torch.Tensor) -> torch.Tensor:
    """z⁺ by cvxpy."""
    written.previous.value = z_prev.numpy()
    if written.dual is not None:
        written.dual.value = layer.divergence.dual(z_prev, None).detach().numpy()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that Clarabel stopped above 1e-12
        written.problem.solve(solver=cp.CLARABEL, **TIGHT)
    return torch.from_numpy(written.variable.value)


def round_trip(phi: Any, g: Any, reference: Any) -> None:
    layer = bln.BilevelLayer(bln.couplings.Bilinear(4, 4), bln.divergences.Bregman(phi, reference), g).double()
    with torch.no_grad():  # small, so that v lies where every φ has a solution
        layer.coupling.weight *= 0.1
        layer.coupling.bias *= 0.1
    z_prev = phi.grad_conjugate(_inner_dual(phi))
    written = bln.interop.to_cvxpy(layer)
    assert written.problem.is_dpp()
    expected = layer(z_prev).detach()
    torch.testing.assert_close(solved(written, layer, z_prev), expected, atol=VALUE, rtol=VALUE)
    if written.dual is None and reference is None:
        back = bln.BilevelLayer.from_cvxpy(*written[:4])
        torch.testing.assert_close(back(z_prev).detach(), expected, atol=1e-12, rtol=1e-12)  # a few ulp of sums


def _inner_dual(phi: Any) -> torch.Tensor:
    """A dual point well inside."""
    u = torch.linspace(0.3, 0.6, 4, dtype=F64)
    return -1 - u if bool((phi.dual_domain.contains(-u)).all()) and not bool(phi.dual_domain.contains(u).all()) else u


def expressible(piece: Spec) -> bool:
    """Whether it acts on entries or vectors and states a cvxpy expression."""
    built = piece.build()
    base = bln.legendre.Legendre if isinstance(built, bln.legendre.Legendre) else bln.regularizers.Regularizer
    if built.event_ndim > 1 or type(built).expression is base.expression or built.width not in (None, 4):
        return False
    try:
        built.expression(cp.Variable(4))
    except bln.InputError:
        return False
    return True


@pytest.mark.parametrize("piece", cases([p for p in LEGENDRE if expressible(p)]))
def test_every_divergence_with_an_expression_is_written(piece: Spec) -> None:
    round_trip(piece.build(), bln.regularizers.Zero(), None)


@pytest.mark.parametrize("piece", cases([p for p in REGULARIZERS if expressible(p)]))
def test_every_regularizer_with_an_expression_is_written(piece: Spec) -> None:
    round_trip(bln.legendre.Energy(), piece.build(), bln.divergences.Zero())
