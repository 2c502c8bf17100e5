"""cvxpy's own canonical form: min ½x'Px + q'x with s = b − A x in a product of cones, all affine in the parameters."""

from __future__ import annotations

import contextlib
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..errors import InputError
from .cvxpy_values import Affine, Parameters, Values, rowwise


class Cone:
    """The cone program of a problem: ``q`` (n), ``data`` (the entries of A, then of b), where they lie, and the cones.

    ``quadratic``: whether the objective may keep a quadratic part ``P`` (its entries in ``P_place``), as the cvxpy
    interface ``solver`` does. Rows of A: equalities, inequalities, then second-order, semidefinite, exponential and
    power cones.
    """

    def __init__(self, problem: Any, parameters: Parameters, solver: str, quad_form: bool = False):
        import cvxpy as cp

        scope = cp.utilities.scopes.quad_form_dpp_scope() if quad_form else contextlib.nullcontext()
        with scope:
            data, chain, _ = problem.get_problem_data(solver=solver, canon_backend=cp.COO_CANON_BACKEND)
        self.form: Any = data[cp.settings.PARAM_PROB]
        self.dims = data["dims"]
        self.chain = chain
        self.parameters = parameters
        select = self._selection()
        self.q = Affine.of(self.form.q[:-1] @ select, parameters)
        self.n = self.q.size
        self.P: Affine | None = None
        if self.form.reduced_P.problem_data_index is not None:
            self.P = Affine.of(self.form.reduced_P.reduced_mat @ select, parameters)
            self.P_place = _places(self.form.reduced_P.problem_data_index)
            self.P_flat, self.upper = _flat(*self.P_place, self.n), bool((self.P_place[0] <= self.P_place[1]).all())
        index = self.form.reduced_A.problem_data_index
        self.m = 0 if index is None else int(index[2][0])
        rows, columns, values = np.zeros(0, int), np.zeros(0, int), None
        if self.m:
            rows, columns = _places(index)
            values = self.form.reduced_A.reduced_mat @ select
        left = columns < self.n
        self.A_place = rows[left], columns[left]
        self.b_rows = rows[~left]
        self.A_flat, self.b_flat = _flat(*self.A_place, self.n), _flat(self.b_rows, 0, 1)
        self.A = None if values is None else Affine.of(-values[left], parameters)  # s = b − A x
        self.b = None if values is None else Affine.of(values[~left], parameters)

    @property
    def polyhedral(self) -> bool:
        """Whether all the rows are equalities and inequalities."""
        return bool(self.dims.zero + self.dims.nonneg == self.m)

    def _selection(self) -> Any:
        """The parameters as cvxpy lowered them (the triangle of a symmetric one, ...) from all their entries."""
        import scipy.sparse as sp

        ids = {k: v[0] for k, v in self.chain.compose_param_id_map().items()}
        columns = self.form.param_id_to_col
        width = self.form.q.shape[1]
        rows, picked = [], []
        for p, offset in zip(self.parameters.parameters, self.parameters.offsets, strict=False):
            start = columns.get(ids.get(p.id, p.id))
            if start is None:  # it cancels
                continue
            chosen = _lowered(p) if p._has_dim_reducing_attr else np.arange(p.size)
            rows.append(start + np.arange(len(chosen)))
            picked.append(offset + chosen)
        rows.append(np.array([width - 1]))
        picked.append(np.array([self.parameters.total]))
        r, c = np.concatenate(rows), np.concatenate(picked)
        return sp.csr_array((np.ones(len(r)), (r, c)), shape=(width, self.parameters.total + 1))

    def dense(self, values: Values) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
        """(P, q, A, b, G, h) of min ½x'Px + q'x, A x = b, G x ≤ h, each with the batch of its own parameters alone."""
        P, q = self.objective(values)
        level, k = self.level(values), self.dims.zero
        rows = q.new_zeros(0, self.n) if self.A is None else fill(self.A(values), self.A_flat, (self.m, self.n))
        return P, q, rows[..., :k, :], level[..., :k], rows[..., k:, :], level[..., k:]

    def objective(self, values: Values) -> tuple[Tensor, Tensor]:
        """(P, q)."""
        q = self.q(values)
        P = q.new_zeros(self.n, self.n) if self.P is None else fill(self.P(values), self.P_flat, (self.n, self.n))
        if self.P is not None and self.upper:  # only the upper triangle is given
            P = P + P.triu(1).mT
        return P, q

    def level(self, values: Values) -> Tensor:
        """The right-hand side of all rows."""
        if self.b is None:
            return values.like.new_zeros(0)
        return fill(self.b(values), self.b_flat, (self.m, 1)).squeeze(-1)

    def known(self) -> tuple[np.ndarray, np.ndarray]:
        """(A without its parameters, where it holds one)."""
        matrix, moving = np.zeros((self.m, self.n)), np.zeros((self.m, self.n), bool)
        if self.A is not None:
            np.add.at(matrix, self.A_place, self.A.constant.numpy())
            if not self.A.fixed:
                moving[tuple(i[self.A.rows.numpy()] for i in self.A_place)] = True
        return matrix, moving

    def recovery(self, variable: Any, duals: dict[int, Any]) -> Recovery:
        """How the value of a variable, or of the dual variable of a constraint, is read off (x, y)."""
        if variable.id in duals:
            return self._dual(variable, duals[variable.id])
        ids = {k: v[0] for k, v in self.chain.compose_var_id_map().items()}
        start = self.form.var_id_to_col[ids.get(variable.id, variable.id)]
        if not variable._has_dim_reducing_attr:
            return Recovery.plain(start, variable)
        place, scale = np.zeros(variable.size, int), np.zeros(variable.size)
        chosen = _lowered(variable)
        place[chosen], scale[chosen] = start + np.arange(len(chosen)), 1.0
        if not variable.attributes.get("diag"):
            mirror = np.arange(variable.size).reshape(variable.shape).flatten(order="F")[chosen]
            place[mirror], scale[mirror] = start + np.arange(len(chosen)), 1.0
        return Recovery(False, place, scale, variable.shape)

    def _dual(self, variable: Any, constraint: Any) -> Recovery:
        import cvxpy as cp

        rows, start = {}, 0
        kinds = ("Zero", "NonNeg", "SOC", "PSD", "SvecPSD", "ExpCone", "PowCone3D")
        for c in (c for kind in kinds for c in self.form.constr_map.get(getattr(cp.constraints, kind), [])):
            rows[c.id] = start
            start += c.shape[0] * (c.shape[0] + 1) // 2 if type(c) is cp.constraints.PSD else c.size
        own = self.chain.compose_constr_id_map().get(constraint.id, constraint.id)
        if own not in rows or len(constraint.dual_variables) > 1:
            raise InputError(f"the dual variables of {constraint} cannot be read off the cone program")
        if not isinstance(constraint, cp.constraints.PSD):
            return Recovery(True, rows[own] + np.arange(variable.size), None, variable.shape)
        n = variable.shape[0]  # the lower triangle, column by column, √2 off the diagonal
        column, row = np.triu_indices(n)
        place, scale = np.zeros((n, n), int), np.ones((n, n))
        place[row, column] = place[column, row] = rows[own] + np.arange(len(row))
        scale[~np.eye(n, dtype=bool)] = 0.5**0.5
        return Recovery(True, place.flatten(order="F"), scale.flatten(order="F"), variable.shape)


