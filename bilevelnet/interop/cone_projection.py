"""Projections onto the cones of a cone program, with their derivatives."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

Array = np.ndarray
# Of each cone of one size y, (count, k), and a function that gives dy/dw, (count, k, k).
Projected = tuple[Array, Callable[[], Array]]
TURNS = 40  # of Newton's method for the ray of one cone, which needs four to eight


class Cones:
    """K = {0} × ℝ₊ × second-order × semidefinite × exponential × power cones, in this order of rows.

    A second-order cone is t ≥ ‖u‖; a semidefinite matrix is its lower triangle, column by column, √2 off the diagonal;
    an exponential cone is b exp(a/b) ≤ c; a power cone a^α b^(1−α) ≥ |c|. ``dims``: as SCS counts them.
    """

    def __init__(self, dims: dict[str, Any]):
        self.groups: list[tuple[Array, Callable[[Array, Array, Array], Projected]]] = []
        self.start, self.dims = 0, dims
        self._add(1, dims["z"], _free)
        self._add(1, dims["l"], _nonneg)
        self._add_each(dims["q"], lambda size: size, lambda size: _second_order)
        self._add_each(dims["s"], lambda n: n * (n + 1) // 2, lambda n: partial(_semidefinite, Triangle(n)))
        self._add(3, dims["ep"], partial(_curved, Exponential()))
        self._add(3, len(dims["p"]), partial(_curved, Power(np.array(dims["p"], dtype=float))))

    def _add(self, size: int, count: int, project: Any) -> None:
        index = self.start + np.arange(size * count).reshape(count, size)
        self.start += size * count
        if index.size:
            self.groups.append((index, project))

    def _add_each(self, cones: list[int], size: Callable[[int], int], project: Callable[[int], Any]) -> None:
        """Cones of several sizes, those of one size together."""
        starts = self.start + np.cumsum([0, *map(size, cones)])
        for n in dict.fromkeys(cones):
            index = starts[:-1][np.array(cones) == n][:, None] + np.arange(size(n))
            self.groups.append((index, project(n)))
        self.start = int(starts[-1])

    def dual(self, w: Array, s: Array, y: Array) -> tuple[Array, list[tuple[Array, Callable[[], Array]]]]:
        """(Π(w) onto K*, its derivative as rows and what gives its blocks), from s in K and y in K* near y − s."""
        found, blocks = np.empty_like(w), []
        for index, project in self.groups:
            found[index], block = project(w[index], s[index], y[index])
            blocks.append((index, block))
        return found, blocks


def _free(w: Array, s: Array, y: Array) -> Projected:
    return w, lambda: np.ones((*w.shape, 1))


def _nonneg(w: Array, s: Array, y: Array) -> Projected:
    return np.maximum(w, 0), lambda: (w > 0).astype(float)[..., None]


def _second_order(w: Array, s: Array, y: Array) -> Projected:
    """½(1 + t/‖u‖)(‖u‖, u) between the cone and its polar."""
    t, u = w[:, :1], w[:, 1:]
    size = np.linalg.norm(u, axis=1, keepdims=True)
    between = (size > np.abs(t)).astype(float)
    inside = (size <= t).astype(float) * (1 - between)
    unit, ratio = u / np.where(size > 0, size, 1), t / np.where(size > 0, size, 1)
    y = inside * w + between * np.concatenate([size + t, (1 + ratio) * u], 1) / 2

    def slope() -> Array:
        k = w.shape[1]
        found = np.empty((len(w), k, k))
        found[:, 0, 0], found[:, 0, 1:], found[:, 1:, 0] = 1, unit, unit
        found[:, 1:, 1:] = -ratio[..., None] * unit[:, :, None] * unit[:, None, :]
        found[:, range(1, k), range(1, k)] += 1 + ratio
        found *= between[..., None] / 2
        found[:, range(k), range(k)] += inside
        return found

    return y, slope


class Triangle:
    """Symmetric n × n matrices as vectors of the same norm: the lower triangle, column by column."""

    def __init__(self, n: int):
        self.n = n
        self.column, self.row = np.triu_indices(n)
        scale = np.where(self.row == self.column, 1.0, 0.5**0.5)
        self.basis = np.zeros((len(scale), n, n))
        entries = np.arange(len(scale))
        self.basis[entries, self.row, self.column] = self.basis[entries, self.column, self.row] = scale


def _semidefinite(shape: Triangle, w: Array, s: Array, y: Array) -> Projected:
    """Q max(Λ, 0) Q', with the divided differences of max(λ, 0) as derivative."""
    values, vectors = np.linalg.eigh(np.einsum("ce,eij->cij", w, shape.basis))
    kept = np.maximum(values, 0)
    found = np.einsum("cki,ci,cli,ekl->ce", vectors, kept, vectors, shape.basis, optimize=True)

    def slope() -> Array:
        upper, lower = values[:, :, None], values[:, None, :]
        same = upper == lower
        quotient = (kept[:, :, None] - kept[:, None, :]) / np.where(same, 1, upper - lower)
        quotient = np.where(same, (upper > 0).astype(float), quotient)
        turned = np.einsum("cki,ekl,clj->ceij", vectors, shape.basis, vectors, optimize=True)
        return np.asarray(np.einsum("ceij,cij,cfij->cef", turned, quotient, turned, optimize=True))

    return found, slope


