"""What φ, g and references have in common: modules whose numbers are fixed and whose tensors are live.

A weight (λ, β, the end of an interval) is a number, a tensor or a Parameter. A number is fixed at
construction, so that every decision that depends on it is taken once. A tensor becomes a buffer. A
Parameter is replaced by a raw one of the same shape, and the weight is a smooth increasing image of it
that never leaves its range; optimise ``piece.parameters()``. (torch's parametrize would forbid pickling.)
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from .domains import Domain
from .errors import InputError
from .values import readable

Number = float | int
Scalar = Number | Tensor


class Weight:
    """Descriptor of a weight with values in (low, high), or [low, high) where ``closed``.

    The image of the raw Parameter r is low + softplus(r), or low + (high − low) sigmoid(r) where both
    ends are finite, or r itself where neither is.
    """

    def __init__(self, low: float = -math.inf, high: float = math.inf, closed: bool = False):
        self.low, self.high, self.closed = low, high, closed

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name
        self.number, self.raw, self.buffer = f"_{name}", f"raw_{name}", f"{name}_value"

    def __get__(self, piece: Any, owner: type | None = None) -> Any:
        if piece is None:
            return self
        number = piece.__dict__.get(self.number)
        if number is not None:
            return number
        raw = piece._parameters.get(self.raw)
        return piece._buffers[self.buffer] if raw is None else self._image(raw)

    def __set__(self, piece: Any, value: Any) -> None:
        if piece.__dict__.get("_built"):
            raise InputError(
                f"{type(piece).__name__}.{self.name} is fixed at construction, since the layer's closed form is "
                f"chosen from it: build a new piece, or give a torch.nn.Parameter and optimise it"
            )
        if isinstance(value, Tensor):
            self.check(piece, value)
            if isinstance(value, nn.Parameter):
                piece.register_parameter(self.raw, nn.Parameter(self._preimage(piece, value.detach())))
            else:
                piece.register_buffer(self.buffer, value)
        elif isinstance(value, (int, float)) and not isinstance(value, bool):
            if not self._inside(value):
                raise InputError(f"{type(piece).__name__}: {self.name} = {value} is not in {self.range}")
            piece.__dict__[self.number] = float(value)
        else:
            raise InputError(
                f"{type(piece).__name__}: {self.name} is a {type(value).__name__}; "
                f"give a number, a torch tensor or a torch.nn.Parameter"
            )

    @property
    def range(self) -> str:
        return f"{'[' if self.closed else '('}{self.low:g}, {self.high:g})"

    def _inside(self, value: float) -> bool:
        above = value >= self.low if self.closed else value > self.low
        unbounded = math.isinf(self.low) and math.isinf(self.high)
        return not math.isnan(value) and (unbounded or (above and value < self.high))

    def check(self, piece: Any, value: Tensor) -> None:
        """InputError unless the tensor is floating-point and, where its values can be read, in the range."""
        if not value.is_floating_point():
            raise InputError(
                f"{type(piece).__name__}: {self.name} has dtype {value.dtype}; give a floating-point tensor"
            )
        low, high = self.low, self.high
        good = (value >= low if self.closed else value > low) & (value < high) if math.isfinite(low) else value == value
        if readable(value) and not bool(good.all()):
            raise InputError(f"{type(piece).__name__}: {self.name} has values outside {self.range}")

    def _image(self, raw: Tensor) -> Tensor:
        if math.isinf(self.low):
            return raw
        if math.isinf(self.high):
            return self.low + functional.softplus(raw, threshold=40)
        return self.low + (self.high - self.low) * torch.sigmoid(raw)

    def _preimage(self, piece: Any, value: Tensor) -> Tensor:
        if math.isinf(self.low):
            return value.clone()
        if bool((value <= self.low).any()):
            raise InputError(
                f"{type(piece).__name__}: a learned {self.name} starts above {self.low:g}; "
                f"give a positive start, or the number itself for a fixed weight"
            )
        if math.isinf(self.high):
            gap = value - self.low
            return gap + torch.log(-torch.expm1(-gap))
        return torch.logit((value - self.low) / (self.high - self.low))


class Strength(Weight):
    """λ ≥ 0 of which a term of g is a multiple: a g is 0 where each λ that its class has is the number 0."""

    def __init__(self) -> None:
        super().__init__(low=0, closed=True)


def weights_of(owner: type) -> list[Weight]:
    """The weights that a class of pieces has, by name."""
    found = (getattr(owner, name, None) for name in dir(owner))
    return [weight for weight in found if isinstance(weight, Weight)]


class _Built(type):
    """Marks a piece as built after its whole __init__, whatever the subclass."""

    def __call__(cls, *args: Any, **kwargs: Any) -> Any:
        piece = super().__call__(*args, **kwargs)
        piece.check_weights()
        piece.__dict__["_built"] = True
        return piece


class Piece(nn.Module, metaclass=_Built):
    """A function of the formula. ``key`` is its name in the registry."""

    if TYPE_CHECKING:  # what __init__ set, which torch types as Tensor | Module

        def __getattr__(self, name: str) -> Any: ...

    key: str = ""
    examples: tuple[dict[str, Any], ...] = ({},)  # parameters at which the laws are tested

    def __setattr__(self, name: str, value: Any) -> None:
        weight = getattr(type(self), name, None)
        if isinstance(weight, Weight):
            weight.__set__(self, value)
            return
        if (
            self.__dict__.get("_built")
            and isinstance(value, (int, float))
            and name in self.__dict__
            and name != "training"
        ):
            raise InputError(
                f"{type(self).__name__}.{name} is fixed at construction: build a new piece, "
                f"or hold it as a tensor or a Parameter"
            )
        super().__setattr__(name, value)

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None) -> Any:
        """tensor * piece: a graph of torch.compile does not hand it to ``__rmul__`` as Python does."""
        if func in (torch.Tensor.mul, torch.Tensor.__mul__, torch.mul) and isinstance(args[1], Piece):
            return args[1].__rmul__(args[0])
        return NotImplemented

    def check_weights(self) -> None:
        """InputError unless the weights suit one another, as lo ≤ hi; called after construction and after loading."""

    def _load_from_state_dict(self, *args: Any) -> None:
        held = (self._buffers, self._parameters)
        before = [(table, name, t, t.detach().clone()) for table in held for name, t in table.items() if t is not None]
        super()._load_from_state_dict(*args)
        try:
            for weight in weights_of(type(self)):
                if weight.buffer in self._buffers:
                    weight.check(self, self._buffers[weight.buffer])  # type: ignore[arg-type]
            self.check_weights()
        except InputError as error:  # load_state_dict raises with all of them
            args[-1].append(str(error))
            with torch.no_grad():
                for table, name, t, value in before:
                    table[name] = t.copy_(value)  # type: ignore[assignment]

    @property
    def label(self) -> str:
        return self.key or type(self).__name__

    def tensors(self) -> list[Tensor]:
        """Every tensor the piece uses: Parameters, buffers and plain attributes, its children's included."""
        plain = [t for m in self.modules() for t in m.__dict__.values() if isinstance(t, Tensor)]
        return [*self.parameters(), *self.buffers(), *plain]

    def spread(self, z: Tensor) -> Tensor:
        """z expanded to the shape of the value there: the derivative at one point of a function with weights for many
        entries is one for each, not their sum.
        """
        if not any(t.numel() > z.numel() for t in self.tensors()):
            return z
        with torch.no_grad():
            shape = self.value(z).shape
        return z.expand(shape)  # z keeps its graph: second derivatives pass here

    @property
    def constant(self) -> bool:
        """Whether the piece has no tensors, so that what is computed from it once holds for good."""
        return not self.tensors()

    def signature(self) -> tuple[Any, ...]:
        """The class and its attributes: equal for pieces that are the same function when both are constant."""
        held = tuple((k, _by_value(v)) for k, v in sorted(self.__dict__.items()) if k not in _OF_MODULES)
        children = tuple((n, c.signature() if isinstance(c, Piece) else id(c)) for n, c in self.named_children())
        return (type(self), held, children)

    def same_function(self, other: Piece) -> bool:
        return self is other or (self.constant and other.constant and self.signature() == other.signature())

    def extra_repr(self) -> str:
        shown = []
        for name in (weight.name for weight in weights_of(type(self))):
            value = getattr(self, name)
            if isinstance(value, Tensor):
                learned = "learned " if f"raw_{name}" in self._parameters else ""
                value = (
                    f"{value.item():.4g}" if value.numel() == 1 and readable(value) else f"tensor{tuple(value.shape)}"
                )
                value = f"{learned}{value}"
            else:
                value = f"{value:g}"
            shown.append(f"{name}={value}")
        return ", ".join(shown)


