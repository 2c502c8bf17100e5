"""What cvxpy can express, through cvxpylayers: the last fallback and an independent, loose check."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..domains import Interval
from ..errors import InputError, SolveError
from ..legendre import Legendre
from ..maps import Map, Near, Outcome
from ..piece import Weight
from ..regularizers import Regularizer
from ..regularizers.base import as_pair
from ..solution import CONVERGED, INFEASIBLE, INVALID, KINK, MAX_ITER, UNBOUNDED
from ..values import transformed
from .base import Solver

# One proximal step from the answer moves it by no more than this.
ACCEPT = 1e-4

# Where 0 lies at an end of ∂g, z is off by √(2 gap): Clarabel's own 1e-8 leaves 1e-4, this 5e-6.
CLARABEL = {"tol_gap_abs": 1e-11, "tol_gap_rel": 1e-11, "tol_feas": 1e-11}


class Conic(Solver):
    """min φ(z) + g(z) − ⟨z, v⟩ as a cone program by cvxpylayers, with its implicit differentiation.

    ``accept`` bounds the move of one proximal step from the answer; beyond it the element has not converged.
    Solved in float64, returned in v's dtype. One problem is compiled for each event size. A plain backward works, of
    first order; torch.func, forward mode and torch.compile do not.
    """

    name = "conic"

    def __init__(self, accept: float = ACCEPT, method: str = "Clarabel"):
        self.accept, self.method = accept, method

    def bind(self, phi: Legendre, g: Regularizer) -> ConicMap:
        return ConicMap(phi, g, self)


class Compiled(NamedTuple):
    """A cvxpylayers layer, its cvxpy problem, the parameters, and the weights behind all of them but the first."""

    layer: Any
    problem: Any
    parameters: list[Any]
    weights: list[tuple[Any, str]]

    def status(self, values: list[Tensor]) -> int:
        """How cvxpy itself ends on one sample."""
        import cvxpy as cp

        for parameter, value in zip(self.parameters, values, strict=True):
            parameter.value = value.detach().cpu().numpy()
        try:
            self.problem.solve(solver=cp.SCS if self.layer.ctx.cone_dims.psd else cp.CLARABEL)
        except cp.error.SolverError:
            return MAX_ITER
        ended = self.problem.status.removesuffix("_inaccurate")
        return {"optimal": CONVERGED, "infeasible": INFEASIBLE, "unbounded": UNBOUNDED}.get(ended, MAX_ITER)


class ConicMap(Map):
    name = "conic"

    def __init__(self, phi: Legendre, g: Regularizer, solver: Conic):
        if phi.event_ndim > 1 or g.event_ndim > 1:
            raise InputError("the conic solver takes scalars and vectors")
        if any(getattr(getattr(t, "inner", t), "dim", -1) != -1 for t in g.terms()):
            raise InputError("the conic solver takes vectors along the last dimension: move dim there")
        self.phi, self.g, self.solver = phi, g, solver
        weights = [w for p in (phi, g) for m in p.modules() for n in _tensor_weights(m) if (w := getattr(m, n)).ndim]
        width = phi.width or g.width or max([2, *(w.shape[-1] for w in weights)])
        if g.width is not None and g.width > width:
            raise InputError(f"{phi.label} takes vectors of width {width}, {g.label} of width {g.width}: give both one")
        self.separable = not (phi.event_ndim or g.event_ndim)
        try:
            self._build(width)  # refuses now what has no expression, or none that cvxpylayers can differentiate
        except ImportError as missing:
            raise InputError(
                f"the conic solver needs the extra 'conic': pip install 'bilevelnet[conic]' ({missing})"
            ) from missing

    def _build(self, n: int) -> Compiled:
        import cvxpy as cp
        from cvxpylayers.torch import CvxpyLayer

        z, v = cp.Variable(n), cp.Parameter(n)
        weights, parameters = [], []

        def parameter(module: Any, name: str) -> Any:  # so that the weight's gradient comes back
            value = getattr(module, name)
            shape = (self._length(value, n),) if _is_vector(value) else ()
            weights.append((module, name))
            parameters.append(cp.Parameter(shape, nonneg=getattr(type(module), name).low >= 0))
            return parameters[-1]

        phi, g = for_cvxpy((self.phi, self.g), parameter)
        expression, constraints = as_pair(g.expression(z))
        objective = phi.expression(z) + expression - v @ z
        if objective.size != 1:
            raise InputError(f"{self.phi.label} with weights that differ entry by entry has no cvxpy expression")
        problem = cp.Problem(cp.Minimize(objective), constraints)
        if not problem.is_dpp():
            raise InputError(
                f"{self.phi.label} + {self.g.label} with these learned weights is not DPP: cvxpylayers cannot take it"
            )
        args: dict[str, Any] = {"solve_method": self.solver.method}
        if self.solver.method == "Clarabel":
            args |= CLARABEL
        layer = CvxpyLayer(problem, parameters=[v, *parameters], variables=[z], solver_args=args)
        if layer.ctx.cone_dims.psd and self.solver.method == "Clarabel":
            # cvxpylayers 1.2 differentiates Clarabel's semidefinite solutions wrongly (by 1 in dz/dv), SCS's rightly.
            args = {"solve_method": "SCS", "eps_abs": 1e-9, "eps_rel": 1e-9}
            layer = CvxpyLayer(problem, parameters=[v, *parameters], variables=[z], solver_args=args)
        return Compiled(layer, problem, [v, *parameters], weights)

    def solve(self, v: Tensor, init: Near | None = None) -> Outcome:
        if transformed(v, *self.phi.tensors(), *self.g.tensors()):
            raise InputError(
                "the conic solver leaves torch: it has a backward of first order, and no vmap, jvp or torch.func; loop "
                "over the samples, or take another solver (layer.explain() says why not)"
            )
        if v.numel() == 0:
            return Outcome(v.clone(), v.clone(), torch.zeros(v.shape, dtype=torch.int8, device=v.device), 0, {})
        if not v.ndim:
            z, u, status, *_ = self.solve(v[None])
            return Outcome(z[0], u[0], status[0], 0, {})  # type: ignore[index]
        z, status, residual = self._solved(v, v.shape[-1])
        if self.separable and bool((status > KINK).any()):  # entry by entry: one without a solution spoils no row
            alone = self._solved(v, 1)
            lost = (status > KINK).expand(v.shape)
            z, status, residual = (torch.where(lost, *pair) for pair in zip(alone, (z, status, residual), strict=True))
        with torch.no_grad():
            dual = self.phi.grad(self._inside(z))
        return Outcome(z.to(v.dtype), dual.to(v.dtype), status, 0, {}, lambda: residual.to(v.dtype))

    def _solved(self, v: Tensor, n: int) -> tuple[Tensor, Tensor, Tensor]:
        """z in float64, and of each event of n entries, kept as 1, the status and the residual."""
        compiled = self._build(n)
        given = v.reshape(-1, n).double()
        good = given.detach().isfinite().all(-1)
        rows = torch.where(good[:, None], given, 0.0)
        values = [rows]
        for module, name in compiled.weights:
            w = getattr(module, name)
            k = self._length(w, n) if _is_vector(w) else 1
            entries = v.shape[-1] if self.separable else k
            rows_of_w = w.to(torch.float64).broadcast_to(*v.shape[:-1], entries).reshape(len(rows), -1)
            values.append(rows_of_w if _is_vector(w) else rows_of_w[:, 0])
        told: list[int] | None = None
        try:
            (z,) = compiled.layer(*values)
        except Exception:  # the back end raises what it likes, for the whole batch
            told = [compiled.status([t[i] for t in values]) for i in range(len(rows))]
            z = self._without(compiled, values, [i for i, s in enumerate(told) if s == CONVERGED])
        z, rows, event = z.reshape(v.shape), rows.reshape(v.shape), (*v.shape[:-1], v.shape[-1] // n, n)
        moved, residual = (t.reshape(event).amax(-1) for t in self._judge(z.detach(), rows.detach()))
        status = torch.where(moved <= self.solver.accept, CONVERGED, MAX_ITER).flatten()
        for i in ((status != CONVERGED) & good).nonzero().flatten().tolist():
            found = told[i] if told else compiled.status([t[i] for t in values])
            status[i] = MAX_ITER if found == CONVERGED else found
        return z, torch.where(good, status, INVALID).reshape(moved.shape), residual

    def _length(self, weight: Tensor, n: int) -> int:
        """Of a vector of weights in a problem of n entries: one an entry of z, or of an equation or of K z."""
        return n if self.separable else weight.shape[-1]

    def _without(self, compiled: Compiled, values: list[Tensor], kept: list[int]) -> Tensor:
        """z of the rows that have a solution, NaN in the others."""
        z = torch.full_like(values[0], torch.nan)
        if not kept:
            return z
        index = torch.tensor(kept, device=z.device)
        try:
            (part,) = compiled.layer(*(t[index] for t in values))
        except Exception as failure:
            raise SolveError(f"the conic back end failed on {self.phi.label} + {self.g.label}: {failure}") from failure
        return z.index_copy(0, index, part)

    def _inside(self, z: Tensor) -> Tensor:
        # The interior-point answer may leave the domain by its tolerance, CLARABEL's 1e-11 at most.
        domain = self.phi.domain
        if not isinstance(domain, Interval):
            return z
        tiny = 1e-12  # an order below it
        return torch.minimum(
            torch.maximum(z, torch.as_tensor(domain.lo + tiny, dtype=z.dtype)),
            torch.as_tensor(domain.hi - tiny, dtype=z.dtype),
        )

    def _judge(self, z: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """By how much one proximal step, of at most 1, moves each entry of z, relative to it, and in dual units.

        Where φ couples the entries that step may be short beside the way left: then what its residual moves z by at
        most, the least curvature at z, relative to the largest entry.
        """
        inside = self._inside(z)
        least, most = self._curvature(inside)
        step = 1 / most.clamp(min=1.0)  # where φ is flat a step of its own length has no end
        if self.g.event_ndim and not self.phi.event_ndim:
            step = step.amin(-1, keepdim=True)
        moved = (self.g.prox(inside + step * (v - self.phi.grad(inside)), step) - z).abs()
        off, size = moved, z.abs()
        if self.phi.event_ndim:
            way = torch.linalg.vector_norm(moved / step, dim=-1, keepdim=True) / least.clamp(min=0)
            off, size = torch.maximum(moved, way), size.amax(-1, keepdim=True)
        return (off / (1 + size)).nan_to_num(torch.inf), moved / step

    def _curvature(self, z: Tensor) -> tuple[Any, Any]:
        # φ'' of each entry, or the least and the largest eigenvalue of the Hessian of each event
        if not self.phi.event_ndim:
            found = self.phi.hessian(z)  # type: ignore[operator]
            return found, found
        units = torch.eye(z.shape[-1], dtype=z.dtype, device=z.device)
        columns = [self.phi.hessian_product(z, e.expand_as(z)) for e in units]
        values = torch.linalg.eigvalsh(torch.stack(columns, -1))
        return values[..., :1], values[..., -1:]

    def explain(self) -> str:
        return f"conic: {self.phi.label} + {self.g.label} by cvxpylayers ({self.solver.method}), to about 1e-5"


def for_cvxpy(pieces: Sequence[Any], stand_in: Callable[[Any, str], Any]) -> list[Any]:
    """Copies of the pieces, for their ``expression``: each weight that is a tensor is stand_in(module, its name)."""
    memo: dict[int, Any] = {}
    originals = {id(m): m for p in pieces for m in p.modules()}
    twins = [copy.deepcopy(p, memo) for p in pieces]
    for address, module in originals.items():
        for name in _tensor_weights(module):
            memo[address].__dict__[getattr(type(module), name).number] = stand_in(module, name)
    return twins


def _tensor_weights(module: Any) -> list[str]:
    names = [n for n in dir(type(module)) if isinstance(getattr(type(module), n, None), Weight)]
    return [n for n in names if isinstance(getattr(module, n), Tensor)]


def _is_vector(weight: Tensor) -> bool:
    return weight.ndim > 0 and weight.shape[-1] > 1
