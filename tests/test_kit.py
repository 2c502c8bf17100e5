"""The kit for pieces of one's own: reports, classes for pytest, strategies."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from torch import Tensor, nn

import bilevelnet as bln
from bilevelnet.testing import check_divergence, strategies, suites

L, R, D = bln.legendre, bln.regularizers, bln.divergences


class MyEntropy(L.Separable):
    """φ by its value alone."""

    domain = bln.domains.Positive()

    def value(self, z: Tensor) -> Tensor:
        return z * z.log() - z + z**2 / 4


class MyPenalty(R.Smooth):
    """g by its value alone."""

    def value(self, z: Tensor) -> Tensor:
        return z.cosh() - 1


class Kinked(R.Separable):
    """Its terms cancel left of the kink at 0, where prox(0) rests on the edge."""

    def value(self, z: Tensor) -> Tensor:
        return z.abs() + z.exp()


class Shrink(R.Separable):
    """A prox without a default step."""

    def value(self, z: Tensor) -> Tensor:
        return z.abs()

    def prox(self, v: Tensor, step: Any) -> Tensor:  # type: ignore[override]
        return v.sign() * (v.abs() - step).clamp(min=0)


@pytest.mark.parametrize("g", [Kinked(), Shrink()], ids=lambda g: type(g).__name__)
def test_right_regularizers_of_one_s_own(g: Any) -> None:
    bln.testing.check_regularizer(g)


def test_a_value_that_is_none_is_told() -> None:
    class Nothing(L.Separable):
        domain = bln.domains.Positive()

    class Reduced(MyEntropy):
        def value(self, z: Tensor) -> Tensor:
            return super().value(z).sum()

    for phi, words in ((Nothing(), "does not state value"), (Reduced(), r"has shape \(\), not \(2,\)")):
        with pytest.raises(bln.InputError, match=words):
            bln.testing.check_legendre(phi)


class TestPhi(bln.testing.LegendreLaws):
    piece = MyEntropy()


class TestG(bln.testing.RegularizerLaws):
    piece = MyPenalty()


class TestD(bln.testing.DivergenceLaws):
    piece = D.Bregman(MyEntropy())


class TestClosedForm(bln.testing.ClosedFormLaws):
    phi, g = L.Tanh(), R.L1(0.2)


class TestLayer(bln.testing.LayerLaws):
    piece = bln.BilevelLayer(bln.couplings.Bilinear(3, 3), D.Bregman(L.FermiDirac()), R.L1(0.1))


class TestLayerWithInputs(bln.testing.LayerLaws):
    piece = bln.BilevelLayer(bln.couplings.Affine(nn.Linear(3, 3)), D.Bregman(L.Atan()))
    z_prev = torch.linspace(-1, 1, 12).reshape(4, 3)


SUITES = [suites.LegendreLaws, suites.RegularizerLaws, suites.DivergenceLaws, suites.ClosedFormLaws, suites.LayerLaws]


@pytest.mark.parametrize("suite", SUITES, ids=lambda s: s.__name__)
def test_a_suite_has_one_test_a_law_and_names_what_is_missing(suite: type) -> None:
    module = {
        "LegendreLaws": suites.legendre,
        "RegularizerLaws": suites.regularizer,
        "DivergenceLaws": suites.divergence,
        "ClosedFormLaws": suites.closed_form,
        "LayerLaws": suites.layer,
    }[suite.__name__]
    laws = [law.name for law in (*module.LAWS, *getattr(module, "THOROUGH", ()))]  # type: ignore[attr-defined]
    tests = [n for n in vars(suite) if n.startswith("test ")]
    assert tests == [f"test {law}" for law in laws]
    with pytest.raises(bln.InputError, match="set "):
        getattr(suite(), tests[0])()


MISTAKES = {
    "a class": (lambda: bln.testing.check_legendre(L.Energy), "give Energy"),
    "a g": (lambda: bln.testing.check_legendre(R.Zero()), "check_regularizer takes it"),
    "a φ": (lambda: bln.testing.check_layer(L.Energy()), "check_legendre takes it"),
    "a φ for a D": (lambda: bln.testing.check_divergence(L.Energy()), "check_legendre takes it"),
    "a pair in the wrong order": (lambda: bln.testing.check_closed_form(R.Zero(), L.Energy()), "not Zero"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_another_kind_of_piece_is_told(mistake: str) -> None:
    call, remedy = MISTAKES[mistake]
    with pytest.raises(bln.InputError, match=remedy):
        call()


@pytest.mark.parametrize("phi", [MyEntropy(), L.Tanh(), L.BallLogBarrier(), L.LogDet()], ids=lambda p: p.label)
def test_every_bounded_end_is_reached(phi: Any) -> None:
    rows = {row.compared: row for row in bln.testing.check_legendre(phi).rows}
    assert rows["|∇φ| → ∞ at the ends of dom φ"].points > 0


def test_derivatives_of_a_constant_have_memory() -> None:
    z = torch.ones(2, dtype=torch.float64)
    assert R.Deadzone(0.5, 0.4).hessian(z).tolist() == [0.0, 0.0]


def test_a_suite_fails_with_a_counterexample() -> None:
    class Wrong(L.Energy):
        key = ""

        def grad(self, z: Tensor) -> Tensor:
            return 1.001 * z

    class Suite(bln.testing.LegendreLaws):
        piece = Wrong()

    with pytest.raises(AssertionError, match="counterexample"):
        getattr(Suite(), "test ∇φ is the derivative of φ")()
    getattr(Suite(), "test float32 agrees with float64")()


def test_pytest_collects_a_subclass(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A file of four lines: one item a law, the base class none."""
    file = tmp_path / "test_one_of_mine.py"
    file.write_text(
        "import bilevelnet as bln\nfrom bilevelnet.testing import LegendreLaws\n"
        "class TestMine(LegendreLaws):\n    piece = bln.legendre.Tanh()\n"
    )
    assert pytest.main(["-q", "-p", "no:cacheprovider", "-c", os.devnull, str(file)]) == 0
    assert f"{len(suites.legendre.LAWS)} passed" in capsys.readouterr().out


