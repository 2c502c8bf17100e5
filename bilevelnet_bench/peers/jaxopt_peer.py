"""u + e^u = v entry by entry with jaxopt.Bisection (Blondel et al., 2022), vmapped and jitted, on the CPU."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

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


def lbfgs(matrix: Tensor) -> Callable[[Tensor], Tensor]:
    """v ↦ argmin_z ½‖z − v‖² + Σ softplus(Az) by jaxopt.LBFGS with its implicit derivative."""
    a = jnp.asarray(matrix.numpy())

    def objective(z: jax.Array, v: jax.Array) -> jax.Array:
        return ((z - v) ** 2).sum() / 2 + jax.nn.softplus(a @ z).sum()

    solver = jaxopt.LBFGS(objective, maxiter=200, tol=1e-10, implicit_diff=True, jit=True)
    solve = jax.jit(jax.vmap(lambda v: solver.run(v, v).params))
    pull = jax.jit(lambda v, c: jax.vjp(solve, v)[1](c)[0])

    class Argmin(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, v: Tensor) -> Tensor:
            ctx.save_for_backward(v)
            return torch.from_dlpack(solve(jnp.from_dlpack(v.detach())).block_until_ready())

        @staticmethod
        def backward(ctx: Any, c: Tensor) -> Tensor:
            (v,) = ctx.saved_tensors
            found = pull(jnp.from_dlpack(v.detach()), jnp.from_dlpack(c.contiguous()))
            return torch.from_dlpack(found.block_until_ready())

    return Argmin.apply
