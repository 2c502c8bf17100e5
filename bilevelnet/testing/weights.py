"""The same piece with some of its number weights replaced, and the law of the derivatives in them."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ..errors import InputError
from ..legendre import Legendre
from ..piece import Piece, Weight
from ..prox import bregman_prox
from ..regularizers import Regularizer, Sum
from ..solvers import bind
from .calculus import EPS, STEPS, central, difference_step
from .pair import Pair
from .points import kinks
from .report import Finding, NotStated

Change = Callable[[str, float], Any]


def weights(piece: Piece) -> dict[str, float]:
    """The weights of the piece and of the pieces that it is made of which are numbers, by dotted name."""
    found: dict[str, float] = {}

    def note(name: str, value: float) -> float:
        found[name] = value
        return value

    rebuilt(piece, note)
    return found


def rebuilt(piece: Any, change: Change, prefix: str = "") -> Any:
    """The piece built anew, ``change(name, number)`` in place of each number weight.

    A piece whose arguments cannot be read back from its attributes stays as it is.
    """
    cls = type(piece)
    parameters = list(inspect.signature(cls.__init__).parameters.values())[1:]
    if isinstance(piece, Sum) and not all(hasattr(piece, p.name) for p in parameters):
        cls, parameters = Sum, list(inspect.signature(Sum.__init__).parameters.values())[1:]
    if not isinstance(piece, Piece) or not all(hasattr(piece, p.name) for p in parameters):
        return piece
    positional, named = [], {}
    for p in parameters:
        value = getattr(piece, p.name)
        if p.kind is p.VAR_POSITIONAL:
            positional = [rebuilt(part, change, f"{prefix}{k}.") for k, part in enumerate(value)]
        elif isinstance(value, Piece):
            named[p.name] = rebuilt(value, change, f"{prefix}{p.name}.")
        elif isinstance(getattr(cls, p.name, None), Weight) and isinstance(value, (int, float)):
            named[p.name] = change(prefix + p.name, float(value))
        else:
            named[p.name] = value
    return cls(*positional, **named)


def of_weights(pair: Pair) -> Finding:
    """dz/dθ for every number weight θ of φ and g, given as a tensor that broadcasts with v, by one search."""
    values = {f"{k}.{n}": x for k, p in enumerate((pair.phi, pair.g)) for n, x in weights(p).items()}
    names = [n for n, x in values.items() if abs(x) >= 2 * difference_step(torch.tensor(x)) and _takes(pair, n, x)]
    if not names:
        raise NotStated
    v, z, _ = pair.solved
    _, d = pair.along()
    ones = v.new_ones(len(v), *(1,) * pair.event.ndim)
    leaves = {n: (values[n] * ones).requires_grad_() for n in names}
    live = bregman_prox(*_changed(pair, leaves), v, pair.solver, on_failure="nan")
    total = pair.event.inner(live, d).sum() + 0.0 * sum(leaf.sum() for leaf in leaves.values())
    got = torch.autograd.grad(total, list(leaves.values()))
    # One block for each weight, in which it takes five steps and the others stay.
    h = {n: float(difference_step(torch.tensor(values[n]))) for n in names}
    blocks = {
        n: torch.cat([(values[n] + (s * h[n] if m == n else 0.0)) * ones for m in names for s in STEPS]) for n in names
    }
    phi, g = _changed(pair, blocks)
    many = v.repeat(len(names) * len(STEPS), *(1,) * pair.event.ndim)
    moved = pair.root(many, phi, g) if pair.separable else bregman_prox(phi, g, many, pair.solver, "nan")
    moved = pair.event.inner(moved.unflatten(0, (len(names), len(STEPS), len(v))), d)
    alone = _apart(pair, z)
    steep, found = pair.steepness(v) * pair.event.norm(v), []
    for k, name in enumerate(names):
        want, smooth, change = central(moved[k], h[name], torch.abs)
        smooth &= alone
        error = (got[k].reshape(len(v)) - want).abs() + pair.event.norm(live - z) / h[name]
        noise = EPS * (pair.event.norm(z) + want.abs() * abs(values[name]) + steep) / h[name]
        found.append((error[smooth], (1e-6 * want.abs() + 1e-9 + change + 100 * noise)[smooth], v[smooth]))
    error, tolerance, at = (torch.cat(parts) for parts in zip(*found, strict=True))
    if not len(error):  # differences say nothing: too curved, or on a kink everywhere
        raise NotStated
    return Finding(error, tolerance, {"v": at})


def _apart(pair: Pair, z: Tensor) -> Tensor:
    # Where two knots meet only one of them gets the derivative, and on a knot without a jump z rests all the same:
    # weights that are equal, or 0, as tensors.
    if not pair.separable:
        return z.new_ones(len(z), dtype=torch.bool)
    knots = kinks(pair.g, pair.draw)
    left, right = pair.g.derivatives(knots)
    on = (z.unsqueeze(-1) - knots).abs() <= 8 * EPS * (1 + knots.abs())
    # At the edge of a flat piece of v ↦ z the derivative is one-sided, and may be infinite.
    below, above = ((pair.roots[n][pair.good].unsqueeze(-1) == knots).any(-1) for n in ("below", "above"))
    return (on.sum(-1) < 2) & ~(on & (right <= left)).any(-1) & (below == above)


def _takes(pair: Pair, name: str, value: float) -> bool:
    # Some closed forms are known for one number alone, as power + squared_l2 for p = 3; lo = hi has no room.
    h = float(difference_step(torch.tensor(value)))
    try:
        bind(*_changed(pair, {name: pair.draw.tensor([value - h, value + h])}), pair.solver)
    except InputError:
        return False
    return True


def _changed(pair: Pair, values: dict[str, Tensor]) -> tuple[Legendre, Regularizer]:
    """The pair with tensors for the weights named "0.…" (of φ) and "1.…" (of g)."""
    phi, g = (
        rebuilt(p, lambda n, x, k=k: values.get(f"{k}.{n}", x))  # type: ignore[misc]
        for k, p in enumerate((pair.phi, pair.g))
    )
    return phi, g
