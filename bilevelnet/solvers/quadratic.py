"""The quadratic solver: a quadratic φ and polyhedral terms behind linear maps are a quadratic program."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..errors import InputError
from ..legendre import Legendre
from ..legendre.mahalanobis import is_quadratic, matrix
from ..maps import Map, Near, Outcome
from ..numerics.kkt import times
from ..regularizers import Regularizer
from ..regularizers.lens import Lens, labels
from ..regularizers.polyhedral import Epigraph, epigraph, joined, stacked
from ..values import readable
from .base import Iterative
from .program import Program, spread
from .samples import refute_maps

LARGEST = 500  # variables of a program: 128 matrices of them take 256 MB in float64


class Quadratic(Iterative):
    """argmin ½ zᵀQz + Σ g_i(A_i z) − ⟨z, v⟩, g_i polyhedral or (λ/2)‖·‖²: pivoting or an interior
    point finds the rows that hold with equality, whose equations give the last digits and all derivatives, in float64
    whatever the dtype.

    Vectors along the last dimension, of a width that φ or a map states, with at most ``largest`` variables. Where
    ``init`` is a Solution of this solver, its multipliers["rows"] say which rows hold nearby: a search is
    needed only where those do not lead on; z alone does not help. ``max_iter`` counts the steps of the search. See
    ``interop.qp``.
    """

    name = "quadratic"

    def __init__(self, max_iter: int = 100, largest: int = LARGEST):
        super().__init__(0.0, max_iter)
        self.largest = largest

    def bind(self, phi: Legendre, g: Regularizer) -> QuadraticMap:
        return QuadraticMap(phi, g, self)


class Part(NamedTuple):
    """b(A z + a), of a term behind a lens: A (k, n), a (…, k), and the epigraph of b, or m where b = (m/2)‖·‖²."""

    lens: Lens
    body: Any
    rows: Tensor
    shift: Tensor
    faces: Epigraph | None
    square: Any


class QuadraticMap(Map):
    name = "quadratic"

    def __init__(self, phi: Legendre, g: Regularizer, solver: Quadratic):
        self.phi, self.g, self.solver = phi, g, solver
        if not is_quadratic(phi):
            raise InputError(f"{phi.label} is not quadratic")
        if not (phi.event_ndim or g.event_ndim):
            raise InputError(f"nothing in {g.label} couples the entries of z: a closed form takes them one by one")
        width = phi.width or g.width
        if max(phi.event_ndim, g.event_ndim) > 1 or width is None:
            raise InputError(
                "takes vectors along the last dimension, of a width that is known: by a matrix in g, or "
                "φ = bilevelnet.legendre.Mahalanobis(torch.eye(n))"
            )
        self.width: int = width
        self.lenses = [Lens(t) for t in g.terms()]
        tensors = [*phi.parameters(), *phi.buffers(), *g.parameters(), *g.buffers()]
        parts = self._parts(torch.zeros((), dtype=torch.float64, device=tensors[0].device if tensors else None))
        faces = [p.faces for p in parts if p.faces is not None]
        self.variables = width + sum(f.cost.shape[-1] for f in faces)
        self.rows = sum(len(f.equations) + f.rows.shape[-2] for f in faces)
        if not self.rows:
            raise InputError("nothing in it has a kink or an end")
        if self.variables > solver.largest:
            raise InputError(f"{self.variables} variables are more than the {solver.largest} that are kept dense")

    def _parts(self, like: Tensor) -> list[Part]:
        parts = []
        for lens in self.lenses:
            eye = torch.eye(self.width, dtype=_dtype(lens), device=like.device)
            image = eye if lens.plain else lens.linear(eye)
            if image.ndim != 2:
                raise InputError(f"the map of {lens.term.label} has images of {image.ndim - 1} dimensions, not vectors")
            shift = torch.zeros_like(eye[0]) if lens.plain else lens.image(torch.zeros_like(eye[0]))
            for body in lens.body.terms():
                faces = epigraph(body, image.shape[1], like)
                span = None if faces is not None or body.event_ndim else body.span()
                if faces is None and (span is None or set(span) != {"linear"}):
                    raise InputError(f"{body.label} is neither polyhedral nor a square")
                parts.append(Part(lens, body, image.mT.to(like), shift.to(like), faces, span and span["linear"]))
        return parts

    def solve(self, v: Tensor, init: Near | None = None) -> Outcome:
        if v.shape[-1:] != (self.width,):
            raise InputError(f"v has shape {tuple(v.shape)}: vectors of {self.width} entries are needed")
        for lens in self.lenses:
            refute_maps([lens], v.to(_dtype(lens)))
        n, given = self.width, v.double()
        good = given.detach().isfinite().all(-1)
        given = torch.where(good.unsqueeze(-1), given, 0.0)
        parts = self._parts(given.new_zeros(()))
        program = self._program(parts, given, good)
        solved = program.solve(_start(program, init), self.solver.max_iter)
        duals = _multipliers(parts, solved.w, solved.program.p)
        z = _on_knots(parts, duals, solved.z[..., :n])
        returned = z.to(v.dtype)
        totals: dict[int, Tensor] = {}
        for part, y in zip(parts, duals, strict=True):
            y = part.square * (z @ part.rows.mT + part.shift) if part.faces is None else y
            totals[id(part.lens)] = totals.get(id(part.lens), 0.0) + y  # type: ignore[operator]
        names = labels([lens.term for lens in self.lenses])
        multipliers = {k: totals[id(lens)].detach().to(v.dtype) for k, lens in zip(names, self.lenses, strict=True)}
        multipliers["rows"] = solved.w.detach().to(v.dtype)
        iterations = solved.found.iterations
        return Outcome(
            returned,
            self.phi.grad(z).to(v.dtype),
            solved.status.unsqueeze(-1),
            int(iterations) if readable(iterations) else iterations,
            multipliers,
            lambda: solved.certificate(returned)[0].unsqueeze(-1).to(v.dtype),
            lambda: solved.certificate(returned)[1].unsqueeze(-1).to(v.dtype),
        )

    def _program(self, parts: list[Part], v: Tensor, good: Tensor) -> Program:
        """In x = (z, t of one part, t of the next, …)."""
        n, batch = self.width, v.shape[:-1]
        faced = [(p, p.faces) for p in parts if p.faces is not None]
        square, linear = matrix(self.phi, n).to(v), -v
        for part in parts:
            if part.faces is not None:
                linear = linear + part.faces.linear @ part.rows
                continue
            m = torch.as_tensor(part.square, dtype=v.dtype, device=v.device)
            weighted = (m.unsqueeze(-1) if m.ndim else m) * part.rows
            square = square + part.rows.mT @ weighted
            linear = linear + (m * part.shift) @ part.rows
        costs = [faces.cost for _, faces in faced]
        q = joined([linear, *costs], batch)
        places = torch.arange(q.shape[-1], device=v.device).split([n, *(c.shape[-1] for c in costs)])[1:]
        rows: list[Tensor] = []
        right: list[Tensor] = []
        for kind in ("equations", "rows"):
            for (part, faces), place in zip(faced, places, strict=True):
                own, level = (faces.equations, faces.level) if kind == "equations" else (faces.rows, faces.bound)
                k = part.rows.shape[0]
                whole = own.new_zeros(*own.shape[:-1], q.shape[-1]).index_copy(-1, place, own[..., k:])
                rows.append(torch.cat([own[..., :k] @ part.rows, whole[..., n:]], -1))
                right.append(level - times(own[..., :k], part.shift))
        p = sum(len(faces.equations) for _, faces in faced)
        extra = q.shape[-1] - n
        square = torch.nn.functional.pad(square, (0, extra, 0, extra))
        return Program(spread(square, batch), q, spread(stacked(rows), batch), joined(right, batch), p, good)

    def explain(self) -> str:
        return (
            f"quadratic: {self.phi.label} + {self.g.label} as a program of {self.variables} variables and {self.rows} "
            "rows; pivoting or an interior point, then the equations of the rows that hold with equality"
        )


def _dtype(lens: Lens) -> torch.dtype:
    """In which the maps of a lens are evaluated: that of a module's weights, else float64."""
    modules = [m.module for m in lens.maps if getattr(m, "module", None) is not None]
    weights = (t for m in modules for t in (*m.parameters(), *m.buffers()) if t.is_floating_point())
    return next((t.dtype for t in weights), torch.float64)


