"""Objects of the user's own, by name: ``mypackage:my_layer``."""

from __future__ import annotations

import importlib
import sys
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
            raise  # something that the module itself imports
        raise typer.BadParameter(f"no module {missing.name!r} from {here}") from missing
    for part in attribute.split("."):
        if not hasattr(found, part):
            known = ", ".join(name for name in vars(found) if not name.startswith("_"))
            raise typer.BadParameter(f"{module} has no {part!r}; it has {known}")
        found = getattr(found, part)
    if isinstance(found, wanted) or not callable(found):
        return found
    try:
        return found()
    except TypeError as needs:
        raise typer.BadParameter(
            f"{target} asks for arguments ({needs}): name an instance, or a function without arguments that makes one"
        ) from needs
