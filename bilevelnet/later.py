"""Names of a package that load when they are used, so that importing bilevelnet stays cheap beside importing torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any


def later(package: str, names: Mapping[str, str]) -> Callable[[str], Any]:
    """The ``__getattr__`` of a package: each name and the module, relative to it, that holds it or that it is."""

    def __getattr__(name: str) -> Any:
        if name not in names:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        module = import_module(names[name], package)
        return module if names[name] == f".{name}" else getattr(module, name)

    return __getattr__
