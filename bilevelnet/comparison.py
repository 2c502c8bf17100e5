"""One comparison with its tolerance: the row of a certificate and of a report of laws."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor


@dataclass(frozen=True)
class Row:
    """One comparison: the worst error beside its tolerance, where it was met, and why the tolerance is what it is."""

    compared: str
    passed: bool
    error: float
    tolerance: float
    where: str
    reason: str
    points: int = 0
    left_out: int = 0  # points with a kink within reach, or beyond the range of the dtype, where nothing is compared

    @classmethod
    def of(
        cls,
        compared: str,
        error: Tensor,
        tolerance: Tensor | float,
        at: Mapping[str, Tensor],
        reason: str,
        left_out: int = 0,
    ) -> Row:
        """The entry that is nearest to failing, or fails the most. ``at``: tensors of the error's leading shape."""
        error = error.detach().double().cpu()
        if not error.numel() and left_out:
            return cls(compared, True, 0.0, 0.0, "", reason, 0, left_out)
        if not error.numel():
            return cls.failed(compared, "no point was left to compare at", reason)
        bound = torch.as_tensor(tolerance, dtype=torch.float64).detach().cpu().broadcast_to(error.shape)
        worst = int(_part(error, bound).reshape(-1).argmax())
        place = tuple(int(i) for i in torch.unravel_index(torch.tensor(worst), error.shape))
        where = ", ".join(f"{name} = {_shown(t, place, error.shape)}" for name, t in at.items())
        passed = bool((error <= bound).all())
        return cls(compared, passed, float(error[place]), float(bound[place]), where, reason, error.numel(), left_out)

    @classmethod
    def failed(cls, compared: str, what: str, reason: str) -> Row:
        """A comparison that could not be made."""
        return cls(compared, False, math.inf, 0.0, what, reason)

    @property
    def verdict(self) -> str:
        return "FAILS" if not self.passed else "holds" if self.points else "not stated"

    @property
    def part(self) -> float:
        """The error as a part of its tolerance, above 1 where it fails."""
        return float(_part(torch.tensor(self.error), torch.tensor(self.tolerance)))

    def under(self, prefix: str) -> Row:
        """The same row with a name that says of what."""
        return replace(self, compared=prefix + self.compared)

    def worse(self, other: Row) -> Row:
        """The one that is nearer to failing, for the points of both."""
        both = sorted((self, other), key=lambda row: (row.passed, -row.part))
        counts = self.points + other.points, self.left_out + other.left_out
        return replace(both[0], points=counts[0], left_out=counts[1])


def _part(error: Tensor, bound: Tensor) -> Tensor:
    # 0 of 0 is 0, any more of 0 fails, and NaN counts as the worst error.
    part = torch.where(error <= bound, torch.where(bound > 0, error / bound, 0.0), 1 + (error - bound) / bound)
    return torch.where(error.isnan() | bound.isnan(), torch.inf, part)


def _shown(t: Tensor, place: tuple[int, ...], shape: torch.Size) -> str:
    """The part of t at the place, as far as t has its dimensions: the entry, else the whole sample, else all of it."""
    t = t.detach().cpu()
    n = len(shape) if t.shape[: len(shape)] == shape else int(t.shape[:1] == shape[:1])
    t = t[place[:n]]
    numbers = t.reshape(-1).tolist()
    if len(numbers) == 1:
        return repr(numbers[0])
    return f"[{', '.join(map(repr, numbers[:8]))}{', …' if len(numbers) > 8 else ''}]"
