"""BilevelLayer: a torch module from (f, D, g)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from .couplings import Bilinear, Coupling
from .divergences import Bregman, Divergence, Dual, Identity
from .divergences.given import GivenEntries
from .domains import Interval
from .errors import DomainError, InputError
from .losses import excess
from .problem import Problem
from .prox import Bound
from .regularizers import Regularizer, Zero
from .solution import CONVERGED, INVALID, KINK, Solution, settle, squeeze, tell, worst
from .solvers import Solver
from .values import at_least_float32, check_floating, extremes, readable


class BilevelLayer(nn.Module):
    """z⁺ = argmin_z f(z, z⁻) + D(z, z⁻) + g(z).

    For f = −⟨z, A(z⁻)⟩ and D = D_φ this is z⁺ = prox^φ_g(∇φ(R z⁻) + A(z⁻)) (Frecon et al., 2022). ``solver`` is
    "auto", a solver's name or a solver object; ``on_failure`` is "raise", "warn", "nan" (only the failed samples) or
    "ignore". Input: z⁻ of any leading batch shape, its last ``coupling.event_ndim`` dimensions
    one sample, in int dom φ; output: z⁺ in z⁻'s dtype and on its device. A is called exactly once a forward.

    Raises InputError for pieces that do not fit (types, widths, a pair no solver takes) and for tensors of a wrong
    type, dtype or width; DomainError for z⁻ outside int dom φ and SolveError where there is no minimiser, the last
    two as ``on_failure`` says.
    """

    def __init__(
        self,
        coupling: Coupling,
        divergence: Divergence,
        regularizer: Regularizer | None = None,
        solver: str | Solver = "auto",
        on_failure: str = "raise",
    ):
        super().__init__()
        regularizer = Zero() if regularizer is None else regularizer
        for piece, kind in ((coupling, Coupling), (divergence, Divergence), (regularizer, Regularizer)):
            if not isinstance(piece, kind):
                raise InputError(
                    f"BilevelLayer(coupling, divergence, regularizer): {type(piece).__name__} is no {kind.__name__}"
                )
        self.coupling, self.divergence, self.regularizer = coupling, divergence, regularizer
        self._bind(solver, on_failure)

    @classmethod
    def from_cvxpy(
        cls,
        problem: Any,
        variable: Any,
        previous: Any,
        learned: Sequence[Any] = (),
        solver: str | Solver = "auto",
        on_failure: str = "raise",
    ) -> BilevelLayer:
        """The layer z⁺ = ``variable`` of a convex cvxpy problem in which the parameter ``previous`` is z⁻.

        f is what is bilinear in z and z⁻ or linear in z, as z @ (W @ z_prev + b); D the squares and relative entropies
        of z and z⁻ (where there is none, D = φ is what is strictly convex in z); g the rest. ``learned``: the other
        parameters of the problem, each a torch Parameter of the layer that starts at its value (without one, W and b
        start as in torch.nn.Linear). The layer is in float64, as the problem's numbers are.

        Raises InputError where the problem is not of this form.
        """
        from .interop.cvxpy_bilevel import read_layer

        return read_layer(problem, variable, previous, learned, solver, on_failure)

    def _bind(self, solver: str | Solver, on_failure: str) -> None:
        coupling, divergence, regularizer = self.coupling, self.divergence, self.regularizer
        _check_widths(coupling, divergence)
        self.problem = Problem(coupling, divergence, regularizer)
        if self.problem.prox.event_ndim > coupling.event_ndim:
            raise InputError(
                f"{regularizer.label} acts on {self.problem.prox.event_ndim} dimensions, a sample of the coupling has "
                f"{coupling.event_ndim}"
            )
        self.solver = solver
        self.bound = Bound(self.problem.prox.phi, self.problem.prox.g, solver, on_failure)
        if hasattr(coupling, "out_features") and self.bound.dims:
            width: Any = coupling.out_features
            self.bound.check_width(width, f"the coupling gives width {width}")
        self.dims = tuple(range(-coupling.event_ndim, 0))
        # Whether the layer is u⁺ = u + A(ρ(u)) and no more, of one width: what a chain runs without looking further.
        plain = isinstance(divergence, Bregman) and isinstance(divergence.reference, Identity)
        same = isinstance(coupling, Bilinear)
        self.residual = plain and same and self.bound.map.direct and self.bound.map.whole and self.bound.map.trivial

    def __setattr__(self, name: str, value: Any) -> None:
        super().__setattr__(name, value)
        if name in ("coupling", "divergence", "regularizer") and "bound" in self.__dict__:
            self._bind(self.solver, self.bound.on_failure)  # another piece is another problem

    def forward(self, z_prev: Tensor) -> Tensor:
        v, outside = self._dual_point(z_prev)
        try:
            z = self.bound.apply(v, z_prev.dtype, self.dims)
        finally:
            self.problem.clear()
        return z if outside is None else settle(z, outside, self.dims, self.bound.on_failure, "z⁻")

    def solve(self, z_prev: Tensor, init: Solution | Tensor | None = None) -> Solution:
        """The layer's Solution: z, dual, status, residual, error bound. An element is one sample.

        ``init``: the Solution of a nearby problem, or its z, from which an iterative solver starts.
        """
        v, outside = self._dual_point(z_prev)
        try:
            solution = self.bound.solve(v, z_prev.dtype, self.dims, init)
        finally:
            self.problem.clear()
        if outside is not None:
            solution.z = settle(solution.z, outside, self.dims, self.bound.on_failure, "z⁻")
            solution.status = torch.maximum(solution.status, outside.reshape(solution.status.shape))
        return solution

    def gap(self, z_prev: Tensor, z: Tensor) -> Tensor:
        """f + D + g at a candidate z minus the minimum over z, one value a sample: ≥ 0, zero exactly at z⁺.

        What lifted training penalises. Differentiable in z⁻, z and the weights; its gradient in v is z⁺ − z. Raises
        DomainError where z leaves dom φ ∩ dom g, as ``on_failure`` says.
        """
        v, outside = self._dual_point(z_prev)
        try:
            check_floating(z, "z")
            if z.shape != v.shape:
                raise InputError(f"z has shape {tuple(z.shape)}, the layer gives {tuple(v.shape)}")
            best = self.bound.apply(v, v.dtype, self.dims)
            gap = excess(self.problem.prox, v, z.to(v.dtype), best, self.bound.on_failure, "z")
        finally:
            self.problem.clear()
        entries = gap.ndim - v.ndim + len(self.dims)  # of a sample, or events of it
        gap = gap.sum(tuple(range(-entries, 0))) if entries else gap
        if outside is not None:
            gap = torch.where(squeeze(outside, self.dims) > KINK, torch.nan, gap)
        return gap.to(z_prev.dtype)

    def step(
        self, z: Tensor | None, u: Tensor | None, dtype: torch.dtype
    ) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        """(u⁺, z⁺, status) from z⁻ or u⁻, either of which may be missing: the layer inside a chain, without checks.

        z⁺ is None where it is ∇φ*(u⁺) and nobody has computed it; status is None where every finite v has a solution.
        """
        if self.residual and z is None and u is not None:
            problem = self.problem
            z = problem.phi.grad_conjugate(u)
            return u + problem.coupling(z if z.dtype is dtype else z.to(dtype)), None, None
        v, bound = self.problem.dual_point(z, u, dtype), self.bound.map
        try:
            if not bound.direct:
                outcome = bound.solve(v)
                return outcome.dual, outcome.z, worst(outcome.status.broadcast_to(v.shape), self.dims)
            u, z = bound.state(v)
            if z is None and self.problem.moving:  # ∇φ* at this z⁻, which nobody else knows
                z = self.problem.phi.grad_conjugate(u)
            return u, z, None if bound.whole else worst(bound.status(v), self.dims)
        finally:
            self.problem.clear()

    def _dual_point(self, z_prev: Tensor) -> tuple[Tensor, Tensor | None]:
        """(v, status of z⁻), z⁻ being looked at first, and placed where φ and g depend on it."""
        self.check_input(z_prev)
        outside = self.domain_status(z_prev, self.bound.on_failure)
        v = self.problem.dual_point(self.inside(z_prev, outside), None, z_prev.dtype)
        phi = self.problem.phi
        if isinstance(phi, GivenEntries):  # what couples entries goes to solvers that look at it themselves
            from .solvers.charts import chart  # not needed by other layers
            from .solvers.samples import refute

            try:
                refute([phi], v, lambda x: chart(phi.domain, x)[0])
            except InputError:
                self.problem.clear()
                raise
        return v, outside

    def check_input(self, z_prev: Tensor) -> None:
        """InputError unless z⁻ is a floating-point tensor of the coupling's width and dtype."""
        check_floating(z_prev, "z⁻")
        coupling = self.problem.coupling
        if z_prev.ndim < coupling.event_ndim:
            raise InputError(f"z⁻ has {z_prev.ndim} dimensions; one sample has {coupling.event_ndim}")
        width = getattr(coupling, "in_features", None)
        if width is not None:
            if z_prev.shape[-1] != width:
                raise InputError(f"z⁻ has width {z_prev.shape[-1]}, the coupling takes {width}")
            weight = coupling.weight
            if weight.dtype is not z_prev.dtype and not torch.is_autocast_enabled(z_prev.device.type):
                raise InputError(
                    f"z⁻ is {z_prev.dtype}, the coupling {weight.dtype}: convert one, e.g. layer.to(z.dtype)"
                )
        elif self.bound.width is not None and not coupling.affine and self.problem.divergence.reference.widths is None:
            self.bound.check_point(z_prev, "z⁻")  # of the shape of z

    def domain_status(self, z_prev: Tensor, policy: str, name: str = "z⁻") -> Tensor | None:
        """None where every entry of z⁻ lies in int dom φ, or nobody asked; else the status of each sample.

        In eager mode a failure raises or warns here, with the words that help and ``name`` for the point.
        """
        divergence: Any = self.problem.divergence
        uses_point, eager = divergence.uses_point, readable(z_prev)
        if policy == "ignore" or not z_prev.numel() or (eager and policy != "nan" and not uses_point):
            return None
        if eager:
            ((low, high),) = extremes(z_prev)
            if divergence.source.holds(low, high) or (not uses_point and -math.inf < low and high < math.inf):
                return None
        inside = divergence.admits(at_least_float32(z_prev)) if uses_point else z_prev.isfinite()
        if eager:
            if bool(inside.all()):
                return None
            if policy != "nan":
                tell(None, _domain_error(divergence, z_prev.detach(), inside, name), policy)
                return None
        while inside.ndim < z_prev.ndim:
            inside = inside.unsqueeze(-1)
        return worst(torch.where(inside, CONVERGED, INVALID).broadcast_to(z_prev.shape), self.dims)

    def inside(self, z_prev: Tensor, outside: Tensor | None) -> Tensor:
        """z⁻ with the failed samples moved inside: their 0 · NaN would spoil the gradients of the whole batch."""
        if outside is None:
            return z_prev
        source = self.problem.divergence.source
        point: Any = source.inner() if isinstance(source, Interval) and source.constant else 0.0
        if source.event_ndim == 2:
            point = torch.eye(z_prev.shape[-1], dtype=z_prev.dtype, device=z_prev.device)
        return torch.where(outside > KINK, torch.as_tensor(point, dtype=z_prev.dtype, device=z_prev.device), z_prev)

    def explain(self) -> str:
        """Which solver, why, and why not the faster ones."""
        return "\n".join([self.bound.map.explain(), *self.bound.passed_over])

    def extra_repr(self) -> str:
        return self.explain()


