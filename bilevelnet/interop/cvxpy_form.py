"""What is affine in z⁻ and in θ, entry by entry."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from .cvxpy_quantity import Combination, Quantity
from .cvxpy_values import picked

Sizes = tuple[int, int, int]  # of a Form: its entries, those of z⁻, those of θ


class Form:
    """z⁻ ↦ M(θ) z⁻ + c(θ), M and c affine in θ: the sum of number · θ_k · z⁻_j in entry i, where the last k and the
    last j stand for 1.
    """

    def __init__(self, sizes: Sizes, rows: Any, points: Any, parameters: Any, numbers: Any):
        self.sizes = sizes
        _, width, total = sizes
        key = (np.asarray(rows) * (width + 1) + points) * (total + 1) + parameters
        key, back = np.unique(key, return_inverse=True)
        sums = np.bincount(back, np.asarray(numbers, dtype=float), len(key))
        key, self.numbers = key[sums != 0], sums[sums != 0]
        rest, self.parameters = np.divmod(key, total + 1)
        self.rows, self.points = np.divmod(rest, width + 1)

    def __call__(self, z_prev: Tensor, theta: Tensor) -> Tensor:
        """Of z⁻ (…, width) and θ, its entries column by column: (…, size)."""
        size, width, _ = self.sizes
        parameters, places = (
            torch.from_numpy(a).to(z_prev.device) for a in (self.parameters, self.rows * (width + 1) + self.points)
        )
        entries = torch.cat([theta, theta.new_ones(1)])[parameters] * torch.from_numpy(self.numbers).to(theta)
        matrix = theta.new_zeros(size * (width + 1)).index_add(0, places, entries).view(size, width + 1)
        return functional.linear(z_prev, matrix[:, :-1], matrix[:, -1])

    def plus(self, other: Form | np.ndarray) -> Form:
        """The sum with another form, or with one number an entry."""
        if not isinstance(other, Form):
            size, width, total = self.sizes
            other = Form(self.sizes, np.arange(size), width, total, np.broadcast_to(other, size))
        pairs = zip(self.entries, other.entries, strict=True)
        return Form(self.sizes, *(np.concatenate(pair) for pair in pairs))

    def times(self, factor: np.ndarray) -> Form:
        """One factor an entry, or one for all."""
        rows, points, parameters, numbers = self.entries
        return Form(self.sizes, rows, points, parameters, numbers * np.broadcast_to(factor, self.sizes[0])[rows])

    @property
    def size(self) -> int:
        return self.sizes[0]

    def take(self, index: np.ndarray) -> Form:
        """These entries, each at most once."""
        kept, rows = picked(self.rows, index, self.size)
        return Form((len(index), *self.sizes[1:]), rows, *(a[kept] for a in self.entries[1:]))

    def spread(self, index: np.ndarray, n: int) -> Form:
        """n entries: these at ``index``, 0 elsewhere."""
        rows, *others = self.entries
        return Form((n, *self.sizes[1:]), index[rows], *others)

    def split(self, chosen: np.ndarray) -> tuple[Form, Form]:
        """The sum of the chosen entries, and that of the others."""
        one, other = (Form(self.sizes, *(a[which] for a in self.entries)) for which in (chosen, ~chosen))
        return one, other

    @property
    def entries(self) -> tuple[np.ndarray, ...]:
        """(i, j, k, number) of each product."""
        return self.rows, self.points, self.parameters, self.numbers


class Formed(Combination):
    """Numbers that are a Form of z⁻, the last of the values, and of θ, those before, without batch dimensions."""

    def __init__(self, form: Form):
        super().__init__(
            form, lambda values: form(values.flat[-1], torch.cat([values.like.new_zeros(0), *values.flat[:-1]]))
        )

    @property
    def moves(self) -> bool:
        """Whether z⁻ enters."""
        return bool((self.form.points < self.form.sizes[1]).any())

    def again(self, form: Form) -> Quantity:
        return Formed(form)
