"""The shape of the package: who may import whom, what an import costs, what is registered where."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

import bilevelnet as bln

PACKAGE = Path(bln.__file__).parent
# A module imports only from lines above its own; inside functions it may reach up.
ORDER = (
    "errors",
    "later",
    "values",
    "domains",
    "piece",
    "recipe",
    "numerics",
    "legendre",
    "regularizers",
    "divergences",
    "couplings",
    "solution",
    "maps",
    "problem",
    "closed_forms",
    "solvers",
    "prox",
    "losses",
    "layer",
    "chain",
    "models",
    "comparison",
    "certificates",
    "interop",
    "testing",
    "cli",
    "__main__",
)
FILES = sorted(p.relative_to(PACKAGE) for p in PACKAGE.rglob("*.py"))
KEYS = {(e["phi"], e["g"]) for e in json.loads((Path(__file__).parent / "data" / "oracle.json").read_text())}


def unit(file: Path) -> str:
    return file.parts[0].removesuffix(".py")


def imported(file: Path) -> list[tuple[int, str]]:
    """(line, unit of bilevelnet) for every import outside functions, type checking aside."""
    tree = ast.parse((PACKAGE / file).read_text())
    inside = {
        id(child)
        for node in ast.walk(tree)
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda))
        or (isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test))
        for child in ast.walk(node)
    }
    found = []
    for node in ast.walk(tree):
        if id(node) in inside:
            continue
        if isinstance(node, ast.Import):
            found += [(node.lineno, a.name.split(".")[1]) for a in node.names if a.name.startswith("bilevelnet.")]
        elif isinstance(node, ast.ImportFrom):
            base = list(file.parent.parts)
            if node.level:
                base = base[: len(base) - (node.level - 1)]
                path = [*base, *(node.module or "").split(".")] if node.module else base
            elif (node.module or "").split(".")[0] == "bilevelnet":
                path = node.module.split(".")[1:]
            else:
                continue
            found += [(node.lineno, path[0])] if path else [(node.lineno, a.name) for a in node.names]
    return found


@pytest.mark.parametrize("file", [pytest.param(f, id=str(f)) for f in FILES if str(f) != "__init__.py"])
def test_imports_point_upwards(file: Path) -> None:
    own = unit(file)
    assert own in ORDER, f"{own} has no place in the layout"
    wrong = [(line, other) for line, other in imported(file) if other != own and not above(other, own)]
    assert not wrong, f"{file} imports from below its own line: {wrong}"


def above(other: str, own: str) -> bool:
    return other in ORDER and ORDER.index(other) < ORDER.index(own)


def test_the_import_rule_sees_imports() -> None:
    assert (7, "numerics") not in imported(Path("errors.py"))
    assert "numerics" in {u for _, u in imported(Path("closed_forms/span.py"))}
    assert {"legendre", "regularizers"} <= {u for _, u in imported(Path("closed_forms/absorb.py"))}
    assert not above("solvers", "numerics")


@pytest.mark.parametrize("file", [pytest.param(f, id=str(f)) for f in FILES])
def test_the_library_never_imports_the_bench(file: Path) -> None:
    names = [
        name
        for node in ast.walk(ast.parse((PACKAGE / file).read_text()))
        if isinstance(node, (ast.Import, ast.ImportFrom))
        for name in ([a.name for a in node.names] if isinstance(node, ast.Import) else [node.module or ""])
    ]
    assert not [n for n in names if n.split(".")[0] == "bilevelnet_bench"]


def test_import_is_light() -> None:
    heavy = ("cvxpy", "cvxpylayers", "matplotlib", "scipy", "hypothesis", "pytest", "sklearn", "typer", "rich")
    # Ours too: the whole package at once takes a fifth of torch's time, where a tenth was promised.
    heavy += tuple(f"bilevelnet.{m}" for m in ("certificates", "models", "solvers.multiplier", "solvers.newton"))
    code = f"import sys, bilevelnet; print([m for m in {heavy!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=PACKAGE.parent)
    assert done.stdout.strip() == "[]"


def test_testing_loads_when_used_and_without_hypothesis() -> None:
    code = (
        "import sys, bilevelnet as bln; before = 'bilevelnet.testing' in sys.modules; bln.testing.check_legendre;"
        "print(before, 'bilevelnet.testing' in sys.modules, 'hypothesis' in sys.modules, 'pytest' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=PACKAGE.parent)
    assert done.stdout.split() == ["False", "True", "False", "False"]


def test_short_files() -> None:
    root = Path(__file__).parent.parent
    for folder in ("bilevelnet", "bilevelnet_bench", "docs/examples", "tests"):
        lines = {str(f): len(f.read_text(encoding="utf-8").splitlines()) for f in (root / folder).rglob("*.py")}
        assert lines, folder
        assert not {f: n for f, n in lines.items() if n > 300}


@pytest.mark.parametrize("module", [bln.legendre, bln.regularizers], ids=["legendre", "regularizers"])
def test_registered_classes_are_exported_and_have_examples(module) -> None:
    for key, cls in module.registry.items():
        assert cls.__name__ in module.__all__
        assert cls.key == key
        assert cls.examples
        for params in cls.examples:
            assert type(module.get(key, **params)) is cls
    assert set(module.__all__) <= set(dir(module))


def test_public_names_exist() -> None:
    for name in bln.__all__:
        assert hasattr(bln, name)
    with pytest.raises(AttributeError, match="no attribute"):
        bln.nothing  # noqa: B018


@pytest.mark.parametrize("key", sorted({k for k, _ in KEYS}))
def test_oracle_keys_of_phi_exist(key: str) -> None:
    assert key in bln.legendre.registry


@pytest.mark.parametrize("key", sorted({k for _, k in KEYS}))
def test_oracle_keys_of_g_exist(key: str) -> None:
    assert key in bln.regularizers.registry
