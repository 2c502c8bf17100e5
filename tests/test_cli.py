"""The command bilevelnet: its tables fit 80 columns and say what the registries and the solvers say."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from command_line import run
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

import bilevelnet as bln
from bilevelnet.cli import catalog, tables
from bilevelnet.closed_forms.absorb import rules
from bilevelnet.closed_forms.span import INVERSES

REGISTRIES = {"legendre": bln.legendre.registry, "regularizers": bln.regularizers.registry}


@pytest.fixture(scope="module")
def data() -> dict[str, Any]:
    """What ``bilevelnet catalog --json`` prints."""
    result = run("catalog", "--json")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


@pytest.fixture(scope="module")
def text(data: dict[str, Any]) -> str:
    """What ``bilevelnet catalog`` prints; the pairs are those of ``data``, so that they are bound once."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(catalog.SECTIONS, "pairs", lambda: data["pairs"])
        result = run("catalog")
    assert result.exit_code == 0, result.output
    return result.stdout


def test_fits_80_columns(text: str) -> None:
    assert not [line for line in text.splitlines() if cell_len(line) > 80 or line != line.rstrip()]


@pytest.mark.parametrize("section", list(REGISTRIES))
def test_one_record_a_class(section: str, data: dict[str, Any]) -> None:
    registry, module = REGISTRIES[section], getattr(bln, section)
    assert [r["key"] for r in data[section]] == list(registry)
    for record in data[section]:
        piece = module.get(record["key"], **record["example"])
        assert type(piece).__name__ == record["class"]
        assert record["event_ndim"] == piece.event_ndim
        assert record["formula"]
        for name in record["parameters"]:  # names that get() takes
            with pytest.raises(bln.InputError, match="no parameter"):
                module.get(record["key"], **{name + "_": 1.0})


@pytest.mark.parametrize("section", list(REGISTRIES))
def test_every_key_has_a_row_and_its_formula_one_line(section: str, data: dict[str, Any]) -> None:
    lines = run("catalog", "--section", section).stdout.splitlines()
    first_words = {line.split()[0] for line in lines if line and line[0] != " "}
    for record in data[section]:
        assert record["key"] in first_words
        if cell_len(record["formula"]) <= 76:  # what the indent leaves
            assert "    " + record["formula"] in lines


def test_what_is_said_of_a_phi(data: dict[str, Any]) -> None:
    records = {r["key"]: r for r in data["legendre"]}
    for key, record in records.items():
        phi = bln.legendre.get(key, **record["example"])
        assert record["strong_convexity"] == float(phi.strong_convexity)
        assert (record["dual_domain"] is None) == (phi.dual_domain == bln.domains.Reals())
        assert (record["root"] is None) == bool(phi.event_ndim)
    shown = {key: (r["domain"], r["dual_domain"], r["root"]) for key, r in records.items()}
    assert shown["atan"] == ("(−π/2, π/2)", None, "u")
    assert shown["burg"] == ("(0, ∞)", "(−∞, 0)", "log")
    assert shown["exponential"] == ("ℝ", "(0, ∞)", "z")
    assert shown["ball_hellinger"] == ("‖z‖_2 ≤ 1", None, None)
    assert shown["log_det"] == ("Z ≻ 0", "Z ≺ 0", None)


def test_what_a_regularizer_states_runs(data: dict[str, Any]) -> None:
    cp = pytest.importorskip("cvxpy")
    for record in data["regularizers"]:
        g = bln.regularizers.get(record["key"], **record["example"])
        shape = [(), (g.width or 4,), (2, 2)][g.event_ndim]
        z = torch.full(shape, 0.3, dtype=torch.float64)
        calls = {"value": g.value, "prox": g.prox, "conjugate": g.conjugate}
        for name in record["stated"]:
            if name == "expression":
                g.expression(cp.Variable(shape, symmetric=record["key"] == "psd_trace"))
            else:
                assert not calls[name](z).isnan().any(), (record["key"], name)
        assert (record["kind"] == "coupled") == bool(g.event_ndim)
        assert record["kind"] != "piecewise linear" or all(t.pieces() is not None for t in g.terms())


def test_what_is_not_stated_is_not_claimed() -> None:
    class Bare(bln.regularizers.Separable):
        """g(z) = z⁴."""

        key = "bare"

        def value(self, z: torch.Tensor) -> torch.Tensor:
            return z**4

    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(bln.regularizers.registry, "bare", Bare)
        (record,) = [r for r in catalog.convex_regularizers() if r["key"] == "bare"]
    assert record["stated"] == ["value"]
    assert (record["kind"], record["formula"]) == ("mixed", "g(z) = z⁴")


