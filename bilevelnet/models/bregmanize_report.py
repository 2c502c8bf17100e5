"""What bregmanize did, block by block, and how far the result is from where it came from."""

from __future__ import annotations

from dataclasses import dataclass, field

from ..layer import BilevelLayer


@dataclass
class Block:
    """A sum of the network: ``changed`` into Bregman form or left, and why.

    layer: the block as a BilevelLayer of the network's own modules. bound: on |A(ρ(u)) − A₀(ReLU(u))|, entry by entry
    and in eval mode, which separates the block from its pre-activation twin at the same u; None where none is known.
    difference: its largest value on the example.
    """

    name: str
    changed: bool
    reason: str
    layer: BilevelLayer | None = None
    bound: float | None = None
    difference: float | None = None

    def __str__(self) -> str:
        line = f"  {self.name:<12} {'changed' if self.changed else 'left   '}  {self.reason}"
        if self.changed:
            line += f"\n{'':24}from its twin at one u: {_number(self.difference, 'not measured')}"
            line += f", bound {_number(self.bound, 'not known')}"
        return line


@dataclass
class Report:
    """The blocks, and max |Δ| of the network's output from the original's and from the twin's on the example.

    activations: how many were replaced, in blocks or not.
    """

    title: str
    activations: int
    blocks: list[Block] = field(default_factory=list)
    from_original: float | None = None
    from_twin: float | None = None
    scale: float | None = None  # max |output| of the original

    @property
    def layers(self) -> list[BilevelLayer]:
        """The changed blocks as layers, in order."""
        return [block.layer for block in self.blocks if block.layer is not None]

    def __str__(self) -> str:
        changed = sum(block.changed for block in self.blocks)
        counts = f"{self.activations} activations replaced, {changed} of {len(self.blocks)} sums changed"
        lines = [self.title, *map(str, self.blocks), counts]
        if self.from_original is not None:
            lines.append(
                f"on the example, in eval mode: from the original {self.from_original:.3g}, from the pre-activation "
                f"twin {self.from_twin:.3g} (outputs up to {self.scale:.3g})"
            )
        return "\n".join(lines)


def _number(value: float | None, missing: str) -> str:
    return missing if value is None else f"{value:.3g}"
