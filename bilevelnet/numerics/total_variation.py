"""One-dimensional total variation: argmin_z ½‖z − v‖² + λ Σ |z_{i+1} − z_i|, exactly."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from .operator import in_front

Scalar = float | Tensor


def tv_prox(v: Tensor, lam: Scalar) -> Tensor:
    """The minimiser along the last dimension; lam ≥ 0 broadcasts with v and has size 1 there.

    z is constant on segments, and there the mean of v plus (λ/length)(σ_right − σ_left), σ the signs of the jumps at
    its ends. The signs are found without a graph; z and its derivatives follow from them: z is affine in (v, λ) as
    long as they stay.
    """
    lam = torch.as_tensor(lam, dtype=v.dtype, device=v.device)
    fixed = lam.detach().double().expand(*v.shape[:-1], 1)
    signs = _jump_signs(v.detach().double(), fixed).to(v.dtype)
    labels = functional.pad((signs != 0).cumsum(-1), (1, 0))
    z = _segment_means(v + lam * _difference(signs), labels)
    return torch.where(lam > 0, z, v)


@torch.library.custom_op("bilevelnet::tv_jump_signs", mutates_args=())
def _jump_signs(v: Tensor, lam: Tensor) -> Tensor:
    """sign(z_{i+1} − z_i), by divide and conquer over levels (Darbon & Sigelle 2006; Chambolle & Darbon 2009).

    For a level θ the set {z > θ} minimises Σ_{i∈S} (θ − v_i) + λ |∂S|, a shortest path. With θ the mean of a segment
    the set cuts it, or the segment is constant; all segments of all samples advance together. The cost differences
    of the path, m_i = clip(m_{i−1}, −λ, λ) + θ − v_i, come from an associative scan: maps x ↦ clip(x + a, l, h) are
    closed under composition.
    """
    n = v.shape[-1]
    signs = v.new_zeros(*v.shape[:-1], max(n - 1, 0))
    position = torch.arange(n, device=v.device).expand(v.shape)
    # A cut needs an excess beyond the rounding of v and of the sums.
    slack = 4 * (4 + n.bit_length()) * torch.finfo(v.dtype).eps * (lam + v.abs())
    for _ in range(n - 1):
        labels = functional.pad((signs != 0).cumsum(-1), (1, 0))
        cost = _segment_means(v + lam * _difference(signs), labels) - v
        first, last = functional.pad(signs != 0, (1, 0), value=True), functional.pad(signs != 0, (0, 1), value=True)
        start, end = functional.pad(lam * signs, (1, 0)), functional.pad(-lam * signs, (0, 1))
        path = _clipped_sums(cost, lam, first, start)
        before = torch.where(first, start, functional.pad(path[..., :-1], (1, 0)))
        m = before + cost
        decided = last | (m.abs() > lam + slack)
        choice = torch.where(last, m + end, m) < 0
        following = torch.where(decided, position, n).flip(-1).cummin(-1).values.flip(-1)
        above = choice.gather(-1, following).to(v.dtype)
        cuts = torch.where(signs == 0, above.diff(dim=-1), 0.0)
        if not bool(cuts.any()):
            break
        signs = signs + cuts
    return signs


@_jump_signs.register_fake
def _(v: Tensor, lam: Tensor) -> Tensor:
    return v.new_empty(*v.shape[:-1], v.shape[-1] - 1)


@_jump_signs.register_vmap
def _(info: Any, dims: tuple[int | None, int | None], v: Tensor, lam: Tensor) -> tuple[Tensor, int]:
    v, lam = (in_front(t, d, info.batch_size) for t, d in zip((v, lam), dims, strict=True))
    return _jump_signs(v, lam), 0


def _difference(signs: Tensor) -> Tensor:
    return functional.pad(signs, (0, 1)) - functional.pad(signs, (1, 0))


def _segment_means(t: Tensor, labels: Tensor) -> Tensor:
    """The mean of t over each segment, at each entry; in two passes, so that an offset costs no digits."""
    zeros = torch.zeros_like(t)
    count = zeros.scatter_add(-1, labels, torch.ones_like(t)).gather(-1, labels)
    base = (zeros.scatter_add(-1, labels, t.detach()).gather(-1, labels) / count).detach()
    return base + zeros.scatter_add(-1, labels, t - base).gather(-1, labels) / count


def _clipped_sums(cost: Tensor, bound: Tensor, first: Tensor, start: Tensor) -> Tensor:
    """p_i = clip(p_{i−1} + cost_i, −bound, bound), begun anew from ``start`` at each ``first`` entry."""
    n = cost.shape[-1]
    fresh = torch.clamp(start + cost, -bound, bound)
    shift, ends = cost.clone(), torch.stack([torch.where(first, fresh, -bound), torch.where(first, fresh, bound)])
    step = 1
    while step < n:  # after round k each map is the composition of 2^k neighbours (Hillis & Steele 1986)
        own = shift[..., step:]
        low, high = ends[..., step:]
        ends[..., step:] = torch.clamp(ends[..., :-step] + own, low, high)
        shift[..., step:] = shift[..., :-step] + own
        step *= 2
    return ends[0]
