"""The README's code runs, in order, in one namespace, and prints what the README says."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

README = (Path(__file__).parent.parent / "README.md").read_text(encoding="utf-8")


def test_examples_run(capsys: pytest.CaptureFixture[str]) -> None:
    blocks = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    assert len(blocks) >= 4
    namespace: dict[str, Any] = {}
    for block in blocks:
        exec(block, namespace)
    printed = capsys.readouterr().out
    quoted = re.findall(r"^    (closed form:.*)$", README, re.MULTILINE)
    assert quoted
    assert all(line in printed for line in quoted)
    assert "∇φ*(∇φ(z)) = z" in printed
