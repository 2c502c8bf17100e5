"""∂F/∂z of a residual of events z of shape (…, n), as a matrix or by its products; no graph to parameters."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from .gmres import gmres

Residual = Callable[[Tensor], Tensor]


class Dense:
    """The matrix J = ∂F/∂z; its n rows are pulled back for all events together. ``coupled``: whether events reach into
    others, so that it is not theirs.
    """

    coupled = False

    def __init__(self, f: Residual, z: Tensor):
        n = z.shape[-1]
        with torch.enable_grad():
            z = z.detach().requires_grad_()
            value = f(z)
            self.value = value.detach()
            if not value.requires_grad:
                self.matrix = z.new_zeros(*z.shape, n)
                return
            units = torch.eye(n, dtype=z.dtype, device=z.device).reshape(n, *[1] * (z.ndim - 1), n)
            units = units.expand(n, *z.shape)
            rows = torch.autograd.grad(
                value, z, units, is_grads_batched=True, materialize_grads=True, retain_graph=True
            )[0]
            # Rows of all events were pulled back together: unequal weights tell whether an event reaches into another.
            weights = torch.arange(z.numel(), dtype=z.dtype, device=z.device).reshape(z.shape).cos()
            mixed = torch.autograd.grad(value, z, weights, materialize_grads=True)[0]
        self.matrix = rows.movedim(0, -2)
        apart = (self.matrix * weights.unsqueeze(-1)).sum(-2)
        scale = self.matrix.abs().sum(-2)
        self.coupled = bool(((mixed - apart).abs() > torch.finfo(z.dtype).eps ** 0.5 * scale).any())

    def solve(self, r: Tensor, tol: Tensor | float) -> Tensor:
        y, info = torch.linalg.solve_ex(self.matrix, r)
        y = torch.where((info == 0).unsqueeze(-1), y, torch.nan)
        bad = ~y.isfinite().all(-1, keepdim=True)
        if not bool(bad.any()):
            return y
        # Where J is singular, a short step of Levenberg and Marquardt.
        j = torch.where(bad.unsqueeze(-1) & ~self.matrix.isfinite(), 0, self.matrix)
        gram = j.mT @ j
        shift = torch.finfo(r.dtype).eps ** 0.5 * gram.diagonal(dim1=-2, dim2=-1).amax(-1)[..., None, None]
        eye = torch.eye(j.shape[-1], dtype=j.dtype, device=j.device)
        damped = torch.linalg.solve_ex(gram + shift * eye, (j.mT @ r.unsqueeze(-1)).squeeze(-1))[0]
        return torch.where(bad, damped, y)

    def rounding(self, z: Tensor) -> Tensor:
        return _rounding((self.matrix.abs() @ z.abs().unsqueeze(-1)).squeeze(-1))

    def times(self, y: Tensor) -> Tensor:
        return (self.matrix @ y.unsqueeze(-1)).squeeze(-1)

    def inverse(self) -> Tensor:
        """J⁻¹, NaN where it is singular to working precision."""
        n, eps = self.matrix.shape[-1], torch.finfo(self.matrix.dtype).eps
        inverse, info = torch.linalg.inv_ex(self.matrix)
        sizes = [torch.linalg.matrix_norm(m, 1) for m in (self.matrix, inverse)]
        regular = (info == 0) & (sizes[0] * sizes[1] < 1 / (n * eps))
        return torch.where(regular[..., None, None], inverse, torch.nan)


class Free:
    """J by its products: of a row by reverse mode, of a column by reverse mode twice, from one graph at z."""

    coupled = False

    def __init__(self, f: Residual, z: Tensor):
        with torch.enable_grad():
            self.z = z.detach().requires_grad_()
            self.r = f(self.z)
            if not self.r.requires_grad:
                self.r = self.r + 0 * self.z
            self.w = torch.zeros_like(self.r).requires_grad_()
            self.pulled = torch.autograd.grad(self.r, self.z, self.w, create_graph=True, materialize_grads=True)[0]
        self.value = self.r.detach()

    def times(self, y: Tensor) -> Tensor:
        """J y; y may have more dimensions in front."""
        return self._grad(self.pulled, self.w, y)

    def transposed(self, y: Tensor) -> Tensor:
        """Jᵀ y."""
        return self._grad(self.r, self.z, y)

    def rounding(self, z: Tensor) -> Tensor:
        return _rounding(self.times(z.abs()))

    def _grad(self, of: Tensor, at: Tensor, y: Tensor) -> Tensor:
        if not of.requires_grad:
            return torch.zeros_like(y)
        rows = y.reshape(-1, *at.shape)
        moved = torch.autograd.grad(of, at, rows, retain_graph=True, is_grads_batched=True, materialize_grads=True)[0]
        return moved.reshape(y.shape)

    def solve(self, r: Tensor, tol: Tensor | float, transposed: bool = False) -> Tensor:
        """J⁻¹ r or J⁻ᵀ r; NaN where not even two digits of it are found."""
        y, left = gmres(self.transposed if transposed else self.times, r, tol, 10 * r.shape[-1])
        return torch.where(left < 1e-2, y, torch.nan)


def _rounding(terms: Tensor) -> Tensor:
    return 4 * torch.finfo(terms.dtype).eps * torch.linalg.vector_norm(terms, dim=-1)


def spectral_radius(times: Callable[[Tensor], Tensor], like: Tensor, steps: int = 40) -> Tensor:
    """max |eigenvalue|, roughly, of maps given by their products, of shape (…,): the growth over the second half of a
    power iteration, which a rotating pair of eigenvalues does not hide.
    """
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(like.shape, generator=generator, dtype=torch.float64).to(like)
    growth = torch.zeros_like(x[..., 0])
    for k in range(steps):
        x = times(x)
        size = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
        x = torch.where(size > 0, x / size, 0)
        growth = growth + (size.squeeze(-1).log() if k >= steps // 2 else 0)
    return (growth / (steps - steps // 2)).exp()
