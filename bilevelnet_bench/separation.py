"""How well a representation separates its classes."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

import bilevelnet as bln

from .cases.data import Data


class Separation(NamedTuple):
    """probe: test accuracy of a linear classifier on z. fisher: tr(S_between)/tr(S_within)."""

    probe: float
    fisher: float


def probe(x_train: Tensor, y_train: Tensor, x_test: Tensor, y_test: Tensor) -> float:
    """Test accuracy of a logistic regression (scikit-learn, standardised inputs) fitted on the training points."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    return float(model.fit(x_train.numpy(), y_train.numpy()).score(x_test.numpy(), y_test.numpy()))


def fisher_ratio(x: Tensor, y: Tensor) -> float:
    """Σ_c n_c ‖m_c − m‖² / Σ_c Σ_{i∈c} ‖x_i − m_c‖², m_c the mean of class c, m the mean of all.

    Where the points of each class coincide, ∞; where all points do up to their rounding, 0.
    """
    between, within, mean = 0.0, 0.0, x.mean(0)
    for c in y.unique():
        points = x[y == c]
        centre = points.mean(0)
        between += len(points) * float((centre - mean).square().sum())
        within += float((points - centre).square().sum())
    rounding = len(x) * (4 * torch.finfo(x.dtype).eps * float(x.abs().max())) ** 2
    if between + within <= rounding:
        return 0.0
    return between / within if within else math.inf


def by_layer(network: bln.models.BilevelNetwork, data: Data) -> list[Separation]:
    """The input's separation, then that of z after every layer; Fisher's ratio on the test points."""
    with torch.no_grad():
        train, test = network.representations(data.x_train), network.representations(data.x_test)
    return [
        Separation(probe(a, data.y_train, b, data.y_test), fisher_ratio(b, data.y_test))
        for a, b in zip(train, test, strict=True)
    ]
