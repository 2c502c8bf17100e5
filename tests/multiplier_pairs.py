"""The pairs of φ and g that the multiplier solver takes."""

from __future__ import annotations

from catalog import LEGENDRE, REGULARIZERS, Spec

import bilevelnet as bln


def takes(phi: Spec, g: Spec) -> bool:
    try:
        bln.solvers.bind(phi.build(), g.build(), "multiplier")
    except bln.InputError:
        return False
    return True


PAIRS = [
    (phi, g)
    for phi in LEGENDRE
    for g in REGULARIZERS
    if phi.first and g.build().event_ndim == 1 and phi.cls.key != "tanh_mixture" and takes(phi, g)
]
