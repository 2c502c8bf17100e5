"""What is known of an answer, element by element, and what is done with a failure."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any

import torch
from torch import Tensor

from .errors import InputError, SolveError
from .values import readable

POLICIES = ("raise", "warn", "nan", "ignore")


class Status(IntEnum):
    """How the solution of one element went; compare a tensor with it: ``sol.status == Status.infeasible``.

    kink: solved, on a kink that the search found in a function with parameters; whether the kink moves with them is
    not known, so their derivative there is not available (0 is returned). ``kinks()`` on the piece makes it so.
    """

    converged = 0
    kink = 1  # converged too
    max_iter = 2
    infeasible = 3
    unbounded = 4
    invalid = 5


# Plain integers for tensor code: torch.compile takes no enum.
CONVERGED, KINK, MAX_ITER, INFEASIBLE, UNBOUNDED, INVALID = (int(s) for s in Status)

MEANING = {
    Status.max_iter: "stopped at the iteration limit; raise max_iter or tol of the solver",
    Status.infeasible: "infeasible: dom g does not meet int dom φ there",
    Status.unbounded: "unbounded: no minimiser, v is outside int dom (φ + g)*; add a regularizer that grows, or move v",
    Status.invalid: "invalid: v or the result is NaN or infinite, or all of v is masked, or φ + g is not convex, or "
    "where it is taken for smooth it has a kink (give it a prox) or bends too sharply for its dtype (try float64)",
}


@dataclass
class Solution:
    """z and everything known about it.

    z: the minimiser. dual: u = ∇φ(z), or None where the solver has none. status: per element, ``Status`` as int8.
    residual: dist(v, ∇φ(z) + ∂g(z)) in dual units, per element; a z that underflowed to 0 stands for all numbers below
    the least of its dtype, so that 0 says there that the minimiser rounds to z. error_bound: residual/σ ≥ ‖z − z*‖, to
    the rounding of z, where φ is σ-strongly convex, else None. iterations: of the search, 0 for a closed form.
    multipliers: of the constraints, where the solver knows them. solver: its name.
    """

    z: Tensor
    dual: Tensor | None
    status: Tensor
    residual: Tensor
    error_bound: Tensor | None
    iterations: int | Tensor
    solver: str
    multipliers: dict[str, Tensor] = field(default_factory=dict)

    @property
    def converged(self) -> Tensor:
        """Whether each element was solved."""
        return self.status <= KINK


def check_policy(on_failure: str) -> str:
    """on_failure, or InputError with the known ones."""
    if on_failure not in POLICIES:
        raise InputError(f"unknown on_failure {on_failure!r}; known: {', '.join(POLICIES)}")
    return on_failure


def settle(
    z: Tensor,
    status: Tensor,
    dims: tuple[int, ...],
    on_failure: str,
    subject: str,
    meanings: Mapping[Status, str] = MEANING,
) -> Tensor:
    """z after the policy for failed elements. ``status`` is per element, its event dimensions ``dims`` kept as 1.

    Where values cannot be read nothing can raise: failed elements are NaN.
    """
    if on_failure == "ignore":
        return z
    failed = status > KINK
    if on_failure == "nan" or not readable(z, status):
        return torch.where(failed, torch.nan, z)
    if not bool(failed.any()):
        return z
    status = squeeze(status, dims)
    index = status.nonzero()[0]
    meaning = meanings[Status(int(status[tuple(index)]))]
    count = f"{int(failed.sum())} of {failed.numel()} elements have no solution, first at {tuple(index.tolist())}"
    return tell(z, SolveError(f"{subject}: {count}: {meaning}"), on_failure)


def tell(z: Any, error: Exception, on_failure: str) -> Any:
    """Raise the error, or warn with its words and return z."""
    if on_failure == "raise":
        raise error
    warnings.warn(str(error), RuntimeWarning, stacklevel=5)
    return z


def judged(z: Tensor, status: Tensor, dims: tuple[int, ...]) -> Tensor:
    """The worst status of each element, its dimensions kept as 1; a z beyond the range of its dtype is invalid."""
    return worst(torch.where((status <= KINK) & ~z.isfinite(), INVALID, status), dims)


def worst(status: Tensor, dims: tuple[int, ...]) -> Tensor:
    """The worst status of each element, its dimensions kept as 1."""
    if not dims:
        return status
    # In a graph as int32: inductor (torch 2.13, CPU) takes 5 for the largest of 64 zeros in int8.
    return status.int().amax(dims, keepdim=True) if torch.compiler.is_compiling() else status.amax(dims, keepdim=True)


def squeeze(x: Tensor, dims: tuple[int, ...]) -> Tensor:
    """x without its event dimensions, each of size 1."""
    for d in sorted((d % x.ndim for d in dims), reverse=True):
        x = x.squeeze(d)
    return x
