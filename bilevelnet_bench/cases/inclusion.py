"""The lower level solved without the library: v ∈ φ'(z) + ∂g(z) by bracketing at 40 digits.

φ' and the one-sided slopes of g are written out below; nothing here calls a mirror map, a closed form or a solver of
bilevelnet. It is slow and simple on purpose.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import mpmath as mp

DIGITS = 40
WIDTH = 1e-35  # of the last bracket, relative to z; five digits below it stay for rounding
NEAR = 1e-4  # relative width at which the secant method is tried
FLOOR = 1e-60  # |z| below which it is absolute, so that a root at 0 ends the search

Number = Any  # float or mpf


class Phi(NamedTuple):
    """φ' on (lo, hi), increasing from −∞ to ∞."""

    lo: Number
    hi: Number
    slope: Callable[[Number], Number]


class G(NamedTuple):
    """g'(z−), g'(z+) and the points where they differ."""

    left: Callable[[Number], Number]
    right: Callable[[Number], Number]
    kinks: tuple[float, ...] = ()


@mp.workdps(DIGITS)
def phi(key: str) -> Phi:
    """φ' by the key of the library's registry, default parameters."""
    inf = mp.inf
    return {
        "energy": Phi(-inf, inf, lambda z: z),
        "boltzmann_shannon": Phi(0, inf, mp.log),
        "fermi_dirac": Phi(0, 1, lambda z: mp.log(z / (1 - z))),
        "tanh": Phi(-1, 1, mp.atanh),
        "atan": Phi(-mp.pi / 2, mp.pi / 2, mp.tan),
        "hellinger": Phi(-1, 1, lambda z: z / mp.sqrt(1 - z * z)),
    }[key]


def g(key: str, lam: float = 0.0) -> G:
    """∂g for g = 0, λ|z| and (λ/2) z²."""
    return {
        "zero": G(lambda z: 0, lambda z: 0),
        "l1": G(lambda z: lam if z > 0 else -lam, lambda z: lam if z >= 0 else -lam, (0.0,)),
        "squared_l2": G(lambda z: lam * z, lambda z: lam * z),
    }[key]


ZERO = g("zero")


@mp.workdps(DIGITS)
def minimiser(v: Number, phi: Phi, g: G = ZERO) -> Number:
    """argmin_z φ(z) + g(z) − z v: the z with φ'(z) + g'(z−) ≤ v ≤ φ'(z) + g'(z+).

    Raises ValueError where 40 digits do not bracket it.
    """
    for kink in map(mp.mpf, g.kinks):
        if phi.lo < kink < phi.hi and g.left(kink) <= v - phi.slope(kink) <= g.right(kink):
            return kink

    def excess(z: Number) -> Number:
        return phi.slope(z) + g.left(z) - v

    start = _inner(phi)
    low = start
    while excess(low) > 0:
        low = _outward(low, phi.lo, start)
    high = start
    while excess(high) <= 0:
        high = _outward(high, phi.hi, start)
    tried = False
    while high - low > WIDTH * max(abs(low), abs(high), FLOOR):
        if not tried and high - low < NEAR * max(abs(low), abs(high)):
            tried, (a, b) = True, _secant(excess, low, high)
            low, high = (a, b) if low < a < b < high and excess(a) <= 0 < excess(b) else (low, high)
            continue
        middle = (low + high) / 2
        low, high = (low, middle) if excess(middle) > 0 else (middle, high)
    return (low + high) / 2


def _secant(f: Callable[[Number], Number], x: Number, y: Number) -> tuple[Number, Number]:
    """The ends of a final bracket around what eight secant steps reach, for the caller to test: it saves bisections."""
    low, high, fx, fy = x, y, f(x), f(y)
    for _ in range(8):
        if fx == fy:
            break
        x, y, fx = y, y - fy * (y - x) / (fy - fx), fy
        if not low <= y <= high:
            break
        fy = f(y)
    margin = WIDTH * abs(y) / 2
    return y - margin, y + margin


def _inner(phi: Phi) -> Number:
    if mp.isinf(phi.hi):
        return mp.mpf(0) if mp.isinf(phi.lo) else mp.mpf(phi.lo) + 1
    return (mp.mpf(phi.lo) + phi.hi) / 2


def _outward(z: Number, end: Number, start: Number) -> Number:
    """Half the distance to a finite end, twice the distance from the start for an infinite one."""
    moved = start + 2 * (z - start) + (1 if end > 0 else -1) if mp.isinf(end) else (z + end) / 2
    if moved in (z, end):
        raise ValueError(f"the minimiser is nearer to {end} than {DIGITS} digits tell")
    return moved
