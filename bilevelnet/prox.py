"""The Bregman proximal operator, and the one place where an answer meets the policy for failures."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from .errors import InputError
from .legendre import Legendre
from .maps import Map, Near
from .problem import Prox, anchor
from .recipe import Remade, is_symbol, recipe
from .regularizers import Regularizer
from .regularizers.group_norms import GroupNorms
from .regularizers.precompose import LinearMap
from .solution import KINK, MAX_ITER, Solution, check_policy, judged, settle, squeeze, worst
from .solvers import Solver, bind
from .values import all_below, all_finite, at_least_float32, check_floating, extremes, readable


def bregman_prox(
    phi: Legendre, g: Regularizer, v: Tensor, solver: str | Solver = "auto", on_failure: str = "raise"
) -> Tensor:
    """prox^φ_g(v) = argmin_z φ(z) + g(z) − ⟨z, v⟩ = (∇φ + ∂g)⁻¹(v) (the left Bregman prox, weight of D equal to 1).

    v: any shape where φ and g are separable; vector pieces act on the last dimension. The result has v's shape,
    dtype and device. Raises InputError for a wrong type or a pair that no solver takes, SolveError as ``on_failure``
    ("raise", "warn", "nan", "ignore") says where an element has no solution. Under ``torch.compile`` φ and g may be
    made inside the compiled function.
    """
    if torch.compiler.is_compiling():
        if is_symbol(phi) or is_symbol(g):
            return _prox_of_symbols(phi, g, v, solver, on_failure)
        bound = getattr(_kept, keep(phi, g, solver, on_failure))
    else:
        bound = bound_of(phi, g, solver, on_failure)
    bound.check_point(v)
    return bound.apply(at_least_float32(v), v.dtype, bound.dims)


def _prox_of_symbols(phi: Legendre, g: Regularizer, v: Tensor, solver: str | Solver, on_failure: str) -> Tensor:
    """bregman_prox of pieces that the trace made: of pieces made again outside of it, with the tensors of these."""
    (first, tensors), (second, more) = recipe(phi), recipe(g)
    bound = getattr(_kept, keep_made(first, second, solver, on_failure))
    bound.check_point(v)
    bound.remade.load([*tensors, *more])
    z: Tensor = bound.apply(at_least_float32(v), v.dtype, bound.dims)
    bound.remade.load(bound.remade.empty)
    return z


def solve_prox(
    phi: Legendre,
    g: Regularizer,
    v: Tensor,
    solver: str | Solver = "auto",
    on_failure: str = "raise",
    init: Solution | Tensor | None = None,
) -> Solution:
    """bregman_prox with everything known about the answer, as a ``Solution``.

    ``init``: the Solution of a nearby problem, or its z, from which an iterative solver starts.
    """
    bound = bound_of(phi, g, solver, on_failure)
    bound.check_point(v)
    return bound.solve(at_least_float32(v), v.dtype, bound.dims, init)


class Bound:
    """A pair (φ, g) with its map and policy: what layers, chains and bregman_prox share."""

    def __init__(self, phi: Legendre, g: Regularizer, solver: str | Solver, on_failure: str):
        self.map: Map
        if isinstance(phi, Legendre) and isinstance(g, Regularizer):  # else bind says what is wrong
            self.width, self.exact = common_width(phi, g)
        self.map, self.passed_over = bind(phi, g, solver)
        self.prox = Prox(phi, g)
        self.remade: Any = None  # see recipe.py
        self.on_failure = check_policy(on_failure)
        self.subject, self.pair = f"prox of {g.label} under {phi.label}", f"{g.label} with {phi.label}"
        self.dims = self.prox.dims
        self.square = self.prox.event_ndim == 2 and any(getattr(p.domain, "symmetric", False) for p in (phi, g))

    def check_point(self, v: Tensor, name: str = "v") -> None:
        """InputError unless v is a floating-point tensor whose last dimensions are events of this problem."""
        check_floating(v, name)
        if v.ndim < self.prox.event_ndim:
            raise InputError(f"{name} has {v.ndim} dimensions; {self.pair} acts on {self.prox.event_ndim}")
        sizes = [v.shape[d] for d in self.dims]
        if 0 in sizes:
            raise InputError(f"{name} has shape {tuple(v.shape)}: {self.pair} acts on at least one entry")
        if sizes:
            self.check_width(sizes[-1], f"{name} has shape {tuple(v.shape)}")
        if self.square and sizes[0] != sizes[1]:
            raise InputError(f"{name} has shape {tuple(v.shape)}: {self.pair} takes square matrices")

    def check_width(self, width: int, subject: str) -> None:
        """InputError unless vectors of ``width`` entries are events of this problem."""
        if self.width is not None and (width != self.width if self.exact else width < self.width):
            least = "" if self.exact else "at least "
            raise InputError(f"{subject}: {self.pair} takes vectors of width {least}{self.width}")

    def apply(self, v: Tensor, dtype: torch.dtype, dims: tuple[int, ...]) -> Tensor:
        """z, after the policy; an element spans the dimensions ``dims``."""
        z, status = self._found(v, dtype, dims)
        if z.shape != v.shape:
            raise InputError(
                f"a weight broadcasts v of shape {tuple(v.shape)} to {tuple(z.shape)}: expand v to it first"
            )
        z = z if z.dtype is dtype else z.to(dtype)
        if status is None or (all_below(status, KINK) and all_finite(z)):
            return z
        return settle(z, judged(z, status.broadcast_to(z.shape), dims), dims, self.on_failure, self.subject)

    def _found(self, v: Tensor, dtype: torch.dtype, dims: tuple[int, ...]) -> tuple[Tensor, Tensor | None]:
        """(z, status), none where one look tells that all is well, or nobody asked."""
        if not self.map.direct:
            outcome = self.map.solve(v)
            return outcome.z, outcome.status
        if self.on_failure == "ignore" or not v.numel():
            return self.map.primal(v), None
        if self.map.whole and readable(v):
            z, largest = self.map.primal(v), torch.finfo(dtype).max
            ends = extremes(v, z) if self.map.may_overflow or v.dtype is not dtype else extremes(v)
            if all(-largest <= low and high <= largest for low, high in ends):
                return z, None
        status = worst(self.map.status(v), dims)
        return self.map.primal(torch.where(status > KINK, anchor(self.prox.phi, v), v)), status

    def solve(
        self, v: Tensor, dtype: torch.dtype, dims: tuple[int, ...], init: Solution | Tensor | None = None
    ) -> Solution:
        """The whole Solution, after the policy."""
        z, u, status, iterations, multipliers, given, certified = self.map.solve(v, self._near(init, v))
        if isinstance(iterations, Tensor) and readable(iterations):
            iterations = int(iterations)
        with torch.no_grad():
            u_of_z = self.prox.phi.grad(z) if u is None else u
            residual = given() if given is not None else self.prox.residual(z, u_of_z, v)
            residual = torch.linalg.vector_norm(residual, dim=dims) if dims else residual
            bound = self.prox.error_bound(residual) if certified is None else certified()
            if certified is not None and bound is not None and dims:
                bound = torch.linalg.vector_norm(bound, dim=dims)
        status = judged(z.to(dtype), status, dims)
        z = settle(z, status, dims, self.on_failure, self.subject)
        status = squeeze(status, dims).to(torch.int8)
        residual = torch.where(status > MAX_ITER, torch.inf, residual)  # nothing was found
        if bound is not None:  # the bound is that of a feasible point near the solution
            bound = torch.where(status <= KINK, bound, torch.inf)
        return Solution(z.to(dtype), u, status, residual, bound, iterations, self.map.name, multipliers)

    def _near(self, init: Solution | Tensor | None, v: Tensor) -> Near | None:
        if init is None:
            return None
        z, u, y = (init.z, init.dual, init.multipliers) if isinstance(init, Solution) else (init, None, {})
        if not isinstance(z, Tensor):
            raise InputError(f"init is a Solution of this problem or a tensor z, not {type(z).__name__}")
        if z.shape != v.shape:
            raise InputError(f"init has shape {tuple(z.shape)}, the problem {tuple(v.shape)}")
        z = z.detach().to(v.dtype)
        y = {name: t.detach().to(v.dtype) for name, t in y.items()}
        return Near(z, (self.prox.phi.grad(z) if u is None else u).detach().to(v.dtype), y)


def common_width(phi: Legendre, g: Regularizer) -> tuple[int | None, bool]:
    """(the width of the vectors that φ and the terms of g take, whether it is exact), InputError where they differ.

    Entries beyond the groups of a group norm are free: theirs is a least width.
    """
    exact: dict[int, str] = {}
    least = (0, "")
    for piece in (phi, *g.terms()):
        kinds = [type(m) for m in piece.modules()]
        if piece.width is None:
            continue
        if any(issubclass(k, GroupNorms) for k in kinds) and LinearMap not in kinds:
            least = max(least, (piece.width, piece.label))
        else:
            exact.setdefault(piece.width, piece.label)
    known = [*exact.items(), *([least] if exact and least[0] > min(exact) else [])]
    if len(known) > 1:
        (first, one), (second, other) = known[:2]
        raise InputError(f"{one} takes vectors of width {first}, {other} of width {second}: give both one")
    return (next(iter(exact)), True) if exact else (least[0] or None, False)


# A plan costs 0.2 ms and follows from what is fixed at construction: the last pairs keep theirs.
bound_of = lru_cache(maxsize=64)(Bound)


class _Kept:
    """Bounds by name, as attributes: a trace reads these afresh, where it would take a dict as it first saw it."""


_kept: Any = _Kept()


def keep(phi: Legendre, g: Regularizer, solver: str | Solver, on_failure: str) -> str:
    """Make the Bound of a pair met inside a trace outside of it, and keep it for the graph that names it."""
    name = f"pair_{id(phi)}_{id(g)}_{solver if isinstance(solver, str) else id(solver)}_{on_failure}"
    if not hasattr(_kept, name):
        setattr(_kept, name, Bound(phi, g, solver, on_failure))
    return name


def keep_made(phi: tuple[Any, ...], g: tuple[Any, ...], solver: str | Solver, on_failure: str) -> str:
    """The same for a pair that is known by its recipes."""
    given = (phi, g, solver, on_failure)
    if given not in _made:
        remade = Remade(phi, g)
        bound = Bound(remade.pieces[0], remade.pieces[1], solver, on_failure)
        bound.remade = remade
        setattr(_kept, f"made_{len(_made)}", bound)
        _made.append(given)
    return f"made_{_made.index(given)}"


_made: list[tuple[Any, ...]] = []
# What torch.compiler.assume_constant_result sets; calling it would import torch._dynamo.
keep._dynamo_marked_constant = True  # type: ignore[attr-defined]
keep_made._dynamo_marked_constant = True  # type: ignore[attr-defined]
