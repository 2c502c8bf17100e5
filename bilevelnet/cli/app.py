"""bilevelnet: what the library holds, certificates of layers, and files to start from."""

from __future__ import annotations

import json
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from . import catalog as contents
from . import tables

app = typer.Typer(no_args_is_help=True, add_completion=False, help=__doc__)

Json = Annotated[Path | None, typer.Option("--json", metavar="FILE", help="A file that takes the same as JSON.")]
Seed = Annotated[int, typer.Option(help="Of the points that are drawn.")]
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


@app.command()
def verify(
    target: Annotated[
        str | None,
        typer.Argument(metavar="MODULE:NAME", help="A layer, chain, block or pair (φ, g), or the atlas."),
    ] = None,
    json_file: Json = None,
    samples: Annotated[int, typer.Option(min=2, help="How many z⁻ of the named layer are drawn.")] = 24,
    seed: Seed = 0,
) -> None:
    """Compare layers with an independent solution of their argmin problem; exit status 1 where a row fails."""
    from . import verify as certificates

    console = Console(highlight=False)
    if json_file is not None:
        _made(json_file)
    if target is None:
        passed, data = certificates.atlas(console)
    else:
        certificate = _understood(certificates.one, target, samples, seed, console)
        passed, data = certificate.passed, certificate.as_dict()
    if json_file is not None:
        json_file.write_text(json.dumps(data, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    raise typer.Exit(0 if passed else 1)


@app.command()
def atlas(folder: Annotated[Path, typer.Argument(help="Takes atlas.md, and its pictures in images/atlas.")]) -> None:
    """Write the atlas as a Markdown page with a picture of each φ and each common activation; needs matplotlib."""
    from . import atlas_page

    console = Console(highlight=False)
    with console.status("the atlas") as status:
        page = atlas_page.write(folder, lambda name: status.update(f"the atlas: {name}"))
    typer.echo(f"wrote {page}")


@app.command()
def check(
    target: Annotated[str, typer.Argument(metavar="MODULE:NAME", help="A φ, g, D, (φ, g) or layer, or its class.")],
    seed: Seed = 0,
) -> None:
    """The laws one by one, with a counterexample where one fails; exit status 1 then."""
    from . import check as laws

    raise typer.Exit(0 if _understood(laws.check, target, seed, Console(highlight=False)) else 1)


new = typer.Typer(no_args_is_help=True, help="A file of ten lines to start from, and its test, which passes as it is.")
app.add_typer(new, name="new")

Name = Annotated[str, typer.Argument(metavar="NAME", help="Of the module: my_entropy makes the class MyEntropy.")]
Folder = Annotated[Path, typer.Option(help="Where the two files go.")]


@new.command()
def divergence(name: Name, folder: Folder = Path()) -> None:
    """A Legendre function, from its domain and value, and with it a Bregman divergence."""
    _write("divergence", name, folder)


@new.command()
def regularizer(name: Name, folder: Folder = Path()) -> None:
    """A convex function, from its value."""
    _write("regularizer", name, folder)


def _write(kind: str, name: str, folder: Path) -> None:
    from .new import write

    module, test = write(kind, name, folder)
    typer.echo(f"wrote {module}\nwrote {test}\nnext: python -m pytest {test}")


def _made(path: Path) -> None:
    """The file and its folder, before the work of which it takes the result."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.open("a").close()
    except OSError as refusal:
        raise typer.BadParameter(f"{path} cannot be written: {refusal}", param_hint="--json") from refusal


def _understood(call: Any, *args: Any) -> Any:
    """The call; what the library refuses is told in a line."""
    from ..errors import InputError

    try:
        return call(*args)
    except InputError as refusal:
        raise typer.BadParameter(str(refusal)) from refusal
