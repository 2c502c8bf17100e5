"""One-dimensional total variation: argmin_z ½‖z − v‖² + λ Σ |z_{i+1} − z_i|, exactly."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from .operator import in_front

Scalar = float | Tensor
ROUNDS = 12  # noise of any length takes 5 to 12, a smooth signal of n entries a part of n


def tv_prox(v: Tensor, lam: Scalar) -> Tensor:
    """The minimiser along the last dimension; lam ≥ 0 broadcasts with v and has size 1 there.

    z is constant on segments, and there the mean of v plus (λ/length)(σ_right − σ_left), σ the signs of the jumps at
    its ends. The signs are found without a graph; z and its derivatives follow from them: z is affine in (v, λ) as
    long as they stay.
    """
    lam = torch.as_tensor(lam, dtype=v.dtype, device=v.device)
    fixed = lam.detach().double().expand(*v.shape[:-1], 1)
    signs = _jump_signs(v.detach().double(), fixed).to(v.dtype)
    base, rest = _levels(v, lam, signs)
    return torch.where(lam > 0, base + rest, v)


@torch.library.custom_op("bilevelnet::tv_jump_signs", mutates_args=())
def _jump_signs(v: Tensor, lam: Tensor) -> Tensor:
    """sign(z_{i+1} − z_i): of most signals by the active set, of the others by levels."""
    rows, bound = v.reshape(-1, v.shape[-1]), lam.reshape(-1, 1)
    # A jump needs an excess beyond the rounding of v and of the sums.
    slack = 4 * (4 + v.shape[-1].bit_length()) * torch.finfo(v.dtype).eps * (bound + rows.abs())
    signs, left = _active_set(rows, bound, slack)
    if len(left):
        signs[left] = _by_levels(rows[left], bound[left], slack[left])
    return signs.view(*v.shape[:-1], signs.shape[-1])


def _active_set(v: Tensor, lam: Tensor, slack: Tensor) -> tuple[Tensor, Tensor]:
    """(the signs, the rows in which they are not those of the minimiser after ``ROUNDS`` rounds), by the primal-dual
    active set method (Hintermüller, Ito & Kunisch 2003).

    The minimiser has u_i = Σ_{j≤i} z_j − v_j in [−λ, λ], and λσ_i at a jump of sign σ_i. Each round takes the jumps as
    given, forgets those that z has not, and adds one where u leaves the interval.
    """
    # z is within 2λ of v
    steps, sums = v.diff(dim=-1), slack[:, :-1]
    signs = torch.where(steps.abs() > 4 * lam + sums + slack[:, 1:], steps.sign(), 0.0)
    found, left, limit = signs.clone(), torch.arange(len(v), device=v.device), lam + sums
    for _ in range(ROUNDS):
        base, rest = _levels(v, lam, signs)
        u = (rest - (v - base)).cumsum(-1)[:, :-1]
        z = base + rest
        beyond = (u - u.clamp(-limit, limit)).sign()
        following = torch.where(signs == 0, beyond, signs * (signs * z.diff(dim=-1)).sign().clamp(min=0.0))
        moved = (following - signs).count_nonzero(-1).nonzero().squeeze(-1)
        if len(moved) < len(left):
            found[left] = following
            v, lam, limit, following, left = (t[moved] for t in (v, lam, limit, following, left))
        signs = following
        if not len(left):
            break
    return found, left


def _by_levels(v: Tensor, lam: Tensor, slack: Tensor) -> Tensor:
    """The signs by divide and conquer over levels (Darbon & Sigelle 2006; Chambolle & Darbon 2009).

    For a level θ the set {z > θ} minimises Σ_{i∈S} (θ − v_i) + λ |∂S|, a shortest path. With θ the mean of a segment
    the set cuts it, or the segment is constant; all segments of all samples advance together. The cost differences
    of the path, m_i = clip(m_{i−1}, −λ, λ) + θ − v_i, come from an associative scan: maps x ↦ clip(x + a, l, h) are
    closed under composition.
    """
    n = v.shape[-1]
    signs = v.new_zeros(len(v), n - 1)
    position = torch.arange(n, device=v.device).expand(v.shape)
    for _ in range(n - 1):
        base, rest = _levels(v, lam, signs)
        cost = rest - (v - base)
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


def _levels(v: Tensor, lam: Tensor, signs: Tensor) -> tuple[Tensor, Tensor]:
    """z of the segments that ``signs`` cut, as base + rest: the rounded mean of v in a segment, held fixed, and that of
    v − base with the pulls at its ends, so that an offset costs no digits.
    """
    segment = functional.pad(signs != 0, (1, 0), value=True).flatten().cumsum(0) - 1
    zeros = torch.zeros_like(v.detach()).flatten()
    count = zeros.index_add(0, segment, torch.ones_like(zeros)).clamp(min=1.0)

    def mean(t: Tensor) -> Tensor:
        return (zeros.index_add(0, segment, t.flatten()) / count).index_select(0, segment).view(v.shape)

    pull = functional.pad(signs, (0, 1)) - functional.pad(signs, (1, 0))
    base = mean(v.detach())
    return base, mean(v - base + lam * pull)


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
