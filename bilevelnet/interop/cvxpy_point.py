"""A problem in which one parameter is z⁻, read as affine in z⁻ too: ⟨z, W z⁻⟩ multiplies three, which DPP forbids."""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.sparse as sp

from ..errors import InputError
from .cvxpy_form import Form, Formed
from .cvxpy_read import Lift, Reading, Rows, Table, kind, lifted, reading
from .cvxpy_values import Parameters


class PointLift(Lift):
    """Atoms and products of two expressions replaced by variables; z⁻ too, and a variable that an equation defines by
    what it is.
    """

    def __init__(self, swaps: dict[int, Any]):
        super().__init__()
        self.swaps, self.products = swaps, list[tuple[Any, Any]]()

    def __call__(self, e: Any) -> Any:
        import cvxpy as cp

        e = self._swapped(e)
        if e.is_affine() or kind(e) not in ("MulExpression", "multiply"):
            return super().__call__(e)
        e = e.copy([self(a) for a in e.args])
        if e.is_affine():
            return e
        if not all(a.is_affine() for a in e.args):
            raise InputError(f"{e} is a product that is not read")
        t = cp.Variable(e.shape)
        self.products.append((e, t))
        return t

    def _swapped(self, e: Any) -> Any:
        if not e.args:
            return self._swapped(self.swaps[e.id]) if getattr(e, "id", None) in self.swaps else e
        args = [self._swapped(a) for a in e.args]
        return e if all(a is b for a, b in zip(args, e.args, strict=True)) else e.copy(args)


class PointTable(Table):
    """The table of z, with the columns of z⁻ and of the products behind those of the atoms."""

    def __init__(self, variable: Any, point: Any, lift: PointLift, lines: list[Any], parameters: Parameters):
        every = [*lift.atoms, *lift.products, (point, point)]  # a leaf has no arguments
        super().__init__([variable], every, [*lines, *(a for e, _ in every for a in e.args)], parameters)
        self.width, self.start, self.first_product = point.size, self.starts[point.id], len(lift.atoms)
        self.first_column = self.starts[every[self.first_product][1].id]

    def rows(self, k: int) -> Rows:
        found = super().rows(k)
        if not k:
            return found
        if len(self._entries(k, self.first_column, self.start)[0]):
            raise InputError(f"{self.expressions[k]} multiplies z or z⁻ by a parameter: only f = −⟨z, W z⁻ + b⟩ may")
        if found.offset.fixed is not None and not len(self._entries(k, self.start, self.end)[0]):
            return found
        row, column, parameter, number = self._entries(k, self.start, self.end + 1)  # of z⁻ and of 1
        sizes = (self.expressions[k].size, self.width, self.parameters.total)
        return Rows(found.matrix, Formed(Form(sizes, row, column, parameter, number)))

    def coupling(self) -> Form:
        """A of f = −⟨z, A(z⁻)⟩, from the products and from what is linear in z."""
        one, none = self.parameters.total, self.width
        _, row, parameter, number = self._entries(0, 0, self.n)
        found = [np.array([row, np.full(len(row), none), parameter, -number])]
        for i, (e, t) in enumerate(self.atoms[self.first_product : -1], self.first_product):
            start = self.starts[t.id]
            _, place, scale, weight = self._entries(0, start, start + t.size)
            if (scale != one).any():
                raise InputError(f"{e} is multiplied by a parameter once more")
            left, right = (self._factor(k) for k in (self.first[i], self.first[i] + 1))
            pairs = _pairs(e, dict(zip(place, weight, strict=True)), (left.shape[0], right.shape[0]))
            found.append(self._sorted(e, sp.coo_array(left.T @ pairs @ right)))
        row, point, parameter, number = np.concatenate(found, 1)
        sizes = self.n, self.width, one
        return Form(sizes, row.astype(int), point.astype(int), parameter.astype(int), number)

    def _factor(self, k: int) -> Any:
        """Expression k as a matrix: rows its entries, columns (z, z⁻, 1) times (θ, 1)."""
        row, column, parameter, number = self._entries(k, 0, self.end + 1)
        moved = column - np.where(column >= self.start, self.start - self.n, 0)
        if ((column >= self.n) & (column < self.start)).any():
            raise InputError(f"{self.expressions[k]} is a factor that is not affine")
        columns = self.parameters.total + 1
        shape = (self.expressions[k].size, (self.n + self.width + 1) * columns)
        return sp.csr_array(sp.coo_array((number, (row, moved * columns + parameter)), shape=shape))

    def _sorted(self, e: Any, products: Any) -> np.ndarray:
        """(entry of z, entry of z⁻, parameter, −number) of each product of one entry of z."""
        one = self.parameters.total
        (a, p), (b, q) = (np.divmod(i, one + 1) for i in (products.row, products.col))
        z_first = a < self.n
        if (z_first & (b < self.n)).any():
            raise InputError(f"{e} multiplies z by itself")
        use = z_first | (b < self.n)
        if (use & (p != one) & (q != one)).any():
            raise InputError(f"{e} multiplies two learned parameters: make their product one")
        z, other = np.where(z_first, a, b), np.where(z_first, b, a) - self.n
        return np.array([z, other, np.minimum(p, q), -products.data])[:, use]


