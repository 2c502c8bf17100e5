"""What torch promises of a differentiable function, as laws of a map v ↦ f(v) that acts on events."""

from __future__ import annotations

import torch
from torch import Tensor

from .calculus import EPS, Function
from .report import Finding

HALVES = (torch.float32, torch.bfloat16, torch.float16)


def batched(f: Function, v: Tensor) -> Finding:
    """Three batch dimensions, an empty batch and non-contiguous input give what one batch dimension gives."""
    want = f(v)
    n = len(v) // 4 * 4
    shaped = v[:n].reshape(2, 2, n // 4, *v.shape[1:])
    errors = [_gap(f(shaped).reshape(want[:n].shape), want[:n])]
    strided = torch.stack([v, v + 1], -1)[..., 0]
    errors.append(_gap(f(strided), want))
    if v.ndim > 1:
        turned = v[:n].reshape(2, n // 2, *v.shape[1:]).transpose(0, 1)
        errors.append(_gap(f(turned).transpose(0, 1).reshape(want[:n].shape), want[:n]))
    for shape in ((0, *v.shape[1:]), (2, 0, *v.shape[1:])):
        empty = f(v.new_empty(shape))
        right = empty.shape == (*shape[: len(shape) - v.ndim + 1], *want.shape[1:]) and empty.dtype is v.dtype
        errors.append(torch.full((1,), 0.0 if right else torch.inf))
    return _worst(errors, _scale(want), v)


def vmapped(f: Function, v: Tensor) -> Finding:
    """vmap gives the batch, and vmap of grad the gradient of the batch."""
    want = f(v)
    x = v.detach().requires_grad_()
    (slope,) = torch.autograd.grad(f(x).sum(), x)
    got = torch.func.vmap(f)(v)
    each = torch.func.vmap(torch.func.grad(lambda t: f(t).sum()))(v)
    return _worst([_gap(got, want), _gap(each, slope)], _scale(want, slope), v)


def forward_mode(f: Function, v: Tensor) -> Finding:
    """⟨w, J d⟩ by jvp equals ⟨Jᵀw, d⟩ by backward."""
    generator = torch.Generator().manual_seed(5)
    x = v.detach().requires_grad_()
    z = f(x)
    d, w = (torch.randn(t.shape, generator=generator, dtype=torch.float64).to(v) for t in (v, z))
    tangent = torch.func.jvp(f, (v,), (d,))[1]
    (back,) = torch.autograd.grad(z, x, w)
    forward, backward = (w * tangent).reshape(len(v), -1), (back * d).reshape(len(v), -1)
    size = forward.abs().sum(-1) + backward.abs().sum(-1)
    f_size, w_size = (t.detach().reshape(len(v), -1).abs().amax(-1) for t in (z, w))
    tolerance = 1e4 * EPS * (size + f_size * w_size)  # J may be a difference of terms of the size of f
    return Finding((forward.sum(-1) - backward.sum(-1)).abs(), tolerance, {"v": v})


def compiled(f: Function, v: Tensor) -> Finding:
    """compile(fullgraph=True, backend="aot_eager") gives the values and gradients of eager mode."""
    torch.compiler.reset()
    x, y = (v.detach().clone().requires_grad_() for _ in range(2))
    want, got = f(x), torch.compile(f, fullgraph=True, backend="aot_eager")(y)
    want.sum().backward()
    got.sum().backward()
    assert x.grad is not None
    assert y.grad is not None
    return _worst([_gap(got, want), _gap(y.grad, x.grad)], _scale(want, x.grad), v)


def twice_differentiable(f: Function, v: Tensor) -> Finding:
    """torch.autograd.gradcheck and gradgradcheck, in float64, away from kinks."""
    if not len(v):
        raise AssertionError("no point is left away from the kinks")
    x = v.detach().requires_grad_()
    torch.autograd.gradcheck(f, (x,), check_forward_ad=True, atol=1e-5, rtol=1e-4)
    torch.autograd.gradgradcheck(f, (x,), atol=1e-4, rtol=1e-3, fast_mode=True)  # along random directions
    return Finding(torch.zeros(1), 0.0, {})


def half_precisions(f: Function, v: Tensor) -> Finding:
    """No NaN in float32, bfloat16 and float16, in value or gradient; dtype kept."""
    bad = []
    for dtype in HALVES:
        x = v.to(dtype).requires_grad_()
        z = f(x)
        if z.dtype is not dtype:
            raise AssertionError(f"{dtype} came back as {z.dtype}")
        (d,) = torch.autograd.grad(z.sum(), x)
        bad.append((z.isnan() | d.isnan()).double())
    return Finding(torch.stack(bad), 0.0, {"v": v.expand(len(HALVES), *v.shape)})


def _gap(got: Tensor, want: Tensor) -> Tensor:
    same = (got == want) | (got.isnan() & want.isnan())
    return torch.where(same, 0.0, (got - want).abs()).detach().reshape(-1)


def _scale(*values: Tensor) -> float:
    return max(_largest(t) for t in values)


def _largest(t: Tensor) -> float:
    finite = t.detach()[t.isfinite()]
    return float(finite.abs().max()) if finite.numel() else 0.0


def _worst(errors: list[Tensor], scale: float, v: Tensor) -> Finding:
    error = torch.cat([e.double().cpu() for e in errors]).max().reshape(1)
    return Finding(error, 1e3 * EPS * (1 + scale), {"v": v[:4].reshape(1, -1)})
