"""bilevelnet: what the library holds and how it solves it."""

from __future__ import annotations

import json
from enum import StrEnum
from typing import Annotated

import typer
from rich.console import Console

from . import catalog as contents
from . import tables

app = typer.Typer(no_args_is_help=True, add_completion=False, help=__doc__)

Section = StrEnum("Section", {name: name for name in contents.SECTIONS})  # type: ignore[misc]


def _version(wanted: bool) -> None:
    if wanted:
        from .. import __version__

        typer.echo(f"bilevelnet {__version__}")
        raise typer.Exit


@app.callback()
def main(
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_version, help="The version, and nothing else.")
    ] = False,
) -> None:
    pass


@app.command()
def catalog(
    section: Annotated[Section | None, typer.Option(help="One table instead of all.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="The same as JSON, on stdout.")] = False,
    out: Annotated[
        typer.FileTextWrite | None,
        typer.Option(metavar="FILE", encoding="utf-8", help="A file to which the JSON goes instead."),
    ] = None,
) -> None:
    """The Legendre functions, the regularizers, the known ψ = φ + h, and the solver of each pair (φ, g)."""
    names = list(contents.SECTIONS) if section is None else [section.value]
    if not as_json and out is None:
        console = Console(highlight=False)
        for name in names:
            tables.SECTIONS[name](console, contents.SECTIONS[name]())
        return
    text = json.dumps({name: contents.SECTIONS[name]() for name in names}, ensure_ascii=False, indent=1)
    typer.echo(text, file=out)
