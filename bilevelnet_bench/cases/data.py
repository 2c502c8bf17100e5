"""A data set split into training and test."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor


class Data(NamedTuple):
    """Points (n, d) and integer labels (n,)."""

    x_train: Tensor
    y_train: Tensor
    x_test: Tensor
    y_test: Tensor
