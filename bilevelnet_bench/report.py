"""What has been recorded so far, as one HTML page and as Markdown."""

from __future__ import annotations

import base64
import html
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from bilevelnet import InputError

from . import metrics
from .experiments import claims, runs, summary
from .sheets import Sheet

STYLE = """\
body { font: 15px/1.5 system-ui, sans-serif; max-width: 900px; margin: 2em auto; padding: 0 1em; }
table { border-collapse: collapse; margin: 1.5em 0; display: block; overflow-x: auto; }
caption { text-align: left; font-weight: 600; padding: .3em 0; }
th, td { padding: .2em .7em; text-align: right; border-top: 1px solid #8884; vertical-align: top; }
th:first-child, td:first-child { text-align: left; }
img { max-width: 100%; } pre { white-space: pre-wrap; }"""
WIDE = 8  # columns of a table that is turned where it has fewer rows than columns
LISTED = 4  # numbers of a list that are shown one by one


def run(out: Path, console: Console) -> None:
    """Write ``out``/report.html, pictures included, and ``out``/report.md. InputError where there are no records."""
    logs, pictures = sorted(out.glob("*.jsonl")), sorted(out.glob("*.png"))
    if not logs:
        raise InputError(f"no records (*.jsonl) in {out}: run an experiment first, or name its folder by --out")
    records = {log.stem: metrics.records(log) for log in logs}
    chapters = {log.stem: chapter(log, records[log.stem]) for log in logs}
    everything = [r for found in records.values() for r in found]
    preface = [devices(everything), *machines(everything)]
    written = (
        (out / "report.html", _html(chapters, preface, pictures)),
        (out / "report.md", _markdown(chapters, preface, pictures)),
    )
    for path, text in written:
        path.write_text(text, encoding="utf-8")
        console.print(f"wrote {path}", soft_wrap=True)


def chapter(log: Path, records: Sequence[dict[str, Any]]) -> list[Sheet]:
    """The tables of an experiment on the spirals, or of any other record one a kind."""
    found = runs.read(log)
    if found:
        return [*summary.sheets(found), *claims.sheets(found)]
    return [plain(what, [r for r in records if r["what"] == what]) for what in runs.unique(r["what"] for r in records)]


def plain(what: str, records: Iterable[dict[str, Any]]) -> Sheet:
    """A row a record, the last where they agree in all their words; what a record tells of the machine is left out."""
    about = {*metrics.environment(), "what"}
    last: dict[tuple[str, ...], dict[str, str]] = {}
    for record in records:
        own = {k: v for k, v in record.items() if k not in about}
        key = tuple(f"{k}={v}" for k, v in own.items() if isinstance(v, (str, bool)))
        last[key] = dict(_flat(own))
    columns = runs.unique(name for row in last.values() for name in row)
    words = [c for c in columns if any(not _is_figure(row.get(c, "")) for row in last.values())]
    columns = [*words, *(c for c in columns if c not in words)]
    sheet = Sheet(what, columns, [[row.get(c, "") for c in columns] for row in last.values()])
    return sheet.turned() if len(sheet.rows) < len(columns) > WIDE else sheet


def devices(records: Iterable[dict[str, Any]]) -> str:
    """Which figures are of a GPU."""
    cards = runs.unique(r["device"] for r in records if r.get("device", "cpu") != "cpu")
    if not cards:
        return "All figures on this page are CPU figures: no GPU was used."
    return f"Records of {', '.join(map(str, cards))} say so in their column “device”; all others are CPU figures."


def machines(records: Iterable[dict[str, Any]]) -> list[str]:
    """The machines and versions, a line each."""
    names = ("machine", "cores", "system", "python", "torch", "bilevelnet")
    lines = runs.unique(tuple((n, r[n]) for n in names if n in r) for r in records)
    return ["; ".join(f"{name} {value}" for name, value in line) for line in lines]


def _flat(record: dict[str, Any], prefix: str = "") -> Iterable[tuple[str, str]]:
    for name, value in record.items():
        if isinstance(value, dict) and "median" in value:
            yield prefix + name, f"{_short(value['median'])} [{_short(value['low'])}, {_short(value['high'])}]"
        elif isinstance(value, dict):
            yield from _flat(value, f"{prefix}{name} ")
        elif isinstance(value, list) and value and isinstance(value[0], dict):
            continue  # layer by layer: in the figures
        else:
            yield prefix + name, _short(value)


def _short(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.3g}"
    if isinstance(value, list):
        if len(value) > LISTED and all(isinstance(v, (int, float)) for v in value):
            return f"{_short(value[0])} … {_short(value[-1])} ({len(value)})"
        return ", ".join(map(_short, value))
    return str(value)


def _is_figure(cell: str) -> bool:
    return not cell or cell[0] in "+-−.0123456789"


def _html(chapters: dict[str, list[Sheet]], preface: Sequence[str], pictures: Sequence[Path]) -> str:
    parts = ["<!doctype html>", '<html lang="en">', '<meta charset="utf-8">', "<title>bilevelnet: results</title>"]
    parts += [f"<style>{STYLE}</style>", "<h1>bilevelnet: results</h1>", *(f"<p>{html.escape(p)}</p>" for p in preface)]
    for name, sheets in chapters.items():
        parts += [f"<h2>{html.escape(name)}</h2>", *(sheet.html() for sheet in sheets)]
        for picture in _of(name, chapters, pictures):
            data = base64.b64encode(picture.read_bytes()).decode()
            parts.append(f'<figure><img src="data:image/png;base64,{data}" alt="{html.escape(picture.stem)}"></figure>')
    return "\n".join([*parts, f"<pre>{html.escape(summary.NOTES)}</pre>", "</html>", ""])


def _markdown(chapters: dict[str, list[Sheet]], preface: Sequence[str], pictures: Sequence[Path]) -> str:
    parts = ["# bilevelnet: results", *preface]
    for name, sheets in chapters.items():
        parts += [f"## {name}", *(sheet.markdown() for sheet in sheets)]
        parts += [f"![{picture.stem}]({picture.name})" for picture in _of(name, chapters, pictures)]
    return "\n\n".join([*parts, summary.NOTES, ""])


def _of(name: str, chapters: dict[str, Any], pictures: Sequence[Path]) -> list[Path]:
    """The pictures of a record by their name; the first record shows those of none, too."""
    own = [p for p in pictures if p.stem == name or p.stem.startswith(f"{name}-")]
    if name != next(iter(chapters)):
        return own
    named = [p for other in chapters for p in pictures if p.stem == other or p.stem.startswith(f"{other}-")]
    return [*own, *(p for p in pictures if p not in named)]
