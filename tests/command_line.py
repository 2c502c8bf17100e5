"""The command bilevelnet, run in this process at 80 columns."""

from __future__ import annotations

from typing import Any

from typer.testing import CliRunner

from bilevelnet.cli import app


def run(*args: str) -> Any:
    return CliRunner().invoke(app, args, env={"COLUMNS": "80", "TERM": "dumb", "NO_COLOR": "1"})
