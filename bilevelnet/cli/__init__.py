"""The command ``bilevelnet``: one file a command; ``app`` is the Typer application."""

try:
    from .app import app
except ModuleNotFoundError as missing:
    if (missing.name or "").split(".")[0] not in ("typer", "rich"):
        raise

    def app() -> None:  # type: ignore[misc]
        """One line that names the remedy."""
        raise SystemExit("the command bilevelnet needs typer and rich: pip install 'bilevelnet[cli]'")


__all__ = ["app"]
