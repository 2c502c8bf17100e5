"""python -m bilevelnet_bench."""

from .cli import app

app(prog_name="python -m bilevelnet_bench")