class Exponential:
    """The boundary of b exp(a/b) ≤ c: the rays of (ρ, 1, e^ρ), with the outer normal −(−e^ρ, e^ρ(ρ − 1), 1)."""

    def ratio(self, s: Array, y: Array) -> Array:
        primal = s[:, 0] / _away(s[:, 1])
        return np.where(_larger(s, y), primal, 1 - y[:, 1] / _away(y[:, 0]))

    def rays(self, rho: Array, v: Array) -> tuple[Array, Array, Array, Array]:
        """(a, c, da/dρ, dc/dρ): a point of the boundary of K and that of K* opposite to it."""
        e, one, zero = np.exp(np.minimum(rho, 300)), np.ones_like(rho), np.zeros_like(rho)  # e² is finite
        a, da = (rho, one, e), (one, zero, e)
        c, dc = (-e, e * (rho - 1), one), (-e, e * rho, zero)
        return tuple(np.stack(t, -1) for t in (a, c, da, dc))  # type: ignore[return-value]

    def contains(self, v: Array) -> Array:
        a, b, c = v.T
        with np.errstate(over="ignore"):
            return ((b > 0) & (b * np.exp(a / _away(b)) <= c)) | ((b == 0) & (a <= 0) & (c >= 0))

    def dual_contains(self, y: Array) -> Array:
        a, b, c = y.T
        with np.errstate(over="ignore"):
            return ((a < 0) & (-a * np.exp(b / _away(a) - 1) <= c)) | ((a == 0) & (b >= 0) & (c >= 0))

    def face(self, v: Array) -> Array:
        """Where v is projected onto {a ≤ 0, b = 0, c ≥ 0}."""
        return (v[:, 0] <= 0) & (v[:, 1] <= 0)

    free = np.array([True, False, False])  # entries that a projection onto the face keeps; the last: where positive
    kept = np.array([False, False, True])


class Power:
    """The boundary of a^α b^(1−α) ≥ |c|: the rays of (e^{(1−α)ρ}, e^{−αρ}, ±1)."""

    def __init__(self, alpha: Array):
        self.alpha = alpha

    def ratio(self, s: Array, y: Array) -> Array:
        primal = np.log(_positive(s[:, 0]) / _positive(s[:, 1]))
        dual = np.log(self.alpha * _positive(y[:, 1]) / ((1 - self.alpha) * _positive(y[:, 0])))
        return np.where(_larger(s, y), primal, dual)

    def rays(self, rho: Array, v: Array) -> tuple[Array, Array, Array, Array]:
        p, zero = self.alpha, np.zeros_like(rho)
        x, y, sign = np.exp((1 - p) * rho), np.exp(-p * rho), np.where(v[:, 2] < 0, -1.0, 1.0)
        a, da = (x, y, sign), ((1 - p) * x, -p * y, zero)
        c, dc = (p / x, (1 - p) / y, -sign), (-(1 - p) * p / x, p * (1 - p) / y, zero)
        return tuple(np.stack(t, -1) for t in (a, c, da, dc))  # type: ignore[return-value]

    def contains(self, v: Array) -> Array:
        a, b, c = v.T
        return (a >= 0) & (b >= 0) & (np.maximum(a, 0) ** self.alpha * np.maximum(b, 0) ** (1 - self.alpha) >= abs(c))

    def dual_contains(self, y: Array) -> Array:
        return self.contains(y / np.stack([self.alpha, 1 - self.alpha, np.ones_like(self.alpha)], -1))

    def face(self, v: Array) -> Array:
        return v[:, 2] == 0

    free = np.array([False, False, False])
    kept = np.array([True, True, False])


def _curved(cone: Any, w: Array, s: Array, y: Array) -> Projected:
    """y of v = −w = s − y with s = σ a(ρ) and y = τ c(ρ), a ⊥ c: ρ is the root of ⟨v, a × c⟩."""
    v = -w
    rho = cone.ratio(s, y)
    with np.errstate(all="ignore"):
        for _ in range(TURNS):
            a, c, da, dc = cone.rays(rho, v)
            step = _dot(v, np.cross(a, c)) / _dot(v, np.cross(da, c) + np.cross(a, dc))
            rho = rho - np.where(np.isfinite(step), step, 0)
            if not (np.abs(step) > 4 * np.finfo(float).eps * (1 + np.abs(rho))).any():
                break
        a, c, da, dc = cone.rays(rho, v)
        sigma, tau = _dot(v, a) / _dot(a, a), -_dot(v, c) / _dot(c, c)
        found = tau[:, None] * c
        columns = np.stack([sigma[:, None] * da - tau[:, None] * dc, a, -c], -1)
        moved = np.stack([tau[:, None] * dc, np.zeros_like(a), c], -1)
    sound = np.isfinite(columns).all((-2, -1)) & (sigma > 0) & (tau > 0)
    columns = np.where(sound[:, None, None], columns, np.eye(3))
    slope = -moved @ np.linalg.inv(columns)  # dy = M dρστ, dv = −dw = C dρστ
    inside, polar, face = cone.contains(v), cone.dual_contains(w), cone.face(v)
    kept = cone.free | (cone.kept & (v > 0))
    for where, value, derivative in (
        (~sound, np.full_like(v, np.nan), np.zeros_like(slope)),
        (face, w + np.where(kept, v, 0), np.eye(3) * ~kept[:, None, :]),
        (polar, w, np.eye(3)),
        (inside, np.zeros_like(v), np.zeros_like(slope)),
    ):
        found = np.where(where[:, None], value, found)
        slope = np.where(where[:, None, None], derivative, slope)
    return found, lambda: slope


def _dot(a: Array, b: Array) -> Array:
    return (a * b).sum(-1)


def _larger(s: Array, y: Array) -> Array:
    return np.linalg.norm(s, axis=1) > np.linalg.norm(y, axis=1)


def _away(t: Array) -> Array:
    """t, 1 where it is 0: what is divided by it there is not used."""
    return np.where(t == 0, 1, t)


def _positive(t: Array) -> Array:
    return np.maximum(t, np.finfo(float).tiny)
