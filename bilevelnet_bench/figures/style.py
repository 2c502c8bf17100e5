"""What the pictures share."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

# Okabe and Ito's palette, which the common colour-vision deficiencies keep apart; markers and lines differ too.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7")
TINTS, MARKERS, LINES = ("#CFE5F2", "#F8DCC8"), ("o", "^", "s", "D"), ("-", "--", "-.", ":")
WIDTH, DPI = 9.0, 180  # inches at 100 pixels an inch on a page 900 pixels wide
STYLE = {
    "font.size": 9.5,
    "axes.titlesize": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.frameon": False,
}


@contextmanager
def figure(path: Path, rows: int, columns: int, height: float, **options: Any) -> Iterator[tuple[Any, Any]]:
    """(figure, array of axes), saved to ``path`` at the end."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    with pyplot.rc_context(STYLE):
        sheet, axes = pyplot.subplots(
            rows, columns, figsize=(WIDTH, height), squeeze=False, layout="constrained", **options
        )
        yield sheet, axes
        path.parent.mkdir(parents=True, exist_ok=True)
        sheet.savefig(path, dpi=DPI)
        pyplot.close(sheet)


def marker(c: int) -> Any:
    """The legend's entry of class c."""
    from matplotlib.lines import Line2D

    return Line2D([], [], marker=MARKERS[c], color=COLOURS[c], linestyle="none")
