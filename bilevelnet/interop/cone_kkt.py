"""The optimality conditions of a cone program as an equation: its solution to rounding, the error left, its adjoint.

F(x, w) = (A'y + q, A x + y − w − b) with y = Π(w) onto K*: F = 0 where x, s = y − w and y solve min q'x, s = b − A x in
K, since s lies in K and is orthogonal to y (the normal map of Robinson, 1992). Newton's method on it needs dΠ alone,
and dF⁻¹ says by how much what is left of F moves x and y, which no duality gap says.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .cone_projection import Array, Cones

Blocks = list[tuple[Array, Array]]  # the rows of some cones of one size, and their blocks of dΠ
EPS = float(np.finfo(float).eps)
TURNS = 30  # of Newton's method; where the conditions are singular each halves the error
DENSE = 1000  # up to so many unknowns dF is a dense matrix, beyond a sparse one
# Relative: above the rounding of dF, below what it holds of a well-posed problem; then as little as its rounding.
DAMPING = (1e-12, EPS)
ACCEPT = 1e-6  # of an error, relative to entries above 1: what is promised of a conic solution


class Program:
    """min q'x, s = b − A x in K; A sparse, ``rows`` and ``sizes`` are A and |A|, dense where that is small."""

    def __init__(self, A: Any, b: Array, q: Array, cones: Cones):
        self.A, self.b, self.q, self.cones = A, b, q, cones
        self.rows: Any = A.toarray() if sum(A.shape) <= DENSE else A
        self.sizes = abs(self.rows)
        # a sum of k terms is rounded by k eps of their sizes at most (Higham, Accuracy and Stability, section 3.1)
        counts = np.concatenate([np.diff(A.indptr), np.bincount(A.indices, minlength=len(b))])
        self.rounding = (counts + 3) * EPS
        scale = self.sizes.max(axis=0)
        self.scales = (scale if isinstance(scale, np.ndarray) else scale.toarray().ravel()) ** 2


class Point:
    """(x, w), y = Π(w) and s = y − w, with ``left`` = F there and what ``rounding`` may hide in it."""

    def __init__(self, program: Program, x: Array, w: Array, s: Array, y: Array):
        p = program
        self.program, self.x, self.w = p, x, w
        self.y, self.blocks = p.cones.dual(w, s, y)
        self.s = self.y - w
        self.left = np.concatenate([p.rows.T @ self.y + p.q, p.rows @ x + self.s - p.b])
        terms = p.sizes.T @ abs(self.y) + abs(p.q), p.sizes @ abs(x) + abs(self.s) + abs(p.b)
        self.rounding = p.rounding * np.concatenate(terms)
        n = len(x)
        self.residual = max(_relative(self.left[:n], terms[0]), _relative(self.left[n:], terms[1]))

    def moved(self, step: Array) -> Point:
        n = len(self.x)
        return Point(self.program, self.x - step[:n], self.w - step[n:], self.s, self.y)

    def slopes(self) -> tuple[Any, Blocks, Array]:
        """(dF = (A' dΠ dw, A dx + (dΠ − 1) dw), dense or sparse, dΠ, the entries of (x, w) that dF is over): all but
        those w_i beside which dΠ is 0, as of an inequality that does not hold with equality. They move nothing else.
        """
        rows, n = self.program.rows, len(self.x)
        blocks = [_moving(index, block()) for index, block in self.blocks]
        kept = np.concatenate([np.arange(n), *(n + index.ravel() for index, _ in blocks)])
        if not isinstance(rows, np.ndarray):
            return _sparse(rows, blocks, kept), blocks, kept
        matrix, stop = np.zeros((len(kept), len(kept))), n
        for index, block in blocks:
            start, stop = stop, stop + index.size
            own, held = start + np.arange(index.size).reshape(index.shape), rows[index]
            matrix[own[:, :, None], own[:, None, :]] = block
            matrix[start:stop, :n] = held.reshape(-1, n)
            matrix[:n, start:stop] = (np.swapaxes(block, 1, 2) @ held).reshape(-1, n).T  # A' dΠ, cone by cone
        matrix[n:, n:].flat[:: len(kept) - n + 1] -= 1
        return matrix, blocks, kept


def _moving(index: Array, block: Array) -> tuple[Array, Array]:
    """The cones on which dΠ is not 0."""
    some = block.any((1, 2))
    return (index, block) if some.all() else (index[some], block[some])


def _sparse(rows: Any, blocks: Blocks, kept: Array) -> Any:
    """dF over ``kept``."""
    import scipy.sparse as sp

    project = _whole(blocks, rows.shape[0])
    whole = sp.block_array([[None, rows.T @ project], [rows, project - sp.eye_array(rows.shape[0])]], format="csc")
    return whole[:, kept][kept]


def _whole(blocks: Blocks, m: int) -> Any:
    """A sparse matrix of m rows with these blocks."""
    import scipy.sparse as sp

    grids = [np.broadcast_arrays(block, index[:, :, None], index[:, None, :]) for index, block in blocks]
    data, row, column = (np.concatenate([g[k].ravel() for g in grids]) for k in range(3))
    return sp.csc_array((data, (row, column)), shape=(m, m))


