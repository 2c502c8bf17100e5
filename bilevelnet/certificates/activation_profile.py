"""What the values of a scalar activation ρ tell: whether it is a proximal map, where it is flat, and its range."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from ..errors import InputError

Activation = Callable[[Tensor], Tensor]
REACH, STEP, FAR = 40.0, 0.005, 1e100  # a fine grid, then doublings
CLOSE = 1e-6  # the least distance of two points between those of the grid
EPS = torch.finfo(torch.float64).eps
NOISE = 64 * EPS  # of |v| + |ρ(v)|: formulas cancel by as much
JUMP = 2e-10  # of 1 + |ρ(v)|: twice that of torch's Softplus at its threshold, log(1 + e⁻²⁰) where ρ = 20
SLOWING = 0.75  # of the step before: between what grows without end and what comes to rest, see _limit
RULE = "That of a convex g, Bregman or Euclidean, is nondecreasing and continuous"


class NotProximal(InputError):
    """ρ is no proximal map: ``points`` and the ``values`` there contradict it."""

    def __init__(self, what: str, points: tuple[Tensor, Tensor], values: tuple[Tensor, Tensor], rule: str):
        self.points, self.values = points, values
        (v, w), (a, b) = (_shown(*pair) for pair in (points, values))
        super().__init__(f"{what}: ρ({v}) = {a}, ρ({w}) = {b}. {rule}")


class Flat(NamedTuple):
    """ρ = level on [left, right], either end possibly infinite."""

    left: float
    right: float
    level: float


class Profile(NamedTuple):
    """The range (lo, hi) of ρ and its flat parts, from the left to the right."""

    lo: float
    hi: float
    flats: tuple[Flat, ...]


def profile(rho: Activation, name: str, nonexpansive: bool = False) -> Profile:
    """The profile of ρ: ℝ → ℝ, looked at on [−40, 40] in steps of 0.005 and at doublings up to 1e100.

    Between neighbours of the grid two more points are drawn by a seed, 1e-6 to 0.005 apart, so that a wiggle that is
    finer than the grid shows; one that is confined to an interval shorter than that may be missed.

    ρ = prox^φ_g for some Legendre φ and convex g iff it is nondecreasing and continuous, and the Euclidean prox of a
    convex g iff it is 1-Lipschitz too (Combettes & Pesquet, 2020). Raises NotProximal where two points contradict that
    (``nonexpansive``: the second too), InputError where ρ is not defined everywhere.
    """
    v, a = _sampled(rho, name)
    _check_monotone(v, a, name)
    w, b = _between(rho, v)
    _check_monotone(w, b, name)
    if bool((a == a[0]).all()):
        raise InputError(
            f"{name} is the constant {float(a[0]):g}: φ + g would be finite at that one point alone, and a Legendre φ "
            f"has an open domain"
        )
    _check_continuous(rho, v, a, name)
    if nonexpansive:
        _check_nonexpansive(v, a, name)
        _check_nonexpansive(w, b, name)
    flats = _flats(rho, v, a)
    lo, hi = _limit(-v.flip(0), -a.flip(0), name), _limit(v, a, name)
    return Profile(-lo + 0.0, hi + 0.0, flats)


def _sampled(rho: Activation, name: str) -> tuple[Tensor, Tensor]:
    """(v, ρ(v)) on the part of the grid around 0 where ρ is finite: beyond, it overflows."""
    n = round(REACH / STEP)
    right = torch.arange(n + 1, dtype=torch.float64) * STEP
    far = REACH * 2.0 ** torch.arange(1, math.ceil(math.log2(FAR / REACH)), dtype=torch.float64)
    half = torch.cat([right, far])
    v = torch.cat([-half.flip(0)[:-1], half])
    kept = v.clone()
    a = rho(v)
    if not torch.equal(v, kept):
        raise InputError(f"{name} changes its argument in place: give a function that returns a new tensor")
    if a.shape != v.shape or a.dtype is not v.dtype:
        raise InputError(f"{name} turns shape {tuple(v.shape)}, {v.dtype} into {tuple(a.shape)}, {a.dtype}")
    inner = v.abs() <= REACH
    if not bool(a[inner & (v.abs() <= 1)].isfinite().all()) or bool(a[inner].isnan().any()):
        at = float(v[inner][(~a[inner].isfinite()).nonzero()[0]])
        raise InputError(
            f"{name} is not finite at {at:g}: a proximal map of φ + g with φ* finite is defined everywhere"
        )
    finite, middle = a.isfinite(), len(v) // 2
    first = int((~finite[:middle]).nonzero().amax()) + 1 if not finite[:middle].all() else 0
    last = middle + int((~finite[middle:]).nonzero().amin()) if not finite[middle:].all() else len(v)
    return v[first:last], a[first:last]


def _between(rho: Activation, v: Tensor) -> tuple[Tensor, Tensor]:
    """(w, ρ(w)) at two points between any two of the grid, as far as ρ is finite there."""
    generator = torch.Generator().manual_seed(0)
    at, log = torch.rand(2, round(2 * REACH / STEP), generator=generator, dtype=torch.float64)
    first = (torch.arange(len(at)) + at) * STEP - REACH
    w = torch.cat([first, first + CLOSE * (STEP / CLOSE) ** log]).sort().values
    w = w[(w > v[0]) & (w < v[-1])]
    b = rho(w)
    return w[b.isfinite()], b[b.isfinite()]


def _check_monotone(v: Tensor, a: Tensor, name: str) -> None:
    for part in (v.abs() <= REACH, torch.ones_like(v, dtype=torch.bool)):
        x, y = v[part], a[part]
        drop = y.cummax(0).values - y
        drop = torch.where(drop > NOISE * (x.abs() + y.abs()), drop, 0.0)
        low = int(drop.argmax())
        if drop[low] > 0:
            high = int(y[: low + 1].argmax())
            raise NotProximal(
                f"{name} is no proximal map, for it decreases",
                (x[high], x[low]),
                (y[high], y[low]),
                RULE,
            )


def _check_continuous(rho: Activation, v: Tensor, a: Tensor, name: str) -> None:
    """Every step of the grid is halved towards its larger increment, which tends to 0 unless there is a jump."""
    inner = v.abs() <= REACH
    lo, hi = v[inner][:-1], v[inner][1:]
    below, above = a[inner][:-1], a[inner][1:]
    early = above - below
    for k in range(50):
        middle = (lo + hi) / 2
        value = rho(middle)
        right = above - value > value - below
        lo, below = torch.where(right, middle, lo), torch.where(right, value, below)
        hi, above = torch.where(right, hi, middle), torch.where(right, above, value)
        early = above - below if k == 25 else early
    rise = above - below
    jumps = (rise > 0.9 * early) & (rise > JUMP * (1 + below.abs()))
    if bool(jumps.any()):
        k = int(torch.where(jumps, rise, 0.0).argmax())
        raise NotProximal(
            f"{name} is no proximal map, for it jumps",
            (lo[k], hi[k]),
            (below[k], above[k]),
            RULE,
        )


def _check_nonexpansive(v: Tensor, a: Tensor, name: str) -> None:
    inner = v.abs() <= REACH
    x, y = v[inner], a[inner]
    rise = y.diff() - x.diff()
    excess = torch.where(rise > NOISE * (x + y).abs()[1:] + JUMP * (1 + y[1:].abs()), y.diff() / x.diff(), 0.0)
    k = int(excess.argmax())
    if excess[k] > 1:
        raise NotProximal(
            f"{name} is no Euclidean proximal map, for its slope reaches {float(excess[k]):.4g}",
            (x[k], x[k + 1]),
            (y[k], y[k + 1]),
            "A Euclidean one is 1-Lipschitz; split='bregman' has no such bound",
        )


def _flats(rho: Activation, v: Tensor, a: Tensor) -> tuple[Flat, ...]:
    """The intervals on which ρ is constant, edges to the last digit; not where it saturates, by rounding alone."""
    equal = a.diff() == 0
    edges = torch.cat([torch.zeros(1, dtype=torch.bool), equal, torch.zeros(1, dtype=torch.bool)]).int().diff()
    starts, ends = (edges == 1).nonzero().squeeze(1), (edges == -1).nonzero().squeeze(1)
    if not len(starts):
        return ()
    level, n = a[starts], len(v)
    left = _edge(rho, v[starts], v[(starts - 1).clamp(min=0)], level)
    right = _edge(rho, v[ends], v[(ends + 1).clamp(max=n - 1)], level)
    left, right = torch.where(starts == 0, -torch.inf, left), torch.where(ends == n - 1, torch.inf, right)
    unit = min(1.0, float(a[v.abs() <= 1].abs().max()))
    noise = 4 * EPS * level.abs().clamp(min=unit)
    sharp = torch.zeros_like(level, dtype=torch.bool)
    for edge, sign in ((left, -1.0), (right, 1.0)):
        # So close that a rate of saturation below 1e6 does not show, and a corner of slope 1e-9 does.
        near = rho(torch.where(edge.isfinite(), edge + sign * CLOSE * (1 + edge.abs()), 0.0))
        sharp |= edge.isfinite() & ((near - level).abs() > noise)
    table = torch.stack([left, right, level], 1)[sharp]
    return tuple(Flat(*(x + 0.0 for x in row)) for row in table.tolist())


def _edge(rho: Activation, inside: Tensor, outside: Tensor, level: Tensor) -> Tensor:
    """The last point from ``inside`` towards ``outside`` at which ρ is still the level."""
    for _ in range(100):
        middle = (inside + outside) / 2
        same = rho(middle) == level
        inside, outside = torch.where(same, middle, inside), torch.where(same, outside, middle)
    return inside


def _limit(v: Tensor, a: Tensor, name: str) -> float:
    """lim ρ at ∞: finite where what ρ still has to go is below eps of it, infinite where it does not slow down.

    What is off by C v^−p at v moves by d₁ from FAR^¼ to FAR^½, by d₂ from there to FAR, and d₂ (d₂/d₁)² is left. Of
    log v, d₂ = 2 d₁, of its logarithm d₁, of that one's 0.9 d₁; of 1 − 1/log v, which comes to rest, ½ d₁.
    """
    if v[-1] < FAR / 4:  # cut where it overflows
        return math.inf
    quarter, half = (a[int((v <= FAR**power).nonzero().amax())] for power in (0.25, 0.5))
    before, last = (half - quarter).abs(), (a[-1] - half).abs()
    ahead = last * (last / before) ** 2 if last < before else last
    size = a[v.abs() <= 1].abs().max()
    if ahead <= EPS * torch.maximum(size, a[-1].abs()):
        return float(a[-1])
    if last < SLOWING * before:
        raise InputError(
            f"the range of {name} is not told by its values: it slows down, and from 1e50 to 1e100 still moves by "
            f"{float(last):.2g}; state φ by its formula, as a subclass of bilevelnet.legendre.Separable"
        )
    return math.inf


def _shown(x: Tensor, y: Tensor) -> tuple[str, str]:
    """Both, with as many digits as tell them apart."""
    for digits in (6, 9, 17):
        a, b = (", ".join(f"{t:.{digits}g}" for t in p.reshape(-1).tolist()) for p in (x, y))
        if a != b:
            break
    return (a, b) if x.numel() == 1 else (f"[{a}]", f"[{b}]")
