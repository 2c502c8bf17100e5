"""min_y h(y) + g*(y) for a smooth convex h and a g known by its prox: Newton's method on the fixed point of a
forward-backward step, made global by its envelope.

The step T(y) = prox_{γg*}(y − γ∇h(y)) is y + γ(a − p) with a = −∇h(y) and p = prox_{g/γ}(y/γ + a) (Moreau), and the
envelope h(y) − ⟨a, T(y) − y⟩ + ‖T(y) − y‖²/(2γ) + g*(T(y)) has the minimisers of h + g* (Patrinos & Bemporad 2013;
Stella, Themelis & Patrinos 2017). T(y) ∈ ∂g(p), so that g*(T(y)) = ⟨p, T(y)⟩ − g(p) and no conjugate is called.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from .bracket import FOUND, LIMIT, NONE

# A step is short enough where h lies below its quadratic bound of curvature KAPPA/γ: below 1, so that the envelope
# falls.
KAPPA = 0.95
STEPS = (1.0, 0.25, 0.0625, 0.0)  # along the Newton step, the rest of the way by the forward-backward step
LOOSE = 0.7  # of the digits: eleven of sixteen, which suffice where no more are won
EARLY = 16  # cheap steps, after which half as many of Newton's are left or fewer; 24 cost what they save
ROUGH = 1e-3  # of the direction of the first steps
STALLED = 3  # iterations that did not halve the residual
HALVINGS = 60  # of a step, past the digits of a float
LOOK = 20  # iterations between two looks at what is hopeless, which cost as much as one
# Of the Levenberg-Marquardt shift beside ‖r‖/size: where it starts, and the ends of a range in which it moves tenfold.
DAMPING, LEAST, MOST = 0.1, 1e-3, 1e4


class Composite(Protocol):
    """h and g on vectors y of shape (…, M); numbers of an element have shape (…, 1).

    ``steady``: the first step suits the curvature of h everywhere. ``scale``: against which ‖r‖ is small where a and
    p are 0.
    """

    steady: bool
    scale: Tensor

    def smooth(self, y: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """h(y), a = −∇h(y), and the size of what rounds a, times the curvature of h."""

    def prox(self, x: Tensor, step: Tensor) -> tuple[Tensor, Tensor]:
        """p = prox_{g/γ}(x/γ), and g(p)."""

    def curvature(self, y: Tensor) -> Any:
        """h''(y), as ``direction`` takes it."""

    def largest(self, curvature: Any) -> Tensor:
        """A bound of its eigenvalues."""

    def direction(self, curvature: Any, x: Tensor, step: Tensor, r: Tensor, shift: Tensor, tol: Tensor) -> Tensor:
        """d with (E + D(γ h''(y) + shift)) d = −r to ``tol`` ‖r‖, D the derivative of prox_{γg*} at x, E = I − D."""


class Point(NamedTuple):
    """y with a, p, r = y − T(y) = γ(p − a), h(y), what rounds a, the envelope, ‖r‖ and the size of its terms."""

    y: Tensor
    image: Tensor
    prox: Tensor
    r: Tensor
    h: Tensor
    noise: Tensor
    envelope: Tensor
    norm: Tensor
    size: Tensor
    rounding: Tensor


class Minimiser(NamedTuple):
    """T(y) of the best y, the step γ, a code an element (FOUND, LIMIT, or NONE: hopeless) and the iterations."""

    y: Tensor
    step: Tensor
    code: Tensor
    iterations: int


def look(problem: Composite, y: Tensor, step: Tensor) -> Point:
    """The Point at y."""
    h, image, noise = problem.smooth(y)
    return _finished(problem, y, step, h, image, noise)


def _finished(problem: Composite, y: Tensor, step: Tensor, h: Tensor, image: Tensor, noise: Tensor) -> Point:
    prox, value = problem.prox(y + step * image, step)
    r = step * (prox - image)
    after = y - r
    envelope = h + _dot(image, r) + _dot(r, r) / (2 * step) + _dot(prox, after) - value
    norm = _norm(r)
    size = problem.scale + step * (_norm(image) + _norm(prox))
    rounding = size + _norm(y) + step * noise
    return Point(y, image, prox, r, h, noise, envelope, torch.where(norm.isfinite(), norm, torch.inf), size, rounding)


def accelerated(problem: Composite, y: Tensor, step: Tensor, tol: float) -> tuple[Tensor, int]:
    """The better one of y and at most EARLY forward-backward steps with momentum from it, and how many were taken.

    (Beck & Teboulle, A fast iterative shrinkage-thresholding algorithm, 2009.)
    """
    tight = max(tol, 4 * torch.finfo(y.dtype).eps)
    first = here = look(problem, y, step)
    before, t, k = y, 1.0, 0
    while k < EARLY and bool((here.norm > tight * here.rounding).any()):
        k += 1
        after, last, t = here.y - here.r, t, (1 + math.sqrt(1 + 4 * t**2)) / 2
        momentum = (last - 1) / t if k < EARLY else 0.0
        here, before = look(problem, after + momentum * (after - before), step), after
    return torch.where(here.envelope < first.envelope, here.y, y), k


def minimise(
    problem: Composite, y: Tensor, step: Tensor, max_iter: int, tol: float, hopeless: Callable[[Point], Tensor]
) -> Minimiser:
    """The minimiser, element by element; ``hopeless(point)`` tells from time to time which elements have none.

    An element is found where ‖r‖ is below ``tol`` or the rounding of its terms, or most of their digits agree and no
    more are won.
    """
    eps = torch.finfo(y.dtype).eps
    loose, tight = max(tol, eps**LOOSE), max(tol, 4 * eps)  # the latter: the rounding of four terms
    at = look(problem, y, step)
    if not problem.steady:
        at, step = _restepped(problem, at, step, torch.minimum(step, _longest(problem, at)))
    best, best_step, waited, lost = at, step, torch.zeros_like(at.norm), at.norm.isinf()
    damping, iterations = torch.full_like(at.norm, DAMPING), 0
    while True:
        near, level = best.norm <= loose * best.size, best.norm <= tight * best.rounding
        found = near & best.size.isfinite() & (level | (waited >= STALLED))
        done = found | lost
        if iterations >= max_iter or bool(done.all()):
            break
        curvature = problem.curvature(at.y)
        if not problem.steady:
            step, at = _fitted(problem, at, step, curvature, ~done)
            best = _choose(step != best_step, at, best)
        # Above the rounding of the system, so that it has an inverse where multipliers are not unique.
        shift = (damping * at.norm / at.size.clamp(min=torch.finfo(y.dtype).tiny)).clamp(100 * eps, 1.0)
        # A step squares what is off, down to the rounding.
        off = at.norm / at.size
        accuracy = torch.maximum(off, eps / off.clamp(min=eps)).clamp(max=ROUGH)
        d = problem.direction(curvature, at.y + step * at.image, step, at.r, shift, accuracy)
        d = torch.where(d.isfinite().all(-1, keepdim=True), d, -at.r)
        at, whole = _advanced(problem, at, best, d, step, ~done)
        damping = torch.where(whole, damping / 10, damping * 10).clamp(LEAST, MOST)
        fell = at.norm <= best.norm / 2
        waited = torch.where(fell, 0.0, waited + 1)
        best, best_step = _choose(at.norm < best.norm, at, best), step
        iterations += 1
        if iterations % LOOK == 0:
            lost = lost | (hopeless(at) & ~found)
    lost = lost if bool(done.all()) else lost | hopeless(at)
    code = torch.where(found, FOUND, torch.where(lost, NONE, LIMIT)).squeeze(-1)
    return Minimiser(best.y - torch.where(best.r.isfinite(), best.r, 0.0), step, code, iterations)


def _short(problem: Composite, at: Point, step: Tensor) -> Tensor:
    """Whether h(T(y)) lies below its quadratic bound, so that the envelope is one of h + g*."""
    if problem.steady:
        return torch.ones_like(at.norm, dtype=torch.bool)
    after = problem.smooth(at.y - at.r)[0]
    bound = at.h + _dot(at.image, at.r) + KAPPA / (2 * step) * at.norm**2
    noise = 10 * torch.finfo(step.dtype).eps * (at.h.abs() + after.abs() + _dot(at.image.abs(), at.r.abs()))
    return after.isfinite() & (after <= bound + noise)


def _fitted(problem: Composite, at: Point, step: Tensor, curvature: Any, active: Tensor) -> tuple[Tensor, Point]:
    """γ = 1/‖h''(y)‖ or the longest, halved until it is short enough."""
    bound = problem.largest(curvature)
    fitted = torch.minimum(1 / bound, _longest(problem, at))
    at, step = _restepped(problem, at, step, torch.where(active & (bound > 0), fitted, step))
    for _ in range(HALVINGS):
        long = ~_short(problem, at, step) & active
        if not bool(long.any()):
            break
        at, step = _restepped(problem, at, step, torch.where(long, step / 2, step))
    return step, at


def _longest(problem: Composite, at: Point) -> Tensor:
    """γ with γ‖h'(y)‖ = ‖v‖ + ‖T(y)‖: where h is flat the rounding of a longer one hides all of y."""
    return (problem.scale + _norm(at.y - at.r)) / _norm(at.image).clamp(min=torch.finfo(at.y.dtype).tiny)


