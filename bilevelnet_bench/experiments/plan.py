"""Jobs one after another, and the report of one experiment."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from ..training.parallel import world
from . import claims, summary
from .job import Done, Job

VERSIONS = ("bregman", "euclidean", "standard")
STARTS = ("random", "identity")


def run_all(jobs: Sequence[Job], out: Path, resume: bool, console: Console) -> tuple[list[Done], bool]:
    """What the jobs gave, and whether all came to their end; an interrupted job is the last."""
    done: list[Done] = []
    for k, job in enumerate(jobs):
        found = job.run(out, resume)
        done += found
        means = ", ".join(f"{d.run.init} {summary.interval(d.run.accuracies)}" for d in found)
        status = found[0].run.status
        ending = "" if status == "finished" else f"  ({status})"
        console.print(f"{k + 1:3d}/{len(jobs)}  {job.name}: test accuracy {means}{ending}", highlight=False)
        if status == "interrupted":
            console.print("interrupted; the same command with --resume goes on where it was")
            return done, False
    return done, True


def tell(done: Sequence[Done], pictures: Sequence[Path], log: Path, console: Console) -> None:
    """The tables, what became of the paper's claims, and where everything is."""
    if world()[0]:
        return
    runs = [d.run for d in done]
    for sheet in (*summary.sheets(runs), *claims.sheets(runs)):
        console.print(sheet.rich())
    console.print(summary.NOTES, highlight=False)
    for path in (*pictures, log):
        console.print(f"wrote {path}", soft_wrap=True)
