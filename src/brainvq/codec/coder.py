"""Codes of a group of slices <-> 32-bit words, by asymmetric numeral systems over integer tables.

The coder is that of constriction (R. Bamler, Understanding Entropy Coding With Asymmetric Numeral Systems (ANS): a
Statistician's Perspective, 2022): a stack of 32-bit words under a 64-bit state. It takes probabilities as floating
point, gives every entry 1 and shares the rest of 2^24 among them: frequencies less one, whose sum is that rest, are
left as they are, and every sum that it forms is of integers below 2^53. So its tables are ours, whatever the machine;
`reference.py` computes with integers alone, and the tests compare both.

A group is made of runs. In a run each slice but the first has the one before as context; the slices t of all runs are
coded together, pass by pass, so that a model sees several images at once.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import constriction
import numpy as np
from numpy.typing import NDArray

from brainvq.codec.entropy import AT_ONCE, TOTAL, EntropyModel, Grids
from brainvq.errors import InputError

FAMILY = constriction.stream.model.Categorical(perfect=False)
Stack = constriction.stream.stack.AnsCoder


@dataclass(frozen=True, eq=False)
class Step:
    """Some slices of a group in one pass: `place` of their codes in (slices, N), and their `table`, (B or 1, n or 1,
    entries + 1), or None where there is but one entry, whose codes take no bits."""

    place: tuple[NDArray[np.int64], NDArray[np.int64]]
    shape: tuple[int, int]
    table: NDArray[np.uint32] | None


def compress(model: EntropyModel, grids: Grids, codes: NDArray[np.int64], runs: Sequence[int]) -> NDArray[np.uint32]:
    """(slices, N) codes as words, of which the last is not zero. `runs`: how many slices each has."""
    coder, decoded = Stack(), np.full(codes.shape, -1, np.int64)
    narrow = []
    for step in _steps(model, grids, decoded, runs):
        found = decoded[step.place] = codes[step.place]
        if step.table is not None:
            narrow.append(_narrow(step.table, found))
    for symbols, frequencies in reversed(narrow):  # a stack: what is decoded first is encoded last
        coder.encode_reverse(symbols, FAMILY, frequencies)
    return np.asarray(coder.get_compressed(), np.uint32)


def decompress(model: EntropyModel, grids: Grids, words: NDArray[np.uint32], runs: Sequence[int]) -> NDArray[np.int64]:
    """(slices, N) codes of the words that `compress` gave.

    Raises:
        InputError: it cannot have given them, or not with this model.
    """
    length = sum(len(codes) for codes in model.passes(grids))
    decoded = np.full((sum(runs), length), -1, np.int64)
    try:
        coder = Stack(np.ascontiguousarray(words, np.uint32))
    except ValueError as error:
        raise InputError("its words are no entropy code") from error
    for step in _steps(model, grids, decoded, runs):
        decoded[step.place] = 0 if step.table is None else _decoded(coder, step.table, step.shape)
    if not coder.is_empty():
        raise InputError("its words do not end where its codes do")
    return decoded


def _steps(model: EntropyModel, grids: Grids, decoded: NDArray[np.int64], runs: Sequence[int]) -> Iterator[Step]:
    """In the order of decoding. `decoded` is filled step by step by whoever takes them."""
    passes, first = model.passes(grids), np.cumsum([0, *runs[:-1]])
    for t in range(max(runs)):
        slices = first[np.asarray(runs) > t] + t
        for number, codes in enumerate(passes):
            for part in _together(slices, len(codes) * model.numbers):
                known = decoded[part]
                before = decoded[part - 1] if t else np.full_like(known, -1)
                table = model.tables(number, grids, known, before)
                one = table.shape[-1] == 2
                yield Step((part[:, None], codes[None]), (len(part), len(codes)), None if one else _checked(table))


def _together(slices: NDArray[np.int64], numbers: int) -> list[NDArray[np.int64]]:
    """As many at a time as memory holds with ease, where each takes so many `numbers`."""
    most = max(1, AT_ONCE // numbers)
    return np.split(slices, range(most, len(slices), most))


def _checked(table: NDArray[np.uint32]) -> NDArray[np.uint32]:
    assert table.dtype == np.uint32, "tables are uint32"
    assert (table[..., 0] == 0).all(), "cumulative frequencies begin with 0"
    assert (table[..., -1] == TOTAL).all(), "cumulative frequencies end with 2^24"
    assert (table[..., 1:] > table[..., :-1]).all(), "cumulative frequencies ascend"
    return table


def _narrow(table: NDArray[np.uint32], codes: NDArray[np.int64]) -> tuple[NDArray[np.int32], NDArray[np.float64]]:
    """What encoding needs of a table, (B or 1, n or 1, K + 1): the interval of each code, as tables of three entries in
    which it has the same place. (B n,) entries and (B n, 3) frequencies less one.

    At the lower end the code is entry 0 and a third entry of frequency 1 is split off the rest, which holds at least
    two; likewise at the upper end.
    """
    table = np.broadcast_to(table, (*codes.shape, table.shape[-1])).astype(np.int64)
    low = np.take_along_axis(table, codes[..., None], -1).ravel()
    high = np.take_along_axis(table, codes[..., None] + 1, -1).ravel()
    if table.shape[-1] == 3:
        middle = table[..., 1].ravel()
        return codes.ravel().astype(np.int32), np.stack([middle, TOTAL - middle], 1).astype(np.float64) - 1.0
    below = np.where(low == 0, high, np.where(high == TOTAL, 1, low))
    above = np.where(high == TOTAL, high - low, np.where(low == 0, 1, TOTAL - high))
    symbols = np.where(low == 0, 0, np.where(high == TOTAL, 2, 1)).astype(np.int32)
    return symbols, np.stack([below, TOTAL - below - above, above], 1).astype(np.float64) - 1.0


def _decoded(coder: Any, table: NDArray[np.uint32], shape: tuple[int, int]) -> NDArray[np.int32]:
    """(B, n) codes."""
    frequencies = (table[..., 1:] - table[..., :-1]).astype(np.float64) - 1.0
    if table.shape[:2] == (1, 1):
        model = constriction.stream.model.Categorical(frequencies[0, 0], perfect=False)
        return np.asarray(coder.decode(model, shape[0] * shape[1]), np.int32).reshape(shape)
    each = np.broadcast_to(frequencies, (*shape, frequencies.shape[-1])).reshape(-1, frequencies.shape[-1])
    return np.asarray(coder.decode(FAMILY, np.ascontiguousarray(each)), np.int32).reshape(shape)
