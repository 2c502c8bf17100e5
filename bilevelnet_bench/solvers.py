"""Timings and errors of the solvers against their peers: a peer that is not installed is named so."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from torch import Tensor
from tqdm import tqdm

from . import metrics
from .cases import coupled, quadratic
from .cases import solvers as cases
from .cases.solvers import SolverCase

OURS = "bilevelnet"


def _entmax(case: SolverCase, k: int | None) -> metrics.Function:
    from .peers import entmax_peer

    return entmax_peer.function(case.problem, k)


def _bisection(case: SolverCase) -> metrics.Function:
    from .peers import jaxopt_peer

    return jaxopt_peer.bisection()


def _cvxpylayers(case: SolverCase) -> metrics.Function:
    from .peers import cvxpylayers_peer

    return cvxpylayers_peer.prox(case.problem, case.shape[-1], method=None)


def _clarabel(case: SolverCase) -> metrics.Function:
    from .peers import cvxpylayers_peer

    return cvxpylayers_peer.prox(case.problem, case.shape[-1])


def _lbfgs(case: SolverCase) -> metrics.Function:
    from .peers import jaxopt_peer

    return jaxopt_peer.lbfgs(case.matrix())  # type: ignore[attr-defined]


# By name: the package that a peer needs, how to make it, and whether it solves the problem (else it is a yardstick).
PEERS: dict[str, tuple[str, Callable[[SolverCase], metrics.Function], bool]] = {
    cases.EXP: ("torch", lambda case: torch.exp, False),
    cases.SOFTMAX: ("torch", lambda case: lambda v: torch.softmax(v, -1), False),
    cases.BISECTION: ("jaxopt", _bisection, True),
    cases.ENTMAX: ("entmax", lambda case: _entmax(case, None), True),
    cases.ENTMAX_64: ("entmax", lambda case: _entmax(case, 64), True),
    cases.CVXPYLAYERS: ("cvxpylayers", _cvxpylayers, True),
    cases.CLARABEL: ("cvxpylayers", _clarabel, True),
    coupled.LBFGS: ("jaxopt", _lbfgs, True),
    quadratic.QPTH: ("qpth", quadratic.peer("qpth_peer"), True),
    quadratic.QPAX: ("qpax", quadratic.peer("qpax_peer"), True),
    quadratic.OSQP: ("jaxopt", quadratic.peer("jaxopt_peer"), True),
    quadratic.MOREAU: ("moreau", quadratic.peer("cvxpylayers_peer", solver="MOREAU"), True),
    quadratic.DEFAULT: ("cvxpylayers", quadratic.peer("cvxpylayers_peer"), True),
    cases.COMPILED: ("bilevelnet", lambda case: torch.compile(case.layer(), fullgraph=True), True),
    cases.VALUES: ("bilevelnet", lambda case: cases.prox_layer(f"{case.problem}, values alone", case.solver), True),
}


def chosen(only: str | None, quick: bool) -> list[SolverCase]:
    """The cases whose name contains ``only``; small ones, each once, where ``quick``."""
    known = *cases.CASES, *coupled.COUPLED, *quadratic.QUADRATIC
    found = [case for case in known if only is None or only.lower() in case.name.lower()]
    if not quick:
        return found
    eager = ({n: asked for n, asked in c.peers.items() if n != cases.COMPILED} for c in found)
    small = (
        replace(c, shape=cases.QUICK[len(c.shape)], sigma=1.0, rounds=1, peers=peers)
        for c, peers in zip(found, eager, strict=True)
    )
    return list({c.name: c for c in reversed(list(small))}.values())[::-1]


def run(chosen_cases: list[SolverCase], out: Path, console: Console) -> None:
    """A table a case, and the record."""
    log = out / "solvers.jsonl"
    bar = tqdm(chosen_cases, desc="solvers", ncols=80, leave=False)
    for case in bar:
        table = _case(case, log)
        bar.clear()
        console.print(table)
    console.print(f"wrote {log}", soft_wrap=True)


def _case(case: SolverCase, log: Path) -> Table:
    v = case.points()
    missing = [n for n in case.peers if importlib.util.find_spec(PEERS[n][0]) is None]
    functions = {n: PEERS[n][1](case) for n in case.peers if n not in missing} | {OURS: case.layer()}
    inputs = {n: v.clone().requires_grad_(case.backward) for n in functions}
    make = metrics.forward_backward if case.backward else metrics.forward
    found = metrics.interleave({n: make(f, inputs[n]) for n, f in functions.items()}, case.rounds)
    solves = {n for n in functions if n == OURS or PEERS[n][2]}
    errors = {n: _errors(case, f, inputs[n]) for n, f in functions.items() if n in solves}
    mode = "fwd + bwd" if case.backward else "forward"
    metrics.record(
        log,
        what="solver",
        case=case.name,
        mode=mode,
        seconds=found.times,
        ratios=found.ratios,
        asked=dict(case.peers),
        errors=errors,
        missing=missing,
    )
    title = f"{case.name}: {mode}, {torch.get_num_threads()} threads"
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD)
    table.add_column("", min_width=18)
    for column in ("µs", "peer/ours\n[quartiles]", "asked", "error\nz", "error\ngrad."):
        table.add_column(column, justify="right", no_wrap=True)
    for name in [OURS, *case.peers]:
        asked = case.peers.get(name, "")
        if name in missing:
            table.add_row(name, "not", "installed", asked)
            continue
        ratio = found.ratios[name]
        shown = "" if name == OURS else f"{_times(ratio.median)} [{_times(ratio.low)}, {_times(ratio.high)}]"
        figures = [f"{e:.0e}" for e in errors.get(name, ())]
        table.add_row(name, f"{found.times[name].median * 1e6:,.0f}", shown, asked, *figures)
    return table


def _errors(case: SolverCase, function: metrics.Function, x: Tensor) -> tuple[float, ...]:
    """max |Δz| and, with a backward, max |Δ∇| on the first rows, beside the bisection of the case."""
    c = metrics.cotangent(case.shape, case.dtype)
    if case.backward:
        x.grad = None
        z = function(x)
        z.backward(c)
    else:
        with torch.no_grad():
            z = function(x)
    rows: Any = slice(cases.SAMPLE if len(case.shape) > 1 else None)
    expected = case.exact(x.detach()[rows], c[rows])
    got = (z.detach(), x.grad) if case.backward else (z,)
    return tuple(metrics.error(a[rows], b) for a, b in zip(got, expected, strict=False))  # type: ignore[index]


def _times(ratio: float) -> str:
    if ratio >= 10:
        return f"{ratio:,.0f}"
    return f"{ratio:.1f}" if ratio >= 0.1 else f"1/{1 / ratio:.0f}"
