"""Real numbers that are alike on two machines to some digits -> integers that are alike.

Two machines may round a number apart only where it lies close to a half. These are few, and the file tells of each to
which side it goes. Real numbers are those of a network in float64, whose last digits depend on the order of sums.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from brainvq.errors import InputError

Integers = NDArray[np.int64]
CLOSE = 1e-6
"""To a half, in units of what is rounded: far beyond what machines differ by, and rare."""
FARTHEST = 1 << 53
"""No value is farther from zero: beyond it float64 skips integers."""


def rounded(values: NDArray[np.float64]) -> tuple[Integers, list[int]]:
    """Each to the nearest integer, and the ties: of each number close to a half how many lie between it and the one
    before in memory, times two, plus 1 if it was rounded up."""
    down, above = _parts(values)
    ties = np.flatnonzero(np.abs(above - 0.5).ravel() < CLOSE)
    up = (above >= 0.5).ravel()
    gaps = np.diff(ties, prepend=-1) - 1
    return _integers(down + (above >= 0.5)), (2 * gaps + up[ties]).tolist()


def as_rounded(values: NDArray[np.float64], ties: Sequence[int]) -> Integers:
    """The integers that `rounded` gave, from numbers that are nearly those, and its ties.

    Raises:
        InputError: it cannot have given such ties.
    """
    down, above = _parts(values)
    found = (down + (above >= 0.5)).ravel()
    place = -1
    for tie in ties:
        place += 1 + tie // 2
        if place >= found.size:
            raise InputError("it tells of a pixel beyond the last")
        found[place] = np.floor(values.flat[place] + 0.25) + tie % 2
    return _integers(found.reshape(values.shape))


def _parts(values: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    down = np.floor(values)
    return down, values - down


def _integers(values: NDArray[np.float64]) -> Integers:
    return np.clip(values, -FARTHEST, FARTHEST).astype(np.int64)
