"""Equations that share no entry: the entries lie equation by equation, so that all are the same one, of a row each."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from .cvxpy_parts import Parts
from .cvxpy_quantity import Quantity
from .cvxpy_sets import Sets


class Blocks:
    """Entries (…, n) as (…, rows, k): row i holds those of equation i, ⟨a, z_i⟩ = level_i/first_i."""

    def __init__(self, index: np.ndarray, matrix: np.ndarray):
        """The entries of each equation, and their coefficients."""
        self.count, self.width = index.shape
        self.first, self.a = matrix[:, 0], matrix[0] / matrix[0, 0]
        self.index = torch.from_numpy(index.flatten())
        self.back = self.index.argsort()

    @classmethod
    def of(cls, sets: Sets, parts: Parts) -> Blocks | None:
        """Of the equations, where they hold each entry once, in the same proportions, and nothing else couples any."""
        coupled = parts.groups or parts.largest or parts.variation or parts.composed or sets.balls or sets.inequalities
        counts = np.concatenate([np.diff(r.matrix.indptr) for r in sets.equations] or [np.zeros(0, int)])
        if coupled or len(counts) < 2 or np.ptp(counts) or counts.sum() != sets.n:
            return None
        index, matrix = (
            np.concatenate([getattr(r.matrix.sorted_indices(), name) for r in sets.equations]).reshape(len(counts), -1)
            for name in ("indices", "data")
        )
        proportions = matrix / matrix[:, :1]
        if len(np.unique(index)) < sets.n or (proportions != proportions[0]).any():
            return None
        return cls(index, matrix)

    def fold(self, t: Tensor) -> Tensor:
        """Of one number an entry, an equation, or for all."""
        if t.shape[-1] in (1, self.count):
            return t.unsqueeze(-1)
        return t.index_select(-1, self.index.to(t.device)).unflatten(-1, (self.count, self.width))

    def folded(self, q: Quantity) -> Quantity:
        """The quantity so, where its numbers differ."""
        return q if q.number is not None else q.map(self.fold)

    def unfold(self, z: Tensor) -> Tensor:
        """(…, rows, k) as (…, n)."""
        return z.flatten(-2).index_select(-1, self.back.to(z.device))
