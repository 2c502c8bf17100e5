"""Problems of the iterative solvers: their pieces, the points, and the exact answer by bisection in plain torch.

argmin_z φ(z) + h(z) − ⟨z, v⟩, entry by entry or on the simplex Σ z = r. With z = (∇φ + ∂h)⁻¹(w) entry by entry, the
answer is z(v), or z(v − τ) with Σ z(v − τ) = r; with D = dz/dw the gradient of ⟨c, z⟩ is Dc, or Dc − D Σ Dc/Σ D.

Of a million entropies with squares, in CPU time of one core, exp(v) being 1: 25 by formulas, 120 by values alone, 40
in a compiled graph. By formulas an entry costs 2.6 evaluations of exp and six passes each, from a table of roots. By
values an evaluation is some thirty passes, z log z − z + z²/2 forwards, backwards and backwards again; the search is
55 % of the time, two more evaluations look for kinks and concave parts that no formula rules out, one gives the dual
point. The search is one operator, which a compiled graph calls but does not fuse, and where values cannot be read
every mark of a failed entry is formed. Fused and vectorised (inductor of torch 2.13, torch.exp being 1) a compiled exp
is 0.7 and six bare Newton steps are 6.2, but a status of three comparisons is 4.9, since a mask of doubles is cast for
every "and". Six Newton steps in the graph, the operator taking what they leave, gave 42 as well, and twice the seconds
of compiling: they are not there.

Fermi-Dirac on the capped simplex, 128 × 10, in CPU time of one core: 1.4 ms for a step forward and backward, 475 calls
of torch's operators on 1280 numbers, so that it is their overhead that counts and not the arithmetic. The search is
45 % (six evaluations of some 13 operators each, the last of which shows that the fifth met the sum), one more
evaluation that asks whether z is on the set, and gives the slope, 6 %, the two attached steps and z 30 %, backward
19 %. 128 × 100 takes 1.8 ms. The least of 200 steps is 1.05 ms, where a 500th of cvxpylayers' 443 ms, which is asked,
is 0.89: two of the six evaluations, and a start from the mean of v saves none.

Of sparsemax at σ = 0.1, 128 × 32000, 36 entries a row count: 16 ms beside 2 for a copy of v, 7 to 20 for softmax.
entmax with k = 64 takes 2.6 (1024 × 1000) and 2.0 times as long, at σ = 1 2.6 and 1.8 (CPU time of one thread, the
least of 9).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

import bilevelnet as bln

from . import groups

L, R = bln.legendre, bln.regularizers
SAMPLE = 16  # rows on which errors are taken


class Problem(NamedTuple):
    """φ, g, and without the library: z(w), dz/dw at z, and the sum r that z must have."""

    phi: Callable[[], Any]
    g: Callable[[], Any]
    point: Callable[[Tensor], Tensor]
    gain: Callable[[Tensor], Tensor]
    radius: float = 0.0  # 0: none is asked


class EntropyByValue(L.Separable):
    """φ(z) = z log z − z, of which no derivative is stated."""

    domain = bln.domains.Positive()

    def value(self, z: Tensor) -> Tensor:
        return z * z.log() - z


class SquareByValue(R.Separable):
    """g(z) = z²/2, of which no derivative is stated."""

    def value(self, z: Tensor) -> Tensor:
        return z * z / 2


def _entropy_square(w: Tensor) -> Tensor:
    """u + e^u = w."""
    return bisect(lambda u: u + u.exp() - w, w - w.exp(), w).exp()


def _entropy_square_gain(z: Tensor) -> Tensor:
    return z / (1 + z)


def _fermi_dirac_huber(w: Tensor) -> Tensor:
    """u + min(sigmoid u, 1/2) = w: Huber's derivative with λ = 1 and δ = 1/2, z ≥ 0."""
    return torch.sigmoid(bisect(lambda u: u + torch.sigmoid(u).clamp(max=0.5) - w, w - 0.5, w))


def _sigmoid_gain(z: Tensor) -> Tensor:
    return z * (1 - z)


