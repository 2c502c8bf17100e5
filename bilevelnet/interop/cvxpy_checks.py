"""Whether a cvxpy problem can be a layer, and which of its constraints cannot hold together."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from ..errors import InputError

TIGHT = {"tol_gap_abs": 1e-10, "tol_gap_rel": 1e-10, "tol_feas": 1e-10}


class Model(NamedTuple):
    """A DCP problem with its parameters and variables; of a geometric program, its logarithms (``log``: which
    parameters enter by their logarithm; all variables come out as one).
    """

    problem: Any
    parameters: list[Any]
    variables: list[Any]
    log: list[bool]

    @property
    def geometric(self) -> bool:
        return any(self.log)


def checked(problem: Any, parameters: Sequence[Any], variables: Sequence[Any]) -> Model:
    """The problem as a Model; InputError where it is not a convex, DPP problem of exactly these parameters."""
    import cvxpy as cp

    if not isinstance(problem, cp.Problem):
        raise InputError(f"from_cvxpy takes a cvxpy.Problem, not a {type(problem).__name__}")
    _check_lists(problem, parameters, variables)
    if problem.is_mixed_integer():
        raise InputError("the problem has boolean or integer variables: its solution has no derivative; relax them")
    leaves = (*problem.variables(), *problem.parameters())
    if any(leaf.is_complex() for leaf in leaves):
        raise InputError("complex variables and parameters cannot be imported: state the real and imaginary parts")
    if problem.is_dcp():
        if not _dpp(problem):
            raise InputError(
                f"the problem is not DPP: {_not_dpp(problem)} is not affine in the parameters, or multiplies two of "
                f"them. Make what is nonlinear in the parameters a parameter of its own, and compute it in torch"
            )
        return Model(own(problem), list(parameters), list(variables), [False] * len(parameters))
    if problem.is_dgp() and problem.is_dpp("dgp"):
        return _logarithms(problem, parameters, variables)
    raise InputError(f"the problem is not convex by the rules of cvxpy (DCP): see {_not_dcp(problem)}")


def own(problem: Any) -> Any:
    """The same problem as another object, which keeps what a solve leaves behind: a status, a compiled program."""
    import cvxpy as cp

    return cp.Problem(problem.objective, problem.constraints)


def _check_lists(problem: Any, parameters: Sequence[Any], variables: Sequence[Any]) -> None:
    import cvxpy as cp

    for name, kind, some in (("parameters", "Parameter", parameters), ("variables", "Variable", variables)):
        listed = isinstance(some, Sequence) and not isinstance(some, cp.Expression)
        odd = [e for e in some if not isinstance(e, getattr(cp, kind))] if listed else [some]
        if odd:
            raise InputError(f"{name} is a list of cvxpy.{kind}, not {type(odd[0]).__name__} {odd[0]}")
    known, given = {p.id: p for p in problem.parameters()}, [p.id for p in parameters]
    missing = [p.name() for i, p in known.items() if i not in given]
    extra = [p.name() for p in parameters if p.id not in known]
    if missing or extra or len(set(given)) < len(given):
        raise InputError(
            "parameters must name each parameter of the problem once: "
            + (f"missing {', '.join(missing)}" if missing else f"not in it {', '.join(extra)}" if extra else "twice")
        )
    here = {v.id for v in problem.variables()} | {v.id for c in problem.constraints for v in c.dual_variables}
    strange = [v.name() for v in variables if v.id not in here]
    if strange or not variables:
        what = f"{', '.join(strange)} is neither" if strange else "none is given; name"
        raise InputError(f"variables: {what} a variable of the problem nor a constraint's dual variable")


def _logarithms(problem: Any, parameters: Sequence[Any], variables: Sequence[Any]) -> Model:
    """The geometric program in the logarithms of its variables and parameters."""
    import cvxpy as cp

    reduction = cp.reductions.Dgp2Dcp(problem)
    convex, _ = reduction.apply(problem)
    logs = reduction.canon_methods._parameters
    by_id = {v.id: v for v in convex.variables()}
    found = [by_id.get(reduction.var_id_map.get(v.id, [None])[0]) for v in variables]
    if any(v is None for v in found):
        raise InputError("dual variables of a geometric program cannot be imported: give its variables")
    return Model(convex, [logs.get(p, p) for p in parameters], found, [p in logs for p in parameters])


def _dpp(problem: Any) -> bool:
    """Whether the problem is DPP, with xᵀPx of a parameter P in the objective counted as such."""
    from cvxpy.utilities import scopes

    with scopes.quad_form_dpp_scope():
        objective = problem.objective.is_dpp()
    return bool(objective and all(c.is_dpp() for c in problem.constraints))


def _not_dcp(problem: Any) -> str:
    parts = [problem.objective, *problem.constraints]
    wrong = next(p for p in parts if not p.is_dcp())
    return f"{_smallest(wrong.args[0], lambda e: e.is_dcp())} in {wrong}" if hasattr(wrong, "args") else str(wrong)


def _not_dpp(problem: Any) -> str:
    parts = [problem.objective, *problem.constraints]
    wrong = next((p for p in parts if not p.is_dpp()), problem.objective)
    return f"{_smallest(wrong.args[0], lambda e: e.is_dpp())} in {wrong}"


def _smallest(expression: Any, good: Any) -> Any:
    """The deepest subexpression that is not good."""
    wrong = next((a for a in expression.args if hasattr(a, "args") and not good(a)), None)
    return expression if wrong is None else _smallest(wrong, good)


@contextlib.contextmanager
def _given(parameters: Sequence[Any], values: Sequence[np.ndarray], problem: Any) -> Iterator[None]:
    """The parameters at these values; afterwards all values are as the user left them."""
    duals = (v for c in problem.constraints for v in c.dual_variables)
    before = [(leaf, leaf.value) for leaf in (*problem.parameters(), *problem.variables(), *duals)]
    try:
        for p, value in zip(parameters, values, strict=True):
            p.value = value
        yield
    finally:
        for leaf, value in before:
            leaf.save_value(value)


def conflict(problem: Any, values: Sequence[np.ndarray]) -> str:
    """Constraints that cannot hold together at these parameters: those that give way where least is missing in all."""
    with _given(problem.parameters(), values, problem):
        return _conflict(problem)


def _conflict(problem: Any) -> str:
    import cvxpy as cp

    slack, told = [], []
    for c in problem.constraints:
        held, t = c, None
        if isinstance(c, (cp.constraints.Inequality, cp.constraints.Equality)):
            t = cp.Variable(c.shape, nonneg=isinstance(c, cp.constraints.Inequality))
            gap = c.args[0] - c.args[1]
            held = gap <= t if isinstance(c, cp.constraints.Inequality) else gap == t
            slack.append(cp.sum(cp.abs(t)))
        told.append((c, held, t))
    every = ", ".join([*map(str, problem.constraints), "the domain of the objective"])
    relaxed = cp.Problem(cp.Minimize(cp.sum(slack) if slack else 0), [held for _, held, _ in told])
    try:
        relaxed.solve(solver=cp.SCS if _semidefinite(problem) else cp.CLARABEL)
    except cp.error.SolverError:
        return every
    if relaxed.status not in ("optimal", "optimal_inaccurate"):
        return every
    # The multipliers are the combination that no x meets. Clarabel's 1e-8 and SCS's 1e-5 are on sizes of order 1.
    sizes = [max(np.abs(d.value).max() for d in held.dual_variables) for _, held, _ in told]
    gaps = [0.0 if t is None else np.abs(t.value).max() for _, _, t in told]
    named = [
        f"{c}{f' (missed by {gap:.3g})' if gap > 1e-4 else ''}"
        for (c, _, _), size, gap in zip(told, sizes, gaps, strict=True)
        if size > 1e-4
    ]
    return ", ".join(named) or every


def solved(model: Model, values: Sequence[np.ndarray]) -> list[np.ndarray] | None:
    """The variables by cvxpy's own solution at these parameters, or None where it finds none."""
    import cvxpy as cp

    with _given(model.parameters, values, model.problem), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a solution that is inaccurate, or a problem that is not DPP
        try:
            model.problem.solve(solver=cp.CLARABEL, canon_backend=cp.COO_CANON_BACKEND, **TIGHT)
        except cp.error.SolverError:
            return None
        if model.problem.status not in ("optimal", "optimal_inaccurate"):
            return None
        found = [v.value for v in model.variables]
        return [v.toarray() if hasattr(v, "toarray") else np.asarray(v) for v in found]


def _semidefinite(problem: Any) -> bool:
    import cvxpy as cp

    return any(isinstance(c, cp.constraints.PSD) for c in problem.constraints)
