"""A problem as a sum of weights times atoms of affine maps: what is read off its expression tree.

Each convex or concave atom whose argument is affine is replaced by a variable; what is left is affine in all of them,
with coefficients affine in the parameters, and is evaluated as a matrix, whatever sums, products, reshapes, indices and
signs it is written with.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from ..errors import InputError
from .cvxpy_quantity import Quantity, affine
from .cvxpy_values import Affine, Parameters


class Rows:
    """M x + o: a constant sparse matrix (rows, n) and an offset; or M of parameters, ``moving``."""

    def __init__(self, constant: Any, offset: Quantity, moving: Moving | None = None):
        self.constant, self.offset, self.moving = constant, offset, moving

    @property
    def matrix(self) -> Any:
        """The constant M; InputError where there is none."""
        if self.moving is not None:
            raise InputError(self.moving.words)
        return self.constant


class Moving(NamedTuple):
    """M (…, rows, n) of parameters; where each row holds one entry of its own, ``index`` and ``scale``: s_i x_j."""

    matrix: Quantity
    words: str
    index: np.ndarray | None = None  # type: ignore[assignment]
    scale: Quantity = Quantity(0.0)


def tall(rows: Rows, size: int) -> Rows:
    """One row repeated ``size`` times; as many stay."""
    if rows.matrix.shape[0] == size:
        return rows
    return Rows(rows.matrix[np.zeros(size, int)], rows.offset)


class Term(NamedTuple):
    """weight · atom(arguments), the weight one number for each value of the atom (column by column)."""

    atom: Any
    arguments: list[Rows]
    weight: Quantity


class Line(NamedTuple):
    """rows + Σ terms, an objective, or what a constraint says is ≤ 0 or = 0."""

    rows: Rows
    terms: list[Term]


class Reading(NamedTuple):
    """min objective over x in ℝⁿ, subject to ``constraints``: (the line, whether = 0 and not ≤ 0, the cvxpy one)."""

    n: int
    objective: Line
    constraints: list[tuple[Line, bool, Any]]
    lower: Quantity
    upper: Quantity
    shapes: list[tuple[int, Any]]  # (where a variable begins in x, the variable)


class Lift:
    """Atoms replaced by variables."""

    def __init__(self) -> None:
        self.atoms: list[tuple[Any, Any]] = []

    def __call__(self, e: Any) -> Any:
        import cvxpy as cp
        from cvxpy.atoms.affine.affine_atom import AffAtom

        if e.is_affine():
            return e
        e = _rewritten(e)
        if isinstance(e, AffAtom):
            return e.copy([self(a) for a in e.args])
        if not all(a.is_affine() for a in e.args):
            raise InputError(f"{e} is a composition that is not read")
        t = cp.Variable(e.shape)
        self.atoms.append((e, t))
        return t


def _rewritten(e: Any) -> Any:
    """Norms of what is nonnegative are sums, squares of norms sums of squares."""
    import cvxpy as cp

    if isinstance(e, (cp.norm1, cp.abs)) and e.args[0].is_nonneg() and not e.args[0].is_affine():
        return cp.sum(e.args[0]) if isinstance(e, cp.norm1) else e.args[0]
    if kind(e) == "Power" and exponent(e) == 2 and kind(e.args[0]) == "Pnorm":
        inner = e.args[0]
        if exponent(inner) == 2 and inner.axis is None:
            return cp.sum_squares(inner.args[0])
    return e


def exponent(e: Any) -> float | None:
    """p of a power or a norm, None where it is a parameter."""
    p = e.p.value if hasattr(e.p, "value") else e.p
    return None if p is None or getattr(e.p, "parameters", list)() else float(p)


def kind(e: Any) -> str:
    """The name of an atom, whichever of cvxpy's variants of it this is."""
    return type(e).__name__.removesuffix("Approx")


def read(problem: Any, parameters: Parameters) -> Reading:
    """The Reading of a DPP problem; InputError says what is not read."""
    from cvxpy.utilities import scopes

    variables = problem.variables()
    for v in variables:
        if v._has_dim_reducing_attr:
            raise InputError(f"variable {v.name()} is a symmetric, diagonal or sparse matrix")
    with scopes.dpp_scope():
        lift = Lift()
        lines, owners = lifted(problem.objective, problem.constraints, lift)
    table = Table(variables, lift.atoms, [*lines, *(a for e, _ in lift.atoms for a in e.args)], parameters)
    shapes = [(table.starts[v.id], v) for v in variables]
    return reading(table, owners, problem.constraints, shapes)


