"""The laws of a layer."""

from __future__ import annotations

import copy
import io
import pickle
from collections.abc import Callable

import torch
from torch import Tensor, nn

from ..chain import Chain
from ..couplings import Bilinear
from ..divergences import Identity
from ..errors import InputError
from ..layer import BilevelLayer
from . import transforms
from .calculus import EPS
from .given import expect
from .points import Draw, Event, duals
from .report import Finding, Law, NotStated, Report, run

ROUNDING = 200 * EPS


def check_layer(
    layer: BilevelLayer,
    z_prev: Tensor | None = None,
    seed: int = 0,
    raises: bool = True,
    thorough: bool = True,
) -> Report:
    """The laws of a layer, on a float64 copy in eval mode: a Report; AssertionError with its table where one fails.

    z_prev: a batch of inputs; drawn by ``seed`` where the coupling states its width. ``thorough`` adds gradcheck and
    torch.compile. Raises InputError where inputs are needed and not given.
    """
    expect(layer, BilevelLayer, "check_layer")
    subject = f"{type(layer).__name__}({layer.explain().splitlines()[0]})"
    return run(subject, (*LAWS, *THOROUGH) if thorough else LAWS, (Sample(layer, z_prev, seed),), raises)


class Sample:
    """A float64 copy of the layer with inputs for which it has an answer."""

    def __init__(self, layer: BilevelLayer, z_prev: Tensor | None, seed: int):
        self.layer = copy.deepcopy(layer).double().eval()
        self.layer.bound.on_failure = "nan"
        device = str(next((t.device for t in layer.parameters()), torch.device("cpu")))
        self.draw = Draw(seed, device)
        if z_prev is None:
            width = getattr(layer.coupling, "in_features", None)
            if width is None:
                raise InputError("this coupling does not state its width: check_layer(layer, z_prev=a batch of inputs)")
            u = torch.cat([duals(layer.divergence.phi, Event((width,)), self.draw, largest=2.5) for _ in range(2)])
            z_prev = layer.divergence.phi.grad_conjugate(u)[:12]
        self.ndim = layer.coupling.event_ndim
        self.z_prev = z_prev.detach().double().to(device)
        self.solution = self.layer.solve(self.z_prev)
        good = self.solution.converged
        self.z_prev, self.z = self.z_prev[good], self.solution.z[good].detach()
        self.residual = self.solution.residual[good]
        dual = self.solution.dual
        self.u = self.layer.divergence.phi.grad(self.z) if dual is None else dual[good].detach()

    def sums(self, x: Tensor) -> Tensor:
        return x.flatten(-self.ndim).sum(-1)

    def norm(self, x: Tensor) -> Tensor:
        return torch.linalg.vector_norm(x.flatten(-self.ndim), dim=-1)


def _residual(s: Sample) -> Finding:
    v = s.layer.problem.dual_point(s.z_prev, None, s.z_prev.dtype).detach()
    scale = s.norm(v) + s.norm(s.u) + s.norm(s.z)
    loose = 1e-14 if s.solution.solver == "closed_form" else 1e-4 if s.solution.solver == "conic" else 1e-9
    return Finding(s.residual, (ROUNDING + loose) * (1 + scale), {"z⁻": s.z_prev})


def _minimal(s: Sample) -> Finding:
    # f + D + g does not decrease towards other points of dom φ ∩ dom g, far or close.
    problem, phi, g = s.layer.problem, s.layer.divergence.phi, s.layer.regularizer
    others = torch.cat([s.z.flip(0).unsqueeze(1), s.z.roll(1, 0).unsqueeze(1)], 1)
    noise = s.draw.normal(len(s.z), 4, *s.z.shape[1:], salt=1)
    candidates = []
    for reach in (1.0, 1e-2, 1e-4):
        candidates += [s.z.unsqueeze(1) + reach * (others - s.z.unsqueeze(1)), s.z.unsqueeze(1) + reach * noise]
    y = torch.cat(candidates, 1)
    inside = _inside(phi.domain, y, s.ndim) & _inside(g.domain, y, s.ndim)
    z_prev, z = s.z_prev.unsqueeze(1).expand(-1, y.shape[1], *s.z_prev.shape[1:]), s.z.unsqueeze(1).expand_as(y)
    safe = torch.where(inside.reshape(inside.shape + (1,) * s.ndim), y, z)
    least, other = problem.objective(z, z_prev).detach(), problem.objective(safe, z_prev).detach()
    size = _size(s, z, z_prev) + _size(s, safe, z_prev)
    loose = 1e-6 if s.solution.solver == "conic" else ROUNDING
    return Finding((least - other).clamp(min=0)[inside], (loose * size)[inside], {"z⁻": z_prev[inside], "z": y[inside]})