def _check_widths(coupling: Coupling, divergence: Divergence) -> None:
    if not hasattr(coupling, "in_features"):
        return
    d_in, d_out = coupling.in_features, coupling.out_features
    widths = divergence.reference.widths
    if widths is not None and widths != (d_in, d_out):
        raise InputError(f"the reference maps widths {widths[0]} → {widths[1]}, the coupling {d_in} → {d_out}")
    maps = isinstance(divergence.reference, Dual)  # by a module of the user's, whose widths show when it is called
    if widths is None and divergence.reference.uses_point and not maps and d_in != d_out:
        raise InputError(
            f"widths differ ({d_in} → {d_out}) without a reference: give Bregman(phi, reference=...) one of "
            f"RowStochastic({d_in}, {d_out}), Dual(torch.nn.Linear({d_in}, {d_out})) or Zero()"
        )


def _domain_error(divergence: Divergence, z: Tensor, inside: Tensor, name: str) -> InputError:
    # ``inside`` has one value an entry, or one an event where the domain couples entries.
    source = divergence.source
    bad = ~(inside.broadcast_to(z.shape) if inside.ndim > z.ndim - source.event_ndim else inside)
    index = bad.nonzero()[0]
    point = z[tuple(index)]
    value = float(point) if not point.ndim else float(torch.linalg.vector_norm(point))
    if value != value:
        return InputError(
            f"{name} has NaN in {int(z.isnan().sum())} of {z.numel()} entries, first at {tuple(index.tolist())}"
        )
    message = (
        f"{name} leaves the interior of the domain {source} of {divergence.label} in {int(bad.sum())} of {bad.numel()} "
        f"{'points' if point.ndim else 'entries'}, first at {tuple(index.tolist())}: "
        f"{'norm ' if point.ndim else ''}{value:g}"
    )
    if isinstance(source, Interval) and value in (source.lo, source.hi):
        message += (
            ". The value is on the boundary, as where the output of a layer was rounded to it: "
            "bilevelnet.Chain(*layers) carries u = ∇φ(z) between layers and loses nothing"
        )
    else:
        message += ". Map the input into the interior first"
    return DomainError(message)
