"""Which points make a mini-batch: a pure function of the seed and the epoch, so that a resumed run needs no state."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from bilevelnet import InputError

from ..cases.data import Data

Seeds = int | Sequence[int]
STRIDE = 1_000_003  # a prime above any number of epochs: (seed, epoch) ↦ one seed


def order(n: int, seeds: Seeds, epoch: int) -> Tensor:
    """A permutation of 0, …, n − 1, or one a seed as rows, for epoch 1, 2, …; epoch 0 is the split of the hold-out."""
    if not isinstance(seeds, int):
        return torch.stack([order(n, seed, epoch) for seed in seeds])
    return torch.randperm(n, generator=torch.Generator().manual_seed(seeds * STRIDE + epoch))


def pick(x: Tensor, index: Tensor) -> Tensor:
    """x[index] for points x of shape (n, …); for x of shape (S, n, …), the points of each of S networks by its row."""
    index = index.to(x.device)
    return x[index] if index.ndim == 1 else x[torch.arange(len(index), device=x.device)[:, None], index]


def split(data: Data, seeds: Seeds, holdout: float) -> tuple[Data, Data]:
    """The training points without the share ``holdout`` of them, and those; the test points go with both.

    InputError where either part would be empty.
    """
    n = data.y_train.shape[-1]
    kept = n - round(holdout * n)
    if not kept or (holdout and kept == n):
        raise InputError(
            f"a hold-out of {holdout:g} leaves {kept} of {n} points to train on and {n - kept} to choose by"
        )
    index = order(n, seeds, 0) if kept < n else torch.arange(n).expand(*data.y_train.shape)
    parts = (index[..., :kept], index[..., kept:])
    fit, held = (Data(pick(data.x_train, i), pick(data.y_train, i), data.x_test, data.y_test) for i in parts)
    return fit, held
