"""Networks of bilevel layers."""

from .mlp import BregmanMLP
from .network import BilevelNetwork

__all__ = ["BilevelNetwork", "BregmanMLP"]