def _size(s: Sample, z: Tensor, z_prev: Tensor) -> Tensor:
    p, n = s.layer.problem, s.ndim
    d = p.divergence.value(z, z_prev).abs() + p.divergence.phi.value(z).abs()
    d = d.sum(tuple(range(p.divergence.phi.event_ndim - n, 0))) if n > p.divergence.phi.event_ndim else d
    g = p.regularizer.value(z).abs()
    g = g.sum(tuple(range(p.regularizer.event_ndim - n, 0))) if n > p.regularizer.event_ndim else g
    v = p.dual_point(z_prev, None, z_prev.dtype).expand_as(z)
    return (p.coupling.value(z, z_prev).abs() + d + g + (v * z).abs().flatten(-n).sum(-1)).detach()


def _inside(domain: object, y: Tensor, ndim: int) -> Tensor:
    inside: Tensor = domain.contains(y)  # type: ignore[attr-defined]
    return inside.flatten(2).all(2) if inside.ndim > 2 else inside


def _once(s: Sample) -> Finding:
    counts = []
    for call in (s.layer, s.layer.solve, Chain(s.layer, on_failure="ignore")):
        calls: list[int] = []
        handle = s.layer.coupling.register_forward_hook(lambda *_, calls=calls: calls.append(1))
        call(s.z_prev)
        handle.remove()
        counts.append(len(calls))
    return Finding((torch.tensor(counts) - 1).abs().double(), 0.0, {"calls": torch.tensor(counts)})


def _restored(s: Sample) -> Finding:
    other = copy.deepcopy(s.layer)
    with torch.no_grad():
        for p in other.parameters():
            p.add_(1.0)
    other.load_state_dict(s.layer.state_dict())
    stream = io.BytesIO()
    pickle.dump(s.layer, stream)
    stream.seek(0)
    copies = [other, copy.deepcopy(s.layer), pickle.load(stream)]
    want = s.layer(s.z_prev)
    return Finding(torch.stack([s.norm(c(s.z_prev) - want) for c in copies]), 0.0, {})


def _functional(s: Sample) -> Finding:
    w = s.draw.normal(*s.z.shape, salt=2)
    live = {n: p for n, p in s.layer.named_parameters() if p.requires_grad}
    if not live:
        raise NotStated
    loss = (w * s.layer(s.z_prev)).sum()
    want = torch.autograd.grad(loss, list(live.values()))  # raises where a parameter gets no gradient

    def functional(parameters: dict[str, Tensor]) -> Tensor:
        return (w * torch.func.functional_call(s.layer, parameters, (s.z_prev,))).sum()

    got = torch.func.grad(functional)({n: p.detach() for n, p in live.items()})
    errors = torch.stack([(a - b).abs().max() for a, b in zip(got.values(), want, strict=True)])
    size = torch.stack([b.abs().max() for b in want])
    return Finding(errors, 1e3 * EPS * (1 + size), {})


def _gradients(s: Sample) -> Finding:
    # Along a direction of all parameters and z⁻, backward against differences.
    live = [p for p in s.layer.parameters() if p.requires_grad]
    w = s.draw.normal(*s.z.shape, salt=3)
    x = s.z_prev.clone().requires_grad_()
    want = torch.autograd.grad((w * s.layer(x)).sum(), [x, *live])
    found = []
    for k, (t, d) in enumerate(zip([x, *live], want, strict=True)):
        direction = s.draw.normal(*t.shape, salt=20 + k)
        slopes = []
        for h in (1e-6, 2e-6):
            ends = []
            for sign in (1.0, -1.0):
                with torch.no_grad():
                    t.add_(sign * h * direction)
                    ends.append((w * s.layer(x)).sum())
                    t.sub_(sign * h * direction)
            slopes.append((ends[0] - ends[1]) / (2 * h))
        size = (d * direction).abs().sum() + d.abs().max() + 1
        if (slopes[0] - slopes[1]).abs() < 1e-5 * size:  # no kink within reach
            found.append(((slopes[0] - (d * direction).sum()).abs(), 1e-6 * size))
    error, tolerance = (torch.stack(parts) for parts in zip(*found, strict=True))
    return Finding(error, tolerance, {})


