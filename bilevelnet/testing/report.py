"""What a law found: one row a law, and the report of all of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from torch import Tensor

from ..comparison import Row


class Finding(NamedTuple):
    """error ≤ tolerance, entry by entry, is what the law asks; ``at`` names the points, for the counterexample.

    ``left_out``: points that the law says nothing of, as their solution lies beyond the range of the dtype.
    """

    error: Tensor
    tolerance: Tensor | float
    at: dict[str, Tensor]
    left_out: int = 0


class NotStated(Exception):
    """The piece does not state what the law is about, and need not."""


class Law(NamedTuple):
    """A named law: ``check(*subject)`` returns a Finding, or raises NotStated."""

    name: str
    reason: str  # why the tolerance is what it is
    check: Callable[..., Finding]


@dataclass
class Report:
    """The rows of one subject. ``table()`` shows them; ``check()`` raises AssertionError where one fails."""

    subject: str
    rows: list[Row] = field(default_factory=list)

    @property
    def passed(self) -> bool:
        return all(row.passed for row in self.rows)

    @property
    def failures(self) -> list[Row]:
        return [row for row in self.rows if not row.passed]

    def table(self) -> str:
        """One line a law, then a counterexample for each that fails."""
        width = max([len(row.compared) for row in self.rows], default=0)
        lines = [self.subject]
        for row in self.rows:
            figures = f"{row.error:9.2e} ≤ {row.tolerance:8.2e} at {row.points} points" if row.points else ""
            figures += f"{', ' if figures else ''}{row.left_out} left out" if row.left_out else ""
            lines.append(f"  {row.compared:{width}}  {row.verdict:10}  {figures}".rstrip())
        for row in self.failures:
            lines.append(f"counterexample to '{row.compared}': {row.where}")
            lines.append(f"  error {row.error:.3e}, tolerance {row.tolerance:.3e} ({row.reason})")
        return "\n".join(lines)

    def check(self) -> Report:
        if not self.passed:
            raise AssertionError(self.table())
        return self

    def __str__(self) -> str:
        return self.table()


def run(subject: str, laws: Iterable[Law], arguments: tuple[Any, ...], raises: bool) -> Report:
    """Every law on the arguments. What a law raises is a failure of that law, shown as its counterexample."""
    report = Report(subject, [_row(law, arguments) for law in laws])
    return report.check() if raises else report


def _row(law: Law, arguments: tuple[Any, ...]) -> Row:
    try:
        error, tolerance, at, left_out = law.check(*arguments)
    except NotStated:
        return Row(law.name, True, 0.0, 0.0, "", law.reason)
    except Exception as failure:  # the piece under test raises what it likes; the report says what
        return Row.failed(law.name, f"{type(failure).__name__}: {failure}", law.reason)
    return Row.of(law.name, error, tolerance, at, law.reason, left_out)
