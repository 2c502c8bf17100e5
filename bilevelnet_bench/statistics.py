"""Means with intervals, paired differences, rank correlations: the figures that the experiments report."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from typing import NamedTuple


class Interval(NamedTuple):
    """mean ± half is a 95 % confidence interval of the mean; half is NaN for one value."""

    mean: float
    half: float

    def __str__(self) -> str:
        return f"{self.mean:.3f} ± {self.half:.3f}"


def interval(values: Sequence[float]) -> Interval:
    """Student's: mean ± t_{0.975, n−1} s/√n. What is not finite is of a failed run and left out."""
    from scipy.stats import t

    known = [v for v in values if math.isfinite(v)]
    if len(known) < 2:
        return Interval(known[0] if known else math.nan, math.nan)
    half = float(t.ppf(0.975, len(known) - 1)) * statistics.stdev(known) / math.sqrt(len(known))
    return Interval(statistics.fmean(known), half)


def paired(a: Sequence[float], b: Sequence[float]) -> Interval:
    """Of a − b, seed by seed: what the seeds have in common falls out."""
    return interval([x - y for x, y in zip(a, b, strict=True)])


def share_near(values: Sequence[float], best: float, within: float = 0.1) -> float:
    """The share of values ≥ (1 − within) best; a failed run is not near."""
    return sum(v >= (1 - within) * best for v in values) / len(values)


def trend(curves: Sequence[Sequence[float]]) -> Interval:
    """Spearman's rank correlation of each curve with its index: the mean over the curves.

    A curve that is constant has no ranks and is left out. NaN where a curve has fewer than 3 points.
    """
    from scipy.stats import spearmanr

    if any(len(curve) < 3 for curve in curves):
        return Interval(math.nan, math.nan)
    varied = [curve for curve in curves if min(curve) < max(curve)]
    return interval([float(spearmanr(range(len(curve)), curve).statistic) for curve in varied])
