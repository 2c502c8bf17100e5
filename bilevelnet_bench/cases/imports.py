"""Problems of cvxpy for the importer, what is asked of it, and their exact solutions.

Least squares: forward and backward of a batch of 128, on one thread, take 3.7, 16 and 200 ms for n = 10, 30 and 100.
Plain torch by the normal equations (``_ridge``) takes 0.7, 6 and 85, and loses the digits of a squared condition
number; A'A, its Cholesky factor and the products of the two gradients alone take 0.5, 2.3 and 50. What is left to
ours are the residuals of the whole system, one for the solution and two for the derivatives, each of which reads all
of A twice.

Cone programs: a sample takes 1.1, 1.9 and 8.8 ms of one thread for n = 10, 30 and 100, cvxpylayers 1.6, 1.9 and 3.5.
Of ours Clarabel takes 0.24, 0.51 and 1.65 and factors of dF 0.09, 0.25 and 3.2 (twice: for the last step and at the
solution, where the derivative is), triangular solves 0.05, 0.15 and 1.7, F and dF 0.5, 0.6 and 1.7; the rest is
Python. So n = 100 is 0.4 as fast as asked: the exact solution, to 1e-16 and its gradient to 1e-12 where the peer's
are off by 1e-5 to 1e-4, is two dense systems of n and of every row that holds with equality. With two threads
Clarabel runs beside itself: ``bilevelnet-bench import --only conic --threads 2`` gave 2.4 [1.7, 2.6] and 1.9 [1.6,
2.4] for n = 10 and 30 at load 2.

Building: asked are 3 times CvxpyLayer's time, which is 4 to 7 ms for the few entries of the problems of
tests/cvxpy_problems.py (times of both, five new problems each in turn, as ``_building`` in ../imports.py takes them).
Ours reads the expressions (2 ms), builds the pieces and asks the solvers (2 to 4), lets cvxpy compile (4 to 6) and
solve (1) the problem for the confirmation, once, at one draw of the parameters, and solves it too, from its own
start, so that a solver that fails is found out as well: in 0.2 ms where there is a closed form, 2 to 5 by multipliers
and as a quadratic program (30 for an entropy in a ball, 32 evaluations of Wright's function an entry), 4 to 7 by
Newton, 8 to 55 by splitting, whose steps are many and take as long for one problem as for a hundred. So closed forms
take 1.6 to 2.9 times CvxpyLayer's time, quadratic programs 2.4 to 4.1, multipliers 2.4 to 9, Newton 3.6 to 4.1,
splitting 4.2 to 13, cone programs 1.1 to 2.2; with ``confirm=False`` all 0.6 to 2.9. The matrices of the cases here
bring quadratic programs to 2. Begun at cvxpy's solution Newton's method takes a third of its time and splitting from
a quarter to three times: that would not tell whether they find it themselves, and brings splitting to 3 in half of
the problems only.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import cvxpy as cp
import numpy as np
import torch
from scipy.optimize import nnls
from torch import Tensor

from .solvers import bisect

Built = tuple[cp.Problem, list[Any], list[Any]]  # what CvxpyLayer takes


class ImportCase(NamedTuple):
    """``build(n)``: a problem of n unknowns; ``exact``: its solution from the tensors; ``asked``: times faster."""

    name: str
    build: Callable[[int], Built]
    exact: Callable[..., Tensor]
    asked: Callable[[int], float]
    sizes: tuple[int, ...] = (10, 100)

    def draw(self, n: int, batch: int) -> list[Tensor]:
        """A batch of tensors a parameter: N(0, 1), and |N(0, 1)|/2 for a weight."""
        generator = torch.Generator().manual_seed(n)
        drawn = []
        for p in self.build(n)[1]:
            x = torch.randn(batch, *p.shape, generator=generator, dtype=torch.float64)
            drawn.append(x.abs() / 2 if p.attributes["nonneg"] else x)
        return drawn


def _near(extra: Callable[..., tuple[Any, ...]], *weights: Callable[[int], Any]) -> Callable[[int], Built]:
    """min ½‖x − p‖² + the first of extra(x, …) under the others, with a weight of each of these shapes."""

    def build(n: int) -> Built:
        x, p, more = cp.Variable(n), cp.Parameter(n), [cp.Parameter(w(n), nonneg=True) for w in weights]
        g, *constraints = extra(x, *more)
        return cp.Problem(cp.Minimize(cp.sum_squares(x - p) / 2 + g), constraints), [p, *more], [x]

    return build


def _entropic(entropy: Callable[[Any], Any], *holds: Callable[[Any], Any]) -> Callable[[int], Built]:
    def build(n: int) -> Built:
        x, p = cp.Variable(n), cp.Parameter(n)
        return cp.Problem(cp.Maximize(p @ x + entropy(x)), [h(x) for h in holds]), [p], [x]

    return build


def _entr(x: Any) -> Any:
    return cp.sum(cp.entr(x))


def _both(x: Any) -> Any:
    return _entr(x) + _entr(1 - x)


def _soft(p: Tensor, w: Tensor | float) -> Tensor:
    return p.sign() * (p.abs() - w).clamp(min=0)


def _sparsemax(p: Tensor) -> Tensor:
    top = p.sort(dim=-1, descending=True).values
    rank = torch.arange(1, p.shape[-1] + 1, dtype=p.dtype)
    count = (top * rank > top.cumsum(-1) - 1).sum(-1, keepdim=True)
    return (p - (top.cumsum(-1).gather(-1, count - 1) - 1) / count).clamp(min=0)


def _lml(p: Tensor) -> Tensor:
    """sigmoid(p − τ) of sum n/5: τ by bisection, then one Newton step that carries the derivative."""
    k, v = p.shape[-1] // 5, p.detach()
    ends = v.amin(-1, keepdim=True) - 20, v.amax(-1, keepdim=True) + 20
    level = bisect(lambda t: k - torch.sigmoid(v - t).sum(-1, keepdim=True), *ends)
    z = torch.sigmoid(p - level)
    slope = (z * (1 - z)).sum(-1, keepdim=True).detach()
    return torch.sigmoid(p - level - (z.sum(-1, keepdim=True) - k) / slope)


def _group(p: Tensor, lam: Tensor) -> Tensor:
    return p * (1 - lam[:, None] / torch.linalg.vector_norm(p, dim=-1, keepdim=True)).clamp(min=0)


def _least_squares(n: int) -> Built:
    x, a, b = cp.Variable(n), cp.Parameter((2 * n, n)), cp.Parameter(2 * n)
    return cp.Problem(cp.Minimize(cp.sum_squares(a @ x - b) + cp.sum_squares(x))), [a, b], [x]


def _ridge(a: Tensor, b: Tensor) -> Tensor:
    gram = a.mT @ a + torch.eye(a.shape[-1], dtype=a.dtype)
    return torch.linalg.solve(gram, (a.mT @ b[..., None])).squeeze(-1)


def _matrix(n: int) -> np.ndarray:
    return np.eye(n) + np.ones((n, n)) / n


def _quadratic_program(n: int) -> Built:
    """0 is feasible for every A."""
    x, a, c = cp.Variable(n), cp.Parameter((n // 2, n)), cp.Parameter(n)
    return cp.Problem(cp.Minimize(cp.quad_form(x, _matrix(n)) / 2 + c @ x), [a @ x <= 1, x >= -1]), [a, c], [x]


def _active_set(a: Tensor, c: Tensor) -> Tensor:
    """The rows that hold with equality, of G x ≤ 1: the support of y ≥ 0 nearest to the dual solution, by Lawson and
    Hanson's least distance problem; then x and y solve one linear system, which carries the derivative.
    """
    n, q = c.shape[-1], torch.from_numpy(_matrix(c.shape[-1]))
    rows = torch.cat([a, -torch.eye(n, dtype=a.dtype).expand(len(a), n, n)], -2)
    root = np.linalg.cholesky(q.numpy())
    pairs = zip(rows.detach(), c.detach(), strict=True)
    held = torch.from_numpy(np.stack([_support(root, *pair) for pair in pairs])).to(a.dtype)
    above = torch.cat([q.expand(len(a), n, n), rows.mT * held[:, None]], -1)
    below = torch.cat([rows * held[..., None], torch.diag_embed(held - 1)], -1)
    system = torch.cat([above, below], -2)
    return torch.linalg.solve(system, torch.cat([-c, held], -1))[:, :n]


def _support(root: np.ndarray, rows: Tensor, c: Tensor) -> np.ndarray:
    """Where y > 0, for min ½‖R'x + R⁻¹c‖² over G x ≤ 1: u = R'x + R⁻¹c is the shortest with G R'⁻¹u ≤ 1 + G Q⁻¹c."""
    moved = np.linalg.solve(root, rows.numpy().T).T
    level = 1 + moved @ np.linalg.solve(root, c.numpy())
    target = np.zeros(moved.shape[1] + 1)
    target[-1] = 1
    return nnls(np.vstack([-moved.T, -level[None]]), target)[0] > 0


