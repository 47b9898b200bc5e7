"""What is fitted to a group of slices where it is packed. Nothing here is needed to unpack it.

Floating point is free here: another machine may find other parameters, and so other bytes, and every machine unpacks
both.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import nnls

from brainvq.codec.lossless.board import Board
from brainvq.codec.lossless.model import (
    ALONE,
    EIGHTHS,
    SCALE_BITS,
    SEEN,
    TELLING,
    WEIGHT_BITS,
    Parameters,
    expected,
    nearest,
    predict,
    telling,
    view,
)
from brainvq.codec.lossless.tokens import count, tokens_of

Integers = NDArray[np.int64]
LARGEST_WEIGHT = (1 << 15) - 1
LARGEST_CUT = 1 << 40
FREQUENT = 1023
"""The most frequent token of a table stands so often in it."""
PIXELS_A_CLASS, MOST_CLASSES = 60_000, 16
PIXELS_A_TABLE, MOST_TABLES = 12_000, 32
LOOKED_AT = 200_000
"""Pixels by which the scale is fitted."""


def fit(board: Board, low: int, high: int) -> tuple[Parameters, Integers, Integers]:
    """Parameters for the values that `board` was filled with; it gets their errors. Also of each pixel, slice by slice,
    its error as it is coded, and its table."""
    pixels = board.slices * board.height * board.width
    places = [board.slice_places(s) for s in range(board.slices)]
    activity = np.stack([view(board, each).activity for each in places])
    cuts = _cuts(activity, min(MOST_CLASSES, max(1, pixels // PIXELS_A_CLASS)))
    classes = np.searchsorted(cuts, activity, side="right")
    weights = _weights(board, places, classes, activity)
    coded, fixed = [], []
    for s, each in enumerate(places):
        found = view(board, each)
        follows = np.full(len(each), board.follows[s])
        fixed.append(predict(found, classes[s], follows, weights, high - low))
        value = board.known[each].astype(np.int64)
        board.errors[each] = np.abs((value << EIGHTHS) - fixed[-1])
        near, side = nearest(fixed[-1])
        coded.append((value - near) * side)
    scale = _scale(board, places, fixed)
    misses = np.stack(
        [expected(telling(board, each, view(board, each), one), scale) for each, one in zip(places, fixed, strict=True)]
    )
    levels = _cuts(misses, min(MOST_TABLES, max(2, pixels // PIXELS_A_TABLE)))
    which = np.searchsorted(levels, misses, side="right")
    errors = np.stack(coded)
    tables = _tables(which.ravel(), errors.ravel(), len(levels) + 1, count(high - low))
    return Parameters(low, high, cuts, weights, scale, levels, tables), errors, which


def _cuts(values: Integers, parts: int) -> Integers:
    """Parts of like size, and before them one of zeros."""
    some = values[values > 0]
    if parts < 2 or not len(some):
        return np.zeros(0, np.int64)
    inner = np.quantile(some, np.linspace(0, 1, parts)[1:-1])
    return np.unique(np.minimum(np.ceil([1, *inner]), LARGEST_CUT).astype(np.int64))


def _weights(board: Board, places: list[Integers], classes: Integers, activity: Integers) -> Integers:
    """By least squares in each class. Errors weigh less where more is going on."""
    parts = int(classes.max()) + 1
    squares, targets = np.zeros((2, parts, SEEN, SEEN)), np.zeros((2, parts, SEEN))
    for s, each in enumerate(places):
        found = view(board, each)
        missed = (board.known[each] - found.centre).astype(np.float64)
        share = 1.0 / (1.0 + activity[s])
        for part in np.unique(classes[s]):
            chosen = classes[s] == part
            seen = found.seen[chosen].astype(np.float64)
            weighted = seen * share[chosen, None]
            squares[int(board.follows[s]), part] += weighted.T @ seen
            targets[int(board.follows[s]), part] += weighted.T @ missed[chosen]
    found_weights = np.zeros((2, parts, SEEN))
    for follows, many in ((0, ALONE), (1, SEEN)):
        for part in range(parts):
            square = squares[follows, part, :many, :many]
            ridge = (1e-4 * np.trace(square) / many + 1e-6) * np.eye(many)
            found_weights[follows, part, :many] = np.linalg.solve(square + ridge, targets[follows, part, :many])
    rounded = np.rint(found_weights * (1 << WEIGHT_BITS))
    return np.clip(rounded, -LARGEST_WEIGHT, LARGEST_WEIGHT).astype(np.int64)


def _scale(board: Board, places: list[Integers], fixed: list[Integers]) -> Integers:
    """By least squares of the errors, none negative, on some pixels; relative to what is going on, since large errors
    would count alone."""
    step = max(1, sum(map(len, places)) // LOOKED_AT)
    told, errors = [], []
    for each, one in zip(places, fixed, strict=True):
        some = each[::step]
        told.append(telling(board, some, view(board, some), one[::step]))
        errors.append(board.errors[some])
    seen, missed = np.concatenate(told).astype(np.float64), np.concatenate(errors).astype(np.float64)
    share = 1.0 / (1.0 + seen[:, :6].mean(1))[:, None]
    found, _ = nnls(seen * share, missed * share[:, 0], maxiter=50 * TELLING)
    rounded = np.clip(np.rint(found * 256), 0, LARGEST_WEIGHT).astype(np.int64)
    return rounded if rounded.any() else np.full(TELLING, 1 << SCALE_BITS, np.int64)


def _tables(which: Integers, errors: Integers, tables: int, tokens: int) -> Integers:
    """How often each token is, the most frequent of each table `FREQUENT` times; what occurs is never zero."""
    found = np.bincount(which * tokens + tokens_of(errors).token, minlength=tables * tokens).reshape(tables, tokens)
    most = found.max(1, keepdims=True)
    scaled = np.maximum(found * FREQUENT // np.maximum(most, 1), found > 0)
    scaled[:, 0] += most[:, 0] == 0  # a table that nobody uses
    return np.asarray(scaled, np.int64)
