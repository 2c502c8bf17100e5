"""The dilogarithm on [−1, 1/2], where one series serves."""

from __future__ import annotations

from torch import Tensor

# B_{2k}/(2k+1)! for k = 1 … 9: on [−1, 1/2] |t| ≤ log 2 and the tenth term is below 1e-17.
_COEFFICIENTS = (
    2.777777777777778e-02,
    -2.777777777777778e-04,
    4.724111866969010e-06,
    -9.185773074661963e-08,
    1.897886998897100e-09,
    -4.064761645144226e-11,
    8.921691020456452e-13,
    -1.993929586072108e-14,
    4.518980029619918e-16,
)


def dilogarithm(y: Tensor) -> Tensor:
    """Li₂(y) = −∫₀^y log(1 − s)/s ds for −1 ≤ y ≤ 1/2.

    With t = −log(1 − y): Li₂(y) = Σ Bₙ tⁿ⁺¹/(n+1)! = t − t²/4 + t³/36 − … (Abramowitz & Stegun 27.7).
    """
    t = -(-y).log1p()
    square = t * t
    total = square * _COEFFICIENTS[-1]
    for c in reversed(_COEFFICIENTS[:-1]):
        total = (total + c) * square
    return t * (1 - t / 4 + total)
