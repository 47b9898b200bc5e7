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
    MISSED,
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
Blocks = list[tuple[int, Integers]]
LARGEST_WEIGHT = (1 << 15) - 1
LARGEST_CUT = 1 << 40
FREQUENT = 1023
"""The most frequent token of a table stands so often in it."""
PIXELS_A_CLASS, MOST_CLASSES = 60_000, 16
PIXELS_A_TABLE, MOST_TABLES = 12_000, 32
SCALE_STEPS = 256
"""To an error as far as is expected."""
LOOKED_AT = 200_000
"""Pixels by which the scale is fitted."""


def fit(board: Board, low: int, high: int) -> tuple[Parameters, Integers, Integers]:
    """Parameters for the values that `board` was filled with; it gets their errors. Also of each pixel, slice by slice,
    its error as it is coded, and its table."""
    pixels, blocks = board.slices * board.height * board.width, board.blocks()
    activity = [view(board, places).activity for _, places in blocks]
    cuts = _cuts(np.concatenate(activity), min(MOST_CLASSES, max(1, pixels // PIXELS_A_CLASS)))
    weights = _weights(board, blocks, activity, cuts)
    coded, fixed = [], []
    for (s, places), active in zip(blocks, activity, strict=True):
        follows = np.full(len(places), board.follows[s])
        classes = np.searchsorted(cuts, active, side="right")
        fixed.append(predict(view(board, places), classes, follows, weights, high - low))
        value = board.known[places].astype(np.int64)
        board.errors[places] = np.abs((value << EIGHTHS) - fixed[-1])
        near, side = nearest(fixed[-1])
        coded.append((value - near) * side)
    scale = _scale(board, blocks, fixed)
    misses = np.concatenate(
        [
            expected(telling(board, places, view(board, places), one), scale)
            for (_, places), one in zip(blocks, fixed, strict=True)
        ]
    )
    levels = _cuts(misses, min(MOST_TABLES, max(2, pixels // PIXELS_A_TABLE)))
    which, errors = np.searchsorted(levels, misses, side="right"), np.concatenate(coded)
    tables = _tables(which, errors, len(levels) + 1, count(high - low))
    return Parameters(low, high, cuts, weights, scale, levels, tables), errors, which


def _cuts(values: Integers, parts: int) -> Integers:
    """Parts of like size, and before them one of zeros."""
    some = values[values > 0]
    if parts < 2 or not len(some):
        return np.zeros(0, np.int64)
    inner = np.quantile(some, np.linspace(0, 1, parts)[1:-1])
    return np.unique(np.minimum(np.ceil([1, *inner]), LARGEST_CUT).astype(np.int64))


def _weights(board: Board, blocks: Blocks, activity: list[Integers], cuts: Integers) -> Integers:
    """By least squares in each class. Errors weigh less where more is going on."""
    parts = len(cuts) + 1
    squares, targets = np.zeros((2, parts, SEEN, SEEN)), np.zeros((2, parts, SEEN))
    for (s, places), active in zip(blocks, activity, strict=True):
        found, classes = view(board, places), np.searchsorted(cuts, active, side="right")
        missed = (board.known[places] - found.centre).astype(np.float64)
        share = 1.0 / (1.0 + active)
        for part in np.unique(classes):
            chosen = classes == part
            seen = found.seen[chosen].astype(np.float64)
            weighted = seen * share[chosen, None]
            squares[int(board.follows[s]), part] += weighted.T @ seen
            targets[int(board.follows[s]), part] += weighted.T @ missed[chosen]
    solved = np.zeros((2, parts, SEEN))
    for follows, many in ((0, ALONE), (1, SEEN)):
        for part in range(parts):
            square = squares[follows, part, :many, :many]
            ridge = (1e-4 * np.trace(square) / many + 1e-6) * np.eye(many)
            solved[follows, part, :many] = np.linalg.solve(square + ridge, targets[follows, part, :many])
    rounded = np.rint(solved * (1 << WEIGHT_BITS))
    return np.clip(rounded, -LARGEST_WEIGHT, LARGEST_WEIGHT).astype(np.int64)


def _scale(board: Board, blocks: Blocks, fixed: list[Integers]) -> Integers:
    """By least squares of the errors, none negative, on some pixels; relative to what is going on, since large errors
    would count alone."""
    step = max(1, sum(map(len, fixed)) // LOOKED_AT)
    told, errors = [], []
    for (_, places), one in zip(blocks, fixed, strict=True):
        some = places[::step]
        told.append(telling(board, some, view(board, some), one[::step]))
        errors.append(board.errors[some])
    seen, missed = np.concatenate(told).astype(np.float64), np.concatenate(errors).astype(np.float64)
    share = 1.0 / (1.0 + seen[:, :MISSED].mean(1))
    try:
        found, _ = nnls(seen * share[:, None], missed * share, maxiter=50 * TELLING)
    except RuntimeError:  # it does not converge: near errors alone tell enough
        found = np.zeros(TELLING)
    rounded = np.clip(np.rint(found * SCALE_STEPS), 0, LARGEST_WEIGHT).astype(np.int64)
    return rounded if rounded.any() else np.repeat([SCALE_STEPS // MISSED, 0], [MISSED, TELLING - MISSED])


def _tables(which: Integers, errors: Integers, tables: int, tokens: int) -> Integers:
    """How often each token is, the most frequent of each table `FREQUENT` times; what occurs is never zero."""
    found = np.bincount(which * tokens + tokens_of(errors).token, minlength=tables * tokens).reshape(tables, tokens)
    most = found.max(1, keepdims=True)
    scaled = np.maximum(found * FREQUENT // np.maximum(most, 1), found > 0)
    scaled[:, 0] += most[:, 0] == 0  # a table that nobody uses
    return np.asarray(scaled, np.int64)