_OF_MODULES = frozenset(nn.Module().__dict__)


def _by_value(value: Any) -> Any:
    """What is equal for equal numbers, strings, domains and tables of them; anything else is equal to itself alone."""
    if isinstance(value, (list, tuple)):
        return [_by_value(v) for v in value]
    if isinstance(value, dict):
        return [(k, _by_value(v)) for k, v in value.items()]
    return value if value is None or isinstance(value, (int, float, str, Domain)) else id(value)


def registry_of(namespace: dict[str, Any], base: Any) -> dict[str, Any]:
    """The classes of a package's namespace by key: an export line is all it takes to register a piece."""
    classes: list[Any] = [c for c in namespace.values() if isinstance(c, type) and issubclass(c, base)]
    return {c.key: c for c in classes if c.__dict__.get("key")}


def build(registry: dict[str, type], kind: str, key: str, params: dict[str, Any]) -> Any:
    """registry[key](**params), with errors that list what is known."""
    import inspect

    if key not in registry:
        raise InputError(f"unknown {kind} {key!r}; known: {', '.join(sorted(registry))}")
    known = list(inspect.signature(registry[key].__init__).parameters.values())[1:]  # type: ignore[misc]
    known = [p for p in known if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
    names = [p.name for p in known]
    unknown = [p for p in params if p not in names]
    if unknown:
        raise InputError(f"{key} has no parameter {unknown[0]!r}; known: {', '.join(names) or 'none'}")
    missing = [p.name for p in known if p.default is p.empty and p.name not in params]
    if missing:
        raise InputError(f"{key} needs {' and '.join(missing)}: get({key!r}, {', '.join(f'{n}=...' for n in missing)})")
    return registry[key](**params)
