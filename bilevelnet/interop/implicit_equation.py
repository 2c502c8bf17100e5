"""The equation F(z, x) = 0 of an implicit layer, and what its search evaluates inside the operator."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from ..errors import InputError
from ..numerics.anderson import anderson
from ..numerics.bracket import FOUND, JUMP, NONE, Found
from ..numerics.linearisation import Dense, Free, spectral_radius
from ..numerics.newton import INDEFINITE
from ..numerics.root import newton_root
from ..values import at_least_float32

ANDERSON = 50  # evaluations of T, after which Newton's method goes on
SINGULAR = 6  # a code beside those of a bracketed root: ∂F/∂z has no inverse at the root


class Equation(nn.Module):
    """F(z, *x), of the shape of z, each element of the batch by itself.

    ``contracts``: F = z − T(z, *x). ``judge(z, J, x)`` gives (whether the root is one of the problem, whether a
    derivative of one side is all there is), or None.
    """

    contracts = False

    def __init__(self, call: Callable[..., Any], takes: str):
        super().__init__()
        if not callable(call) or inspect.isclass(call):
            raise InputError(f"a callable or an nn.Module is needed, {takes}, not {call!r}")
        refuse_closures(call)
        self.call = call

    @property
    def label(self) -> str:
        return getattr(self.call, "__name__", type(self.call).__name__)

    def forward(self, z: Tensor, *xs: Tensor) -> Tensor:
        raise NotImplementedError

    def begin(self, z: Tensor, xs: tuple[Tensor, ...]) -> Tensor:
        """A better start than z."""
        return z

    def judge(self, z: Tensor, jacobian: Tensor, xs: tuple[Tensor, ...]) -> tuple[Tensor, Tensor] | None:
        return None

    def least(self, jacobian: Tensor, xs: tuple[Tensor, ...]) -> tuple[Tensor, Tensor] | None:
        """(J⁺, whether it serves as J⁻¹ where that does not exist), or None where it never does."""
        return None

    def lost(self, start: Tensor, z: Tensor, xs: tuple[Tensor, ...]) -> Tensor | None:
        """A code for each element whose search from ``start`` ended at z without success, 0 for no more than that."""
        return None

    def own(self) -> dict[str, Tensor]:
        """Parameters and buffers by name, at least float32."""
        named = {**dict(self.named_parameters()), **dict(self.named_buffers())}
        return {k: at_least_float32(t) for k, t in named.items()}


def check_fits(value: Any, z: Tensor, label: str) -> None:
    """InputError unless ``value`` is a tensor of the shape of z."""
    if not isinstance(value, Tensor) or value.shape != z.shape:
        shape = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
        raise InputError(
            f"{label} gives {shape} for z of shape {tuple(z.shape)}: as many equations as unknowns are needed; "
            "event_shape= or init= gives z another shape"
        )


def refuse_closures(call: Any) -> None:
    """InputError where what is called, not a Module, reaches modules or tensors with gradients of its surroundings."""
    for name, value in reached(call, getattr(getattr(call, "__func__", call), "__module__", None), set()):
        if isinstance(value, nn.Module) or (isinstance(value, Tensor) and value.requires_grad):
            raise InputError(
                f"{getattr(call, '__name__', type(call).__name__)} uses {name}, a {type(value).__name__} of its "
                "surroundings, which the layer could neither register nor copy: give an nn.Module whose forward takes "
                "(z, *inputs), or pass the tensor as an input"
            )


def reached(call: Any, module: str | None, met: set[int]) -> Iterator[tuple[str, Any]]:
    """(name, value) of what a function, method, partial or object uses, and the functions of its ``module`` that it
    calls.
    """
    if isinstance(call, nn.Module) or id(call) in met:
        return
    met.add(id(call))
    holder, function = getattr(call, "__self__", None), getattr(call, "__func__", call)
    found: dict[str, Any] = {"its object": holder} if isinstance(holder, nn.Module) else {**vars_of(holder)}
    if isinstance(function, partial):
        found |= {f"argument {k}": a for k, a in enumerate(function.args)} | function.keywords
        found["its function"] = function.func
    elif inspect.isfunction(function):
        seen = inspect.getclosurevars(function)
        found |= {**seen.globals, **seen.nonlocals}
    elif not inspect.isclass(function):
        found |= vars_of(function)
    for name, value in found.items():
        yield name, value
        if (inspect.isfunction(value) and value.__module__ == module) or isinstance(value, partial):
            yield from reached(value, module, met)


def vars_of(thing: Any) -> dict[str, Any]:
    return dict(getattr(thing, "__dict__", {}))


class RootFamily:
    """The search for the roots of an equation: Newton's method, on the matrix ∂F/∂z up to ``largest`` entries of z,
    beyond on its products; where F = z − T(z), after Anderson's acceleration of z ← T(z).
    """

    def __init__(self, equation: Equation, batch_ndim: int, largest: int):
        self.equation, self.batch_ndim, self.largest = equation, batch_ndim, largest

    def bind(self, shape: torch.Size, tensors: list[Tensor]) -> tuple[Callable[[Tensor], Tensor], tuple[Tensor, ...]]:
        """(F on flat events, the inputs), with these inputs, parameters and buffers."""
        names = list(self.equation.own())
        count = len(tensors) - len(names)
        xs, own = tuple(tensors[:count]), dict(zip(names, tensors[count:], strict=True))

        def residual(z: Tensor) -> Tensor:
            value = functional_call(self.equation, own, (z.reshape(shape), *xs))
            return value.reshape(z.shape)

        return residual, xs

    def root(self, start: Tensor, tensors: list[Tensor], max_iter: int, tol: float) -> tuple[Tensor, ...]:
        with torch.autocast(start.device.type, enabled=False):
            return self._root(start, tensors, max_iter, tol)

    def _root(self, start: Tensor, tensors: list[Tensor], max_iter: int, tol: float) -> tuple[Tensor, ...]:
        batch, event = start.shape[: self.batch_ndim], start.shape[self.batch_ndim :]
        f, xs = self.bind(start.shape, tensors)
        z = self.equation.begin(start, xs).reshape(*batch, event.numel())
        free, spent = event.numel() > self.largest, 0
        eps = torch.finfo(z.dtype).eps
        if self.equation.contracts:
            z, spent = anderson(lambda z: z - f(z), z, min(max_iter, ANDERSON), eps**0.5)
        make = Free if free else Dense
        found = newton_root(f, lambda z: make(f, z), z, max_iter, tol)
        slope = make(f, found.x)
        if slope.coupled:
            raise InputError(
                f"{self.equation.label} couples the elements of the batch, e.g. by a BatchNorm in train mode: call "
                "eval() on it, or make the batch one element with batch_ndim=0"
            )
        scale = torch.maximum(_norm(found.x), torch.maximum(_norm(z), _norm(found.x - z)))
        inverse, bound = z.new_empty(*batch, 0, 0), torch.full_like(scale, torch.nan)
        verdict = None
        if isinstance(slope, Dense):
            inverse = slope.inverse()
            bound = torch.linalg.matrix_norm(inverse) * (_norm(slope.value) + slope.rounding(found.x))
            verdict = self.equation.judge(found.x, slope.matrix, xs)
        singular = self._singular(f, slope, inverse, found.x, scale)
        if isinstance(slope, Dense) and bool(singular.any()):
            rescue = self.equation.least(slope.matrix, xs)
            if rescue is not None:
                reach = (slope.matrix.abs() @ found.x.abs().unsqueeze(-1)).squeeze(-1)
                serves = rescue[1] & singular & (slope.value.abs() <= eps**0.5 * reach).all(-1)
                inverse = torch.where(serves[..., None, None], rescue[0], inverse)
                singular = singular & ~serves
        inverse = torch.where(singular[..., None, None], 0.0, inverse)
        code = torch.where(singular & (found.code == FOUND), SINGULAR, found.code)
        if verdict is not None:
            minimum, kink = verdict
            code = torch.where((code == FOUND) & ~minimum, INDEFINITE, code)
            code = torch.where((code == FOUND) & kink, JUMP, code)
        failed = (code != FOUND) & (code != JUMP) & (code != NONE)
        if bool(failed.any()):
            seen = self.equation.lost(start.reshape(*batch, event.numel()), found.x, xs)
            code = code if seen is None else torch.where(failed & (seen != 0), seen, code)
        radius = torch.full_like(scale, torch.nan)
        if self.equation.contracts:
            radius = spectral_radius(lambda y: y - slope.times(y), found.x)
        iterations = torch.tensor(found.iterations + spent)
        return found.x.reshape(start.shape), inverse, code.to(torch.int8), bound, radius, iterations

    def _singular(self, f: Any, slope: Dense | Free, inverse: Tensor, z: Tensor, scale: Tensor) -> Tensor:
        """Where J has no inverse, or F − J z within a third of the digits of z along the direction in which J is
        weakest is many times what J tells: the root is a double one to working precision.
        """

        def solve(r: Tensor) -> Tensor:
            return slope.solve(r, 0.1) if isinstance(slope, Free) else (inverse @ r.unsqueeze(-1)).squeeze(-1)

        eps = torch.finfo(z.dtype).eps
        weak = solve(torch.sign(slope.value) + 0.5)
        move = eps ** (1 / 3) * scale.unsqueeze(-1) * weak / _norm(weak).unsqueeze(-1)
        seen = _norm(solve(f(z + move) - slope.value))
        noise = _norm(solve(slope.rounding(z).unsqueeze(-1).expand_as(z)))
        return ~weak.isfinite().all(-1) | ((seen > 5 * _norm(move)) & (seen > 10 * noise))


class InverseFamily:
    """J⁻¹ b at the root that the first tensor is, by GMRES; the rest are the inputs, parameters and buffers."""

    transposed = False

    def __init__(self, equation: Equation, batch_ndim: int):
        self.batch_ndim, self.family = batch_ndim, RootFamily(equation, batch_ndim, 0)

    def solve(
        self, b: Tensor, start: None, tensors: list[Tensor], batched: list[bool], max_iter: int, tol: float
    ) -> Found:
        if any(batched):
            pick = [[t[i] if d else t for t, d in zip(tensors, batched, strict=True)] for i in range(len(b))]
            flags = [False] * len(tensors)
            rows = [self.solve(row, None, own, flags, max_iter, tol).x for row, own in zip(b, pick, strict=True)]
            return _found(torch.stack(rows))
        z, *own = tensors
        shape = z.shape
        batch, n = shape[: self.batch_ndim], shape[self.batch_ndim :].numel()
        with torch.autocast(z.device.type, enabled=False):
            slope = Free(self.family.bind(shape, own)[0], z.reshape(*batch, n))
            y = slope.solve(
                b.reshape(*b.shape[: b.ndim - len(shape)], *batch, n), 8 * torch.finfo(b.dtype).eps, self.transposed
            )
        return _found(y.reshape(b.shape))


class TransposedFamily(InverseFamily):
    transposed = True


def _found(y: Tensor) -> Found:
    return Found(y, torch.zeros_like(y, dtype=torch.int8), 0)


def _norm(x: Tensor) -> Tensor:
    return torch.linalg.vector_norm(x, dim=-1)
