"""The table of atoms: what each adds to the Parts of an objective. A new atom is one function here."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import scipy.sparse as sp
import torch

from ..errors import InputError
from .cvxpy_parts import Composed, Entries, Group, Parts, entries, single, through
from .cvxpy_quantity import Quantity
from .cvxpy_read import Rows, Term, exponent, kind, tall

Rule = Callable[[Parts, Term], None]
RULES: dict[str, Rule] = {}


def add(parts: Parts, term: Term) -> None:
    """The term into the parts; InputError where its atom has no rule, or not in this form."""
    rule = RULES.get(kind(term.atom))
    if rule is None:
        raise InputError(f"{kind(term.atom)} is no atom that is recognised")
    rule(parts, term)


def _rule(*names: str) -> Callable[[Rule], Rule]:
    def register(rule: Rule) -> Rule:
        RULES.update(dict.fromkeys(names, rule))
        return rule

    return register


@_rule("abs", "norm1")
def _abs(parts: Parts, term: Term) -> None:
    if kind(term.atom) == "norm1" and term.atom.axis is not None:
        raise InputError("norm1 along an axis is not recognised")
    parts.add_kink(term.arguments[0], term.weight)


@_rule("maximum", "minimum")
def _maximum(parts: Parts, term: Term) -> None:
    # max(a, b) = (a + b)/2 + |a − b|/2, min with −
    if len(term.arguments) != 2:
        raise InputError("a maximum of more than two is not recognised")
    a, b = (tall(r, term.atom.size) for r in term.arguments)
    half = term.weight * Quantity(0.5)
    parts.add_linear(Rows(a.matrix + b.matrix, a.offset + b.offset), half)
    sign = 1.0 if kind(term.atom) == "maximum" else -1.0
    parts.add_kink(Rows(a.matrix - b.matrix, a.offset - b.offset), half * Quantity(sign))


@_rule("quad_over_lin")
def _quad_over_lin(parts: Parts, term: Term) -> None:
    y = term.arguments[1]
    if y.matrix.nnz or y.offset.fixed is None or term.atom.axis is not None:
        raise InputError("quad_over_lin by what is no number is not recognised")
    parts.add_square(term.arguments[0], term.weight / y.offset)


@_rule("Power")
def _power(parts: Parts, term: Term) -> None:
    if exponent(term.atom) == 2:
        parts.add_square(term.arguments[0], term.weight)
    else:
        raise InputError(f"the power {term.atom.p} is not recognised")


@_rule("QuadForm")
def _quad_form(parts: Parts, term: Term) -> None:
    p = term.atom.args[1]
    if p.parameters():
        raise InputError("a quadratic form whose matrix is a parameter is not recognised")
    p = p.value.toarray() if hasattr(p.value, "toarray") else np.asarray(p.value)
    p, rows, sign = (p + p.T) / 2, term.arguments[0], 1.0 if np.trace(p) >= 0 else -1.0
    used = np.flatnonzero(np.diag(p))
    if not np.count_nonzero(p - np.diag(np.diag(p))):  # one weight an entry
        parts.add_square(Rows(rows.matrix[used], rows.offset.take(used)), term.weight * Quantity(np.diag(p)[used]))
        return
    values, vectors = np.linalg.eigh(sign * p)  # ‖L'(M x + o)‖² of P = L L'
    large = values > 1e-13 * values[-1]  # what rounding leaves of 0
    factor = vectors[:, large] * np.sqrt(values[large])
    moved = Rows(sp.csr_array(factor.T @ rows.matrix), through(factor, rows.offset))
    parts.add_square(moved, term.weight * Quantity(sign))


@_rule("huber")
def _huber(parts: Parts, term: Term) -> None:
    # huber(s(x − t), M) = 2 s² h(x − t) with the threshold M/|s|, h(x) = x²/2 near 0
    if term.atom.M.parameters():
        raise InputError("huber with a parameter as threshold is not recognised")
    limit, rows = Quantity(np.asarray(term.atom.M.value).flatten()), term.arguments[0]
    if (e := single(rows)) is None:
        parts.composed.append(Composed("huber", rows, term.weight * Quantity(2.0), limit))
        return
    weight = term.weight * Quantity(2 * e.scale**2)
    threshold = limit / Quantity(np.abs(e.scale))
    parts.hubers.append((parts.spread(e, weight), parts.spread(e, threshold, 1.0), parts.spread(e, e.shift)))


@_rule("entr")
def _entr(parts: Parts, term: Term) -> None:
    _x_log_x(parts, entries(term.arguments[0], "entr"), -term.weight, "entr")


def _x_log_x(parts: Parts, e: Entries, weight: Quantity, what: str) -> None:
    """s y log(s y) = s y log y + s y log s, y = x or 1 − x."""
    mirror = bool((e.scale < 0).all()) and (e.offset + Quantity(e.scale)).is_number(0.0)
    if not mirror:
        _positive(e, what)
    weight = weight * Quantity(np.abs(e.scale))
    parts.add_entropy("mirror" if mirror else "x log x", e, weight)
    parts.linear.append(parts.spread(e, weight * Quantity(np.sign(e.scale) * np.log(np.abs(e.scale)))))


@_rule("log")
def _log(parts: Parts, term: Term) -> None:
    e = entries(term.arguments[0], "log")
    _positive(e, "log")
    parts.add_entropy("burg", e, -term.weight)


@_rule("exp", "logistic")
def _smooth(parts: Parts, term: Term) -> None:
    e, name = single(term.arguments[0]), kind(term.atom)
    if e is None:
        parts.composed.append(Composed(name, term.arguments[0], term.weight))
    elif name == "exp" and (e.scale == 1).all():  # a φ of the catalogue
        parts.add_entropy("exp", e, term.weight * e.offset.map(torch.exp))
    else:
        parts.smooth.append((name, e, term.weight))


@_rule("log_sum_exp")
def _log_sum_exp(parts: Parts, term: Term) -> None:
    if term.atom.axis is not None:
        raise InputError("log_sum_exp along an axis is not recognised")
    parts.composed.append(Composed("log_sum_exp", term.arguments[0], term.weight))


@_rule("kl_div", "rel_entr")
def _divergence(parts: Parts, term: Term) -> None:
    # x log(x/y), and − x + y for kl_div, one of the two without the variable
    x, y = (tall(r, term.atom.size) for r in term.arguments)
    affine = kind(term.atom) == "kl_div"
    if not y.matrix.nnz:
        e = entries(x, kind(term.atom))
        _x_log_x(parts, e, term.weight, kind(term.atom))
        slope = y.offset.map(torch.log)
        slope = slope + Quantity(1.0) if affine else slope
        parts.linear.append(parts.spread(e, -(term.weight * slope * Quantity(e.scale))))
        return
    if x.matrix.nnz:
        raise InputError(f"{kind(term.atom)} of the variable twice is not recognised")
    e = entries(y, kind(term.atom))
    _positive(e, kind(term.atom))
    parts.add_entropy("burg", e, term.weight * x.offset)
    if affine:
        parts.linear.append(parts.spread(e, term.weight * Quantity(e.scale)))


@_rule("GeoMean")
def _geo_mean(parts: Parts, term: Term) -> None:
    # −√(k(1 + x) l(1 − x)), √(k l) before √((1 + x)(1 − x))
    rows = term.arguments[0]
    m = rows.matrix.toarray()
    used = np.flatnonzero(m.any(0))
    if m.shape[0] != 2 or len(used) != 1 or tuple(map(float, term.atom.w)) != (0.5, 0.5):
        raise InputError("a geometric mean of other than 1 + x and 1 − x is not recognised")
    slopes = m[:, used[0]]
    if not slopes.prod() < 0 or not (rows.offset - Quantity(np.abs(slopes))).is_number(0.0):
        raise InputError("a geometric mean of other than 1 + x and 1 − x is not recognised")
    weight = term.weight * Quantity(-(abs(slopes.prod()) ** 0.5))
    parts.add_entropy("hellinger", Entries(used, np.ones(1), Quantity(0.0)), weight)


@_rule("Pnorm")
def _norm(parts: Parts, term: Term) -> None:
    if exponent(term.atom) != 2:
        raise InputError(f"the {term.atom.p}-norm is not recognised")
    for k, rows in enumerate(_slices(term)):
        _add_norm(parts, "norm", rows, term.weight.take(np.array([k])))


@_rule("norm_inf")
def _largest(parts: Parts, term: Term) -> None:
    if term.atom.axis is not None:
        raise InputError("norm_inf along an axis is not recognised")
    _add_norm(parts, "largest", term.arguments[0], term.weight)


def _add_norm(parts: Parts, kind: str, rows: Rows, weight: Quantity) -> None:
    """weight · ‖rows‖: of entries with one factor |s|, a parameter perhaps, a Group, of others composed."""
    own, e = rows.moving, single(rows)
    index, size, shift = np.zeros(0, int), Quantity(0.0), Quantity(0.0)
    if own is not None and own.index is not None and own.scale.uniform and rows.offset.is_number(0.0):
        index, size = own.index, own.scale.map(torch.abs)
    elif e is not None and np.ptp(np.abs(e.scale)) <= 1e-14 * np.abs(e.scale[0]):  # a few roundings of one factor
        index, size, shift = e.index, Quantity(float(np.abs(e.scale[0]))), parts.spread(e, e.shift)
    if not len(index) or (kind == "largest" and len(index) < parts.n):
        parts.composed.append(Composed(kind, rows, weight))
        return
    found = parts.groups if kind == "norm" else parts.largest
    found.append(Group(index, weight * size, shift))


def _slices(term: Term) -> list[Rows]:
    """The rows of each norm along the axis of the atom."""
    axis, rows = term.atom.axis, term.arguments[0]
    if axis is None:
        return [rows]
    shape = term.atom.args[0].shape
    number = np.arange(rows.matrix.shape[0]).reshape(shape, order="F")
    number = np.moveaxis(number, axis, 0).reshape(shape[axis], -1, order="F")
    return [Rows(rows.matrix[g], rows.offset.take(g)) for g in number.T]


def _positive(e: Entries, what: str) -> None:
    if (e.scale <= 0).any() or not e.offset.is_number(0.0):
        raise InputError(f"{what} of a shifted or mirrored variable is not recognised")
