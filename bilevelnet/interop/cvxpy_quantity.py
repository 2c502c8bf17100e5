"""Numbers, one for each entry of the variable, that are known now or follow from the parameters at each call."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .cvxpy_values import Affine, Values

Make = Callable[[Values], Tensor]


class Quantity:
    """(…, n) or (…, 1): ``fixed`` is the tensor where no parameter enters, else None; ``at(values)`` evaluates it."""

    def __init__(self, source: Any):
        self.fixed: Tensor | None = None
        self.make: Make | None = None
        if isinstance(source, Affine):
            source = source.constant if source.fixed else source
        if callable(source):
            self.make = source
        else:
            self.fixed = torch.atleast_1d(torch.as_tensor(source, dtype=torch.float64))

    def at(self, values: Values) -> Tensor:
        """The numbers at these parameters, in their dtype."""
        return self.fixed.to(values.like) if self.make is None else self.make(values)  # type: ignore[union-attr]

    @property
    def number(self) -> float | None:
        """The one number that every entry is, where it is known."""
        if self.fixed is None or not bool((self.fixed == self.fixed.flatten()[:1]).all()):
            return None
        return float(self.fixed.flatten()[0])

    @property
    def uniform(self) -> bool:
        """Whether it is one number for all entries at all parameters, as far as told."""
        return self.number is not None

    def is_number(self, value: float) -> bool:
        return self.number == value

    def map(self, function: Callable[..., Tensor], *others: Any) -> Quantity:
        """function of this and the others, entry by entry."""
        quantities = [self, *(o if isinstance(o, Quantity) else Quantity(o) for o in others)]
        if all(q.fixed is not None for q in quantities):
            return Quantity(function(*(q.fixed for q in quantities)))
        return Quantity(lambda values: function(*(q.at(values) for q in quantities)))

    def __add__(self, other: Any) -> Quantity:
        return other if self.is_number(0) and isinstance(other, Quantity) else self.map(operator.add, other)

    def __sub__(self, other: Any) -> Quantity:
        return self.map(operator.sub, other)

    def __mul__(self, other: Any) -> Quantity:
        return self.map(operator.mul, other)

    def __truediv__(self, other: Any) -> Quantity:
        return self.map(operator.truediv, other)

    def __neg__(self) -> Quantity:
        return self.map(operator.neg)

    def rounding(self) -> Quantity:
        """By how much the numbers may be off, of parameters that are rounded."""
        return self.map(lambda t: torch.finfo(t.dtype).eps * t.detach().abs())

    def take(self, index: np.ndarray) -> Quantity:
        """These entries; one number stays one."""
        where = torch.from_numpy(np.asarray(index))
        return self.map(lambda t: t if t.shape[-1] == 1 else t.index_select(-1, where.to(t.device)))

    def spread(self, index: np.ndarray, n: int, fill: float = 0.0) -> Quantity:
        """n entries: these at ``index``, each at most once, ``fill`` elsewhere."""
        if len(index) == n and bool((index == np.arange(n)).all()):
            return self
        where = torch.from_numpy(np.asarray(index))

        def place(t: Tensor) -> Tensor:
            t = t.expand((*t.shape[:-1], len(where)))
            base = t.new_full((*t.shape[:-1], n), fill)
            return base.index_copy(-1, where.to(t.device), t)

        return self.map(place)


class Combination(Quantity):
    """Numbers that are affine in the parameters, as an Affine or another ``form`` with plus, times, take and spread:
    their sums, multiples and placements are one form again, and cost nothing at a call.
    """

    def __init__(self, form: Any, make: Make | None = None):
        super().__init__(make or form)
        self.form = form

    @property
    def uniform(self) -> bool:
        return int(self.form.size) == 1

    def again(self, form: Any) -> Quantity:
        return Quantity(form) if form.fixed else Combination(form)

    def _numbers(self, other: Any) -> np.ndarray | None:
        """One number, or one an entry of this."""
        if not isinstance(other, Quantity) or other.fixed is None:
            return None
        if (number := other.number) is not None:
            return np.array(number)
        return other.fixed.numpy() if other.fixed.numel() == self.form.size else None

    def __add__(self, other: Any) -> Quantity:
        if type(other) is type(self) and other.form.size == self.form.size:
            return self.again(self.form.plus(other.form))
        numbers = self._numbers(other)
        return super().__add__(other) if numbers is None else self.again(self.form.plus(numbers))

    def __mul__(self, other: Any) -> Quantity:
        numbers = self._numbers(other)
        return super().__mul__(other) if numbers is None else self.again(self.form.times(numbers))

    __radd__, __rmul__ = __add__, __mul__  # before those of Quantity, of which this is a subclass

    def __sub__(self, other: Any) -> Quantity:
        return self + (-other)

    def __rsub__(self, other: Any) -> Quantity:
        return -self + other

    def __truediv__(self, other: Any) -> Quantity:
        numbers = self._numbers(other)
        return super().__truediv__(other) if numbers is None else self.again(self.form.times(1 / numbers))

    def __neg__(self) -> Quantity:
        return self.again(self.form.times(np.array(-1.0)))

    def rounding(self) -> Quantity:
        form = self.form
        if not isinstance(form, Affine):
            return super().rounding()
        rows = form.entries[0]
        count = 1 + int(np.bincount(rows).max(initial=0))  # each parameter is rounded, and each sum of them
        return Quantity(lambda values: count * torch.finfo(values.like.dtype).eps * form.size_of_terms(values))

    def take(self, index: np.ndarray) -> Quantity:
        index = np.asarray(index)
        if self.form.size == 1:
            return self
        if len(set(index.tolist())) < len(index):
            return super().take(index)
        return self.again(self.form.take(index))

    def spread(self, index: np.ndarray, n: int, fill: float = 0.0) -> Quantity:
        if fill or len(index) != self.form.size:
            return super().spread(index, n, fill)
        return self.again(self.form.spread(np.asarray(index), n))


def affine(form: Affine) -> Quantity:
    """The numbers that an Affine gives."""
    return Quantity(form) if form.fixed else Combination(form)


def total(quantities: list[Quantity]) -> Quantity:
    """Their sum; 0 of none."""
    found = Quantity(0.0)
    for q in quantities:
        found = found + q
    return found
