"""Timings of chains and closed forms against their peers, and the precision of a deep chain."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor
from tqdm import tqdm

from . import metrics
from .cases import chains, deep, proxes
from .peers import inverse_form, torch_linear


@dataclass(frozen=True)
class Plan:
    """What is run: chains, rounds of each timing, the deep chain's depth and draws, size of the proxes."""

    chains: tuple[chains.ChainCase, ...] = chains.CASES
    rounds: int = 25
    depth: int = 1000
    draws: int = 5
    prox_batch: int = 32
    prox_size: int = 100
    prox_rounds: int = 5


FULL = Plan()
QUICK = Plan(chains.QUICK, rounds=2, depth=20, draws=2, prox_batch=2, prox_size=3, prox_rounds=1)


def run(plan: Plan, out: Path, compiled: bool, console: Console) -> None:
    """Every table, and the record."""
    log = out / "kernels.jsonl"
    console.print(_chains(plan, log, compiled=False))
    if compiled:
        console.print(_chains(plan, log, compiled=True))
    console.print(_deep(plan, log))
    if importlib.util.find_spec("cvxpylayers"):
        console.print(_proxes(plan, log))
    else:
        console.print("cvxpylayers is not installed: pip install 'bilevelnet\\[conic]' for the last table")
    console.print(f"wrote {log}", soft_wrap=True)


def _chains(plan: Plan, log: Path, compiled: bool) -> Table:
    mode = "compiled" if compiled else "eager"
    title = f"Chain, tanh, against nn.Sequential of Linear and Tanh: {mode}, {torch.get_num_threads()} threads"
    columns = ("Chain\nµs", "torch\nµs", "fwd + bwd\nratio [quartiles]", "bare\nratio", "fwd\nratio", "memory\nratio")
    table = _table(title, "layers x width, batch", *columns)
    table.caption = "bare: u + W tanh(u) + b written in torch alone, the least that a residual costs"
    for case in tqdm(plan.chains, desc=f"chains, {mode}", ncols=80, leave=False):
        x = case.points()
        bare, plain = torch_linear.Residual(case.widths), torch_linear.sequential(case.widths, "tanh")
        modules = {"chain": case.chain(), "bare": bare, "torch": plain}
        if compiled:
            torch.compiler.reset()
            modules = {name: torch.compile(m, fullgraph=True) for name, m in modules.items()}  # type: ignore[misc]
        both = metrics.interleave({n: metrics.forward_backward(m, x) for n, m in modules.items()}, plan.rounds)
        alone = metrics.interleave({n: metrics.forward(m, x) for n, m in modules.items()}, plan.rounds)
        memory = {n: metrics.peak_memory(metrics.forward_backward(m, x)) for n, m in modules.items()}
        ratio = both.ratios["chain"]
        metrics.record(
            log,
            what="chain",
            case=case.name,
            mode=mode,
            seconds=both.times,
            ratio=ratio,
            bare_ratio=both.ratios["bare"],
            forward_seconds=alone.times,
            forward_ratio=alone.ratios["chain"],
            peak_bytes=memory,
        )
        table.add_row(
            case.name,
            *(f"{both.times[n].median * 1e6:.0f}" for n in ("chain", "torch")),
            f"{ratio.median:.2f} [{ratio.low:.2f}, {ratio.high:.2f}]",
            f"{both.ratios['bare'].median:.2f}",
            f"{alone.ratios['chain'].median:.2f}",
            f"{memory['chain'] / memory['torch']:.2f}",
        )
    return table


def _deep(plan: Plan, log: Path) -> Table:
    title = f"{plan.depth} layers of {deep.WIDTH}, tanh, against Chain in float64; worst of {plan.draws} draws"
    table = _table(title, "form", "max error of z")
    draws = [_deep_errors(plan.depth, seed) for seed in range(plan.draws)]
    for name in draws[0]:
        errors = [draw[name] for draw in draws]
        metrics.record(log, what="deep chain", form=name, depth=plan.depth, errors=errors)
        table.add_row(name, f"{max(errors):.1e}")
    return table


@torch.no_grad()
def _deep_errors(depth: int, seed: int) -> dict[str, float]:
    chain, z0 = deep.deep_chain(depth, seed), deep.points(seed)
    weights = [(c.weight.clone(), c.bias.clone()) for c in deep.couplings(chain)]
    exact = chain(z0)
    z1, single = z0.float(), [(w.float(), b.float()) for w, b in weights]
    found = {
        "Chain, float32": chain.float()(z1),
        "inverse form, float32": inverse_form.inverse_chain(z1, single),
        "inverse form clamped at 1e-5, float32": inverse_form.inverse_chain(z1, single, 1e-5),
        "inverse form clamped at 1e-5, float64": inverse_form.inverse_chain(z0, weights, 1e-5),
    }
    return {name: metrics.error(z, exact) for name, z in found.items()}


def _proxes(plan: Plan, log: Path) -> Table:
    from .peers import cvxpylayers_peer

    table = _table(
        f"closed form against cvxpylayers (Clarabel), d = {plan.prox_size}, batch {plan.prox_batch}, fwd + bwd",
        *("pair", "ours\nµs", "cvxpylayers\nµs", "times\nfaster", "diff.\nz", "diff.\ngrad."),
    )
    v = proxes.points(plan.prox_batch, plan.prox_size).requires_grad_()
    for name, layer in tqdm(proxes.layers().items(), desc="proxes", ncols=80, leave=False):
        functions: dict[str, metrics.Function] = {
            "cvxpylayers": cvxpylayers_peer.prox(name, plan.prox_size),
            "ours": layer,
        }
        calls = {n: metrics.forward_backward(f, v) for n, f in functions.items()}
        found = metrics.interleave(calls, plan.prox_rounds)
        errors = _differences(functions, calls, v)
        metrics.record(
            log,
            what="prox",
            pair=name,
            size=plan.prox_size,
            batch=plan.prox_batch,
            seconds=found.times,
            ratio=found.ratios["cvxpylayers"],
            error_z=errors[0],
            error_gradient=errors[1],
        )
        microseconds = (f"{found.times[n].median * 1e6:,.0f}" for n in ("ours", "cvxpylayers"))
        faster = f"{found.ratios['cvxpylayers'].median:,.0f}"
        table.add_row(name, *microseconds, faster, *(f"{e:.0e}" for e in errors))
    return table


def _differences(
    functions: dict[str, metrics.Function], calls: dict[str, metrics.Call], v: Tensor
) -> tuple[float, float]:
    """max |Δz|, and max |Δ∇| of the gradient in v, between the two functions."""
    (z, gradient), (other, other_gradient) = (_answer(functions[n], calls[n], v) for n in functions)
    return metrics.error(z, other), metrics.error(gradient, other_gradient)


def _answer(function: metrics.Function, call: metrics.Call, v: Tensor) -> tuple[Tensor, Tensor]:
    with torch.no_grad():
        z = function(v)
    call()
    return z, torch.empty_like(v) if v.grad is None else v.grad


def _table(title: str, first: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left")
    table.add_column(first)
    for column in columns:
        table.add_column(column, justify="right")
    return table