PROBLEMS: dict[str, Problem] = {
    "entropy + squared_l2": Problem(L.BoltzmannShannon, R.SquaredL2, _entropy_square, lambda z: z / (1 + z)),
    "entropy + squared_l2, values alone": Problem(
        EntropyByValue, SquareByValue, _entropy_square, lambda z: z / (1 + z)
    ),
    "sparsemax": Problem(L.Energy, R.Simplex, lambda w: w.clamp(min=0), lambda z: (z > 0).to(z.dtype), 1.0),
    "entmax 1.5": Problem(lambda: L.Tsallis(1.5), R.Simplex, lambda w: (w.clamp(min=0) / 2) ** 2, torch.sqrt, 1.0),
    "fermi_dirac + huber": Problem(
        L.FermiDirac,
        lambda: R.Huber(1.0, 0.5),
        _fermi_dirac_huber,
        lambda z: 1 / (1 / _sigmoid_gain(z) + (z < 0.5).to(z.dtype)),
    ),
    "fermi_dirac + simplex": Problem(L.FermiDirac, R.Simplex, torch.sigmoid, _sigmoid_gain, 1.0),
    "fermi_dirac + capped simplex": Problem(
        L.FermiDirac, lambda: R.CappedSimplex(radius=5.0, cap=1.0), torch.sigmoid, _sigmoid_gain, 5.0
    ),
}


# Problems that have no answer by bisection: φ and g for vectors of length n. The total variation, which is in closed
# form, is compared with the splitting solver, the groups with a proximal gradient method (see groups.py).
# Forward and backward, ms: tv1d 3.4 of CPU on one thread, 2.7 of it the signs of the jumps in 7 rounds of some 35
# passes over what is left of 128 x 100 numbers (5.7 by levels alone, in 6 rounds of 55), 0.3 backward. Groups 80 on
# two threads at load 4: 16 accelerated steps 21, 3 Newton steps 21, of which conjugate gradients 15 (65 by LU, and 70
# to form the systems), the system at the solution 7, its inverse for the derivatives 18, two attached steps and
# backward the rest.
COUPLED: dict[str, Callable[[int], tuple[Any, Any]]] = {
    "energy + tv1d": lambda n: (L.Energy(), R.TV1d(0.5)),
    "boltzmann_shannon + tv1d": lambda n: (L.BoltzmannShannon(), R.TV1d(0.5)),
    "mahalanobis + group_lasso": lambda n: (
        L.Mahalanobis(groups.tikhonov(n)),
        R.GroupLasso(groups.LAM, groups=groups.fives(n)),
    ),
}


@dataclass(frozen=True)
class SolverCase:
    """A problem at v ~ N(0, σ²), and what is asked for: by peer, peer's time over ours."""

    problem: str
    shape: tuple[int, ...]
    dtype: torch.dtype = torch.float64
    sigma: float = 1.0
    solver: str = "auto"
    backward: bool = True
    peers: Mapping[str, str] = field(default_factory=dict)
    rounds: int = 15

    @property
    def name(self) -> str:
        size = " x ".join(str(n) for n in self.shape)
        spread = "" if self.sigma == 1 else f", σ = {self.sigma:g}"
        return f"{self.problem}, {size}{spread}"

    def points(self, seed: int = 0) -> Tensor:
        return self.sigma * torch.randn(self.shape, generator=torch.Generator().manual_seed(seed), dtype=self.dtype)

    def layer(self) -> bln.BilevelLayer:
        return prox_layer(self.problem, self.solver, self.shape[-1])

    def exact(self, v: Tensor, cotangent: Tensor) -> tuple[Tensor, Tensor]:
        """(z, gradient of ⟨c, z⟩ in v) in float64."""
        if "group_lasso" in self.problem:
            return groups.exact(v.detach().double(), cotangent.double())
        if self.problem in COUPLED:
            x = v.detach().double().requires_grad_()
            with torch.enable_grad():
                z = bln.bregman_prox(*COUPLED[self.problem](v.shape[-1]), x, "splitting")
            return z.detach(), torch.autograd.grad(z, x, cotangent.double())[0]
        problem, v, c = PROBLEMS[self.problem], v.double(), cotangent.double()
        if not problem.radius:
            z = problem.point(v)
            return z, problem.gain(z) * c
        # At v − τ ≤ −40 every z is below e^{-40}; at v − τ ≥ 40 every z is above r.
        low, high = v.amin(-1, keepdim=True) - 40, v.amax(-1, keepdim=True) + 40
        tau = bisect(lambda t: problem.radius - problem.point(v - t).sum(-1, keepdim=True), low, high)
        z = problem.point(v - tau)
        gain = problem.gain(z)
        moved = gain * c
        return z, moved - gain * moved.sum(-1, keepdim=True) / gain.sum(-1, keepdim=True)


