"""What a law found: one row a law, and the report of all of them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor


class Finding(NamedTuple):
    """error ≤ tolerance, entry by entry, is what the law asks; ``at`` names the points, for the counterexample."""

    error: Tensor
    tolerance: Tensor | float
    at: dict[str, Tensor]


class NotStated(Exception):
    """The piece does not state what the law is about, and need not."""


class Law(NamedTuple):
    """A named law: ``check(*subject)`` returns a Finding, or raises NotStated."""

    name: str
    reason: str  # why the tolerance is what it is
    check: Callable[..., Finding]


@dataclass(frozen=True)
class Row:
    """One law on one subject: the worst error beside its tolerance, and where it was met."""

    law: str
    passed: bool
    error: float
    tolerance: float
    where: str
    reason: str
    points: int = 0

    @property
    def verdict(self) -> str:
        return "FAILS" if not self.passed else "holds" if self.points else "not stated"


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
        width = max([len(row.law) for row in self.rows], default=0)
        lines = [self.subject]
        for row in self.rows:
            figures = f"{row.error:9.2e} ≤ {row.tolerance:8.2e} at {row.points} points" if row.points else ""
            lines.append(f"  {row.law:{width}}  {row.verdict:10}  {figures}".rstrip())
        for row in self.failures:
            lines.append(f"counterexample to '{row.law}': {row.where}")
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
        error, tolerance, at = law.check(*arguments)
    except NotStated:
        return Row(law.name, True, 0.0, 0.0, "", law.reason)
    except Exception as failure:  # the piece under test raises what it likes; the report says what
        return Row(law.name, False, math.inf, 0.0, f"{type(failure).__name__}: {failure}", law.reason)
    error = error.detach().double().cpu()
    if not error.numel():
        return Row(law.name, False, math.inf, 0.0, "no point was left to test it at", law.reason)
    bound = torch.as_tensor(tolerance, dtype=torch.float64).detach().cpu().broadcast_to(error.shape)
    # A tolerance of 0 asks for equality; NaN counts as the worst error.
    ratio = torch.where(error <= bound, 0.999 * error / bound.clamp(min=1e-300), 1 + (error - bound) / (bound + 1e-300))
    ratio = torch.where(error.isnan() | bound.isnan(), torch.inf, ratio)
    worst = int(ratio.reshape(-1).argmax())
    place = [int(i) for i in torch.unravel_index(torch.tensor(worst), error.shape)]
    passed = bool((error <= bound).all())
    where = ", ".join(f"{name} = {_shown(t, place, error.shape)}" for name, t in at.items())
    worst_error, worst_bound = float(error.reshape(-1)[worst]), float(bound.reshape(-1)[worst])
    return Row(law.name, passed, worst_error, worst_bound, where, law.reason, error.numel())


def _shown(t: Tensor, place: list[int], shape: torch.Size) -> str:
    # A tensor of the error's shape, possibly followed by event dimensions.
    t = t.detach().cpu()
    if t.shape[: len(shape)] == shape:
        t = t[tuple(place)]
    return f"{t.item():.17g}" if t.numel() == 1 else str(t.tolist())