def plain(c: Any) -> Any:
    """A constraint as ≤ or =, a cone of the line or of one norm as what it says."""
    import cvxpy as cp

    if isinstance(c, cp.constraints.NonNeg):
        return c.args[0] >= 0
    if isinstance(c, (cp.constraints.NonPos, cp.constraints.Zero)):
        return c.args[0] <= 0 if isinstance(c, cp.constraints.NonPos) else c.args[0] == 0
    if isinstance(c, cp.constraints.SOC) and c.args[0].size == 1:
        return cp.norm(c.args[1], "fro" if c.args[1].ndim == 2 else 2) <= cp.reshape(c.args[0], (), order="F")
    if not isinstance(c, (cp.constraints.Inequality, cp.constraints.Equality)):
        raise InputError(f"{c} is a {type(c).__name__} constraint")
    return c


def lifted(objective: Any, constraints: list[Any], lift: Lift) -> tuple[list[Any], np.ndarray]:
    """What is minimised, and what each constraint says is ≤ 0 or = 0, lifted; and of each atom, in which of these."""
    import cvxpy as cp

    goal = objective.args[0]
    lines = [lift(-goal if isinstance(objective, cp.Maximize) else goal)]
    counts = [0, len(lift.atoms)]
    for c in map(plain, constraints):
        lines.append(lift(c.args[0] - c.args[1]))
        counts.append(len(lift.atoms))
    for line in lines:
        if not line.is_affine():
            raise InputError(f"{line} is not affine with coefficients affine in the parameters")
    return lines, np.repeat(np.arange(len(lines)), np.diff(counts))


def reading(table: Table, owners: np.ndarray, constraints: list[Any], shapes: list[tuple[int, Any]]) -> Reading:
    """The Reading of a table whose first expressions are the lines; ``owners`` names the line of each atom."""
    import cvxpy as cp

    lines = [
        Line(table.rows(k), [table.term(int(i), k) for i in np.flatnonzero(owners == k)])
        for k in range(1 + len(constraints))
    ]
    equal = (cp.constraints.Equality, cp.constraints.Zero)
    told = [(line, isinstance(c, equal), c) for line, c in zip(lines[1:], constraints, strict=True)]
    lower, upper = _bounds([v for _, v in shapes])
    return Reading(table.n, lines[0], told, Quantity(lower), Quantity(upper), shapes)