def prox_layer(problem: str, solver: str = "auto", n: int = 1) -> bln.BilevelLayer:
    """v ↦ argmin: a layer with A(z⁻) = z⁻ and no reference, so that v = z⁻."""
    phi, g = COUPLED[problem](n) if problem in COUPLED else (PROBLEMS[problem].phi(), PROBLEMS[problem].g())
    divergence = bln.divergences.Bregman(phi, bln.divergences.Zero())
    coupling = bln.couplings.Affine(nn.Identity())
    return bln.BilevelLayer(coupling, divergence, g, solver=solver)


def bisect(f: Callable[[Tensor], Tensor], low: Tensor, high: Tensor, steps: int = 80) -> Tensor:
    """The root of an increasing f in [low, high], entry by entry: 80 halvings reach neighbouring floats."""
    for _ in range(steps):
        middle = (low + high) / 2
        below = f(middle) < 0
        low, high = torch.where(below, middle, low), torch.where(below, high, middle)
    return (low + high) / 2


CVXPYLAYERS, CLARABEL = "cvxpylayers", "cvxpylayers, Clarabel"
ENTMAX, ENTMAX_64 = "entmax", "entmax, k = 64"
EXP, SOFTMAX, BISECTION, VALUES = "exp", "softmax", "jaxopt.Bisection", "ours, values alone"
COMPILED = "ours, compiled"  # not in a quick run: compiling takes seconds
SMALL, LARGE = (1024, 1000), (128, 32000)


def _rows(problem: str, shape: tuple[int, int], sigma: float, **reach: str) -> SolverCase:
    peers = {SOFTMAX: "", ENTMAX: reach.get("default", "> 1"), ENTMAX_64: reach.get("k64", "")}
    return SolverCase(problem, shape, torch.float32, sigma, peers=peers)


CASES = (
    SolverCase(
        "entropy + squared_l2",
        (1_000_000,),
        solver="scalar",
        backward=False,
        peers={EXP: "≥ 1/26", BISECTION: "≥ 4", VALUES: "≤ 2", COMPILED: "≤ 8 exp"},
    ),
    _rows("sparsemax", SMALL, 1.0, default="≥ 7", k64="> 1"),
    _rows("sparsemax", LARGE, 1.0, default="≥ 10", k64="> 1"),
    _rows("sparsemax", SMALL, 0.1, k64="> 1"),
    _rows("sparsemax", LARGE, 0.1, k64="> 1"),
    _rows("entmax 1.5", SMALL, 1.0, default="≥ 5"),
    _rows("entmax 1.5", LARGE, 1.0, default="≥ 8"),
    _rows("entmax 1.5", SMALL, 0.1),
    _rows("entmax 1.5", LARGE, 0.1),
    SolverCase("fermi_dirac + huber", (128, 10), peers={CVXPYLAYERS: "≥ 300"}, rounds=5),
    SolverCase("fermi_dirac + simplex", (128, 10), peers={CVXPYLAYERS: "≥ 300"}, rounds=5),
    SolverCase("fermi_dirac + capped simplex", (128, 10), peers={CVXPYLAYERS: "≥ 500"}, rounds=5),
    SolverCase("fermi_dirac + capped simplex", (128, 100), peers={CVXPYLAYERS: "≥ 2000"}, rounds=3),
    SolverCase("energy + tv1d", (128, 100), peers={CVXPYLAYERS: "≥ 100", CLARABEL: ""}, rounds=3),
    SolverCase("boltzmann_shannon + tv1d", (128, 100), peers={CVXPYLAYERS: "", CLARABEL: "≥ 10"}, rounds=3),
    SolverCase("mahalanobis + group_lasso", (128, 100), peers={CVXPYLAYERS: "", CLARABEL: "≥ 10"}, rounds=3),
)
QUICK = {1: (1000,), 2: (4, 12)}  # shapes by their number of dimensions
