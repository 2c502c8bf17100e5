"""What a training is: the numbers, the optimizers and the schedules by name."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import nn

from bilevelnet import InputError

OPTIMIZERS = ("sgd", "adam", "adamw")
SCHEDULES = ("constant", "cosine", "steps")


@dataclass(frozen=True)
class Settings:
    """``schedule`` multiplies lr in epoch e = 0, 1, …: "constant" by 1, "cosine" by ½(1 + cos(πe/epochs)), "steps" by
    ``factor`` once for each of ``milestones`` ≤ e.

    ``holdout`` is the share of the training points that is kept apart to measure on; without one the training loss is
    what "best" means. ``patience``: stop after so many epochs without a new best; None, never. Raises InputError for
    unknown names and numbers out of range.
    """

    epochs: int
    batch: int
    lr: float
    optimizer: str = "sgd"
    momentum: float = 0.0
    weight_decay: float = 0.0
    schedule: str = "constant"
    milestones: tuple[int, ...] = ()
    factor: float = 0.1
    holdout: float = 0.0
    patience: int | None = None

    def __post_init__(self) -> None:
        for what, value, known in (
            ("optimizer", self.optimizer, OPTIMIZERS),
            ("schedule", self.schedule, SCHEDULES),
        ):
            if value not in known:
                raise InputError(f"unknown {what} {value!r}; known: {', '.join(known)}")
        for what, good, wanted in (
            ("epochs", _count(self.epochs), "a whole number, at least 1"),
            ("batch", _count(self.batch), "a whole number, at least 1"),
            ("lr", 0 < self.lr < math.inf, "above 0 and finite"),
            (
                "momentum",
                self.momentum == 0 or (0 < self.momentum < 1 and self.optimizer == "sgd"),
                "of sgd, in [0, 1)",
            ),
            ("weight_decay", 0 <= self.weight_decay < math.inf, "at least 0 and finite"),
            (
                "milestones",
                bool(self.milestones) == (self.schedule == "steps"),
                'of the schedule "steps", which has at least one',
            ),
            ("holdout", 0 <= self.holdout < 1, "in [0, 1)"),
            ("patience", self.patience is None or _count(self.patience), "a whole number, at least 1, or None"),
        ):
            if not good:
                raise InputError(f"{what} is {wanted}, not {getattr(self, what)}")

    def lr_at(self, epoch: int) -> float:
        """The learning rate of epoch 0, 1, …."""
        if self.schedule == "cosine":
            return self.lr * (1 + math.cos(math.pi * epoch / self.epochs)) / 2
        return self.lr * self.factor ** sum(m <= epoch for m in self.milestones)

    def build(self, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
        """The optimizer; fused, which for small networks of many layers is the fastest."""
        if self.optimizer == "sgd":
            return torch.optim.SGD(
                parameters, self.lr, momentum=self.momentum, weight_decay=self.weight_decay, fused=True
            )
        kind = torch.optim.Adam if self.optimizer == "adam" else torch.optim.AdamW
        return kind(parameters, self.lr, weight_decay=self.weight_decay, fused=True)

    def __str__(self) -> str:
        text = f"{self.optimizer}, lr {self.lr:g}, batch {self.batch}, {self.epochs} epochs"
        return text if self.schedule == "constant" else f"{text}, {self.schedule}"


def _count(number: int) -> bool:
    return isinstance(number, int) and number >= 1