class Recovery:
    """The entries ``place`` of x, or of the multipliers, times ``scale``, as an array of the given shape."""

    def __init__(self, dual: bool, place: np.ndarray, scale: np.ndarray | None, shape: tuple[int, ...]):
        self.dual, self.shape = dual, tuple(shape)
        order = np.arange(len(place)).reshape(self.shape, order="F").flatten()  # cvxpy counts column by column
        self.place = torch.from_numpy(np.ascontiguousarray(place[order]))
        self.scale = None if scale is None else torch.from_numpy(scale[order])
        low = int(place[0]) if len(place) else 0
        self.run = low if scale is None and np.array_equal(place, low + np.arange(len(place))) else None

    @classmethod
    def plain(cls, start: int, variable: Any) -> Recovery:
        """Of a variable whose entries lie in x column by column."""
        return cls(False, start + np.arange(variable.size), None, variable.shape)

    def __call__(self, x: Tensor, y: Tensor | None) -> Tensor:
        source = y if self.dual else x
        assert source is not None
        if self.run is not None:  # views
            value = source if len(self.place) == source.shape[-1] else source.narrow(-1, self.run, len(self.place))
            return value if len(self.shape) == 1 else rowwise(value, self.shape)
        value = source.index_select(-1, self.place.to(source.device))
        value = value if self.scale is None else value * self.scale.to(value)
        return value.reshape((*value.shape[:-1], *self.shape))


def dual_constraints(problem: Any) -> dict[int, Any]:
    """The constraint of each dual variable, by id."""
    return {v.id: c for c in problem.constraints for v in c.dual_variables}


def _lowered(leaf: Any) -> np.ndarray:
    """The entries, column by column, that cvxpy keeps of a symmetric or diagonal leaf."""
    n = leaf.shape[0]
    if leaf.attributes.get("diag"):
        return np.arange(n) * (n + 1)
    if any(leaf.attributes.get(a) for a in ("symmetric", "PSD", "NSD")):
        row, column = np.triu_indices(n)
        return row + n * column
    raise InputError(f"{leaf.name()} has an attribute (sparsity or bounds of its pattern) that cannot be imported")


def _places(index: Any) -> tuple[np.ndarray, np.ndarray]:
    """(rows, columns) of the entries of a matrix in compressed columns."""
    rows, pointers, _ = index
    return np.asarray(rows), np.repeat(np.arange(len(pointers) - 1), np.diff(pointers))


def _flat(rows: Any, columns: Any, width: int) -> Tensor:
    """The places of entries in a matrix, row by row."""
    return torch.from_numpy(np.asarray(rows * width + columns, dtype=np.int64))


def fill(data: Tensor, where: Tensor, shape: tuple[int, int]) -> Tensor:
    """A dense matrix of these entries."""
    empty = data.new_zeros(*data.shape[:-1], shape[0] * shape[1])
    return empty.index_add(-1, where.to(data.device), data).unflatten(-1, shape)
