"""Problems and layers in other people's notation: quadratic programs."""

from __future__ import annotations

from ..later import later

__all__: list[str] = []
__getattr__ = later(__name__, {})
