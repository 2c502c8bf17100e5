"""The command line: verify, check, new, and the atlas."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from command_line import run
from rich.cells import cell_len

import bilevelnet as bln
from bilevelnet.certificates import atlas
from bilevelnet.cli.verify import _cells, _line


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, and off sys.path again afterwards."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


MINE = """
import torch, bilevelnet as bln
class Bad(bln.legendre.FermiDirac):
    def grad(self, z):
        return torch.log(z / (1 + z))
def right():
    return bln.BilevelLayer(bln.couplings.Bilinear(2, 2), bln.divergences.Bregman(bln.legendre.Tanh()))
wrong = bln.BilevelLayer(bln.couplings.Bilinear(2, 2), bln.divergences.Bregman(Bad()))
pair = bln.legendre.Tanh(), bln.regularizers.L1(0.1)
kl = bln.divergences.FDivergence("kl")
bregman = bln.divergences.Bregman(Bad())
concave = bln.divergences.Function(lambda z, p: -((z - p) ** 2).sum(-1))
def broken():
    raise ValueError("mine")
"""


def test_verify_by_name(folder: Path) -> None:
    (folder / "mine_to_verify.py").write_text(MINE)
    good = run("verify", "mine_to_verify:right", "--samples", "4", "--json", "report.json")
    assert good.exit_code == 0, good.output
    assert json.loads((folder / "report.json").read_text(encoding="utf-8"))["passed"]
    bad = run("verify", "mine_to_verify:wrong", "--samples", "4")
    assert bad.exit_code == 1
    assert "NOT certified" in bad.output
    assert run("verify", "mine_to_verify:pair", "--samples", "4").exit_code == 0
    checked = run("check", "mine_to_verify:Bad")
    assert checked.exit_code == 1
    assert "counterexample to" in checked.output
    assert all(cell_len(line) <= 80 for line in checked.output.splitlines())


def test_check_a_divergence(folder: Path) -> None:
    (folder / "mine_to_check.py").write_text(MINE)
    right = run("check", "mine_to_check:kl")
    assert right.exit_code == 0, right.output
    assert "D(z⁻, z⁻) = 0" in right.output
    assert run("check", "mine_to_check:concave").exit_code == 1
    both = run("check", "mine_to_check:bregman")  # the laws of φ, then those of D
    assert both.exit_code == 1
    assert "counterexample to '∇φ is the derivative of φ'" in both.output
    assert "D(z, z⁻) ≥ 0" in both.output


def test_what_the_users_own_code_raises_is_told(folder: Path) -> None:
    (folder / "mine_to_break.py").write_text(MINE)
    (folder / "mine_unfinished.py").write_text("x = (")
    (folder / "mine_missing.py").write_text("import no_such_module_either")
    for target, words in (
        ("mine_to_break:broken", "ValueError: mine"),
        ("mine_unfinished:x", "SyntaxError"),
        ("mine_missing:x", "no_such_module_either"),
        ("mine_to_break:Bad", "alone is no map"),
    ):
        result = run("verify", target)
        assert result.exit_code == 2, result.output
        assert words in " ".join(result.output.replace("│", " ").split())
    (folder / "file").write_text("")
    result = run("verify", "mine_to_break:pair", "--json", "file/report.json")
    assert result.exit_code == 2
    assert "cannot be written" in " ".join(result.output.split())


@pytest.mark.parametrize(
    ("target", "words"),
    [("nothing", "module:attribute"), ("no_such_module:x", "no module"), ("math:pie", "it has"), ("math:pi", "float")],
)
def test_a_wrong_name_is_told(target: str, words: str) -> None:
    for command in ("verify", "check"):
        result = run(command, target)
        assert result.exit_code == 2
        assert words in " ".join(result.output.replace("│", " ").split())


def test_the_atlas_command_reports_and_fails(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from bilevelnet.cli import verify as command

    holds = atlas.pair("tanh", "zero")
    fails = atlas.Entry("tanh", "l1", "iii", "closed_form", 0.5, float("nan"), False, "value: error 5e-1")
    monkeypatch.setattr(command, "entries", lambda: iter([holds, fails]))
    result = run("verify", "--json", str(tmp_path / "deep" / "report.json"))
    assert result.exit_code == 1
    assert "1 of 2 hold, 1 FAIL" in result.output
    assert all(cell_len(line) <= 80 for line in result.output.splitlines())
    data = json.loads((tmp_path / "deep" / "report.json").read_text(encoding="utf-8"))
    assert [entry["passed"] for entry in data["entries"]] == [True, False]
    monkeypatch.setattr(command, "entries", lambda: iter([holds]))
    assert run("verify").exit_code == 0


def test_the_pairs_of_the_atlas() -> None:
    pairs = atlas.pairs()
    assert {phi for phi, _ in pairs} == set(bln.legendre.registry)
    assert len(pairs) > 120
    names = [*pairs, *((name, "zero") for name in atlas.NETWORKS)]
    lines = [_line(_cells(atlas.Entry(*name, "iii", "closed_form", 1e-16, 1e-12, True))) for name in names]
    assert {cell_len(line) for line in lines} == {79}  # no cell is wider than its column


@pytest.mark.heavy
def test_the_atlas_holds() -> None:
    assert not [entry for entry in atlas.entries() if not entry.passed]


@pytest.mark.parametrize(
    ("kind", "chosen"),
    [
        ("divergence", "test_layer"),
        ("regularizer", "test_prox"),
        pytest.param("divergence", "test", marks=pytest.mark.heavy),
        pytest.param("regularizer", "test", marks=pytest.mark.heavy),
    ],
)
def test_new_files_pass_their_test(kind: str, chosen: str, folder: Path) -> None:
    result = run("new", kind, "my_piece")
    assert result.exit_code == 0, result.output
    assert len((folder / "my_piece.py").read_text(encoding="utf-8").splitlines()) <= 15
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", chosen]
    done = subprocess.run(command, capture_output=True, text=True, cwd=folder)
    assert done.returncode == 0, done.stdout
    assert ("2 passed" if chosen == "test" else "1 passed, 1 deselected") in done.stdout
    again = run("new", kind, "my_piece")
    assert again.exit_code == 2
    assert "not overwritten" in " ".join(again.output.split())


@pytest.mark.parametrize("name", ["My", "1a", "class", "a-b", "torch", "test_a", "../x"])
def test_bad_names_write_nothing(name: str, folder: Path) -> None:
    assert run("new", "divergence", name).exit_code == 2
    assert not list(folder.iterdir())


@pytest.mark.parametrize("kind", ["divergence", "regularizer"])
def test_new_and_check_print_80_columns(kind: str, folder: Path) -> None:
    result = run("new", kind, "my_potential_x")
    lines = result.output.splitlines()
    target = "bilevelnet.legendre:Elu" if kind == "divergence" else "bilevelnet.regularizers:L1"
    assert all(cell_len(line) <= 80 for line in [*lines, *run("check", target).output.splitlines()])
    assert lines[-1] == "next: python -m pytest test_my_potential_x.py"
