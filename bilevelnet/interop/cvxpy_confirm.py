"""Whether a recognised form gives what cvxpy gives for the whole problem, at random parameters."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..solution import KINK
from .cvxpy_checks import Model, solved
from .cvxpy_values import Parameters, bounds

# Clarabel at its own tolerance of 1e-8 on the gap is off by its square root in a variable.
AGREE = 2e-4
# Parameters at which both have a solution are sought in so many draws, a small one and one of size 1 at a time.
SCALES, DRAWS, WANTED = (0.3, 1.0), 6, 2


def differs(model: Model, route: Any) -> str:
    """How the route and cvxpy differ, or nothing."""
    generator, agreed = np.random.default_rng(0), 0
    for first in range(0, DRAWS, len(SCALES)):
        draws = [[draw(p, generator, scale) for p in model.parameters] for scale in SCALES]
        stacked = [torch.from_numpy(np.stack(xs)) for xs in zip(*draws, strict=True)]
        with torch.no_grad():
            ours, status, *_ = route.solve(Parameters(model.parameters).read(stacked)[0], False)
        for k, drawn in enumerate(draws):
            found, theirs = int(status[k] if stacked else status) <= KINK, solved(model, drawn)
            if found != (theirs is not None):
                one, other = ("it solves", "finds none") if found else ("it does not solve", "finds a solution")
                return f"{one} the problem at parameters (draw {first + k}) at which cvxpy {other}"
            if theirs is None:
                continue
            gap = max(_gap(z[k] if stacked else z, w) for z, w in zip(ours, theirs, strict=True))
            if not gap <= AGREE:
                return f"recognised, but off from cvxpy's solution by {gap:.1e} at random parameters"
            agreed += 1
            if agreed == WANTED or not stacked:
                return ""
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
