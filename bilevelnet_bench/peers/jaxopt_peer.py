"""Solvers of jaxopt (Blondel et al., 2022), vmapped and jitted, on the CPU."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
import jaxopt
from torch import Tensor

from .jax_function import torch_function

STEPS, TOL = 60, 1e-12


def bisection() -> Callable[[Tensor], Tensor]:
    """v ↦ z = e^u, u + e^u = v entry by entry."""

    def minimiser(v: jax.Array) -> jax.Array:
        # The root lies in [v − e^v, v], here with a margin for its rounding.
        lower, upper = v - jnp.exp(v) - 1e-9, v + 1e-9
        solver = jaxopt.Bisection(
            lambda u, v: u + jnp.exp(u) - v, lower, upper, maxiter=STEPS, tol=TOL, check_bracket=False, jit=True
        )
        return jnp.exp(solver.run(None, v).params)

    return torch_function(jax.vmap(minimiser))


def lbfgs(matrix: Tensor) -> Callable[[Tensor], Tensor]:
    """v ↦ argmin_z ½‖z − v‖² + Σ softplus(Az) by LBFGS with its implicit derivative."""
    a = jnp.asarray(matrix.numpy())

    def objective(z: jax.Array, v: jax.Array) -> jax.Array:
        return ((z - v) ** 2).sum() / 2 + jax.nn.softplus(a @ z).sum()

    solver = jaxopt.LBFGS(objective, maxiter=200, tol=1e-10, implicit_diff=True, jit=True)
    return torch_function(jax.vmap(lambda v: solver.run(v, v).params))


def program(Q: Tensor, G: Tensor, h: Tensor) -> Callable[[Tensor], Tensor]:
    """q ↦ argmin_z ½ zᵀQz + qᵀz under G z ≤ h by OSQP at its own settings."""
    solver = jaxopt.OSQP()

    def minimiser(Q: jax.Array, q: jax.Array, G: jax.Array, h: jax.Array) -> jax.Array:
        return solver.run(params_obj=(Q, q), params_ineq=(G, h)).params.primal  # type: ignore[no-any-return]

    solve = torch_function(jax.vmap(minimiser))
    return lambda q: solve(Q, q, G, h)
