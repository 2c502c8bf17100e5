"""Networks of bilevel layers."""

from .bregmanize import bregmanize, pre_activation
from .mlp import BregmanMLP
from .network import BilevelNetwork
from .resnet import BregmanResNet
from .resnet_families import Architecture

__all__ = ["Architecture", "BilevelNetwork", "BregmanMLP", "BregmanResNet", "bregmanize", "pre_activation"]
