"""The parameters of a cvxpy problem as tensors, and what is affine in them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..errors import InputError
from ..values import at_least_float32, check_floating, extremes, readable

# What the declared signs say of the least and the greatest entry.
SIGNS: dict[str, Callable[[Any, Any], Any]] = {
    "nonneg": lambda low, high: low >= 0,
    "nonpos": lambda low, high: high <= 0,
    "pos": lambda low, high: low > 0,
    "neg": lambda low, high: high < 0,
}
SYMMETRIC = ("symmetric", "PSD", "NSD")


class Values(NamedTuple):
    """One tensor a parameter, (…, size), its entries column by column as cvxpy counts them; ``like`` gives the dtype
    and device, ``batch`` is the shape to which the leading dimensions of all of them broadcast.
    """

    flat: list[Tensor]
    batch: tuple[int, ...]
    like: Tensor

    def without(self, mask: Tensor) -> Values:
        """NaN in these elements."""
        return self._replace(flat=[torch.where(mask.unsqueeze(-1), torch.nan, t) for t in self.flat])


class Parameters:
    """The parameters of a problem in the order of the call: each tensor is (…, *parameter.shape)."""

    def __init__(self, parameters: Sequence[Any]):
        self.parameters = tuple(parameters)
        self.names = [p.name() for p in parameters]
        self.sizes = [int(p.size) for p in parameters]
        self.offsets = np.cumsum([0, *self.sizes])
        self.structured = any(p.attributes.get(a) for p in self.parameters for a in (*SYMMETRIC, "diag", "bounds"))

    @property
    def total(self) -> int:
        return int(self.offsets[-1])

    def sample(self) -> Values:
        """Of the right sizes, entries from 1 to 2, so that no two cancel."""
        entries = torch.linspace(1, 2, self.total, dtype=torch.float64)
        return Values(list(entries.split(self.sizes)), (), entries)

    def read(self, tensors: Sequence[Any]) -> tuple[Values, torch.dtype]:
        """(the values, at least float32; the dtype in which they came). InputError for counts, types and shapes."""
        if len(tensors) != len(self.parameters):
            raise InputError(
                f"the layer takes {len(self.names)} tensors ({', '.join(self.names) or 'none'}), not {len(tensors)}"
            )
        if not tensors:
            return Values([], (), torch.empty(0)), torch.get_default_dtype()
        for name, t in zip(self.names, tensors, strict=True):
            check_floating(t, f"parameter {name}")
        kinds = {(t.dtype, t.device) for t in tensors}
        if len(kinds) > 1:
            raise InputError(f"the parameters differ in dtype or device ({', '.join(map(str, kinds))}): convert them")
        batches = []
        for p, t in zip(self.parameters, tensors, strict=True):
            lead = t.ndim - p.ndim
            if lead < 0 or tuple(t.shape[lead:]) != tuple(p.shape):
                raise InputError(
                    f"parameter {p.name()} has shape {tuple(p.shape)}: a tensor (…, {', '.join(map(str, p.shape))}) is "
                    f"needed, not {tuple(t.shape)}"
                )
            batches.append(t.shape[:lead])
        leading = set(batches) - {()}
        try:
            batch = tuple(torch.broadcast_shapes(*leading)) if len(leading) > 1 else tuple(*leading)
        except RuntimeError as error:
            shapes = ", ".join(f"{n} {tuple(b)}" for n, b in zip(self.names, batches, strict=True))
            raise InputError(f"the batch dimensions do not broadcast: {shapes}") from error
        wide = [at_least_float32(t) for t in tensors]
        flat = [columns(t, len(b)) for t, b in zip(wide, batches, strict=True)]
        return Values(flat, batch, wide[0]), tensors[0].dtype

    def faults(self, values: Values) -> list[tuple[str, Tensor]]:
        """What is wrong with values: (words, mask over the batch) for each parameter that is NaN or infinite, or misses
        the sign or the symmetry that it was declared with.
        """
        if self._sound(values):
            return []
        found = []
        for p, x in zip(self.parameters, values.flat, strict=True):
            x = x.detach()
            found.append((f"parameter {p.name()} has a value that is not finite", ~x.isfinite().all(-1)))
            for sign in (a for a in SIGNS if p.attributes[a]):
                holds = SIGNS[sign](x, x).all(-1)
                found.append((f"parameter {p.name()} was declared {sign}=True", ~holds))
            if any(p.attributes.get(a) for a in SYMMETRIC):
                found.append((f"parameter {p.name()} was declared {_kind(p)}", _asymmetric(p, x)))
            if p.attributes.get("diag"):
                off = ~torch.eye(p.shape[0], dtype=torch.bool, device=x.device).flatten()
                found.append((f"parameter {p.name()} was declared diag=True", (x[..., off] != 0).any(-1)))
            if p.attributes.get("bounds"):
                low, high = (torch.as_tensor(end).to(x) for end in bounds(p))
                found.append((f"parameter {p.name()} was declared with bounds", ((x < low) | (x > high)).any(-1)))
        return [(words, mask) for words, mask in found if not readable(mask) or bool(mask.any())]

    def _sound(self, values: Values) -> bool:
        """Whether one look at each parameter tells that nothing is wrong."""
        if self.structured or not readable(*values.flat) or not all(x.numel() for x in values.flat):
            return False
        ends = zip(self.parameters, extremes(*values.flat) if values.flat else (), strict=True)
        return all(
            -math.inf < low <= high < math.inf and all(SIGNS[a](low, high) for a in SIGNS if p.attributes[a])
            for p, (low, high) in ends
        )


def bounds(p: Any) -> tuple[np.ndarray, np.ndarray]:
    """The ends that a parameter was declared with, column by column."""
    low, high = (
        np.broadcast_to(np.asarray(getattr(e, "value", e), dtype=float), p.shape).flatten(order="F")
        for e in p.attributes["bounds"]
    )
    return low, high


def _kind(p: Any) -> str:
    return next(f"{a}=True" for a in ("PSD", "NSD", "symmetric") if p.attributes.get(a))


def _asymmetric(p: Any, x: Tensor) -> Tensor:
    """Where the matrix is not symmetric, or has an eigenvalue of the wrong sign, up to rounding."""
    q = x.unflatten(-1, tuple(p.shape)).double().nan_to_num()
    slack = 64 * torch.finfo(x.dtype).eps * p.shape[0] * q.abs().amax((-2, -1))
    bad = (q - q.mT).abs().amax((-2, -1)) > slack
    if p.attributes.get("PSD") or p.attributes.get("NSD"):
        ends = torch.linalg.eigvalsh(q)
        bad = bad | (ends[..., 0] < -slack if p.attributes.get("PSD") else ends[..., -1] > slack)
    return bad


def columns(t: Tensor, batch_ndim: int) -> Tensor:
    """The entries of (…, *shape) column by column."""
    event = range(t.ndim - 1, batch_ndim - 1, -1)
    if t.ndim - batch_ndim > 1:
        t = t.permute(*range(batch_ndim), *event)
    return t.flatten(batch_ndim) if t.ndim > batch_ndim else t.unsqueeze(-1)


def rowwise(t: Tensor, shape: tuple[int, ...]) -> Tensor:
    """(…, size), entries column by column, as (…, *shape)."""
    k = t.ndim - 1
    event = range(k + len(shape) - 1, k - 1, -1)
    return t.reshape((*t.shape[:-1], *shape[::-1])).permute((*range(k), *event))


def picked(rows: np.ndarray, index: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    """(which of ``rows`` are in ``index``, where in it these are)."""
    place = np.full(size, -1)
    place[index] = np.arange(len(index))
    return place[rows] >= 0, place[rows][place[rows] >= 0]


class Affine:
    """p ↦ M p + c, of ``size`` entries: M and c as numbers, only the parameters that M names are read."""

    def __init__(self, entries: tuple[np.ndarray, np.ndarray, np.ndarray], size: int, parameters: Parameters):
        """``entries``: (row, column, number), each place at most once; the last column, parameters.total, is c."""
        keep = entries[2] != 0
        self.entries = rows, columns, data = entries[0][keep], entries[1][keep], entries[2][keep]
        self.size, self.parameters = size, parameters
        fixed = columns == parameters.total
        constant = np.zeros(size)
        constant[rows[fixed]] = data[fixed]
        self.constant, self.zero = torch.from_numpy(constant), not constant.any()
        self.involved: list[int] = []
        if not fixed.all():
            self._depend(rows[~fixed], columns[~fixed], data[~fixed])

    @classmethod
    def of(cls, matrix: Any, parameters: Parameters) -> Affine:
        """From (M, c) as one sparse matrix."""
        import scipy.sparse as sp

        matrix = sp.coo_array(matrix)
        matrix.sum_duplicates()
        return cls((matrix.row, matrix.col, matrix.data), matrix.shape[0], parameters)

    def plus(self, other: Affine | np.ndarray) -> Affine:
        """The sum with another of the same size, or with one number an entry."""
        if not isinstance(other, Affine):
            added = np.arange(self.size), np.full(self.size, self.parameters.total), np.broadcast_to(other, self.size)
        else:
            added = other.entries
        rows, columns, data = (np.concatenate(pair) for pair in zip(self.entries, added, strict=True))
        key, back = np.unique(rows * (self.parameters.total + 1) + columns, return_inverse=True)
        rows, columns = np.divmod(key, self.parameters.total + 1)
        return Affine((rows, columns, np.bincount(back, data, len(key))), self.size, self.parameters)

    def times(self, factor: np.ndarray) -> Affine:
        """One factor an entry, or one for all."""
        rows, columns, data = self.entries
        return Affine((rows, columns, data * np.broadcast_to(factor, self.size)[rows]), self.size, self.parameters)

    def take(self, index: np.ndarray) -> Affine:
        """These entries, each at most once."""
        kept, rows = picked(self.entries[0], index, self.size)
        return Affine((rows, *(a[kept] for a in self.entries[1:])), len(index), self.parameters)

    def spread(self, index: np.ndarray, n: int) -> Affine:
        """n entries: these at ``index``, 0 elsewhere."""
        rows, columns, data = self.entries
        return Affine((index[rows], columns, data), n, self.parameters)

    def size_of_terms(self, values: Values) -> Tensor:
        """|M| |p| + |c|, of which eps is the rounding of one operation."""
        rows, columns, data = self.entries
        absolute = Affine((rows, columns, np.abs(data)), self.size, self.parameters)
        return absolute(values._replace(flat=[t.detach().abs() for t in values.flat]))

    def _depend(self, rows: np.ndarray, columns: np.ndarray, data: np.ndarray) -> None:
        parameters = self.parameters
        owner = np.searchsorted(parameters.offsets, columns, side="right") - 1
        self.involved = sorted(set(owner.tolist()))
        starts = np.zeros(len(parameters.sizes), dtype=np.int64)
        starts[self.involved] = np.cumsum([0, *(parameters.sizes[k] for k in self.involved)])[:-1]
        columns = columns - parameters.offsets[owner] + starts[owner]
        order = np.lexsort((columns, rows))
        self.rows, self.columns, self.factors = (
            torch.from_numpy(a[order]) for a in (rows.astype(np.int64), columns.astype(np.int64), data)
        )
        width = sum(parameters.sizes[k] for k in self.involved)
        self.gather = np.array_equal(rows[order], np.arange(self.size))
        self.plain = self.gather and width == self.size and np.array_equal(columns[order], np.arange(self.size))
        self.unit = bool((data == 1).all())

    @property
    def fixed(self) -> bool:
        """Whether no parameter enters."""
        return not self.involved

    def __call__(self, values: Values) -> Tensor:
        """(…, size), its leading dimensions those of the parameters that enter."""
        constant = self.constant.to(values.like)
        if not self.involved:
            return constant
        parts = [values.flat[k] for k in self.involved]
        if len(parts) > 1:
            batch = torch.broadcast_shapes(*(t.shape[:-1] for t in parts))
            p = torch.cat([t.expand(*batch, t.shape[-1]) for t in parts], -1)
        else:
            p = parts[0]
        if not self.plain:
            p = p.index_select(-1, self.columns.to(p.device))
        if not self.unit:
            p = p * self.factors.to(values.like)
        if self.gather:
            return p if self.zero else p + constant
        return constant.expand(*p.shape[:-1], self.size).index_add(-1, self.rows.to(p.device), p)
