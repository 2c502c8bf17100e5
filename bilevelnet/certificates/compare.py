"""A map against its second solution: values, and gradients in its input and in its weights by differences."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from ..comparison import Row

EPS = torch.finfo(torch.float64).eps
SHIFT = 256 * EPS  # of v and of z: the arithmetic of v, of φ' and of a search loses up to 43 eps on the catalogue
STEP = 1e-4  # of central differences of fourth order: their own error is 1e-16, that of rounding 1e-12
SMOOTH = 1e-6  # of the slope: differences disagree by more only if a kink is in reach, or z‴ is above 600 slopes
STEPS = (2.0, 1.0, -1.0, -2.0)
VALUE_REASON = "256 eps of v, carried through the independent solution, and 256 eps of z, of an event where coupled"
GRADIENT_REASON = "what differences of two orders and of the two sides differ by, and rounding over the step 1e-4"

Map = Callable[[Tensor], Tensor]


class Solution:
    """A second solution in two parts: ``prepare(x)``, cheap, then ``solve(v, shift)``, a search at ``moved(v, shift)``.

    ``inner``: the weights on which ``solve`` depends itself, and not by v alone. ``event_ndim``: the last dimensions of
    z whose entries are coupled. An equation Σ z = r is met to eps of r, which may move any entry by that.
    """

    event_ndim = 0
    inner: frozenset[int] = frozenset()  # ids of Parameters

    def prepare(self, x: Tensor) -> Tensor:
        return x

    def solve(self, v: Tensor, shift: Tensor) -> Tensor:
        raise NotImplementedError

    def __call__(self, x: Tensor) -> Tensor:
        v = self.prepare(x)
        return self.solve(v, torch.zeros(len(v), *[1] * (v.ndim - 1), dtype=torch.float64))


@dataclass
class Slope:
    """The derivative of z along a direction of the input (name None) or of a weight, where differences agree.

    With h the step and z a kink J max(t − p, 0) or one of z', K max(t − p, 0)²/2, anywhere: ``fine`` is off by at most
    ``gap`` = 2 |fine − coarse| + ½ |right − left|, the second order central and one-sided. At p = 0 the first part
    alone is blind to J, and Kh/12 for an error of Kh/6. For a smooth z the parts are h² z‴/3 and h³ z⁗/4.
    """

    name: str | None
    direction: Tensor
    fine: Tensor
    gap: Tensor
    smooth: Tensor

    @classmethod
    def of(cls, name: str | None, direction: Tensor, points: Tensor, z: Tensor) -> Slope:
        """From the points at ``STEPS`` along the direction, and z between them."""
        far, near, below, beneath = points
        coarse = (near - below) / (2 * STEP)
        fine = (8 * (near - below) - (far - beneath)) / (12 * STEP)
        orders = (fine - coarse).abs()
        # The difference of (4 near − far − 3 z)/2h and (3 z − 4 below + beneath)/2h.
        sides = (4 * ((near - z) + (below - z)) - ((far - z) + (beneath - z))).abs() / (2 * STEP)
        gap = 2 * orders + sides / 2
        smooth = (torch.maximum(orders, sides) <= SMOOTH * (1 + fine.abs())) & fine.isfinite()
        return cls(name, direction, torch.where(smooth, fine, 0.0), torch.where(smooth, gap, 0.0), smooth)


@dataclass
class Truth:
    """The second solution on a batch x: z, by how much rounding may move it, and its slopes."""

    x: Tensor
    z: Tensor
    spread: Tensor
    slopes: list[Slope]
    joint: bool = False  # whether samples of the batch are not told apart


def truth(
    solution: Solution, x: Tensor, room: Tensor, weights: Mapping[str, Tensor], generator: torch.Generator
) -> Truth:
    """The points of all steps that v alone carries in one search, then a search a step of every other weight."""
    # A move as x can hold it, so that the steps are multiples of it.
    move = (x + STEP * _normal(x, generator) * room) - x
    size = 1 + float(x.abs().mean())
    directions = {name: _normal(w, generator) / size for name, w in weights.items()}
    base = solution.prepare(x)
    prepared = [base, base, base, *(solution.prepare(x + k * move) for k in STEPS)]
    outer = [name for name, w in weights.items() if id(w) not in solution.inner]
    for name in outer:
        prepared += _along(weights[name], directions[name], lambda: solution.prepare(x))
    shifts = torch.zeros(len(prepared), *[1] * base.ndim, dtype=torch.float64)
    shifts[1], shifts[2] = SHIFT, -SHIFT
    shift = shifts.expand(-1, len(base), *[1] * (base.ndim - 1)).flatten(0, 1)
    found = solution.solve(torch.cat(prepared), shift)
    found = found.reshape(len(prepared), -1, *found.shape[1:])
    z, spread = found[0], (found[1] - found[2]).abs().nan_to_num(0.0)
    slopes = [Slope.of(None, move / STEP, found[3:7], z)]
    for k, name in enumerate(outer):
        slopes.append(Slope.of(name, directions[name], found[7 + 4 * k : 11 + 4 * k], z))
    for name in (n for n in weights if n not in outer):
        points = torch.stack(_along(weights[name], directions[name], lambda: solution(x)))
        slopes.append(Slope.of(name, directions[name], points, z))
    entries, dims = z.abs().nan_to_num(0.0), tuple(range(-solution.event_ndim, 0))
    return Truth(x, z, spread + SHIFT * (entries.amax(dims, keepdim=True) if dims else entries), slopes)


def moved(v: Tensor, shift: Tensor | float, beside: Tensor | float = 0.0) -> Tensor:
    """v ± shift (1 + |v| + |beside|), up or down by the entry as rounding is: a common move may cancel."""
    up = torch.randint(2, v.shape[1:], generator=torch.Generator().manual_seed(0)).to(v.device)
    return v + (2 * up - 1) * shift * (1 + v.abs() + torch.as_tensor(beside).abs())


def rows(
    call: Map, tested: Mapping[str, nn.Parameter], truth: Truth, symbol: str, generator: torch.Generator
) -> Iterator[Row]:
    """The rows of a map and the weights that it reads. What it raises is a failure of the row, with its words."""
    x, z = truth.x, truth.z
    try:
        live = x.clone().requires_grad_()
        output = call(live)
        if output.shape != z.shape:
            raise ValueError(f"the result has shape {tuple(output.shape)}, the layer's {tuple(z.shape)}")
    except Exception as failure:  # what is under test raises what it likes; the row says what
        yield Row.failed("value", f"{type(failure).__name__}: {failure}", VALUE_REASON)
        return
    found = output.detach()
    error = torch.where(z.isnan() & found.isnan(), 0.0, found - z).abs()
    yield Row.of("value", error, truth.spread, {symbol: x, "found": found, "independent": z}, VALUE_REASON)
    for slope in truth.slopes:
        target: Any = live if slope.name is None else tested[slope.name]
        yield _gradient(output, target, slope, truth, symbol, generator)


def _gradient(
    output: Tensor, target: Tensor, slope: Slope, truth: Truth, symbol: str, generator: torch.Generator
) -> Row:
    """⟨w, dz⟩ along the direction by reverse mode and by differences, w drawn, 0 where z is not smooth."""
    name = f"gradient in {symbol if slope.name is None else _short(slope.name)}"
    if not bool(slope.smooth.any()):
        return Row.failed(name, "every point has a kink within reach", GRADIENT_REASON)
    if not output.requires_grad:
        return Row.failed(name, "the result carries no gradient: it was detached", GRADIENT_REASON)
    w = torch.where(slope.smooth, _normal(truth.z, generator), 0.0)
    chosen = torch.where(slope.smooth, output, 0.0)
    (d,) = torch.autograd.grad((w * chosen).sum(), target, retain_graph=True, materialize_grads=True)
    got, want = d * slope.direction, w * slope.fine
    noise = truth.spread / (4 * STEP)  # 3/2 of what each of the four points is off by, a sixth of the spread
    slack = torch.where(slope.smooth, w.abs() * (slope.gap + noise), 0.0)
    at = {}
    if slope.name is None and not truth.joint:  # one number a sample; a weight belongs to all of them
        got, want, slack = (t.flatten(1).sum(1) for t in (got, want, slack))
        at = {symbol: truth.x}
    else:
        got, want, slack = got.sum(), want.sum(), slack.sum()
    row = Row.of(name, (got - want).abs(), slack, {**at, "found": got, "by differences": want}, GRADIENT_REASON)
    count = int(slope.smooth.sum())
    return replace(row, points=count, left_out=slope.smooth.numel() - count)


def _along(weight: Tensor, direction: Tensor, point: Callable[[], Tensor]) -> list[Tensor]:
    """What ``point`` gives with the weight moved in place by each step; then it is put back."""
    start = weight.detach().clone()
    points = []
    try:
        for k in STEPS:
            weight.data.copy_(start + k * STEP * direction)
            points.append(point())
    finally:
        weight.data.copy_(start)
    return points


def _short(name: str) -> str:
    """coupling.weight and coupling.bias of a bilinear layer are W and b."""
    return name.replace("coupling.weight", "W").replace("coupling.bias", "b")


def _normal(like: Tensor, generator: torch.Generator) -> Tensor:
    return torch.randn(like.shape, generator=generator, dtype=torch.float64)
