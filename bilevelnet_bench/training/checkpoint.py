"""A checkpoint: a file that is there whole or not at all, and that is read without running code from it."""

from __future__ import annotations

import os
import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from bilevelnet import InputError


def save(path: Path, state: dict[str, Any]) -> None:
    """Write beside ``path``, flush to the disk, and rename: a reader sees the old file or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        with beside.open("wb") as file:
            torch.save(state, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)


def load(path: Path, expected: dict[str, Any]) -> dict[str, Any]:
    """The state in ``path`` (weights_only). InputError where it is none, or its ``expected`` entries are others."""
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        found = {name: state[name] for name in expected}
    except (pickle.UnpicklingError, RuntimeError, EOFError, KeyError, TypeError) as failure:
        reason = str(failure).splitlines()[0]
        raise InputError(f"{path} is no checkpoint of this loop ({reason}): delete it, or do not resume") from failure
    other = list(_differences(found, expected))
    if other:
        shown = "; ".join(f"{name} {a}, now {b}" for name, a, b in other)
        raise InputError(f"{path} is of another training ({shown}): resume with the same, or start without resume")
    return state


def _differences(found: dict[str, Any], expected: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any, Any]]:
    for name, b in expected.items():
        a = found.get(name, "unknown")
        if isinstance(a, dict) and isinstance(b, dict):
            yield from _differences(a, b, f"{prefix}{name} ")
        elif a != b:
            yield f"{prefix}{name}", a, b