def _restepped(problem: Composite, at: Point, old: Tensor, step: Tensor) -> tuple[Point, Tensor]:
    changed = _finished(problem, at.y, step, at.h, at.image, at.noise)
    return _choose(step != old, changed, at), step


def _advanced(
    problem: Composite, at: Point, best: Point, d: Tensor, step: Tensor, active: Tensor
) -> tuple[Point, Tensor]:
    """The next point, along d as far as the residual halves or the envelope falls, at last T(y); whether d whole."""
    eps = torch.finfo(step.dtype).eps
    fall = (1 - KAPPA) / (4 * step) * at.norm**2
    rest, whole, following = active, active, at
    for t in STEPS:
        trial = look(problem, at.y + t * d - (1 - t) * at.r, step)
        takes = rest
        if t:
            lower = trial.envelope <= at.envelope - fall + 10 * eps * (at.envelope.abs() + _dot(at.prox, at.y).abs())
            takes = rest & ((trial.norm <= best.norm / 2) | (lower & trial.norm.isfinite()))
            takes = takes & _short(problem, trial, step)
        following = _choose(takes, trial, following)
        whole = takes if t == 1 else whole
        rest = rest & ~takes
        if not bool(rest.any()):
            break
    return following, whole


def _choose(mask: Tensor, new: Point, old: Point) -> Point:
    return Point(*(torch.where(mask, a, b) for a, b in zip(new, old, strict=True)))


def _dot(x: Tensor, y: Tensor) -> Tensor:
    return (x * y).sum(-1, keepdim=True)


def _norm(x: Tensor) -> Tensor:
    return torch.linalg.vector_norm(x, dim=-1, keepdim=True)
