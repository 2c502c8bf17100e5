"""Pictures of certificates, with matplotlib, which is imported when one is drawn."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .certificate import Certificate

FLOOR = 1e-17  # where an error of 0 is drawn
HOLDS, FAILS, BOUND = "#0072B2", "#D55E00", "#555555"  # of Okabe and Ito's palette; the markers differ too


def errors(certificate: Certificate, path: str | Path | None = None) -> Any:
    """A line a row: its worst error, a dot or a cross where it fails, and its tolerance, a bar; logarithmic."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    rows = certificate.rows
    figure = Figure(figsize=(8.0, 1.4 + 0.27 * len(rows)), layout="constrained")
    FigureCanvasAgg(figure)
    axis = figure.add_subplot()
    for k, row in enumerate(rows):
        error = _drawn(row.error)
        axis.plot([FLOOR, error], [k, k], color="#DDDDDD", linewidth=1, zorder=1)
        axis.plot(error, k, "o" if row.passed else "X", color=HOLDS if row.passed else FAILS, markersize=6, zorder=3)
        if row.tolerance > 0:
            axis.plot(row.tolerance, k, "|", color=BOUND, markersize=11, markeredgewidth=2, zorder=2)
    largest = max([_drawn(row.error) for row in rows] + [row.tolerance for row in rows], default=1.0)
    axis.set(xscale="log", xlim=(FLOOR / 2, 10 * largest), yticks=range(len(rows)), ylim=(len(rows) - 0.4, -0.6))
    axis.set_yticklabels([row.compared for row in rows])
    axis.set_xlabel("worst error (dot; cross where it fails) and tolerance (bar)")
    axis.set_title("certified" if certificate.passed else "NOT certified", loc="left")
    axis.spines[["top", "right"]].set_visible(False)
    if path is not None:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, dpi=150)
    return figure


def _drawn(error: float) -> float:
    """A place on the axis for any error: 0 at its left end, ∞ and NaN at 10."""
    return max(error, FLOOR) if math.isfinite(error) else 10.0