def _pairs(e: Any, weights: dict[int, float], sizes: tuple[int, int]) -> Any:
    """w with Σ_m weight_m e_m = Σ_ij w_ij left_i right_j, all counted column by column."""
    shapes = [a.shape for a in e.args]
    if kind(e) == "multiply":
        index = [(m, m if sizes[0] > 1 else 0, m if sizes[1] > 1 else 0) for m in weights]
    else:
        left = np.arange(sizes[0]).reshape(shapes[0] if len(shapes[0]) > 1 else (1, -1), order="F")
        right = np.arange(sizes[1]).reshape(shapes[1] if len(shapes[1]) > 1 else (-1, 1), order="F")
        height = left.shape[0]
        index = [
            (m, int(i), int(j)) for m in weights for i, j in zip(left[m % height], right[:, m // height], strict=True)
        ]
    data = [weights[m] for m, _, _ in index]
    return sp.coo_array((data, ([i for _, i, _ in index], [j for _, _, j in index])), shape=sizes).tocsr()


def read_point(problem: Any, variable: Any, previous: Any, parameters: Parameters) -> tuple[Reading, Form]:
    """(the Reading of all but f, A of f) of a problem over ``variable``, whose parameters are θ and z⁻."""
    import cvxpy as cp
    from cvxpy.utilities import scopes

    point = cp.Variable(previous.shape, name=previous.name())
    defined, constraints = _definitions(problem, variable)
    with scopes.dpp_scope():
        lift = PointLift({previous.id: point, **defined})
        lines, owners = lifted(problem.objective, constraints, lift)
    table = PointTable(variable, point, lift, lines, parameters)
    return reading(table, owners, constraints, [(0, variable)]), table.coupling()


def _definitions(problem: Any, variable: Any) -> tuple[dict[int, Any], list[Any]]:
    """Other variables with the expression that an equation y = … gives them, and the constraints that are left."""
    import cvxpy as cp

    defined: dict[int, Any] = {}
    left = []
    for c in problem.constraints:
        sides = c.args if isinstance(c, cp.constraints.Equality) else []
        for y, other in zip(sides, sides[::-1], strict=True):
            own = isinstance(y, cp.Variable) and y.id not in {variable.id, *defined} and not any(y.attributes.values())
            if own and all(v.id == variable.id for v in other.variables()):
                defined[y.id] = other
                break
        else:
            left.append(c)
    strange = [v.name() for v in problem.variables() if v.id not in {variable.id, *defined}]
    if strange:
        raise InputError(
            f"the problem has the variable {', '.join(strange)} beside {variable.name()}: a layer has one, z; others "
            f"only where an equation y == … in z defines them"
        )
    return defined, left