def _dtypes(s: Sample) -> Finding:
    bad = []
    for dtype in transforms.HALVES:
        layer = copy.deepcopy(s.layer).to(dtype)
        layer.bound.on_failure = "ignore"
        z = layer(s.z_prev.to(dtype))
        if z.dtype is not dtype:
            raise AssertionError(f"{dtype} in, {z.dtype} out")
        bad.append(z.isnan().double().reshape(-1))
    layer = copy.deepcopy(s.layer).float()
    layer.bound.on_failure = "ignore"
    with torch.autocast(s.z_prev.device.type, torch.bfloat16):
        z, u = Chain(layer, on_failure="ignore")(s.z_prev.float(), return_dual=True)
    if z.dtype is not torch.float32 or (u is not None and u.dtype is not torch.float32):
        raise AssertionError(f"under autocast float32 gives z in {z.dtype} and the dual in {u.dtype}")
    bad.append(z.isnan().double().reshape(-1))
    return Finding(torch.stack(bad), 0.0, {})


def _chained(s: Sample) -> Finding:
    if s.z.shape != s.z_prev.shape:
        raise NotStated
    first, second = s.layer, copy.deepcopy(s.layer)
    with torch.no_grad():
        for p in second.coupling.parameters():
            p.mul_(-0.7)
    chain = Chain(first, second, on_failure="nan")(s.z_prev)
    one_by_one = second(first(s.z_prev))
    kept = one_by_one.isfinite().reshape(len(s.z), -1).all(1)
    error = s.norm(chain - one_by_one)[kept]
    return Finding(error, 1e-9 * (1 + s.norm(one_by_one)[kept]), {"z⁻": s.z_prev[kept]})


def _bad_element(s: Sample) -> Finding:
    # A NaN sample comes out as NaN and leaves the rest of its batch alone, in eager mode and under vmap.
    want = s.layer(s.z_prev)
    broken = s.z_prev.clone()
    broken[1] = torch.nan
    found: list[Callable[[Tensor], Tensor]] = [s.layer, torch.func.vmap(s.layer)]
    errors = []
    for call in found:
        got = call(broken)
        rest = torch.arange(len(got)) != 1
        errors.append((s.norm(got - want)[rest]).max() + (0.0 if bool(got[1].isnan().all()) else torch.inf))
    return Finding(torch.stack(errors), ROUNDING * (1 + want.abs().max()), {"z⁻": broken[:2].flatten().unsqueeze(0)})


def _identity(s: Sample) -> Finding:
    plain = isinstance(s.layer.coupling, Bilinear) and type(s.layer.divergence.reference) is Identity
    if not plain or s.layer.regularizer.terms():
        raise NotStated
    layer = copy.deepcopy(s.layer)
    for p in layer.coupling.parameters():
        nn.init.zeros_(p)
    u = layer.divergence.phi.grad(s.z_prev)
    _, dual = Chain(*[layer] * 3, space="dual")(u, return_dual=True)
    return Finding((dual != u).double(), 0.0, {"u": u})


def _transform(law: Callable[..., Finding]) -> Callable[[Sample], Finding]:
    def check(s: Sample) -> Finding:
        return law(s.layer, s.z_prev)

    return check


def _gradcheck(s: Sample) -> Finding:
    x = s.z_prev[:3].clone().requires_grad_()
    torch.autograd.gradcheck(s.layer, (x,), check_forward_ad=True, atol=1e-5, rtol=1e-4)
    torch.autograd.gradgradcheck(s.layer, (x,), atol=1e-4, rtol=1e-3, fast_mode=True)
    return Finding(torch.zeros(1), 0.0, {})


LAWS = (
    Law("v ∈ ∇φ(z⁺) + ∂g(z⁺)", "200 eps of v, u and z; 1e-9 for a search, 1e-4 for the conic solver", _residual),
    Law("z⁺ minimises f + D + g", "200 eps of the terms; 1e-6 for the conic solver", _minimal),
    Law("A is called exactly once", "exact", _once),
    Law("state_dict, deepcopy and pickle", "exact", _restored),
    Law("gradients by differences", "1e-6: central differences with step 1e-6", _gradients),
    Law("torch.func.grad of functional_call", "1000 eps: the same operations", _functional),
    Law("batch shapes, empty, strided", "1000 eps: the same operations", _transform(transforms.batched)),
    Law("vmap, vmap of grad", "1000 eps: the same operations", _transform(transforms.vmapped)),
    Law("jvp agrees with backward", "1e4 eps of the terms", _transform(transforms.forward_mode)),
    Law("dtype kept, no NaN, float32 dual under autocast", "exact", _dtypes),
    Law("a chain is its layers one by one", "1e-9: a rounded z moves u by φ''", _chained),
    Law("one NaN sample does not spoil its batch", "200 eps", _bad_element),
    Law("W = 0, b = 0, g = 0 leaves u as it is", "exact", _identity),
)
THOROUGH = (
    Law("gradcheck and gradgradcheck", "torch's own, 1e-5", _gradcheck),
    Law("compile gives one graph", "1000 eps: the same operations", _transform(transforms.compiled)),
)
