"""What a verification found: one row a comparison, and the certificate of all of them."""

from __future__ import annotations

import json
import math
import textwrap
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ..comparison import Row

WIDTH = 80


@dataclass
class Certificate:
    """The rows of one layer, chain, pair or block. ``theorem`` says which case of the theorem it is an instance of."""

    subject: str
    theorem: str
    rows: list[Row] = field(default_factory=list)
    settings: dict[str, Any] = field(default_factory=dict)

    @property
    def passed(self) -> bool:
        return bool(self.rows) and all(row.passed for row in self.rows)

    @property
    def failures(self) -> list[Row]:
        return [row for row in self.rows if not row.passed]

    def worst(self, part: str) -> float:
        """The largest error of the rows whose name holds the part; NaN where there is none."""
        return max([row.error for row in self.rows if part in row.compared], default=math.nan)

    def add(self, rows: Iterable[Row]) -> None:
        """Rows under a name that is there already are merged into it."""
        for row in rows:
            index = next((i for i, old in enumerate(self.rows) if old.compared == row.compared), None)
            if index is None:
                self.rows.append(row)
            else:
                self.rows[index] = self.rows[index].worse(row)

    def table(self) -> str:
        """One line a row within 80 columns, then a counterexample for each that fails."""
        width = min(max([len(row.compared) for row in self.rows], default=0), WIDTH - 43)
        lines = [*wrapped(self.subject), *wrapped(self.theorem, "  ")]
        for row in self.rows:
            name = textwrap.wrap(row.compared, width)
            figures = f"{row.error:9.1e} ≤ {row.tolerance:7.1e} {row.points:6d} points" if row.points else ""
            lines.append(f"  {name[0]:{width}} {row.verdict}  {figures}".rstrip())
            lines += [f"    {rest}" for rest in name[1:]]
            if row.left_out:
                lines.append(f"    {row.left_out} points left out: a kink, or no value, within reach")
        for row in self.failures:
            lines += wrapped(f"counterexample to '{row.compared}': {row.where}")
            lines += wrapped(f"error {row.error:.3e}, tolerance {row.tolerance:.3e} ({row.reason})", "  ")
        lines.append("certified" if self.passed else "NOT certified")
        return "\n".join(lines)

    def as_dict(self) -> dict[str, Any]:
        """Plain data; a number that is not finite becomes its name, which JSON has no number for."""
        rows = [{name: _plain(value) for name, value in asdict(row).items()} for row in self.rows]
        return {
            "subject": self.subject,
            "theorem": self.theorem,
            "passed": self.passed,
            "settings": self.settings,
            "rows": rows,
        }

    def to_json(self) -> str:
        return json.dumps(self.as_dict(), ensure_ascii=False, indent=1)

    def plot(self, path: str | Path | None = None) -> Any:
        """Errors beside their tolerances, logarithmic, as a matplotlib figure; also in a file of that path."""
        from .figures import errors

        return errors(self, path)

    def __str__(self) -> str:
        return self.table()


def _plain(value: Any) -> Any:
    return value if not isinstance(value, float) or math.isfinite(value) else str(value)


def wrapped(text: str, indent: str = "") -> list[str]:
    """Lines of at most 80 columns, those after the first further in."""
    return textwrap.wrap(text, WIDTH, initial_indent=indent, subsequent_indent=indent + "  ")
