"""Certificates: whether a layer is the argmin layer that it is said to be, and the atlas of those that are."""

from .certificate import Certificate, Row
from .verify import verify

__all__ = ["Certificate", "Row", "verify"]
