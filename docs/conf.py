"""Sphinx: the README as first page, the atlas, the examples, and every public name from its docstring."""

import re
from typing import Any

import bilevelnet

project = "bilevelnet"
author = "the bilevelnet authors"
version = release = bilevelnet.__version__
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.viewcode"]
html_theme = "furo"
exclude_patterns = ["_build"]
myst_heading_anchors = 3
autodoc_typehints = "signature"
autodoc_default_options = {"members": True, "show-inheritance": True}
autodoc_inherit_docstrings = False

CODE = re.compile(r"(``.*?``)")
MARKUP = re.compile(r"([|*\\`]|_\b|_(?=[{(]))")


def plain(app: Any, what: str, name: str, subject: object, options: Any, lines: list[str]) -> None:
    """Docstrings are plain text with formulas: outside ``code`` no character of theirs is markup."""
    lines[:] = ["".join(p if p.startswith("``") else MARKUP.sub(r"\\\1", p) for p in CODE.split(n)) for n in lines]


def no_name(app: Any, what: str, name: str, subject: object, skip: bool, options: Any) -> bool | None:
    """The classes of laws have a test a law, named by its words: pytest's, not a caller's."""
    return None if name.isidentifier() else True


def setup(app: Any) -> None:
    app.connect("autodoc-skip-member", no_name)
    app.connect("autodoc-process-docstring", plain)