def test_known_sums_are_closed_forms(data: dict[str, Any]) -> None:
    assert [frozenset(s["basis"]) for s in data["known"]["spans"]] == list(INVERSES)
    for span in data["known"]["spans"]:
        for phi, h in span["sums"]:
            pieces = catalog.first(bln.legendre.registry[phi]), catalog.first(bln.regularizers.registry[h])
            plan = bln.solvers.bind(*pieces, "closed_form")[0].explain()
            assert f"absorb {h} into {phi} ({span['inverse']})" in plan
    shown = {(p["phi"], p["h"]): p["inverse"] for p in data["known"]["pairs"]}
    assert shown == {(phi.key, h.key): rule.name for (phi, h), rule in rules().items() if phi.key}


def test_pairs_are_those_of_bind(data: dict[str, Any]) -> None:
    found = {(r["phi"], r["g"]): r for r in data["pairs"]}
    assert list(found) == [(phi, g) for phi in bln.legendre.registry for g in bln.regularizers.registry]
    for key in random.Random(0).sample(sorted(found), 24):
        pieces = [catalog.first(registry[k]) for registry, k in zip(REGISTRIES.values(), key, strict=True)]
        try:
            want = bln.solvers.bind(*pieces, "auto")[0].name
        except bln.InputError:
            want = None
        assert found[key]["solver"] == want, key
        assert (found[key]["reason"] is None) == (want is not None)


def test_the_matrix_is_read_by_row_and_column(text: str, data: dict[str, Any]) -> None:
    """Column heads run downwards; each letter stands for the solver that the legend names."""
    lines = text.partition("The solver that auto chooses")[2].splitlines()[1:]
    keys = list(bln.legendre.registry)
    rows = {line.split()[0]: line for line in lines if line.split()[:1] and line.split()[0] in keys}
    assert list(rows) == keys
    start = min(i for i, line in enumerate(lines) if line.startswith(" "))
    heads = lines[start : lines.index(rows[keys[0]])]
    label = max(map(len, keys)) + 1
    names = {letter: name for name, letter in tables.solver_letters().items()}
    seen = {}
    for column in range(label, 80, 2):
        g = "".join(line[column : column + 1] for line in heads).strip()
        for phi, row in rows.items():
            if g:
                seen[phi, g] = names.get(row[column])
    assert seen == {(r["phi"], r["g"]): r["solver"] for r in data["pairs"]}


def test_letters_of_the_solvers_differ() -> None:
    letters = tables.solver_letters()
    assert list(letters) == list(bln.solvers.registry)
    assert len({*letters.values(), tables.NONE, tables.UNFIT}) == len(letters) + 2
    assert [letters[name] for name in ("closed_form", "scalar", "multiplier", "conic")] == list("csmk")


def test_a_wider_registry_is_split_into_blocks(data: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    wide = [{**r, "g": f"{r['g']}_{k}"} for k in range(3) for r in data["pairs"]]
    monkeypatch.setitem(catalog.SECTIONS, "pairs", lambda: wide)
    lines = run("catalog", "--section", "pairs").stdout.splitlines()
    blocks = -(-3 * len(bln.regularizers.registry) // ((80 - max(map(len, bln.legendre.registry)) - 1) // 2))
    assert blocks > 1
    assert len([line for line in lines if line.startswith("energy ")]) == blocks
    assert max(map(cell_len, lines)) <= 80


def test_a_section_alone_and_in_a_file(data: dict[str, Any], tmp_path: Path) -> None:
    file = tmp_path / "catalog.json"
    result = run("catalog", "--section", "known", "--out", str(file))
    assert (result.exit_code, result.stdout) == (0, "")
    assert json.loads(file.read_text(encoding="utf-8")) == {"known": data["known"]}


def test_a_wrong_section_lists_the_sections() -> None:
    result = run("catalog", "--section", "solvers")
    assert result.exit_code == 2
    assert all(section in result.output for section in catalog.SECTIONS)


def test_the_package_runs_as_a_module() -> None:
    done = subprocess.run([sys.executable, "-m", "bilevelnet", "--version"], capture_output=True, text=True)
    assert done.stdout == f"bilevelnet {bln.__version__}\n", done.stderr


def test_version() -> None:
    assert run("--version").stdout == f"bilevelnet {bln.__version__}\n"


@pytest.mark.parametrize("missing", ["typer", "rich"])
def test_without_the_extra_one_line_names_it(missing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [m for m in sys.modules if m.split(".")[0] in ("typer", "rich") or m.startswith("bilevelnet.cli")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, missing, None)  # an import of it fails now
    from bilevelnet.cli import app as command

    with pytest.raises(SystemExit, match=r"pip install 'bilevelnet\[cli\]'") as stop:
        command()
    assert "\n" not in str(stop.value)


@given(st.text("a(,;: )[", max_size=60), st.integers(5, 40))
def test_wrapping_keeps_the_text(text: str, width: int) -> None:
    lines = tables.wrapped(text, width)
    assert "".join("".join(lines).split()) == "".join(text.split())
    assert all(len(line) <= width for line in lines)


def test_wrapping_breaks_at_clauses_outside_brackets() -> None:
    text = "z = max(|z| − ε, 0) on [0, 1], n and N normal: u"
    assert tables.wrapped(text, 32) == ["z = max(|z| − ε, 0) on [0, 1],", "n and N normal: u"]