class Table:
    """All the affine expressions at once, as cvxpy evaluates them."""

    def __init__(self, variables: list[Any], atoms: list[tuple[Any, Any]], expressions: list[Any], parameters: Any):
        import cvxpy as cp
        import scipy.sparse as sp
        from cvxpy.cvxcore.python.canonInterface import get_problem_matrix
        from cvxpy.lin_ops.lin_op import CONSTANT_ID

        every = [*variables, *(t for _, t in atoms)]
        *starts, self.end = np.cumsum([0, *(v.size for v in every)]).tolist()
        self.starts = {v.id: start for v, start in zip(every, starts, strict=True)}
        sizes = {CONSTANT_ID: 1, **{p.id: p.size for p in parameters.parameters}}
        places = {p.id: int(start) for p, start in zip(parameters.parameters, parameters.offsets, strict=False)}
        places[CONSTANT_ID] = parameters.total
        height = sum(e.size for e in expressions)
        forms = [e.canonical_form[0] for e in expressions]
        try:
            # cvxpy's fastest where parameters have many entries, and as fast as its default where they have few
            backend = cp.COO_CANON_BACKEND
            entries = get_problem_matrix(forms, self.end, self.starts, sizes, places, height, backend)
        except NotImplementedError as missing:  # cumsum and cumprod are known to cvxpy in standard form only
            raise InputError("an affine function of which cvxpy states no matrix") from missing
        table = sp.coo_array(entries)
        table.sum_duplicates()
        self.row, self.column = table.row % height, table.row // height
        self.parameter, self.data = table.col, table.data
        self.parameters, self.n = parameters, sum(v.size for v in variables)
        self.atoms, self.expressions = atoms, expressions
        self.ends = np.cumsum([0, *(e.size for e in expressions)])
        counts = np.cumsum([0, *(len(e.args) for e, _ in atoms)])
        self.first = len(expressions) - counts[-1] + counts

    def _entries(self, k: int, low: int, high: int) -> tuple[np.ndarray, ...]:
        """(row, column, parameter, number) of expression k in the columns [low, high)."""
        mine = (self.row >= self.ends[k]) & (self.row < self.ends[k + 1]) & (self.column >= low) & (self.column < high)
        return self.row[mine] - self.ends[k], self.column[mine] - low, self.parameter[mine], self.data[mine]

    def _affine(self, rows: np.ndarray, parameter: np.ndarray, data: np.ndarray, size: int) -> Quantity:
        return affine(Affine((rows, parameter, data), size, self.parameters))

    def rows(self, k: int) -> Rows:
        import scipy.sparse as sp

        size = self.expressions[k].size
        row, column, parameter, data = self._entries(k, 0, self.n)
        if k == 0:  # the objective's own linear part
            return Rows(None, self._affine(column, parameter, data, self.n))
        constant = self._entries(k, self.end, self.end + 1)
        offset = self._affine(constant[0], constant[2], constant[3], size)
        if (parameter != self.parameters.total).any():
            flat = self._affine(row * self.n + column, parameter, data, size * self.n)
            words = f"{self.expressions[k]} multiplies the variable by a parameter"
            moving = Moving(flat.map(lambda t: t.unflatten(-1, (size, self.n))), words)
            places = np.unique(np.stack([row, column]), axis=1)
            if np.array_equal(places[0], np.arange(size)) and len(set(places[1].tolist())) == size:
                moving = moving._replace(index=places[1], scale=self._weight(row, parameter, data, size))
            return Rows(None, offset, moving)
        matrix = sp.csr_array(sp.coo_array((data, (row, column)), shape=(size, self.n)))
        matrix.eliminate_zeros()
        return Rows(matrix, offset)

    def _weight(self, rows: np.ndarray, parameter: np.ndarray, data: np.ndarray, size: int) -> Quantity:
        """One number where all rows say the same."""
        order = np.lexsort((rows, parameter))
        rows, parameter, data = rows[order], parameter[order], data[order]
        first = rows == 0
        if len(rows) == size * first.sum() and all(
            np.array_equal(np.repeat(a[first], size), a) for a in (parameter, data)
        ):
            return self._affine(rows[first], parameter[first], data[first], 1)
        return self._affine(rows, parameter, data, size)

    def term(self, i: int, line: int) -> Term:
        """Atom i with its weight in a line: one number a value of the atom."""
        atom, t = self.atoms[i]
        start = self.starts[t.id]
        row, column, parameter, data = self._entries(line, start, start + t.size)
        size = self.expressions[line].size
        if size > 1 and (t.size != size or (row != column).any()):  # each row has its own value of the atom
            raise InputError(f"{atom} is mixed over the rows of {self.expressions[line]}")
        weight = self._weight(column, parameter, data, t.size)
        return Term(atom, [self.rows(k) for k in range(self.first[i], self.first[i + 1])], weight)


def _bounds(variables: list[Any]) -> tuple[np.ndarray, np.ndarray]:
    """The ends that the attributes of the variables state."""
    low, high = [], []
    for v in variables:
        bounds = v.attributes.get("bounds")
        a, b = (-np.inf, np.inf) if bounds is None else (_values(e, v) for e in bounds)
        a = np.broadcast_to(a, v.shape).flatten(order="F")
        b = np.broadcast_to(b, v.shape).flatten(order="F")
        low.append(np.maximum(a, 0.0) if v.attributes.get("nonneg") or v.attributes.get("pos") else a)
        high.append(np.minimum(b, 0.0) if v.attributes.get("nonpos") or v.attributes.get("neg") else b)
    return np.concatenate(low), np.concatenate(high)


def _values(bound: Any, v: Any) -> np.ndarray:
    if getattr(bound, "parameters", lambda: [])():
        raise InputError(f"the bounds of {v.name()} hold parameters")
    return np.asarray(getattr(bound, "value", bound), dtype=float)
