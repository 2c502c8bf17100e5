"""bilevelnet-bench: the demo and the timings."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import torch
import typer
from rich.console import Console

app = typer.Typer(no_args_is_help=True, add_completion=False, help=__doc__)

Out = Annotated[Path, typer.Option(help="Folder of the pictures and the records (JSON lines).")]
Quick = Annotated[bool, typer.Option("--quick", help="A small version, to see that it runs; its figures say nothing.")]
Compiled = Annotated[bool, typer.Option("--compiled", help="Also with torch.compile on both sides (minutes).")]
Threads = Annotated[int, typer.Option(min=1, help="Threads of torch.")]


@app.command()
def demo(out: Out = Path("results"), quick: Quick = False) -> None:
    """Train Bregman and standard networks, draw them, solve their lower levels again, time a step."""
    from . import demo as experiment

    experiment.run(experiment.QUICK if quick else experiment.FULL, out, Console())


@app.command()
def kernels(
    out: Out = Path("results"),
    quick: Quick = False,
    threads: Threads = 2,
    compiled: Compiled = False,
) -> None:
    """Chains against nn.Sequential, closed forms against cvxpylayers, and the precision of a deep chain."""
    from . import kernels as timings

    torch.set_num_threads(threads)
    timings.run(timings.QUICK if quick else timings.FULL, out, compiled, Console())


@app.command()
def solvers(
    out: Out = Path("results"),
    quick: Quick = False,
    threads: Threads = 2,
    only: Annotated[str | None, typer.Option(help="Only the cases whose name contains this.")] = None,
) -> None:
    """The scalar and multiplier solvers, sparsemax and entmax against jaxopt, entmax and cvxpylayers."""
    from . import solvers as timings

    torch.set_num_threads(threads)
    chosen = timings.chosen(only, quick)
    if not chosen:
        raise typer.BadParameter(f"no case has {only!r} in its name", param_hint="--only")
    timings.run(chosen, out, Console())
