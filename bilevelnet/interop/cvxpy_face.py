"""Ill-conditioned quadratic programs, one by one: the minimiser on the rows held, by QR, and what rounding hides of it.

min ½‖M x + m‖² + q'x, C x = d in the rows held: of C' = [Y Z][U; 0] and M Z = V T both triangles have the condition of
the data, where M'M would have its square (Björck, Numerical Methods for Least Squares Problems, chapter 5).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.linalg import qr, solve_triangular

EPS = float(np.finfo(float).eps)
TURNS, EACH = 8, 3  # changes of all rows that are wrong at once; then of the first alone (Murty, 1974), so many a row
TWICE = 3  # the solution and two corrections: an inverse applied once is not stable backwards
LOOSE = 1e8  # how far, relative to entries above 1, x may move along what leaves the objective as it is to rounding
CLEAR = 1e-9  # of an error, relative to entries above 1, that no other face is sought for
Array = np.ndarray


class Root(NamedTuple):
    """M (k, n), m, q, C (r, n), d, how many rows are equations, and |M'M| where that is rounded and not M."""

    M: Array
    m: Array
    q: Array
    C: Array
    d: Array
    p: int
    square: Array

    @classmethod
    def of(cls, P: Array, z: tuple[Array, Array, Array], rows: tuple[Array, Array, int]) -> Root:
        """Of ½z'Pz + q'z at z = S x + e, ``z`` = (S, e, q), and the ``rows`` (C, d, p) of x."""
        (S, e, q), (C, d, p) = z, rows
        weights = np.diag(P)
        if np.array_equal(P, np.diag(weights)) and (weights >= 0).all():
            kept = weights > 0
            roots = np.sqrt(weights[kept])[:, None]
            return cls(roots * S[kept], roots[:, 0] * e[kept], S.T @ q, C, d, p, np.zeros((S.shape[1],) * 2))
        square = S.T @ P @ S
        values, vectors = np.linalg.eigh((square + square.T) / 2)
        M = np.sqrt(values.clip(min=0))[:, None] * vectors.T
        return cls(M, np.zeros(len(M)), S.T @ (P @ e + q), C, d, p, np.abs(S).T @ np.abs(P) @ np.abs(S))

    def scaled(self, t: Array) -> Root:
        """In x/t."""
        return Root(self.M * t, self.m, self.q * t, self.C * t, self.d, self.p, self.square * t * t[:, None])


class Face:
    """The inverse of the system for the rows ``held``; rows that depend on others before them have no multiplier."""

    def __init__(self, root: Root, held: Array):
        C, n = root.C[held], root.C.shape[1]
        sizes = np.abs(C).max(1, initial=0)
        C = C / np.where(sizes > 0, sizes, 1.0)[:, None]
        whole, upper, order = qr(C.T, pivoting=True) if len(C) else (np.eye(n), np.zeros((n, 0)), np.zeros(0, int))
        pivots = np.abs(np.diag(upper))
        rank = int((pivots > (n + len(C)) * EPS * pivots.max(initial=0)).sum())
        self.index, self.sizes = np.flatnonzero(held)[order[:rank]], sizes[order[:rank]]
        self.Y, self.Z, U = whole[:, :rank], whole[:, rank:], upper[:rank, :rank]
        self.M, self.rows = root.M, C[order[:rank]]
        V, T, order = qr(root.M @ self.Z, mode="economic", pivoting=True)
        rank = int((np.abs(np.diag(T)) > sum(root.M.shape) * EPS * np.abs(root.M).max(initial=0)).sum())
        seen = self.Z[:, order[:rank]]
        self.up = _inverse(U) @ self.Y.T  # U⁻¹Y'
        self.V, self.across = V[:, :rank], seen @ _inverse(T[:rank, :rank])  # Z T⁻¹
        self.free = self.Z[:, order[rank:]] - self.across @ T[:rank, rank:]

    def solve(self, a: Array, c: Array, m: Array, x: Array) -> tuple[Array, Array, Array]:
        """(x, w, r) with r = M x + m, M'r + C'w = a, C x = c, along what that leaves ``free`` from x on; w = 0 in the
        rows left out.
        """
        level, pull = c[self.index] / self.sizes, self.across.T @ a
        for _ in range(TWICE):
            x = x + self.up.T @ (level - self.rows @ x)
            x = x + self.across @ (pull - self.V.T @ (self.M @ x + m))
        r = self.M @ x + m
        w = np.zeros(len(c))
        w[self.index] = self.up @ (a - self.M.T @ r) / self.sizes
        return x, w, r


