"""The normative decoder of the pixels of a lossless file: docs/format.md in plain Python, a pixel at a time.

As `codec/reference.py` it is slow, and right where a faster one differs.
"""

from __future__ import annotations

import hashlib
import math
import zlib
from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from brainvq.codec.reference import Bytes, Words

EARLIER = (
    *((0, -1), (-1, 0), (-1, -1), (-1, 1), (0, -2), (-2, 0)),
    *((-1, -2), (-1, 2), (-2, -1), (-2, 1), (-2, -2), (-2, 2)),
)
AROUND = [(i, j) for i in (-1, 0, 1) for j in (-1, 0, 1)]
Grid = list[list[list[int]]]


@dataclass(frozen=True)
class Fitted:
    """`weights`: of slices without and with one before, of each class. `rows`: cumulative frequencies of each table."""

    low: int
    most: int
    cuts: list[int]
    levels: list[int]
    weights: list[list[list[int]]]
    scale: list[int]
    rows: list[list[int]]


def decode(payload: bytes, predicted: NDArray[np.float64]) -> NDArray[np.int64]:
    """The pixels of a group, of the shape of their reconstruction, which is given before rounding."""
    part = Bytes(payload)
    whole = _rounded(part, predicted)
    runs: list[int] = []
    while sum(runs) < len(predicted):
        runs.append(part.number())
    told = part.take(16)
    fitted = _fitted(zlib.decompress(part.take(part.number()), wbits=-15))
    coder = Words(part.take(len(payload) - part.at))
    centre = np.clip(np.array(whole) - fitted.low, 0, fitted.most).reshape(len(predicted), -1, predicted.shape[-1])
    values = _values(coder, fitted, centre.tolist(), [n for run in runs for n in range(run)])
    coder.end()
    found = np.array(values, np.int64).reshape(predicted.shape) + fitted.low
    assert hashlib.sha256(found.astype("<i8").tobytes()).digest()[:16] == told, "another reconstruction"
    return found


def _rounded(part: Bytes, predicted: NDArray[np.float64]) -> list[int]:
    real = predicted.ravel().tolist()
    whole = [math.floor(value) + (value - math.floor(value) >= 0.5) for value in real]
    place = -1
    for _ in range(part.number()):
        tie = part.number()
        place += 1 + tie // 2
        whole[place] = math.floor(real[place] + 0.25) + tie % 2
    return whole


def _fitted(data: bytes) -> Fitted:
    part = Bytes(data)

    def signed() -> int:
        value = part.number()
        return value // 2 if value % 2 == 0 else -(value + 1) // 2

    low, most, cuts, levels = signed(), part.number(), part.number(), part.number()
    rising = [[part.number() for _ in range(many)] for many in (cuts, levels)]
    seen = len(EARLIER) + 8 + 9 + 1
    weights = [[[signed() for _ in range(seen)] for _ in range(cuts + 1)] for _ in range(2)]
    scale = [part.number() for _ in range(6 + 9 + 4)]
    tokens = 15 if most < 8 else 17 + 2 * _place(most)
    rows = []
    for _ in range(levels + 1):
        sums = [0]
        for _ in range(tokens):
            sums.append(sums[-1] + part.number())
        rows.append([one * ((1 << 24) - tokens) // sums[-1] + k for k, one in enumerate(sums)])
    assert part.at == len(data)
    each = [[sum(one[: n + 1]) for n in range(len(one))] for one in rising]
    return Fitted(low, most, each[0], each[1], weights, scale, rows)


def _place(size: int) -> int:
    """Of an error of that size, from 8 on, among those that share tokens: by its leading three bits."""
    width = size.bit_length() - 3
    return 4 * (width - 1) + (size >> width) - 4


def _values(coder: Words, fitted: Fitted, centre: Grid, turn: Sequence[int]) -> Grid:
    """Pixels less the least one, given their reconstruction."""
    high, wide = len(centre[0]), len(centre[0][0])
    values: Grid = [[[0] * wide for _ in range(high)] for _ in centre]
    errors: Grid = [[[0] * wide for _ in range(high)] for _ in centre]

    def inside(i: int, j: int) -> bool:
        return 0 <= i < high and 0 <= j < wide

    def prediction(s: int, i: int, j: int) -> int:
        return centre[s][min(max(i, 0), high - 1)][min(max(j, 0), wide - 1)]

    def value(s: int, i: int, j: int) -> int:
        return values[s][i][j] if inside(i, j) else prediction(s, i, j)

    def error(s: int, i: int, j: int) -> int:
        return errors[s][i][j] if inside(i, j) else 0

    for time in range(wide + 3 * high + 5 * max(turn)):
        waiting: list[tuple[int, int, int, int, int, int]] = []
        for s in range(len(centre)):
            for i in range(high):
                j = time - 3 * i - 5 * turn[s]
                if 0 <= j < wide:
                    before = s - 1 if turn[s] else None
                    fixed, table = _told(fitted, s, i, j, before, value, prediction, error)
                    waiting.append((table, len(waiting), s, i, j, fixed))
        waiting.sort()
        tokens = [coder.entry(fitted.rows[table]) for table, *_ in waiting]
        for token, (_, _, s, i, j, fixed) in zip(tokens, waiting, strict=True):
            nearest = (fixed + 4) >> 3
            found = nearest + (-1 if fixed < 8 * nearest else 1) * _error(token, coder)
            assert 0 <= found <= fitted.most
            values[s][i][j], errors[s][i][j] = found, abs(8 * found - fixed)
    return values


def _told(
    fitted: Fitted,
    s: int,
    i: int,
    j: int,
    before: int | None,
    value: Callable[[int, int, int], int],
    prediction: Callable[[int, int, int], int],
    error: Callable[[int, int, int], int],
) -> tuple[int, int]:
    """The prediction of a pixel in eighths, and its table."""
    centre = prediction(s, i, j)
    earlier = [value(s, i + a, j + b) - centre for a, b in EARLIER]
    near = [prediction(s, i + a, j + b) - centre for a, b in AROUND if (a, b) != (0, 0)]
    of, one = (prediction, s) if before is None else (value, before)
    last = [of(one, i + a, j + b) - centre for a, b in AROUND]
    model = prediction(one, i, j) - centre
    left, above, corner, right, far = earlier[:5]
    steps = (left - corner, above - corner, above - right, left - far)
    activity = sum(map(abs, (*steps, left, above, corner, right, left - last[3], above - last[1])))
    weights = fitted.weights[before is not None][bisect_right(fitted.cuts, activity)]
    total = sum(w * x for w, x in zip(weights, [*earlier, *near, *last, model], strict=True))
    fixed = min(max(8 * centre + ((total + 64) >> 7), 0), 8 * fitted.most)
    missed = [error(s, i + a, j + b) for a, b in EARLIER[:6]]
    missed += [0 if before is None else error(before, i + a, j + b) for a, b in AROUND]
    telling = [*missed, 8 * activity, 8 * sum(map(abs, near)), abs(fixed - 8 * centre), fixed]
    expected = sum(v * x for v, x in zip(fitted.scale, telling, strict=True)) >> 4
    return fixed, bisect_right(fitted.levels, expected)


def _error(token: int, coder: Words) -> int:
    """Of a token; a large one has bits besides, each value of which is as likely as another."""
    if token < 15:
        return token - 7
    place, width = (token - 15) // 2, (token - 15) // 8 + 1
    size = ((4 + place % 4) << width) + coder.entry(range(0, (1 << 24) + 1, 1 << (24 - width)))
    return -size if (token - 15) % 2 else size
