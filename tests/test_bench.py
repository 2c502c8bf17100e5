"""The bench: its cases are what they say, its measures are right, its commands write what they promise. No clock."""

from __future__ import annotations

import importlib.util
import itertools
import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from sklearn.neighbors import KNeighborsClassifier
from torch import nn
from typer.testing import CliRunner

import bilevelnet as bln
from bilevelnet_bench import metrics, separation
from bilevelnet_bench.cases import chains, coupled, deep, digits, proxes, quadratic, spirals
from bilevelnet_bench.cases import imports as import_cases
from bilevelnet_bench.cases import solvers as solver_cases
from bilevelnet_bench.cli import app
from bilevelnet_bench.peers import inverse_form, torch_linear
from bilevelnet_bench.training import Settings, accuracy, train


@pytest.fixture(autouse=True)
def _threads():
    """The commands set the number of threads."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


# Cases


def test_spirals_fill_the_square_and_are_separable_by_a_curve_only():
    data = spirals.spirals(3)
    assert [tuple(t.shape) for t in data] == [(1000, 2), (1000,), (500, 2), (500,)]
    assert data.y_train.bincount().tolist() == [500, 500]
    points = torch.cat([data.x_train, data.x_test])
    assert points.amin(0).tolist() == pytest.approx([-1.57, -1.57])
    assert points.amax(0).tolist() == pytest.approx([1.57, 1.57])
    assert bool(bln.legendre.Atan().domain.interior(points).all())
    assert separation.probe(*data) < 0.8
    neighbours = KNeighborsClassifier(5).fit(data.x_train.numpy(), data.y_train.numpy())
    assert neighbours.score(data.x_test.numpy(), data.y_test.numpy()) > 0.95


def test_spirals_follow_their_formula():
    # Radius 2θ + π and θ = 2π√U: the radius runs from π to 5π, and (radius − π)/4π = √U has mean 2/3.
    generator = torch.Generator().manual_seed(0)
    theta = 2 * math.pi * torch.rand(1500, generator=generator).sqrt()
    arm = torch.stack([(2 * theta + math.pi) * f(theta) for f in (torch.cos, torch.sin)], 1)
    arm[1::2] *= -1
    expected = spirals.rescaled(arm + torch.randn(1500, 2, generator=generator), 1.57)
    data = spirals.spirals(0)
    assert torch.allclose(torch.cat([data.x_train, data.x_test]), expected, atol=1e-6)  # float32: a few ulp of 15/1.57
    assert float(theta.mean()) == pytest.approx(4 * math.pi / 3, abs=4 * 1.5 / math.sqrt(1500))  # 4 standard errors


def test_data_and_networks_depend_on_the_seed_alone():
    assert all(torch.equal(a, b) for a, b in zip(spirals.spirals(1), spirals.spirals(1), strict=True))
    assert not torch.equal(spirals.spirals(1).x_train, spirals.spirals(2).x_train)
    one, two = (spirals.network("bregman", 5).state_dict() for _ in range(2))
    assert all(torch.equal(one[k], two[k]) for k in one)


def test_digits_lie_inside_the_domain():
    data = digits.digits(0)
    assert tuple(data.x_train.shape) == (1437, 64)
    assert tuple(data.x_test.shape) == (360, 64)
    assert float(data.x_train.min()) == pytest.approx(0.05)
    assert float(data.x_train.max()) == pytest.approx(0.95)
    assert data.y_test.bincount().min() >= 34
    assert spirals.network("standard", 0).chain[0].divergence.reference.uses_point is False
    assert type(digits.network("bregman", 0).chain[0].divergence.reference) is bln.divergences.Dual


def test_deep_chain_has_the_stated_weights_and_exact_halves():
    chain = deep.deep_chain(200)
    weights = torch.stack([c.weight for c in deep.couplings(chain)])
    assert float(weights.detach().std()) == pytest.approx(
        deep.SCALE / math.sqrt(deep.WIDTH), rel=0.02
    )  # 51,200 draws: 0.3 %
    assert torch.equal(weights, weights.float().double())
    assert torch.equal(deep.points(), deep.points().float().double())


# Peers


def test_torch_peer_is_the_standard_network_and_nothing_of_ours():
    ours = bln.models.BregmanMLP([3, 4, 2], bln.legendre.FermiDirac(), version="standard")
    peer = torch_linear.sequential([3, 4, 2], "fermi_dirac")
    assert not any(type(m).__module__.startswith("bilevelnet.") for m in peer.modules())
    for layer, linear in zip(ours, (m for m in peer if isinstance(m, nn.Linear)), strict=True):
        linear.load_state_dict(layer.coupling.state_dict())
    z = torch.rand(5, 3)
    assert torch.equal(ours(z), peer(z))


def test_bare_residual_is_the_chain():
    ours, bare = bln.models.BregmanMLP([3, 3, 3], bln.legendre.Tanh()), torch_linear.Residual([3, 3, 3])
    for layer, linear in zip(ours, bare, strict=True):
        linear.load_state_dict(layer.coupling.state_dict())
    z = torch.rand(5, 3) - 0.5
    assert torch.equal(ours(z), bare(z))


def test_inverse_form_is_the_chain_where_nothing_saturates():
    chain = deep.deep_chain(5)
    weights = [(c.weight, c.bias) for c in deep.couplings(chain)]
    z = deep.points()
    expected = chain(z)
    # |z| stays below 1 − 1e-2: five inverses lose at most two digits.
    assert torch.allclose(inverse_form.inverse_chain(z, weights), expected, rtol=0, atol=1e-13)
    assert torch.allclose(inverse_form.inverse_chain(z, weights, clamp=1e-5), expected, rtol=0, atol=1e-13)


def test_proxes_are_layers_without_a_reference():
    v = proxes.points(4, 6)
    for name, layer in proxes.layers().items():
        expected = bln.bregman_prox(layer.divergence.phi, layer.regularizer, v)
        assert torch.equal(layer(v), expected), name


# Metrics


def test_separation_measures_on_points_one_can_compute():
    x = torch.tensor([[0.0], [2.0], [10.0], [12.0]])
    y = torch.tensor([0, 0, 1, 1])
    assert separation.fisher_ratio(x, y) == pytest.approx(25)  # between 4 · 5², within 4 · 1²
    assert separation.probe(x, y, x, y) == 1


def test_spread_is_median_and_quartiles():
    assert metrics.spread([5.0, 1.0, 2.0, 4.0, 3.0]) == (3, 2, 4, 5)
    assert metrics.spread([2.0]) == (2, 2, 2, 1)


def test_interleave_takes_turns_and_compares_with_the_last():
    calls: list[str] = []
    found = metrics.interleave({"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}, 4, seconds=0)
    turns = [name for name, _ in itertools.groupby(calls)]  # a timing calls several times
    assert turns[-5:] == ["b", "a", "b", "a", "b"]  # alternating order: b a, a b, b a, a b
    assert set(found.times) == {"a", "b"}
    assert found.ratios["b"][:3] == (1, 1, 1)
    assert found.times["a"].samples == 4


def test_forward_backward_leaves_fresh_gradients():
    layer, x = nn.Linear(2, 3), torch.ones(1, 2)
    call = metrics.forward_backward(layer, x)
    call()
    once = layer.weight.grad.clone()
    call()
    assert torch.equal(layer.weight.grad, once)
    assert float(once.abs().max()) > 0
    metrics.forward(layer, x)()
    assert torch.equal(layer.weight.grad, once)


def test_peak_memory_counts_what_is_held_together():
    def call() -> None:
        a = torch.ones(1 << 18)
        b = a + 1
        del a
        (b * 2).sum()

    assert metrics.peak_memory(call) == pytest.approx(2 << 20, rel=1e-3)  # two of three MiB at a time


def test_records_are_json_lines_with_the_machine(tmp_path: Path):
    path = tmp_path / "deep" / "record.jsonl"
    metrics.record(path, what="first", value=metrics.spread([1.0, 2.0]), error=math.nan)
    metrics.record(path, what="second", layers=[separation.Separation(0.5, math.inf)])
    first, second = (json.loads(line) for line in path.read_text(encoding="utf-8").splitlines())
    assert first["value"] == {"median": 1.5, "low": 1.25, "high": 1.75, "samples": 2}
    assert first["error"] == "nan"
    assert second["layers"] == [{"probe": 0.5, "fisher": "inf"}]
    for line in (first, second):
        assert {"machine", "cores", "threads", "torch", "python", "date"} <= set(line)


def test_training_repeats_to_the_bit_and_learns():
    data = spirals.spirals(0, train=100, test=50)
    settings = Settings(epochs=3, batch=20, lr=1e-2, optimizer="adam")
    runs = [train(spirals.network("bregman", 0), data, settings, 0, "test") for _ in range(2)]
    assert runs[0].accuracies == runs[1].accuracies
    assert runs[0].accuracy == accuracy(runs[0].network, data)
    start = spirals.network("bregman", 0)
    assert runs[0].network.objective(data.x_train, data.y_train) < start.objective(data.x_train, data.y_train)


# Commands


def _run(*arguments: str) -> str:
    result = CliRunner().invoke(app, list(arguments), env={"COLUMNS": "80"}, catch_exceptions=False)
    assert result.exit_code == 0
    return result.stdout


def _records(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_demo_writes_its_table_pictures_and_record(tmp_path: Path):
    output = _run("demo", "--quick", "--out", str(tmp_path))
    table = [line for line in output.splitlines() if line.startswith(("┏", "┃", "┡", "│", "├", "└"))]
    assert max(map(len, table)) <= 80
    for row in ("spirals: test accuracy", "probe", "Fisher", "argmin again: gradient", "digits", "step"):
        assert any(row in line for line in table), row
    for name in ("demo-spirals.png", "demo-training.png"):
        assert (tmp_path / name).read_bytes().startswith(b"\x89PNG")
        assert str(tmp_path / name) in output
    records = _records(tmp_path / "demo.jsonl")
    assert {r["what"] for r in records} == {"test accuracy", "separation by layer", "argmin", "step"}
    certificates = [r["certificate"] for r in records if r["what"] == "argmin"]
    assert certificates
    assert all(c["passed"] for c in certificates)
    for part, most in (("value", 1e-14), ("gradient", 1e-9)):  # 45 eps; eps over the step 1e-4 of differences, and room
        assert max(row["error"] for c in certificates for row in c["rows"] if part in row["compared"]) <= most


def test_kernels_write_their_tables_and_record(tmp_path: Path):
    output = _run("kernels", "--quick", "--threads", "1", "--out", str(tmp_path))
    assert max(len(line) for line in output.splitlines() if str(tmp_path) not in line) <= 80
    records = _records(tmp_path / "kernels.jsonl")
    assert [r["case"] for r in records if r["what"] == "chain"] == [c.name for c in chains.QUICK]
    deep_errors = {r["form"]: max(r["errors"]) for r in records if r["what"] == "deep chain"}
    assert deep_errors["Chain, float32"] < 1e-5  # 20 layers of float32: 20 · 6e-8, and room for the sums of 16
    pairs = [r for r in records if r["what"] == "prox"]
    assert {r["pair"] for r in pairs} == set(proxes.layers())
    assert all(r["error_z"] < 1e-3 and r["error_gradient"] < 1e-3 for r in pairs)  # Clarabel's defaults: 1e-4 to 1e-5


def test_solvers_write_their_tables_and_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """With no peer but cvxpylayers, as a development set-up has it: the others are named as missing."""
    find_spec = importlib.util.find_spec
    absent = ("entmax", "jaxopt", "moreau", "qpax", "qpth")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name in absent else find_spec(name))
    output = _run("solvers", "--quick", "--threads", "1", "--out", str(tmp_path))
    assert max(len(line) for line in output.splitlines() if str(tmp_path) not in line) <= 80
    records = _records(tmp_path / "solvers.jsonl")
    assert {r["case"].split(",")[0] for r in records} == {
        c.problem for c in (*solver_cases.CASES, *coupled.COUPLED, *quadratic.QUADRATIC)
    }
    for r in records:
        # A few eps of float32 and of float64; times the condition of the active rows of quadratic programs, about 10.
        bound = {"sparsemax": 1e-6, "entmax 1.5": 1e-6, "quadratic program": 1e-13}.get(r["case"].split(",")[0], 1e-14)
        assert max(r["errors"]["bilevelnet"]) <= bound
    missing = [peer for r in records for peer in r["missing"]]
    assert set(missing) == {"entmax", "entmax, k = 64", "jaxopt.Bisection", coupled.LBFGS} | {
        *(quadratic.QPTH, quadratic.QPAX, quadratic.OSQP, quadratic.MOREAU)
    }
    assert output.count("installed") == len(missing)
    assert "fermi_dirac + huber" not in _run("solvers", "--quick", "--only", "simplex", "--out", str(tmp_path))


def test_imports_write_their_tables_and_record(tmp_path: Path):
    output = _run("import", "--quick", "--threads", "1", "--out", str(tmp_path))
    assert max(len(line) for line in output.splitlines() if str(tmp_path) not in line) <= 80
    assert "…" not in output  # a column too wide
    records = _records(tmp_path / "imports.jsonl")
    assert {r["case"] for r in records} == {c.name for c in import_cases.CASES}
    for r in records:
        assert (r["solver"] == "conic") == (r["case"] == "conic")
        # eps and room for sums; of a cone program what the condition of its adjoint's system makes of it
        assert max(r["errors"]["bilevelnet"]) <= (1e-10 if r["solver"] == "conic" else 1e-13)
        assert max(r["errors"]["cvxpylayers"]) <= 1e-3  # that the exact solution is of this problem
        assert r["building_ratio"]["median"] > 0
        assert r["peer"]


def test_solver_cases_state_their_problems_exactly():
    """The bisection and the formula of the gradient against the library, both in float64."""
    for case in solver_cases.CASES:
        v = case.points()[:2, :6].double() if len(case.shape) > 1 else case.points()[:6]
        case = replace(case, shape=tuple(v.shape))
        c = metrics.cotangent(v.shape, v.dtype)
        z, gradient = case.exact(v, c)
        layer, x = case.layer(), v.clone().requires_grad_()
        got = layer(x)
        got.backward(c)
        assert torch.allclose(got, z, rtol=1e-12, atol=1e-14)
        assert torch.allclose(x.grad, gradient, rtol=1e-10, atol=1e-13)
