"""∫₀^x f of an increasing scalar function, by Gauss-Legendre on panels that are halved until it is exact."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import NamedTuple

import torch
from torch import Tensor

Function = Callable[[Tensor], Tensor]
NEAR, PANELS, DOUBLINGS, HALVINGS, NODES = 40.0, 160, 330, 40, 16
FAR_HALVINGS = 6  # of the panels beyond ``NEAR``: there an oscillation would ask for millions


class Panels(NamedTuple):
    """The ends of the panels, the integral from 0 to each, and f there; plain numbers, which need no device."""

    ends: tuple[float, ...]
    integrals: tuple[float, ...]
    values: tuple[float, ...]


def panels(f: Function) -> Panels:
    """Panels from −1e101 to 1e101, as far as f is finite there, with the integral of f from 0 to their ends.

    A panel is halved while 16 nodes on it and on its halves differ by more than rounding, 40 times at most between −40
    and 40: next to a kink of f the last one is 1e-12 wide.
    """
    near = torch.linspace(0, NEAR, PANELS // 2 + 1, dtype=torch.float64)
    half = torch.cat([near, NEAR * 2.0 ** torch.arange(1, DOUBLINGS + 1, dtype=torch.float64)])
    ends = torch.cat([-half.flip(0)[:-1], half])
    finite = f(ends).isfinite() | (ends.abs() <= NEAR)
    ends = ends[finite]
    lo, hi = ends[:-1], ends[1:]
    done = []
    for k in range(HALVINGS):
        middle = (lo + hi) / 2
        whole, halves = _gauss(f, lo, hi), _gauss(f, lo, middle) + _gauss(f, middle, hi)
        size = _gauss(lambda x: f(x).abs(), lo, hi)
        good = ~((whole - halves).abs() > 1e-15 * (1e-3 + size)) | ((lo.abs() > NEAR) & (k > FAR_HALVINGS))
        done.append(torch.stack([lo[good], halves[good]], 1))
        lo, hi = torch.cat([lo[~good], middle[~good]]), torch.cat([middle[~good], hi[~good]])
        if not len(lo):
            break
    done.append(torch.stack([lo, _gauss(f, lo, hi)], 1))
    table = torch.cat(done)
    starts, integrals = table[table[:, 0].argsort()].unbind(1)
    zero = int((starts == 0).nonzero())  # summed from there outwards: far off the integral is large
    left, right = -integrals[:zero].flip(0).cumsum(0).flip(0), integrals[zero:].cumsum(0)
    ends = torch.cat([starts, ends[-1:]])
    return Panels(*(tuple(t.tolist()) for t in (ends, torch.cat([left, left.new_zeros(1), right]), f(ends))))


def antiderivative(f: Function, table: Panels, x: Tensor) -> Tensor:
    """∫₀^x f, with f(x) for its derivative: to the fourth order, whatever the quadrature.

    The value is that of the table at the end of x's panel nearer to 0 and a rule from there to x. The derivatives are
    those of a rule of two nodes from x to itself, (x − x̄) ½ Σ f(x̄ + c_i (x − x̄)) at x̄ = x, which is exact for cubics.
    """
    ends, integrals = (_in_range(t, x) for t in table[:2])
    at = x.detach()
    panel = (torch.searchsorted(ends, at.contiguous(), right=True) - 1).clamp(0, len(ends) - 2)
    near = torch.where(at < 0, panel + 1, panel)
    start = ends[near]
    step = x - at
    nodes = [0.5 - 3**0.5 / 6, 0.5 + 3**0.5 / 6]
    return integrals[near] + _gauss(f, start, at).detach() + step * sum(f(at + c * step) for c in nodes) / 2


def _in_range(numbers: tuple[float, ...], like: Tensor) -> Tensor:
    """Numbers in the dtype of ``like``, those beyond its range at the end of it."""
    most = torch.finfo(like.dtype).max
    return torch.tensor(numbers, dtype=torch.float64).clamp(-most, most).to(like)


def nearby(table: Panels, y: Tensor) -> Tensor:
    """x with f(x) ≈ y, on the straight lines between the ends of the panels: where the search for f⁻¹(y) starts."""
    ends, values = (_in_range(t, y) for t in (table.ends, table.values))
    at = y.detach().contiguous()
    left, right = (torch.searchsorted(values, at, right=side) for side in (False, True))
    # Of the ends that share a value, rounded where f saturates, the one nearer to 0.
    k = (torch.where(y < values[len(values) // 2], right, left) - 1).clamp(0, len(ends) - 2)
    part = ((y - values[k]) / (values[k + 1] - values[k])).detach().nan_to_num(0.0, 1.0, 0.0).clamp(0, 1)
    return ends[k] + part * (ends[k + 1] - ends[k])


def _gauss(f: Function, lo: Tensor, hi: Tensor) -> Tensor:
    """∫ f from lo to hi by ``NODES`` Gauss-Legendre nodes."""
    nodes, weights = (torch.as_tensor(t, dtype=lo.dtype, device=lo.device) for t in _rule(NODES))
    x = lo.unsqueeze(-1) + (hi - lo).unsqueeze(-1) * nodes
    return (hi - lo) * (f(x) * weights).sum(-1)


@cache
def _rule(n: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Nodes and weights of the Gauss-Legendre rule on [0, 1], from the Jacobi matrix (Golub & Welsch, 1969)."""
    k = torch.arange(1, n, dtype=torch.float64)
    beta = k / (4 * k**2 - 1).sqrt()
    nodes, vectors = torch.linalg.eigh(torch.diag(beta, 1) + torch.diag(beta, -1))
    return tuple(((nodes + 1) / 2).tolist()), tuple((vectors[0] ** 2).tolist())
