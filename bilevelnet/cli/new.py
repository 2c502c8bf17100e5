"""Files to start a divergence or a regularizer from, with a test that passes as it is."""

from __future__ import annotations

import keyword
import re
from importlib.util import find_spec
from pathlib import Path

import typer

DIVERGENCE = '''\
"""φ(z) = z log z − z + z²/4 on z > 0: change the domain and the value, the rest follows from them."""

import bilevelnet as bln


class {cls}(bln.legendre.Separable):
    domain = bln.domains.Positive()

    def value(self, z):  # entry by entry, any shape; strictly convex, of infinite slope at the ends of the domain
        return z * z.log() - z + z**2 / 4
'''
DIVERGENCE_TEST = '''\
"""The laws of a Legendre function, and the certificate of a layer with its divergence."""

import torch
from {name} import {cls}

import bilevelnet as bln


def test_laws():
    bln.testing.check_legendre({cls}())


def test_layer():
    torch.manual_seed(0)
    layer = bln.BilevelLayer(bln.couplings.Bilinear(3, 3), bln.divergences.Bregman({cls}()))
    certificate = bln.verify(layer, samples=6)
    assert certificate.passed, certificate
'''
REGULARIZER = '''\
"""g(z) = λ(cosh z − 1) + |z − 0.3|: change the value, the rest follows from it."""

import bilevelnet as bln


class {cls}(bln.regularizers.Separable):
    def __init__(self, lam=0.5):  # λ: a number, a tensor or a Parameter, kept as an attribute
        super().__init__()
        self.lam = lam

    def value(self, z):  # entry by entry, any shape; convex
        return self.lam * (z.cosh() - 1) + (z - 0.3).abs()
'''
REGULARIZER_TEST = '''\
"""The laws of a regularizer, and the certificate of its proximal operator."""

from {name} import {cls}

import bilevelnet as bln


def test_laws():
    bln.testing.check_regularizer({cls}())


def test_prox():
    certificate = bln.verify((bln.legendre.Energy(), {cls}()), samples=6)
    assert certificate.passed, certificate
'''
TEMPLATES = {"divergence": (DIVERGENCE, DIVERGENCE_TEST), "regularizer": (REGULARIZER, REGULARIZER_TEST)}


def write(kind: str, name: str, folder: Path) -> tuple[Path, Path]:
    """NAME.py and test_NAME.py in the folder. Raises typer.BadParameter for a bad name or a file that is there."""
    if not re.fullmatch(r"[a-z][a-z0-9_]*", name) or keyword.iskeyword(name):
        raise typer.BadParameter(f"{name!r} is no module name in lower case: letters, digits and _, e.g. my_entropy")
    if name.startswith("test_"):
        raise typer.BadParameter(f"{name!r}: pytest would take the file for a test; choose another name")
    paths = folder / f"{name}.py", folder / f"test_{name}.py"
    for path in paths:
        if path.exists():
            raise typer.BadParameter(f"{path} is there already, and is not overwritten: choose another name or folder")
    if find_spec(name) is not None:
        raise typer.BadParameter(f"{name!r} is the name of an installed module, which it would hide: choose another")
    folder.mkdir(parents=True, exist_ok=True)
    cls = "".join(part.capitalize() for part in name.split("_"))
    for path, text in zip(paths, TEMPLATES[kind], strict=True):
        path.write_text(text.format(name=name, cls=cls), encoding="utf-8")
    return paths
