"""The laws of one piece, layer or pair of the user's own, one by one."""

from __future__ import annotations

import textwrap

import typer
from rich.console import Console
from torch import nn

from .. import testing
from ..certificates.certificate import wrapped
from ..divergences import Bregman, Divergence
from ..errors import InputError
from ..layer import BilevelLayer
from ..legendre import Legendre
from ..regularizers import Regularizer
from .named import named

NAME = 35  # columns of the name of a law
KINDS = "a Legendre function, a regularizer, a divergence, a pair (φ, g) or a BilevelLayer"


def check(target: str, seed: int, console: Console) -> bool:
    """Print the report of what is named; whether every law holds."""
    report = laws(named(target, (nn.Module, tuple, list)), target, seed)
    console.print("\n".join(wrapped(" ".join(report.subject.split()))))
    for row in report.rows:
        name = textwrap.wrap(row.compared, NAME)
        figures = f"{row.error:8.1e} ≤ {row.tolerance:7.1e} {row.points:5d} points" if row.points else ""
        console.print("\n    ".join([f"  {name[0]:{NAME}} {row.verdict:10} {figures}".rstrip(), *name[1:]]))
    for row in report.failures:
        console.print("\n".join(wrapped(f"counterexample to '{row.compared}': {row.where}")))
        told = f"error {row.error:.3e}, tolerance {row.tolerance:.3e} ({row.reason})"
        console.print("\n".join(wrapped(told, "  ")))
    stated = [row for row in report.rows if row.points or not row.passed]
    held = sum(row.passed for row in stated)
    console.print(f"{held} of {len(stated)} laws hold")
    return report.passed


def laws(subject: object, target: str, seed: int) -> testing.Report:
    """The report of the laws that the kind of the subject has; BadParameter where it has none."""
    if isinstance(subject, Divergence):
        report = testing.check_divergence(subject, seed=seed, raises=False)
        if isinstance(subject, Bregman):  # of φ first
            report.rows[:0] = testing.check_legendre(subject.phi, seed=seed, raises=False).rows
        return report
    if isinstance(subject, Legendre):
        return testing.check_legendre(subject, seed=seed, raises=False)
    if isinstance(subject, Regularizer):
        return testing.check_regularizer(subject, seed=seed, raises=False)
    if isinstance(subject, BilevelLayer):
        return testing.check_layer(subject, seed=seed, raises=False, thorough=False)
    if isinstance(subject, (tuple, list)) and len(subject) == 2:
        phi, g = subject
        if isinstance(phi, Legendre) and isinstance(g, Regularizer):
            try:
                return testing.check_closed_form(phi, g, seed=seed, raises=False)
            except InputError as refusal:
                remedy = f"the laws of a pair are those of its closed form; any other: bilevelnet verify {target}"
                raise typer.BadParameter(f"{refusal}; {remedy}") from refusal
    raise typer.BadParameter(f"{target} is a {type(subject).__name__}; laws are known for {KINDS}")
