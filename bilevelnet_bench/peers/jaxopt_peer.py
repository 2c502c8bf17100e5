"""u + e^u = v entry by entry with jaxopt.Bisection (Blondel et al., 2022), vmapped and jitted, on the CPU."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import jaxopt
import torch
from torch import Tensor

jax.config.update("jax_platforms", "cpu")
jax.config.update("jax_enable_x64", True)
STEPS, TOL = 60, 1e-12


def _equation(u: jax.Array, v: jax.Array) -> jax.Array:
    return u + jnp.exp(u) - v


@jax.jit
@jax.vmap
def _minimiser(v: jax.Array) -> jax.Array:
    # The root lies in [v − e^v, v], here with a margin for its rounding.
    lower, upper = v - jnp.exp(v) - 1e-9, v + 1e-9
    solver = jaxopt.Bisection(_equation, lower, upper, maxiter=STEPS, tol=TOL, check_bracket=False, jit=True)
    return jnp.exp(solver.run(None, v).params)


def bisection(v: Tensor) -> Tensor:
    """z = e^u; no copy on the way in or out."""
    return torch.from_dlpack(_minimiser(jnp.from_dlpack(v.detach())).block_until_ready())
