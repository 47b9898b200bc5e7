"""Logarithms of probabilities -> 16-bit weights, by integer arithmetic: the same on every machine, as `exp` is not.

A difference of two float32 is exact in float64, and so is its multiple by a power of two; from its rounding on all is
integers. Powers of two with a fraction are products of 2^(-1/2), 2^(-1/4) and so on, one for each bit of the fraction.
"""

from __future__ import annotations

import math
from itertools import accumulate

import numpy as np
from numpy.typing import NDArray

LARGEST = 65535
FRACTION = 24  # bits of an exponent behind the point
ONE = 30  # bits of 1 in fixed point
LOG2_E = 1549082005  # of log2(e)
FARTHEST = 20  # nats below the most likely entry, where a weight would be far below 1
ROOTS = tuple(accumulate(range(FRACTION - 1), lambda root, _: math.isqrt(root << ONE), initial=math.isqrt(1 << 59)))
"""2^(-1/2), 2^(-1/4) and so on in fixed point."""


def whole_weights(logs: NDArray[np.float32]) -> NDArray[np.uint16]:
    """(..., entries) nats -> weights in proportion to the probabilities, of which the largest of each row is `LARGEST`
    and none is below 1."""
    below = logs.max(-1, keepdims=True).astype(np.float64) - logs
    steps = np.rint(np.minimum(below, FARTHEST) * (1 << FRACTION)).astype(np.int64)
    exponent = steps * LOG2_E >> ONE
    power = np.full(exponent.shape, 1 << ONE, np.int64)
    for bit, root in enumerate(ROOTS, start=1):
        power = np.where(exponent >> (FRACTION - bit) & 1, power * root >> ONE, power)
    rounded = (LARGEST * power >> (exponent >> FRACTION) + ONE - 1) + 1 >> 1
    weights: NDArray[np.uint16] = np.maximum(rounded, 1).astype(np.uint16)
    return weights
