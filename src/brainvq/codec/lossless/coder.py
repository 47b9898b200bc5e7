"""Values of a group of slices <-> bytes, given their reconstruction.

number       ties of the reconstruction (`rounding.py`), and each as a number
numbers      the lengths of the runs, which sum to the slices
16 bytes     the first half of the SHA-256 of the values
number       bytes of the parameters
...          the parameters, deflated
u32 each     words of the entropy coder
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import constriction
import numpy as np
from numpy.typing import NDArray

from brainvq.codec.fields import Fields, deflated, inflated, number, numbers
from brainvq.codec.header import HASH
from brainvq.codec.lossless.board import Board, waves
from brainvq.codec.lossless.fit import FREQUENT, LARGEST_CUT, LARGEST_WEIGHT, MOST_CLASSES, MOST_TABLES, fit
from brainvq.codec.lossless.model import (
    EIGHTHS,
    SEEN,
    TELLING,
    Parameters,
    expected,
    nearest,
    predict,
    telling,
    view,
)
from brainvq.codec.lossless.rounding import FARTHEST, as_rounded, rounded
from brainvq.codec.lossless.tokens import count, errors_of, tokens_of, widths
from brainvq.codec.position import frequencies
from brainvq.errors import InputError

Integers = NDArray[np.int64]
SPAN = 1 << 16
"""Values of a group are of fewer."""
PIXELS_A_BYTE, WAVES_A_BYTE = 4096, 64
"""At most, so that what a small file can make a reader compute is bounded. Shorter ones are padded."""
LARGEST_PARAMETERS = 1 << 18
"""Bytes, inflated."""
OTHER = "its pixels are not those that were packed: it is damaged, or the tokenizer gives another picture here"
Stack = constriction.stream.stack.AnsCoder
UNIFORM = constriction.stream.model.Uniform()


def pack(values: Integers, predicted: NDArray[np.float64], runs: Sequence[int]) -> bytes:
    """(S, *S) values, which span less than `SPAN` within `FARTHEST`, and whose reconstruction is `predicted`; `runs`:
    how many slices each has."""
    assert values.shape == predicted.shape, "a reconstruction of these values"
    whole, ties = rounded(predicted)
    low, high = int(values.min()), int(values.max())
    assert high - low < SPAN, "values of a group"
    assert max(-low, high) <= FARTHEST, "values of a scan"
    board = Board(_bounded(whole, low, high), runs)
    board.fill(_rows(values - low).astype(np.int32))
    found, errors, tables = fit(board, low, high)
    about = deflated(_parameters_to_bytes(found))
    words = _words(board, errors, tables, _models(found)).astype("<u4").tobytes()
    data = number(len(ties)) + numbers(ties) + numbers(runs) + _hash(values) + number(len(about)) + about + words
    return data + bytes(-(min(0, len(data) - _least(board)) // 4) * 4)


def _least(board: Board) -> int:
    """Bytes that a group has at least, padded if need be."""
    pixels, times = board.slices * board.height * board.width, waves(board.height, board.width, board.longest)
    return int(max(-(-pixels // PIXELS_A_BYTE), -(-times // WAVES_A_BYTE)))


def unpack(data: bytes, predicted: NDArray[np.float64]) -> Integers:
    """The inverse of `pack`.

    Raises:
        InputError: it cannot have given that, or not for this reconstruction.
    """
    part = Fields(data)
    whole = as_rounded(predicted, part.numbers(part.number(predicted.size)))
    runs: list[int] = []
    left = len(predicted)
    while left:
        runs.append(part.number(left, 1))
        left -= runs[-1]
    told = part.take(HASH)
    found = _parameters_from_bytes(inflated(part.take(part.number(LARGEST_PARAMETERS)), LARGEST_PARAMETERS, "stream"))
    if part.left % 4:
        raise InputError("its words are not whole")
    board = Board(_bounded(whole, found.low, found.high), runs)
    if len(data) < _least(board):
        raise InputError(f"its {len(data):,} bytes cannot hold {predicted.size:,} pixels")
    words = np.frombuffer(part.take(part.left), "<u4").astype(np.uint32)
    used = int(np.flatnonzero(words)[-1]) + 1 if words.any() else 0  # what follows is padding
    try:
        coder = Stack(words[:used])
    except ValueError as error:
        raise InputError("its words are no entropy code") from error
    models = _models(found)
    for places in board.waves():
        _decode(board, places, coder, models, found)
    values = board.values().astype(np.int64).reshape(predicted.shape) + found.low
    if not coder.is_empty() or _hash(values) != told:
        raise InputError(OTHER)
    return values


def _decode(board: Board, places: Integers, coder: Any, models: list[Any], found: Parameters) -> None:
    """The pixels of one time, into `board`."""
    seen, follows = view(board, places), board.follows[places // board.slice]
    classes = np.searchsorted(found.cuts, seen.activity, side="right")
    fixed = predict(seen, classes, follows, found.weights, found.high - found.low)
    misses = expected(telling(board, places, seen, fixed), found.scale)
    tables = np.searchsorted(found.levels, misses, side="right")
    order = np.argsort(tables, kind="stable")
    amounts = np.bincount(tables, minlength=len(models))
    parts = [np.asarray(coder.decode(models[k], int(amounts[k]))) for k in np.flatnonzero(amounts)]
    token = np.concatenate(parts).astype(np.int64)
    width = widths(token)
    some, extra = width > 0, np.zeros(len(token), np.int64)
    if some.any():
        extra[some] = coder.decode(UNIFORM, (1 << width[some]).astype(np.int32))
    errors = np.empty(len(token), np.int64)
    errors[order] = errors_of(token, extra)
    near, side = nearest(fixed)
    value = near + side * errors
    if value.min() < 0 or value.max() > found.high - found.low:
        raise InputError(OTHER)
    board.known[places] = value
    board.errors[places] = np.abs((value << EIGHTHS) - fixed)


def _words(board: Board, errors: Integers, tables: Integers, models: list[Any]) -> NDArray[np.uint32]:
    """A stack: what is decoded first is encoded last."""
    each = tokens_of(errors)
    times = board.times().ravel()
    order = np.argsort(times * len(models) + tables, kind="stable")
    token, extra, width = (one[order].astype(np.int32) for one in (each.token, each.extra, each.width))
    table, coder = tables[order], Stack()
    starts = np.flatnonzero(np.diff(times[order], prepend=-1))
    for start, stop in zip(starts[::-1], [*starts[1:], len(order)][::-1], strict=True):
        now = slice(start, stop)
        some = width[now] > 0
        if some.any():
            coder.encode_reverse(extra[now][some], UNIFORM, (1 << width[now][some]).astype(np.int32))
        firsts = np.flatnonzero(np.diff(table[now], prepend=-1))
        for first, last in zip(firsts[::-1], [*firsts[1:], stop - start][::-1], strict=True):
            coder.encode_reverse(token[now][first:last], models[table[start + first]])
    return np.asarray(coder.get_compressed(), np.uint32)


def _models(found: Parameters) -> list[Any]:
    """Of each table, as `coder.py` gives tables to constriction."""
    steps = np.diff(frequencies(found.tables).astype(np.int64)).astype(np.float64) - 1.0
    return [constriction.stream.model.Categorical(row, perfect=False) for row in steps]


def _bounded(predicted: Integers, low: int, high: int) -> NDArray[np.int32]:
    return (_rows(np.clip(predicted, low, high)) - low).astype(np.int32)


def _rows(values: Integers) -> Integers:
    """(S, H, W) of (S, *S): axes beyond two are taken as rows."""
    return values.reshape(len(values), -1, values.shape[-1])


def _hash(values: Integers) -> bytes:
    return hashlib.sha256(values.astype("<i8").tobytes()).digest()[:HASH]


def _parameters_to_bytes(found: Parameters) -> bytes:
    parts: list[int] = [_folded(found.low), found.high - found.low, len(found.cuts), len(found.levels)]
    parts += [*np.diff(found.cuts, prepend=0).tolist(), *np.diff(found.levels, prepend=0).tolist()]
    parts += [_folded(weight) for weight in found.weights.ravel().tolist()]
    parts += [*found.scale.tolist(), *found.tables.ravel().tolist()]
    return numbers(parts)


def _parameters_from_bytes(data: bytes) -> Parameters:
    part = Fields(data)
    low = _unfolded(part.number(2 * FARTHEST))
    high = low + part.number(min(SPAN - 1, FARTHEST - low))
    cuts, levels = part.number(MOST_CLASSES), part.number(MOST_TABLES)
    each = [np.cumsum(part.numbers(many, LARGEST_CUT, 1), dtype=np.int64) for many in (cuts, levels)]
    shape = (2, cuts + 1, SEEN)
    weights = np.array([_unfolded(n) for n in part.numbers(2 * (cuts + 1) * SEEN, 2 * LARGEST_WEIGHT)])
    scale = np.array(part.numbers(TELLING, LARGEST_WEIGHT), np.int64)
    tokens = count(high - low)
    tables = np.array(part.numbers((levels + 1) * tokens, FREQUENT), np.int64).reshape(levels + 1, tokens)
    part.end()
    if not tables.any(1).all():
        raise InputError("it has a table without entries")
    return Parameters(low, high, each[0], weights.reshape(shape), scale, each[1], tables)


def _folded(value: int) -> int:
    return 2 * value if value >= 0 else -2 * value - 1


def _unfolded(value: int) -> int:
    return value // 2 if value % 2 == 0 else -(value + 1) // 2