def _start(program: Program, init: Near | None) -> Tensor | None:
    """(z, w) of ``init``, the epigraph's variables 0: they follow from the rows with w > 0. None without those w."""
    w = None if init is None else init.multipliers.get("rows")
    if init is None or w is None or w.shape != program.d.shape:
        return None
    z = torch.nn.functional.pad(init.z, (0, program.q.shape[-1] - init.z.shape[-1]))
    return torch.cat([z, w], -1).detach().double().nan_to_num(0.0, 0.0, 0.0)


def _multipliers(parts: list[Part], w: Tensor, p: int) -> list[Tensor]:
    """y ∈ ∂b(A z + a) of each part that has an epigraph, else 0: its linear term and what its rows pull."""
    at, found = [0, p], []
    for part in parts:
        y = torch.zeros_like(part.shift)
        if part.faces is not None:
            k, y = len(part.rows), part.faces.linear
            for which, own in enumerate((part.faces.equations, part.faces.rows)):
                m = own.shape[-2]
                y = y + times(own[..., :k].mT, w[..., at[which] : at[which] + m])
                at[which] += m
        found.append(y)
    return found


def _on_knots(parts: list[Part], duals: list[Tensor], z: Tensor) -> Tensor:
    """z where it rests on a knot of a term of z itself, to the last bit: there prox(z + y) is the knot."""
    for part, y in zip(parts, duals, strict=True):
        pieces = part.body.pieces() if part.lens.plain and not part.body.event_ndim else None
        if pieces is not None:
            p = part.body.prox((z + y).detach())
            for t in pieces[0]:
                t = torch.as_tensor(t, dtype=z.dtype, device=z.device).detach()
                z = z + torch.where(p == t, t - z.detach(), 0.0)
    return z
