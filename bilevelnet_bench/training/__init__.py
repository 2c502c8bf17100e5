"""The training loop that every experiment uses: the upper level by stochastic gradients."""

from .diagnosis import NonFiniteLoss
from .loop import Trained, accuracy, train
from .settings import Settings

__all__ = ["NonFiniteLoss", "Settings", "Trained", "accuracy", "train"]
