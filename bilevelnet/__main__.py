"""python -m bilevelnet: the command line."""

from .cli import app

app()
