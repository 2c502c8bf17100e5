"""A table of text, in a terminal, in Markdown and in HTML."""

from __future__ import annotations

import html
from collections.abc import Sequence
from typing import NamedTuple

from rich.table import Table


class Sheet(NamedTuple):
    """The first column is text, the others are figures."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]

    def turned(self) -> Sheet:
        """A row a column."""
        names = ("", *(f"record {k + 1}" for k in range(len(self.rows))))
        return Sheet(self.title, names, list(zip(self.columns, *self.rows, strict=True)))

    def rich(self) -> Table:
        table = Table(title=self.title, title_justify="left")
        for k, column in enumerate(self.columns):
            table.add_column(column.replace("[", r"\["), justify="right" if k else "left")
        for row in self.rows:
            table.add_row(*(cell.replace("[", r"\[") for cell in row))
        return table

    def markdown(self) -> str:
        def line(cells: Sequence[str]) -> str:
            return "| " + " | ".join(cell.replace("|", r"\|").replace("\n", " ") for cell in cells) + " |"

        rule = "|---|" + "---:|" * (len(self.columns) - 1)
        return "\n".join([f"**{self.title}**", "", line(self.columns), rule, *map(line, self.rows), ""])

    def html(self) -> str:
        def line(cells: Sequence[str], tag: str) -> str:
            return "<tr>" + "".join(f"<{tag}>{html.escape(cell)}</{tag}>" for cell in cells) + "</tr>"

        body = "\n".join(line(row, "td") for row in self.rows)
        head = line(self.columns, "th")
        return f"<table>\n<caption>{html.escape(self.title)}</caption>\n{head}\n{body}\n</table>"
