"""What the tests of planted faults share."""

from __future__ import annotations

from typing import Any

import pytest


def assert_caught(report: Any, law: str) -> None:
    assert law in {row.compared for row in report.failures}, report.table()
    with pytest.raises(AssertionError, match="counterexample"):
        report.check()


def bump(at: float, width: float) -> Any:
    """z²/2 with a dip of the given place and width, which is not convex."""
    return lambda z: z**2 / 2 - 2 * width**2 * (-(((z - at) / width) ** 2)).exp()