def _conic(n: int) -> Built:
    """The larger of two norms, which no catalogue has."""
    x, p = cp.Variable(n), cp.Parameter(n)
    return cp.Problem(cp.Minimize(cp.maximum(cp.norm(x - p), cp.norm1(x) / 4) + cp.sum_squares(x))), [p], [x]


def _nearer(p: Tensor) -> Tensor:
    """x = p/(2‖p‖), where ‖x − p‖ = ‖p‖ − ½ is the larger: at all that is drawn, ‖x‖_1/4 being at most √n/8."""
    size = torch.linalg.vector_norm(p, dim=-1, keepdim=True)
    assert bool((size - 0.5 > p.shape[-1] ** 0.5 / 8).all())
    return p / (2 * size)


def _far(n: int) -> float:
    return 500 if n >= 100 else 200


CASES = (
    ImportCase("relu", _near(lambda x: (0, x >= 0)), lambda p: p.clamp(min=0), _far),
    ImportCase("soft threshold", _near(lambda x: (0.3 * cp.norm1(x),)), lambda p: _soft(p, 0.3), _far),
    ImportCase(
        "softmax", _entropic(lambda x: cp.sum(cp.entr(x)), lambda x: cp.sum(x) == 1), lambda p: p.softmax(-1), _far
    ),
    ImportCase("sparsemax", _near(lambda x: (0, x >= 0, cp.sum(x) == 1)), _sparsemax, _far),
    ImportCase("sigmoid", _entropic(_both), torch.sigmoid, _far),
    ImportCase("LML", _entropic(_both, lambda x: cp.sum(x) == x.size // 5), _lml, _far),
    ImportCase(
        "l1 in a box",
        _near(lambda x: (cp.sum(cp.multiply(np.linspace(0.1, 1, x.size), cp.abs(x))), x >= -0.5, x <= 1)),
        lambda p: _soft(p, torch.linspace(0.1, 1, p.shape[-1], dtype=p.dtype)).clamp(-0.5, 1),
        _far,
    ),
    ImportCase("l1 of a weight", _near(lambda x, w: (cp.sum(cp.multiply(w, cp.abs(x))),), lambda n: n), _soft, _far),
    ImportCase("group norm", _near(lambda x, lam: (lam * cp.norm(x),), lambda n: ()), _group, _far),
    ImportCase("least squares", _least_squares, _ridge, lambda n: 20, (10, 30)),
    ImportCase("QP", _quadratic_program, _active_set, lambda n: 10, (10, 30)),
    ImportCase("conic", _conic, _nearer, lambda n: 0.95, (10, 30)),
)
