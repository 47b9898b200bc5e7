"""How often each entry stands at each position, from the `histogram` prior.

Kept as 16-bit weights, of which the most frequent entry of a position has the largest. The frequencies follow by
integer division of their running sums, so that each is at least 1 and all together exactly `TOTAL`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from brainvq.codec.entropy import AT_ONCE, TOTAL, Arrays, EntropyModel, Grids
from brainvq.errors import InputError


class Position(EntropyModel):
    """Args:
    weights: of each level, (*grid, entries) uint16, in no position all zero.
    """

    kind: ClassVar[str] = "position"

    def __init__(self, entries: Sequence[int], weights: Sequence[NDArray[np.uint16]]) -> None:
        super().__init__(entries)
        self.weights = tuple(weights)

    def passes(self, grids: Grids) -> Sequence[NDArray[np.int64]]:
        return [codes for _, codes in self._parts(grids)]

    def tables(
        self, number: int, grids: Grids, known: NDArray[np.int64], previous: NDArray[np.int64]
    ) -> NDArray[np.uint32]:
        level, codes = self._parts(grids)[number]
        weights = self.weights[level]
        first = sum(math.prod(grid) for grid in grids[:level])
        places = onto(weights.shape[:-1], grids[level], codes - first)
        return frequencies(weights.reshape(-1, weights.shape[-1])[places])[None]

    def _parts(self, grids: Grids) -> list[tuple[int, NDArray[np.int64]]]:
        """(level, codes) of each pass; codes do not depend on each other, so a pass is what memory holds with ease."""
        found, first = [], 0
        for level, (grid, entries) in enumerate(zip(grids, self.entries, strict=True)):
            codes, step = math.prod(grid), max(1, AT_ONCE // (entries + 1))
            for start in range(0, codes, step):
                found.append((level, np.arange(first + start, first + min(start + step, codes))))
            first += codes
        return found

    def arrays(self) -> dict[str, NDArray[Any]]:
        return {f"weights_{level}": weights for level, weights in enumerate(self.weights)}

    @classmethod
    def from_arrays(cls, entries: Sequence[int], arrays: Arrays) -> Self:
        names = [f"weights_{level}" for level in range(len(entries))]
        if sorted(names) != sorted(arrays):
            raise InputError(f"a table of positions has {', '.join(names)}; these are {', '.join(sorted(arrays))}.")
        for name, n in zip(names, entries, strict=True):
            weights = arrays[name]
            if weights.dtype != np.uint16 or weights.ndim < 2 or weights.shape[-1] != n or not weights.size:
                raise InputError(
                    f"{name} is {weights.dtype} of shape {weights.shape}; uint16 of (*grid, {n}) is expected."
                )
            if not weights.any(-1).all():
                raise InputError(f"{name} is zero for all entries of a position.")
        return cls(entries, [np.asarray(arrays[name], np.uint16) for name in names])


def onto(learned: Sequence[int], grid: Sequence[int], codes: NDArray[np.int64]) -> NDArray[np.int64]:
    """For numbers of codes on `grid`, row-major, those on the grid that was learned which lie nearest in the image,
    with both stretched over it."""
    places = np.unravel_index(codes, tuple(grid))
    near = [(2 * place + 1) * most // (2 * n) for place, most, n in zip(places, learned, grid, strict=True)]
    return np.ravel_multi_index(near, tuple(learned)).astype(np.int64)


def frequencies(weights: NDArray[Any]) -> NDArray[np.uint32]:
    """(..., entries) weights, of which none is negative and not all are zero -> (..., entries + 1) cumulative
    frequencies: floor(running sum x (TOTAL - entries) / sum) + k for entry k."""
    entries = weights.shape[-1]
    sums = np.zeros((*weights.shape[:-1], entries + 1), np.int64)
    np.cumsum(weights, axis=-1, dtype=np.int64, out=sums[..., 1:])
    found: NDArray[np.uint32] = (sums * (TOTAL - entries) // sums[..., -1:] + np.arange(entries + 1)).astype(np.uint32)
    return found
