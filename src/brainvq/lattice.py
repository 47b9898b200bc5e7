"""Which codes of a grid are coded together, and which lie around each: what a prior and the codec must agree on.

A grid is cut into tiles of `period` codes a side, and the codes at one place of all tiles are a phase: far from each
other, so that given the phases before they are nearly independent. The phases run from coarse to fine, as the passes of
an interlaced picture do (Adam7 of the PNG specification), each as far as can be from those before it.

Everything is integers, so that both sides find the same on every machine.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Integers = NDArray[np.int64]
REACH = 2
"""Tiles on either side of a code that are looked at for those near it."""


def pattern(period: int, axes: int) -> Integers:
    """Phase of each place of a tile, (period, ...) with so many axes: 0 for the first, every number once."""
    places = np.stack(np.unravel_index(np.arange(period**axes), (period,) * axes), axis=1)
    apart = np.abs(places[:, None] - places[None])
    squares = (np.minimum(apart, period - apart) ** 2).sum(2)  # over the edges: tiles repeat
    chosen, nearest = [0], squares[0].copy()
    crowded = np.zeros(len(places), dtype=np.int64)
    while len(chosen) < len(places):
        crowded += 1_000_000 // np.maximum(squares[chosen[-1]], 1)
        nearest[chosen[-1]] = -1
        best = np.lexsort((np.arange(len(places)), crowded, -nearest))[0]
        chosen.append(int(best))
        nearest = np.where(nearest < 0, -1, np.minimum(nearest, squares[best]))
    found = np.empty(len(places), dtype=np.int64)
    found[chosen] = np.arange(len(places))
    return found.reshape((period,) * axes)


def around(count: int, axes: int) -> Integers:
    """The `count` offsets nearest to a code, itself first, (count, axes)."""
    reach = math.ceil(count ** (1 / axes))
    return _sorted(np.array(list(itertools.product(range(-reach, reach + 1), repeat=axes))))[:count]


def earlier(phases: Integers, phase: int, count: int) -> Integers:
    """The `count` offsets nearest to a code of this phase at which those of earlier phases lie, (count, axes).

    Where there are fewer, zeros fill up: a code itself is never known before it is coded.
    """
    period, axes = len(phases), phases.ndim
    tile = np.argwhere(phases == phase)[0]
    offsets = np.array(list(itertools.product(range(-REACH * period, REACH * period + 1), repeat=axes)))
    known = phases[tuple(((offsets + tile) % period).T)] < phase
    found = _sorted(offsets[known])[:count]
    return np.concatenate([found, np.zeros((count - len(found), axes), dtype=np.int64)])


def _sorted(offsets: Integers) -> Integers:
    """Near ones first, the rest as in a book."""
    return offsets[np.lexsort((*offsets.T[::-1], (offsets**2).sum(1)))]


def split(grid: Sequence[int], phases: Integers) -> list[Integers]:
    """Of each phase the codes of a grid, in row-major order; none where the grid is too small."""
    at = np.unravel_index(np.arange(math.prod(grid)), tuple(grid))
    found = phases[tuple(each % len(phases) for each in at)]
    return [np.flatnonzero(found == phase) for phase in range(phases.size)]


def places(grid: Sequence[int], codes: Integers, offsets: Integers) -> Integers:
    """Where one finds what lies at each of the `offsets` from each of the `codes`, (codes, offsets); the number of
    codes in the grid for what lies outside of it.
    """
    at = np.stack(np.unravel_index(codes, tuple(grid)), axis=1)[:, None] + offsets[None]
    inside = ((at >= 0) & (at < np.array(grid))).all(2)
    found = np.ravel_multi_index(tuple(np.moveaxis(at, 2, 0)), tuple(grid), mode="clip")
    return np.where(inside, found, math.prod(grid))


def scaled(grid: Sequence[int], codes: Integers, other: Sequence[int]) -> Integers:
    """The code of the `other` grid over the same image in which the middle of each of the `codes` lies, (codes,)."""
    at = np.unravel_index(codes, tuple(grid))
    found = tuple((2 * i + 1) * theirs // (2 * mine) for i, mine, theirs in zip(at, grid, other, strict=True))
    return np.ravel_multi_index(found, tuple(other))