def quartic(z: Tensor, p: Tensor) -> Tensor:
    return ((z - p) ** 2).sum(-1) + ((z - p) ** 4).sum(-1)


DIVERGENCES: dict[str, Any] = {
    **{f"bregman {k}": lambda c=c: D.Bregman(c(**c.examples[0])) for k, c in L.registry.items()},
    "row stochastic": lambda: D.Bregman(L.FermiDirac(), D.RowStochastic(3, 5)),
    "dual": lambda: D.Bregman(L.Tanh(), D.Dual(nn.Linear(3, 5))),
    "zero": lambda: D.Bregman(L.Tanh(), D.Zero()),
    "network": lambda: D.Bregman(L.InputConvex((3,))),
    "squared euclidean": D.SquaredEuclidean,
    **{
        f"{'reverse ' if r else ''}{k}": lambda k=k, r=r: D.FDivergence(k, reverse=r)
        for k in ("kl", "chi2", "hellinger", "tv")
        for r in (False, True)
    },
    "function": lambda: D.Function(quartic),
    "function, entry by entry": lambda: D.Function(lambda z, p: (z - p).cosh() - 1, event_ndim=0),
}


@pytest.mark.parametrize("name", DIVERGENCES)
def test_laws_of_divergences(name: str) -> None:
    report = check_divergence(DIVERGENCES[name]())
    assert report.rows


@given(strategies.legendres())
def test_laws_of_bregman_divergences_at_drawn_weights(phi: Any) -> None:
    check_divergence(D.Bregman(phi))


@given(strategies.domains())
def test_drawn_domains_hold_their_inner_point(domain: Any) -> None:
    inner = torch.tensor(domain.inner(), dtype=torch.float64)
    assert bool(domain.interior(inner))
    assert bool(domain.contains(inner))


@given(strategies.domains().flatmap(lambda d: strategies.points(d).map(lambda z: (d, z))))
def test_drawn_points_lie_inside(drawn: tuple[Any, Tensor]) -> None:
    domain, z = drawn
    assert bool(domain.interior(z).all())
