"""The pieces that CONTRIBUTING.md adds obey the laws, as written there."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from bilevelnet.testing import check_legendre, check_regularizer

TEXT = (Path(__file__).parent.parent / "CONTRIBUTING.md").read_text(encoding="utf-8")


def added(module: str) -> dict[str, Any]:
    """The namespace of the new file of a diff, run in its package."""
    lines = re.search(rf"\+\+\+ b/bilevelnet/{module}\.py\n@@ .*\n((?:\+.*\n)+)", TEXT)
    assert lines is not None
    source = re.sub(r"(?m)^\+", "", lines[1])
    name = f"bilevelnet.{module.replace('/', '.')}"
    namespace: dict[str, Any] = {"__name__": name, "__package__": name.rpartition(".")[0]}
    exec(compile(source, f"{module}.py of CONTRIBUTING.md", "exec"), namespace)
    return namespace


@pytest.mark.parametrize(
    ("module", "cls", "check"),
    [("legendre/quartic", "Quartic", check_legendre), ("regularizers/cubic", "Cubic", check_regularizer)],
)
def test_the_added_piece_obeys_the_laws(module: str, cls: str, check: Any) -> None:
    made = added(module)[cls]
    for params in made.examples:
        assert check(made(**params)).rows
    assert f"\n+from .{module.rpartition('/')[2]} import {cls}\n" in TEXT  # the export line