class Inverse:
    """(dF + δ)⁻¹, δ > 0 on x and < 0 on w: a proximal point step, which leaves alone what F leaves free, as constraints
    that repeat one another leave y. numpy.linalg.LinAlgError where a pivot is 0.
    """

    def __init__(self, matrix: Any, kept: Array, rows: Any, damping: Array):
        """``matrix``: dF over the entries ``kept``; ``rows``: A."""
        import scipy.sparse as sp
        from scipy.linalg.lapack import dgetrf, dgetrs
        from scipy.sparse.linalg import splu

        n = rows.shape[1]
        self.kept, self.rest = kept, np.delete(np.arange(n + rows.shape[0]), kept)
        self.rows, self.damping = rows[self.rest - n], np.zeros(n + rows.shape[0])
        damping = damping[kept]
        self.damping[kept] = damping
        if isinstance(matrix, np.ndarray):
            matrix.flat[:: len(matrix) + 1] += damping
            factors, pivots, zero = dgetrf(matrix.T, overwrite_a=True)  # of the transpose, whose columns are its rows
            if zero:
                raise np.linalg.LinAlgError("singular")
            self.solve = lambda r, back: dgetrs(factors, pivots, r, trans=int(not back))[0]
            return
        try:
            lu = splu(sp.csc_array(matrix + sp.diags_array(damping)))
        except RuntimeError as singular:
            raise np.linalg.LinAlgError(str(singular)) from singular
        self.solve = lambda r, back: lu.solve(r, trans="T" if back else "N")

    def times(self, r: Array) -> Array:
        step = np.empty_like(r)
        step[self.kept] = self.solve(r[self.kept], False)
        step[self.rest] = self.rows @ step[: self.rows.shape[1]] - r[self.rest]
        return step

    def pulled(self, rows: Array) -> Array:
        """rows dF⁻¹, of rows that are 0 where dΠ is."""
        found = np.zeros_like(rows)
        found[:, self.kept] = self.solve(rows[:, self.kept].T, True).T
        return found

    def error(self, rows: Array, left: Array, reach: Array) -> Array:
        """By how much F up to ``left`` moves each of the ``rows`` of (x, w), which moves by no more than ``reach``:
        e = (dF + δ)⁻¹(F + δ e).
        """
        return np.abs(self.pulled(rows)) @ (left + np.abs(self.damping) * reach)


class Solution:
    """The point nearest to F = 0 that Newton's method reaches from ``start``, the error of the entries asked for, and
    the adjoint.

    ``asked``: entries of x, entries of y. ``error``: twice what F and its rounding move them by, to first order.
    """

    def __init__(self, start: Point, asked: tuple[Array, Array], damping: float):
        n, m = len(start.x), len(start.w)
        self.asked, self.damping = asked, damping * np.concatenate([start.program.scales, -np.ones(m)])
        self.point = start
        self._factor()
        for _ in range(TURNS):
            before = self.point
            self._descend()
            if self.point is before:
                break
            self._factor()
            if (np.abs(self.point.left) <= self.point.rounding).all():
                break
        found = self.point
        reach = np.repeat([1 + np.abs(t).max(initial=0) for t in (found.x, found.w)], (n, m))
        with np.errstate(all="ignore"):
            error = self.inverse.error(np.concatenate(self._rows(), 0), np.abs(found.left) + found.rounding, reach)
        self.error = 2 * float(error.max(initial=0)) if np.isfinite(error).all() else np.inf
        entries = np.concatenate([found.x[asked[0]], found.y[asked[1]]])
        self.sound = self.error <= ACCEPT * (1 + np.abs(entries).max(initial=0))

    def _factor(self) -> None:
        matrix, self.slope, kept = self.point.slopes()
        self.inverse = Inverse(matrix, kept, self.point.program.rows, self.damping)

    def _descend(self) -> None:
        """Steps with one dF for as long as they gain a digit each, one at least if it gains anything."""
        gain = 1.0
        while (np.abs(self.point.left) > self.point.rounding).any():
            point = self.point.moved(self.inverse.times(self.point.left))
            if not point.residual < gain * self.point.residual:
                return
            self.point, gain = point, 0.1

    def _rows(self) -> tuple[Array, Array]:
        """The entries asked for as rows over (x, w)."""
        n, m = len(self.point.x), len(self.point.w)
        primal, dual = np.zeros((len(self.asked[0]), n + m)), np.zeros((len(self.asked[1]), n + m))
        primal[np.arange(len(primal)), self.asked[0]] = 1
        if len(dual):
            dual[:, n:] = _whole(self.slope, m)[self.asked[1]].toarray()
        return primal, dual

    def adjoint(self, dx: Array, dy: Array) -> tuple[Array, Array, Array]:
        """The gradients of A (its entries), b and q from those of x and y."""
        A = self.point.program.A
        pulled = np.zeros_like(dy)  # dΠ' dy
        for index, block in self.slope:
            pulled[index] = np.einsum("cij,ci->cj", block, dy[index])
        r = self.inverse.pulled(np.concatenate([dx, pulled])[None])[0]
        first, second = r[: len(dx)], r[len(dx) :]
        columns = np.repeat(np.arange(A.shape[1]), np.diff(A.indptr))
        da = -(self.point.y[A.indices] * first[columns] + second[A.indices] * self.point.x[columns])
        return da, second, -first


def solution(
    program: Program, start: tuple[Array, Array, Array], asked: tuple[Array, Array], best: Solution | None
) -> Solution | None:
    """The most exact one from (x, y, s) near it, or ``best`` where that is better; None where there is none."""
    x, y, s = start
    point = Point(program, x, y - s, s, y)
    for damping in DAMPING:
        try:
            found = Solution(point, asked, damping)
        except np.linalg.LinAlgError:
            continue
        if best is None or found.error < best.error:
            best = found
        if best.sound:
            break
    return best


def _relative(left: Array, terms: Array) -> float:
    return float(np.abs(left).max(initial=0) / (1 + terms.max(initial=0))) if np.isfinite(left).all() else np.inf
