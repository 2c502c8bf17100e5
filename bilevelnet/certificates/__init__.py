"""Certificates: whether a layer is the argmin layer that it is said to be, and the atlas of those that are."""

from ..comparison import Row
from .certificate import Certificate
from .verify import verify

__all__ = ["Certificate", "Row", "verify"]
