"""What the tests of planted faults share."""

from __future__ import annotations

from typing import Any

import pytest


def assert_caught(report: Any, law: str) -> None:
    assert law in {row.compared for row in report.failures}, report.table()
    with pytest.raises(AssertionError, match="counterexample"):
        report.check()
