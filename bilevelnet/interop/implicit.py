"""The layer z(x) with F(z, x) = 0: solved by Newton's method, differentiated by attached Newton steps."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from typing import Any, TypedDict

import torch
from torch import Tensor, nn
from torch.func import functional_call

from ..errors import InputError
from ..numerics.bracket import FOUND, JUMP, LIMIT, NONE
from ..numerics.linear_solve import Inverse, linear_solve
from ..numerics.newton import attached
from ..numerics.root import HOPELESS
from ..numerics.root_search import Root, root_search
from ..solution import (
    CONVERGED,
    INFEASIBLE,
    INVALID,
    KINK,
    MAX_ITER,
    MEANING,
    UNBOUNDED,
    Solution,
    Status,
    check_policy,
    settle,
)
from ..solvers.newton import Newton
from ..solvers.twin import Held
from ..values import HALF, at_least_float32, check_count, check_floating, readable, tracked
from .implicit_equation import SINGULAR, Equation, InverseFamily, RootFamily, TransposedFamily, check_fits
from .no_minimum import ENDLESS, NOWHERE

Shape = int | tuple[int, ...] | None


class Options(TypedDict, total=False):
    """What every implicit layer takes by name, see ``ImplicitLayer``."""

    batch_ndim: int
    solver: Newton | None
    on_failure: str


REASONS = {
    LIMIT: "no root was met within the iteration limit: give init= nearer to it, or raise max_iter or tol of solver=",
    HOPELESS: "no root was met: F has a local minimum of ‖F‖ or a kink there, or is another at every call, as with "
    "dropout on; give init= nearer to a root",
    NONE: "invalid: an input is NaN or infinite, or F is where the search begins; give init= where F is finite",
    SINGULAR: "invalid: ∂F/∂z is singular at the root, where z has no derivative and need not be the only root",
}


class ImplicitLayer(nn.Module):
    """z with F(z, *x) = 0, differentiable to second order in every input and parameter.

    The first ``batch_ndim`` dimensions of z and of the inputs are the batch, each element solved by itself;
    inputs without them, and parameters, are shared, as far as F broadcasts them. z has the batch of the first
    input and the shape ``event_shape`` (that of the first input's elements, if None); ``init`` says where the search
    begins, zeros if None, and then gives the shape. A batch is searched as one; under torch.func.vmap over the inputs
    its elements are searched one after another, since F may do with them what it likes: give a batch instead.
    """

    reasons: Mapping[int, str] = REASONS

    def __init__(
        self,
        equation: Equation,
        event_shape: Shape = None,
        batch_ndim: int = 1,
        solver: Newton | None = None,
        on_failure: str = "raise",
    ):
        super().__init__()
        check_count(batch_ndim, "batch_ndim", 0)
        solver = Newton() if solver is None else solver
        if not isinstance(solver, Newton):
            raise InputError(f"solver= takes a bilevelnet.solvers.Newton(tol, max_iter, largest), not {solver!r}")
        self.equation, self.batch_ndim, self.solver = equation, batch_ndim, solver
        self.event_shape = _shape(event_shape)
        self.on_failure = check_policy(on_failure)
        self.family = Held(RootFamily, equation, batch_ndim, solver.largest)
        self.inverses = Held(InverseFamily, equation, batch_ndim), Held(TransposedFamily, equation, batch_ndim)

    def forward(self, *inputs: Tensor, init: Solution | Tensor | None = None) -> Tensor:
        return self._solve(inputs, init)[0]

    def solve(self, *inputs: Tensor, init: Solution | Tensor | None = None) -> Solution:
        """z with its status, residual ‖F‖ and error bound, to first order, for each element."""
        z, root, status, xs = self._solve(inputs, init)
        with torch.no_grad():
            residual = self._flat(self._evaluate(root.z, xs)).norm(dim=-1)
            bound = torch.where(status <= KINK, root.bound, torch.inf)
        iterations: Any = int(root.iterations) if readable(root.iterations) else root.iterations
        return Solution(
            z=z,
            dual=None,
            status=status.to(torch.int8),
            residual=torch.where(residual.isnan(), torch.inf, residual),
            error_bound=None if self._free(root.z) else bound,
            iterations=iterations,
            solver="newton",
            multipliers=self.multipliers(root.z, xs),
        )

    def multipliers(self, w: Tensor, inputs: tuple[Tensor, ...]) -> dict[str, Tensor]:
        """What the unknowns hold beside z."""
        return {}

    def answer(self, w: Tensor, inputs: tuple[Tensor, ...]) -> Tensor:
        """z out of the unknowns."""
        return w

    def start(self, xs: tuple[Tensor, ...], init: Tensor | None) -> tuple[Tensor, tuple[Tensor, ...]]:
        """(the unknowns to begin with, the inputs of the equation)."""
        return self.guess(xs, init), xs

    def guess(self, xs: tuple[Tensor, ...], init: Tensor | None) -> Tensor:
        """init, or zeros of the shape of z."""
        floating = [t for t in (*xs, *self.equation.own().values()) if t.is_floating_point()]
        if init is not None:
            check_floating(init, "init")
            event = tuple(init.shape[self.batch_ndim :])
            if init.ndim < self.batch_ndim or self.event_shape not in (None, event):
                raise InputError(
                    f"init has shape {tuple(init.shape)}: {self.batch_ndim} batch dimensions and "
                    f"{self.event_shape or 'an element'} are needed"
                )
            return init.detach().to(floating[0].dtype if floating else at_least_float32(init).dtype)
        if not xs or xs[0].ndim < self.batch_ndim:
            raise InputError(f"no first input with {self.batch_ndim} batch dimensions gives z its shape: give init=")
        batch, event = xs[0].shape[: self.batch_ndim], xs[0].shape[self.batch_ndim :]
        like = floating[0] if floating else torch.empty(0, device=xs[0].device)
        return like.detach().new_zeros((*batch, *(event if self.event_shape is None else self.event_shape)))

    def _solve(
        self, inputs: tuple[Tensor, ...], init: Solution | Tensor | None
    ) -> tuple[Tensor, Root, Tensor, tuple[Tensor, ...]]:
        for k, x in enumerate(inputs):
            if not isinstance(x, Tensor):
                raise InputError(f"input {k} is a {type(x).__name__}; give torch tensors (torch.as_tensor)")
        xs = tuple(at_least_float32(x) for x in inputs)
        with torch.autocast(self._device(xs), enabled=False):
            w, xs = self.start(xs, init.z if isinstance(init, Solution) else init)
            self._check(w, xs)
            tensors = [*xs, *self.equation.own().values()]
            solver = self.solver
            root = root_search(
                w, tensors, self.family.handle(), self.batch_ndim, solver.largest, solver.max_iter, solver.tol
            )
            status = _status(root)
            w = self._attached(root, xs, tensors) if tracked(*tensors) else root.z
        if self.equation.contracts and readable(root.radius):
            self._warn(root.radius[status <= KINK])
        z = self.answer(w, xs)
        event = z.ndim - self.batch_ndim
        z = settle(
            z,
            status.reshape((*status.shape, *[1] * event)),
            tuple(range(-event, 0)),
            self.on_failure,
            self._subject,
            self._meanings(root.code, status),
        )
        given = [x for x in inputs if x.is_floating_point()]
        return z.to(given[0].dtype) if given else z, root, status, xs

    def _meanings(self, code: Tensor, status: Tensor) -> Mapping[Status, str]:
        """What the first failure means."""
        failed = status > KINK
        if not readable(code) or not bool(failed.any()):
            return MEANING
        return {Status(int(status[failed][0])): self.reasons[int(code[failed][0])]}

    @property
    def _subject(self) -> str:
        return f"the implicit layer of {self.equation.label}"

    def _device(self, xs: tuple[Tensor, ...]) -> str:
        return next((t.device.type for t in (*xs, *self.parameters())), "cpu")

    def _free(self, w: Tensor) -> bool:
        return w.shape[self.batch_ndim :].numel() > self.solver.largest

    def _flat(self, w: Tensor) -> Tensor:
        return w.reshape(*w.shape[: self.batch_ndim], w.shape[self.batch_ndim :].numel())

    def _evaluate(self, w: Tensor, xs: tuple[Tensor, ...]) -> Tensor:
        if any(t.dtype in HALF for t in self.equation.parameters()):
            return functional_call(self.equation, self.equation.own(), (w, *xs))
        return self.equation(w, *xs)

    def _check(self, w: Tensor, xs: tuple[Tensor, ...]) -> None:
        if not w.shape[self.batch_ndim :].numel():
            raise InputError(f"z has shape {tuple(w.shape)}: an element has at least one entry")
        with torch.no_grad():
            value = self._evaluate(w, xs)
        check_fits(value, w, self.equation.label)

    def _attached(self, root: Root, xs: tuple[Tensor, ...], tensors: list[Tensor]) -> Tensor:
        code, z = root.code, self._flat(root.z)
        lost = ~((code == FOUND) | (code == JUMP) | (code == LIMIT) | (code == HOPELESS)) | ~z.isfinite().all(-1)
        if not readable(lost) or bool(lost.any()):
            z, *xs = (_spared(t, lost, self.batch_ndim, k == 0) for k, t in enumerate((z, *xs)))  # type: ignore[assignment]
            tensors = [*xs, *tensors[len(xs) :]]
        shape, own = root.z.shape, tuple(xs)
        inverse = self._inverse(root, [z.reshape(shape), *tensors])
        w = attached(lambda w: self._flat(self._evaluate(w.reshape(shape), own)), z, inverse)
        return torch.where(lost.unsqueeze(-1), self._flat(root.z), w).reshape(shape)

    def _inverse(self, root: Root, tensors: list[Tensor]) -> Callable[[Tensor], Tensor]:
        """(∂F/∂z)⁻¹, without derivatives of its own."""
        if not self._free(root.z):
            return lambda r: (root.inverse @ r.unsqueeze(-1)).squeeze(-1)
        direct, transposed = self.inverses
        inverse = Inverse(direct.handle(), transposed.handle(), self.inverses)
        return lambda r: self._flat(linear_solve(r.reshape(root.z.shape), inverse, tensors))

    def _warn(self, radius: Tensor) -> None:
        wild = radius > 1
        if bool(wild.any()):
            warnings.warn(
                f"{self.equation.label} does not contract: the spectral radius of ∂T/∂z is about "
                f"{float(radius.max()):.3g} at the fixed point of {int(wild.sum())} of {wild.numel()} elements, which "
                "z ← T(z, x) does not reach and which may not be the only one",
                UserWarning,
                stacklevel=4,
            )


def _shape(event: Shape) -> tuple[int, ...] | None:
    if event is None:
        return None
    sizes = event if isinstance(event, tuple | list) else (event,)
    return tuple(check_count(size, "each size of event_shape", 0) for size in sizes)


def _status(root: Root) -> Tensor:
    code = root.code
    status = torch.where((code == LIMIT) | (code == HOPELESS), MAX_ITER, INVALID)
    status = torch.where(code == NOWHERE, INFEASIBLE, torch.where(code == ENDLESS, UNBOUNDED, status))
    return torch.where(code == FOUND, CONVERGED, torch.where(code == JUMP, KINK, status))


def _spared(t: Tensor, lost: Tensor, batch_ndim: int, always: bool) -> Tensor:
    """t with the elements that have no root replaced by one that has: their derivatives, times 0, would be NaN in the
    parameters that all elements share. Inputs where they are not finite, z ``always``.
    """
    batch = lost.shape
    if not batch_ndim or t.shape[:batch_ndim] != batch or not t.is_floating_point():
        return t
    flat = t.reshape(batch.numel(), t.shape[batch_ndim:].numel())
    gone = lost.reshape(-1, 1)
    gone = gone if always else gone & ~flat.isfinite().all(-1, keepdim=True)
    donor = flat.index_select(0, (~lost).flatten().int().argmax().reshape(1))
    return torch.where(gone, donor, flat).reshape(t.shape)
