"""Pictures of the experiments, in PNG. matplotlib is imported when a picture is drawn, without a display."""

from .accuracies import by_depth, by_start
from .curves import training
from .impact import impact
from .layers import layers

__all__ = ["by_depth", "by_start", "impact", "layers", "training"]
