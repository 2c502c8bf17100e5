"""Quadratic programs by qpax (Tracy & Manchester, 2024), vmapped and jitted, at its own settings."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
import qpax
from torch import Tensor

from .jax_function import torch_function


def program(Q: Tensor, G: Tensor, h: Tensor) -> Callable[[Tensor], Tensor]:
    """q ↦ argmin_z ½ zᵀQz + qᵀz under G z ≤ h."""
    n = Q.shape[-1]

    def minimiser(Q: jax.Array, q: jax.Array, G: jax.Array, h: jax.Array) -> jax.Array:
        return qpax.solve_qp_primal(Q, q, jnp.zeros((0, n)), jnp.zeros(0), G, h)  # type: ignore[no-any-return]

    solve = torch_function(jax.vmap(minimiser))
    return lambda q: solve(Q, q, G, h)
