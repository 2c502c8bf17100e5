"""Objects of the user's own, by name: ``mypackage:my_layer``."""

from __future__ import annotations

import importlib
import inspect
import sys
import traceback
from pathlib import Path
from typing import Any

import typer


def named(target: str, wanted: tuple[type, ...]) -> Any:
    """The object that ``module:attribute`` names, found from the current folder too.

    A class, or a function without arguments, is called unless it is one of the ``wanted`` already. Raises
    typer.BadParameter, with the reason, where there is no such object.
    """
    module, _, attribute = target.partition(":")
    if not module or not attribute:
        raise typer.BadParameter(f"{target!r}: name it as module:attribute, e.g. mypackage.layers:my_layer")
    if (here := str(Path.cwd())) not in sys.path:
        sys.path.insert(0, here)
    try:
        found: Any = importlib.import_module(module)
    except ModuleNotFoundError as missing:
        if missing.name is None or not f"{module}.".startswith(f"{missing.name}."):
            raise typer.BadParameter(_failure(f"importing {module}", missing)) from missing
        raise typer.BadParameter(f"no module {missing.name!r} from {here}") from missing
    except Exception as broken:
        raise typer.BadParameter(_failure(f"importing {module}", broken)) from broken
    for part in attribute.split("."):
        if not hasattr(found, part):
            known = ", ".join(name for name in vars(found) if not name.startswith("_"))
            raise typer.BadParameter(f"{module} has no {part!r}; it has {known}")
        found = getattr(found, part)
    if isinstance(found, wanted) or not callable(found):
        return found
    try:
        inspect.signature(found).bind()
    except (TypeError, ValueError) as needs:
        raise typer.BadParameter(
            f"{target} asks for arguments ({needs}): name an instance, or a function without arguments that makes one"
        ) from needs
    try:
        return found()
    except Exception as broken:
        raise typer.BadParameter(_failure(f"calling {target}", broken)) from broken


def _failure(doing: str, error: Exception) -> str:
    """What the user's own code raised, and where."""
    frames = [f for f in traceback.extract_tb(error.__traceback__) if not f.filename.startswith("<frozen")]
    where = "" if isinstance(error, SyntaxError) else f" ({frames[-1].filename}:{frames[-1].lineno})"  # it says itself
    return f"{doing} raises {type(error).__name__}: {error}{where}"