class Point:
    """The minimiser on a face, and by how much x and w may be off, to first order in the rounding of each sum."""

    def __init__(self, root: Root, held: Array, start: Array):
        self.root, self.held, self.start = root, held, start
        f, (M, m, q, C, d, _, square) = Face(root, held), root
        with np.errstate(all="ignore"):
            self.x, self.w, r = f.solve(-q, d, m, start)
            fit = f.across @ f.V.T  # −m ↦ x
            terms = (len(m) + len(q) + 3) * EPS
            row = terms * np.full(len(m), (np.abs(M) @ np.abs(self.x) + np.abs(m)).max(initial=0))
            pull = np.abs(M).T @ np.abs(r) + np.abs(q) + np.abs(C).T @ np.abs(self.w)
            force = terms * np.full(len(q), (pull + square @ np.abs(self.x)).max(initial=0))
            level = (terms * (np.abs(C) @ np.abs(self.x) + np.abs(d)))[f.index] / f.sizes
            lift = f.up.T - fit @ (M @ f.up.T)
            self.x_error = np.abs(fit) @ row + np.abs(f.across @ f.across.T) @ force + np.abs(lift) @ level
            loose = LOOSE * np.abs(f.free).sum(1) * (1 + np.abs(self.x).max(initial=0))
            left = np.abs(f.free.T @ (M.T @ r + q + C.T @ self.w)) > np.abs(f.free.T) @ force
            self.known = not left.any()  # else the face falls without end
            # r moves by what m does, along M, and across the face
            moved = row + np.abs(M @ f.up.T) @ level + np.abs(fit.T) @ force
            self.w_error = np.zeros(len(d))
            self.w_error[f.index] = np.abs(f.up) @ (force + np.abs(M).T @ moved) / f.sizes
            self.excess = C @ self.x - d
            self.known &= bool(np.isfinite(self.x_error).all() and np.isfinite(self.w_error).all())
            self.slack_error = np.abs(C) @ self.x_error + terms * (np.abs(C) @ np.abs(self.x) + np.abs(d))
            self.x_error = self.x_error + loose

    def wrong(self, share: float) -> Array:
        """The inequalities held by a negative multiplier, and those exceeded, by more than a share of the errors."""
        below, above = self.w < -share * self.w_error, self.excess > share * self.slack_error
        return np.where(self.held, below, above) & (np.arange(len(self.held)) >= self.root.p)

    def released(self) -> Point:
        """Without the rows whose multipliers may be 0: what those might hide moves x there."""
        doubtful = self.held & (self.w <= self.w_error) & (np.arange(len(self.held)) >= self.root.p)
        return Point(self.root, self.held & ~doubtful, self.start) if doubtful.any() else self


def search(root: Root, held: Array, start: Array) -> tuple[Array, Array, Array, Array] | None:
    """(x, w, the rows held, by how much x may be off) of the face that is known best of those on which nothing is wrong
    beyond the errors, sought from the rows ``held`` and x near ``start`` on; None where there is none.
    """
    sizes = np.linalg.norm(root.M, axis=0)
    t = np.exp2(-np.round(np.log2(np.where(sizes > 0, sizes, 1.0))))
    held, root, start = held | (np.arange(len(held)) < root.p), root.scaled(t), np.nan_to_num(start) / t
    best, least = None, np.inf
    for turn in range(TURNS + EACH * len(held)):
        at = Point(root, held, start)
        if not at.known:
            break
        wrong = at.wrong(1.0)
        if not wrong.any():
            other = at.released()
            error = np.maximum(at.x_error, other.x_error + np.abs(at.x - other.x)) * t
            size = error.max(initial=0) if np.isfinite(error).all() else np.inf
            if size < least:
                best, least = (at.x * t, at.w, held, error), size
            wrong = at.wrong(0.0)
            if not wrong.any() or size <= CLEAR * (1 + np.abs(at.x * t).max(initial=0)):
                break
        if turn >= TURNS:
            wrong = np.arange(len(held)) == np.flatnonzero(wrong)[0]
        held = held ^ wrong
    return best


def _inverse(upper: Array) -> Array:
    """Of a triangle; infinite where it is singular."""
    if not np.diag(upper).all():
        return np.full(upper.shape, np.inf)
    return np.asarray(solve_triangular(upper, np.eye(len(upper)))) if len(upper) else upper
