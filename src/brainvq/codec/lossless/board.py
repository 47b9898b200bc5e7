"""Where each pixel of a group of slices finds its neighbours, and in which order pixels are decoded.

Pixel (i, j) of slice s of a run is decoded at time j + 3 i + 5 s, together with all others of that time, since every
neighbour it looks at, of its slice and of the one before, is of an earlier time. The pixels of a time are in the order
of the slices of the group, and then of rows.

Beyond the edges of a slice stand the values at its edges, as they are predicted; the slice before of one that has none
is its own prediction, without errors.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

Integers = NDArray[np.int64]
Offsets = tuple[tuple[int, int], ...]

ROW, SLICE = 3, 5
"""By how much a pixel in the next row, and in the next slice, is later."""
EARLIER: Offsets = (
    *((0, -1), (-1, 0), (-1, -1), (-1, 1), (0, -2), (-2, 0)),
    *((-1, -2), (-1, 2), (-2, -1), (-2, 1), (-2, -2), (-2, 2)),
)
"""Of the same slice: left, above, above left, above right, ..."""
AROUND: Offsets = tuple((i, j) for i in (-1, 0, 1) for j in (-1, 0, 1))
MARGIN = 2
BLOCK = 1 << 17
"""Pixels, each of which looks at some thirty others."""


def waves(height: int, width: int, longest: int) -> int:
    """Times until all is decoded, of slices of that size in runs of `longest` at most."""
    return width + ROW * (height - 1) + SLICE * (longest - 1)


class Board:
    """Args:
    predicted: (S, H, W), 0 to 65,535.
    runs: how many slices each has; in a run each slice but the first has the one before.
    """

    def __init__(self, predicted: NDArray[np.int32], runs: Sequence[int]) -> None:
        self.slices, self.height, self.width = predicted.shape
        assert self.slices == sum(runs), "runs of these slices"
        edges = ((0, 0), (MARGIN, MARGIN), (MARGIN, MARGIN))
        padded = np.pad(predicted, edges, mode="edge").astype(np.int32)
        self.row, self.slice = padded.shape[2], padded.shape[1] * padded.shape[2]
        self.known = np.concatenate([padded, padded]).ravel()
        """Values of all slices, then predictions of all slices. A value not yet decoded is not looked at."""
        self.errors = np.zeros((self.slices + 1) * self.slice, np.int32)
        """Of each pixel eight times how far its prediction missed; the last slice is that before a first one."""
        self.longest = int(max(runs))
        self.turn = np.concatenate([np.arange(run) for run in runs])
        """The place of each slice in its run."""
        self.follows = self.turn > 0

    def blocks(self) -> list[tuple[int, Integers]]:
        """All pixels, slice by slice and row by row, as many at a time as memory holds with ease: the slice, and the
        places."""
        return [
            (s, part)
            for s in range(self.slices)
            for part in np.split(self.slice_places(s), range(BLOCK, self.height * self.width, BLOCK))
        ]

    def offsets(self, each: Offsets) -> Integers:
        return np.array([i * self.row + j for i, j in each], np.int64)

    def slice_places(self, s: int) -> Integers:
        """(H W,) of all pixels of a slice, row by row."""
        rows = (s * self.slice + (np.arange(self.height) + MARGIN) * self.row)[:, None]
        found: Integers = (rows + np.arange(self.width) + MARGIN).ravel()
        return found

    def fill(self, values: NDArray[np.int32]) -> None:
        """All values at once, where they are known."""
        inside = self.known.reshape(2 * self.slices, -1, self.row)[: self.slices]
        inside[:, MARGIN : MARGIN + self.height, MARGIN : MARGIN + self.width] = values

    def values(self) -> NDArray[np.int32]:
        inside = self.known.reshape(2 * self.slices, -1, self.row)[: self.slices]
        return inside[:, MARGIN : MARGIN + self.height, MARGIN : MARGIN + self.width]

    def times(self) -> Integers:
        """(S, H, W): when each pixel is decoded."""
        s, i, j = np.ogrid[: self.slices, : self.height, : self.width]
        found: Integers = j + ROW * i + SLICE * self.turn[s]
        return found

    def waves(self) -> Iterator[Integers]:
        """The places of the pixels of each time that has any."""
        s, i = np.arange(self.slices)[:, None], np.arange(self.height)
        firsts = (ROW * i + SLICE * self.turn[:, None]).ravel()
        starts = (s * self.slice + (i + MARGIN) * self.row + MARGIN).ravel()
        order = np.argsort(firsts, kind="stable")
        ascending = firsts[order]
        for time in range(waves(self.height, self.width, self.longest)):
            now = np.searchsorted(ascending, (time - self.width, time), side="right")
            rows = np.sort(order[now[0] : now[1]])
            if len(rows):
                yield starts[rows] + (time - firsts[rows])

    def before(self, places: Integers) -> tuple[Integers, Integers, Integers]:
        """For places of pixels: those of the same pixel in the slice before, of its prediction, and in `errors`."""
        all_values = self.slices * self.slice
        s = places // self.slice
        follows = self.follows[s]
        value = np.where(follows, places - self.slice, places + all_values)
        prediction = places + all_values - np.where(follows, self.slice, 0)
        error = np.where(follows, places - self.slice, places - s * self.slice + all_values)
        return value, prediction, error
