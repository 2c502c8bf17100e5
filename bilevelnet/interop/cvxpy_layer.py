"""from_cvxpy: a convex problem with parameters, written in cvxpy, as a torch module."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import SolveError
from ..solution import INFEASIBLE, INVALID, KINK, MAX_ITER, UNBOUNDED, check_policy, tell
from ..values import readable
from .cvxpy_checks import checked, conflict
from .cvxpy_routes import routes
from .cvxpy_values import Parameters, Values

Faults = list[tuple[str, Tensor]]  # what is wrong with the parameters, and in which elements


@dataclass
class ImportedSolution:
    """One value a variable, and of each element of the batch its ``Status``, the residual that its solver states, and
    the solver's name. ``error_bound``: by how much an entry may be off the solution, of the conic solver, and of the
    quadratic one where the condition costs digits (else NaN).
    """

    values: tuple[Tensor, ...]
    status: Tensor
    residual: Tensor | None
    solver: str
    error_bound: Tensor | None = None

    @property
    def converged(self) -> Tensor:
        """Whether each element was solved."""
        return self.status <= KINK


class ImportedLayer(nn.Module):
    """(parameters) ↦ (variables): the minimiser of a cvxpy problem, by the fastest solver that takes its form.

    Called with one tensor a parameter, (…, *parameter.shape), whose batch dimensions broadcast; returns a tuple with
    one tensor (…, *variable.shape) a variable, in the dtype and on the device of the parameters. Raises InputError for
    counts, shapes and types, and SolveError, as ``on_failure`` says, for elements without a solution.
    """

    def __init__(
        self,
        problem: Any,
        parameters: Sequence[Any],
        variables: Sequence[Any],
        confirm: bool = True,
        on_failure: str = "raise",
    ):
        super().__init__()
        self.confirm, self.on_failure = confirm, check_policy(on_failure)
        self.model = checked(problem, parameters, variables)
        self.source = problem, list(parameters), list(variables)
        self.given = Parameters(parameters)
        self.route, self.passed_over = routes(self.model, confirm)

    def forward(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        return self._settled(*self._solved(tensors, False)).values

    def solve(self, *tensors: Tensor) -> ImportedSolution:
        """The values with the status of each element."""
        return self._settled(*self._solved(tensors, True))

    def _solved(self, tensors: Sequence[Tensor], full: bool) -> tuple[ImportedSolution, Values, Faults]:
        values, dtype = self.given.read(tensors)
        if 0 in values.batch:
            return self._empty(values, dtype), values, []
        faults, sound = self.given.faults(values), values
        for _, mask in faults:
            sound = sound.without(mask)
        z, status, residual, bound = self.route.solve(self._entering(sound), full)
        if self.model.geometric:
            z = [t.exp() for t in z]
            bound = None if bound is None else bound.expm1() * _largest(z, bound.ndim)
        for _, mask in faults:
            status = torch.where(mask, INVALID, status)
        status = status.expand(values.batch).to(torch.int8)
        device = values.like.device
        out = tuple(
            t.to(device, dtype).expand((*values.batch, *v.shape)) for t, v in zip(z, self.source[2], strict=True)
        )
        return ImportedSolution(out, status, residual, self.route.name, bound), values, faults

    def _empty(self, values: Values, dtype: torch.dtype) -> ImportedSolution:
        """Of no elements, with a gradient of 0 for every parameter."""
        none = torch.stack([t.sum() for t in values.flat]).sum().to(dtype)
        z = tuple(none.expand(*values.batch, *v.shape) for v in self.source[2])
        status = torch.zeros(values.batch, dtype=torch.int8, device=none.device)
        return ImportedSolution(z, status, none.new_zeros(values.batch), self.route.name)

    def _entering(self, values: Values) -> Values:
        """The values that the solved problem sees: of a geometric program, logarithms."""
        if not self.model.geometric:
            return values
        flat = [t.log() if log else t for t, log in zip(values.flat, self.model.log, strict=True)]
        return values._replace(flat=flat)

    def _settled(self, solution: ImportedSolution, values: Values, faults: Faults) -> ImportedSolution:
        """The solution after the policy for failed elements; where nothing can be read, they are NaN."""
        failed = solution.status > KINK
        if self.on_failure == "ignore" or (readable(failed) and not bool(failed.any())):
            return solution
        if readable(failed) and self.on_failure != "nan":
            tell(None, SolveError(self._words(solution, values, faults)), self.on_failure)
            return solution
        masks = (failed.reshape((*failed.shape, *[1] * (t.ndim - failed.ndim))) for t in solution.values)
        z = tuple(torch.where(m, torch.nan, t) for m, t in zip(masks, solution.values, strict=True))
        return replace(solution, values=z)

    def _words(self, solution: ImportedSolution, values: Values, faults: Faults) -> str:
        """What failed first, and the constraint, parameter or objective that it comes from."""
        index = tuple((solution.status > KINK).nonzero()[0].tolist())
        status = int(solution.status[index])
        count = f"{int((solution.status > KINK).sum())} of {solution.status.numel()} elements have no solution"
        where = f", first at {index}" if index else ""
        if status == INFEASIBLE:
            why = f"infeasible: {self._conflict(values, index)}"
        elif status == UNBOUNDED:
            why = f"unbounded: the objective {self.source[0].objective} has no minimum there"
        elif status == INVALID and (own := [w for w, m in faults if bool(m.expand(values.batch)[index])]):
            why = f"invalid: {own[0]}"
        elif status == MAX_ITER and (bound := _known(solution.error_bound, index)) is not None:
            why = (
                f"its entries are known to {bound:.1g} only: of several minimisers, "
                "or ill-conditioned; add a strictly convex term, scale it, or take on_failure='ignore'"
            )
        elif status == MAX_ITER:
            why = (
                "stopped before its tolerance: scale the problem to numbers near 1, or give float64; on_failure='nan' "
                "keeps the others"
            )
        else:
            why = "invalid: the parameters overflow, or the solution has an infinite or NaN entry: scale the problem"
        return f"{count}{where}: {why} (solver {solution.solver})"

    def _conflict(self, values: Values, index: tuple[int, ...]) -> str:
        if self.model.geometric:
            return ", ".join(map(str, self.source[0].constraints))
        problem, parameters, _ = self.source
        one = []
        for p, x in zip(parameters, values.flat, strict=True):
            entries = x.detach().expand(*values.batch, x.shape[-1])[index].double().cpu().numpy()
            one.append((p, entries.reshape(p.shape, order="F")))
        order = {p.id: value for p, value in one}
        return conflict(problem, [order[p.id] for p in problem.parameters()])

    def explain(self) -> str:
        """Which solver, why, and why not the faster ones."""
        return "\n".join([self.route.explain(), *self.passed_over])

    def extra_repr(self) -> str:
        return self.explain()

    def __deepcopy__(self, memo: dict[int, Any]) -> ImportedLayer:
        # Of the same cvxpy problem, which no call changes.
        make, given = self.__reduce__()
        twin: ImportedLayer = make(*given).train(self.training)
        memo[id(self)] = twin
        return twin

    def __reduce__(self) -> tuple[Any, ...]:
        # Copied by building anew, confirmation included, which draws the same numbers: a call places its weights in the
        # pieces for a moment, so that two layers must not share them.
        problem, parameters, variables = self.source  # a problem once solved is not pickled, its expressions are
        return _again, ((problem.objective, problem.constraints), parameters, variables, self.confirm, self.on_failure)


def _again(parts: tuple[Any, Any], *given: Any) -> ImportedLayer:
    import cvxpy as cp

    return ImportedLayer(cp.Problem(*parts), *given)


def _known(bound: Tensor | None, index: tuple[int, ...]) -> float | None:
    """Of one element, None where its solver states none."""
    return None if bound is None or bool(bound[index].isnan()) else float(bound[index])


def _largest(z: list[Tensor], batch_ndim: int) -> Tensor:
    """The largest entry of all variables, of each element of the batch."""
    entries = [t.detach().abs().unsqueeze(-1).flatten(batch_ndim) for t in z]
    return torch.cat(entries, -1).amax(-1)


def from_cvxpy(
    problem: Any,
    parameters: Sequence[Any],
    variables: Sequence[Any],
    confirm: bool = True,
    on_failure: str = "raise",
) -> ImportedLayer:
    """A convex problem of cvxpy as a layer, called as CvxpyLayer(problem, parameters, variables) of cvxpylayers is.

    The problem's expressions are read and matched with φ, f and g of the catalogue; what matches is solved by the
    solvers of the library (``layer.explain()`` says by which), the rest through cvxpy's cone program. ``variables``
    may hold dual variables of constraints. ``confirm``: compare a match with the solution of the whole problem by
    cvxpy at random parameters, now. ``on_failure``: as in BilevelLayer.

    Raises InputError for a problem that is not convex or not DPP, naming the expression, and for lists that do not fit.
    """
    return ImportedLayer(problem, parameters, variables, confirm, on_failure)
