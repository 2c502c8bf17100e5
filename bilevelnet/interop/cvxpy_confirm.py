"""Whether a recognised form gives what cvxpy gives for the whole problem, at random parameters."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..solution import KINK, MAX_ITER
from .cvxpy_checks import Model, solved
from .cvxpy_values import Parameters, bounds

# Clarabel at its own tolerance of 1e-8 on the gap is off by its square root in a variable.
AGREE = 2e-4
# Draws, until one has a solution, and not 0: there a penalty or a set hides all the rest.
DRAWS = 6


def differs(model: Model, route: Any) -> str:
    """How the route and cvxpy differ, or nothing."""
    generator = np.random.default_rng(0)
    for k in range(DRAWS):
        drawn = [draw(p, generator, 0.3 if k % 2 else 1.0) for p in model.parameters]
        with torch.no_grad():
            values, _ = Parameters(model.parameters).read([torch.from_numpy(x) for x in drawn])
            ours, status, _, bound = route.solve(values, False)
        if bound is not None and not bool(bound.isnan()) and int(status) == MAX_ITER:
            continue  # of several minimisers, of which cvxpy gives another
        found, theirs = int(status) <= KINK, solved(model, drawn)
        if found != (theirs is not None):
            one, other = ("it solves", "finds none") if found else ("it does not solve", "finds a solution")
            return f"{one} the problem at parameters (draw {k}) at which cvxpy {other}"
        if theirs is None:
            continue
        gap = max(_gap(z, w) for z, w in zip(ours, theirs, strict=True))
        if not gap <= AGREE:
            return f"recognised, but off from cvxpy's solution by {gap:.1e} at random parameters"
        if not drawn or any(np.abs(w).max(initial=0) > AGREE for w in theirs):
            break
    return ""


def draw(p: Any, generator: np.random.Generator, scale: float) -> np.ndarray:
    x = scale * generator.standard_normal(p.shape)
    if p.attributes.get("bounds"):
        return np.clip(x.flatten(order="F"), *bounds(p)).reshape(p.shape, order="F")
    if any(p.attributes.get(a) for a in ("nonneg", "pos")):
        return np.asarray(np.abs(x) + 0.1)
    if any(p.attributes.get(a) for a in ("nonpos", "neg")):
        return np.asarray(-np.abs(x) - 0.1)
    if p.attributes.get("PSD"):
        return np.asarray(x @ x.T)
    if p.attributes.get("NSD"):
        return np.asarray(-x @ x.T)
    if p.attributes.get("symmetric"):
        return np.asarray(x + x.T)
    return np.asarray(np.diag(np.diag(x)) if p.attributes.get("diag") else x)


def _gap(z: Tensor, w: np.ndarray) -> float:
    ours = z.numpy()
    return float(np.abs(ours - w).max(initial=0) / (1 + np.abs(w).max(initial=0)))
