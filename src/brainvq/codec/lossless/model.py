"""What is predicted of a pixel, and from which table its error is: integer formulas, the same on both sides.

Values are counted from the least of the group, 0 to 65,535; a prediction is in eighths.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from brainvq.codec.lossless.board import AROUND, EARLIER, Board

Integers = NDArray[np.int64]

EIGHTHS = 3
WEIGHT_BITS, SCALE_BITS = 10, 4
"""Weights are in steps of 2^-10; what `scale` sums is divided by 2^4."""
NEAR = tuple(offset for offset in AROUND if offset != (0, 0))
SEEN = len(EARLIER) + len(NEAR) + len(AROUND) + 1
"""What a prediction sees: values decoded earlier, the reconstruction around, the slice before and its
reconstruction."""
ALONE = len(EARLIER) + len(NEAR)
"""What of that is of the slice itself."""
MISSED = 6
"""Errors of the slice itself that are looked at, the first of `EARLIER`."""
TELLING = MISSED + len(AROUND) + 4


@dataclass(frozen=True, eq=False)
class Parameters:
    """What is fitted to a group.

    `low`, `high`: of all values. `cuts`: between classes of activity, ascending. `weights`: (2, classes, SEEN), of
    slices without and with one before. `scale`: (TELLING,), none negative. `levels`: between tables, ascending.
    `tables`: (levels + 1, tokens), how often each token is, none negative, in no row all zero.
    """

    low: int
    high: int
    cuts: Integers
    weights: Integers
    scale: Integers
    levels: Integers
    tables: Integers


@dataclass(frozen=True, eq=False)
class View:
    """What some pixels see: `centre` (n,) their reconstruction, `seen` (n, SEEN) less the centre, `activity` (n,),
    and `error` (n,), the place in `Board.errors` of the same pixel in the slice before."""

    centre: Integers
    seen: Integers
    activity: Integers
    error: Integers


def view(board: Board, places: Integers) -> View:
    value, prediction, error = board.before(places)
    own = places + board.slices * board.slice
    centre = board.known[own]
    parts = [(places, EARLIER), (own, NEAR), (value, AROUND)]
    seen = np.concatenate(
        [
            *(board.known[at[:, None] + board.offsets(offsets)] for at, offsets in parts),
            board.known[prediction][:, None],
        ],
        axis=1,
    )
    seen -= centre[:, None]
    left, above, corner, right, far = (seen[:, n] for n in range(5))
    first = ALONE + AROUND.index((0, -1)), ALONE + AROUND.index((-1, 0))
    steps = (left - corner, above - corner, above - right, left - far)
    others = (left, above, corner, right, left - seen[:, first[0]], above - seen[:, first[1]])
    activity = sum(map(np.abs, (*steps, *others)))
    return View(centre.astype(np.int64), seen, np.asarray(activity, np.int64), error)


def predict(found: View, which: Integers, follows: NDArray[np.bool_], weights: Integers, most: int) -> Integers:
    """(n,) in eighths, of pixels of the classes `which`; `most` is the largest value."""
    each = weights[follows.astype(np.int64), which]
    sums = np.einsum("nf,nf->n", found.seen, each)
    half = 1 << (WEIGHT_BITS - EIGHTHS - 1)
    fixed = (found.centre << EIGHTHS) + ((sums + half) >> (WEIGHT_BITS - EIGHTHS))
    return np.asarray(np.clip(fixed, 0, most << EIGHTHS))


def telling(board: Board, places: Integers, found: View, fixed: Integers) -> Integers:
    """(n, TELLING): what tells how far a prediction will miss, in eighths: errors near in the slice and in the one
    before, activity, the reconstruction's steps, how far it is from the prediction, and how bright that is."""
    around = [(places, EARLIER[:MISSED]), (found.error, AROUND)]
    errors = [board.errors[at[:, None] + board.offsets(offsets)] for at, offsets in around]
    near = np.abs(found.seen[:, len(EARLIER) : ALONE]).sum(1)
    others = [found.activity << EIGHTHS, near << EIGHTHS, np.abs(fixed - (found.centre << EIGHTHS)), fixed]
    return np.concatenate([*errors, np.stack(others, 1).astype(np.int32)], axis=1)


def expected(told: Integers, scale: Integers) -> Integers:
    """(n,) how far predictions are expected to miss, to choose a table by."""
    return (told @ scale) >> SCALE_BITS


def nearest(fixed: Integers) -> tuple[Integers, Integers]:
    """The value nearest to a prediction, and the side (1 or -1) on which the next nearest lies: errors count towards
    that side."""
    value = (fixed + (1 << (EIGHTHS - 1))) >> EIGHTHS
    return value, np.where(fixed < value << EIGHTHS, -1, 1)
