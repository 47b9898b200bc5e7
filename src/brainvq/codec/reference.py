"""The normative decoder of `.bvq`: docs/format.md in plain Python, with nothing of the package but an entropy model.

It is slow, short, and says what the other must give: where they differ, this one is right. It checks what it needs and
no more; a stranger's file is for `bitstream.py`.
"""

from __future__ import annotations

import math
import struct
import zlib
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from brainvq.codec.entropy import EntropyModel


@dataclass(frozen=True, eq=False)
class Decoded:
    """A scan: `codes` (slices, N), in the order of `CodeSpec.flatten`; `subject` as it is stored, b"" for none."""

    name: bytes
    subject: bytes
    size: tuple[int, ...]
    frame: bytes
    codes: NDArray[np.int64]


class Bytes:
    """A cursor."""

    def __init__(self, data: bytes) -> None:
        self.data, self.at = data, 0

    def take(self, count: int) -> bytes:
        assert 0 <= count <= len(self.data) - self.at, "the data end early"
        self.at += count
        return self.data[self.at - count : self.at]

    def number(self) -> int:
        """LEB128: seven bits a byte, the least significant first; the highest bit is set in all but the last."""
        value, shift = 0, 0
        while True:
            (byte,) = self.take(1)
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return value

    def text(self) -> bytes:
        return self.take(self.number())


class Words:
    """The entropy coder: a stack of 32-bit words under a state."""

    def __init__(self, data: bytes) -> None:
        self.stack, self.state = list(struct.unpack(f"<{len(data) // 4}I", data)), 0
        while self.stack and self.stack[-1] == 0:
            self.stack.pop()  # padding
        while self.stack and self.state < 1 << 32:
            self._refill()

    def entry(self, row: Sequence[int]) -> int:
        """By a table of cumulative frequencies."""
        below = self.state & 0xFFFFFF
        entry = bisect_right(row, below) - 1
        self.state = (self.state >> 24) * (row[entry + 1] - row[entry]) + below - row[entry]
        if self.state < 1 << 32 and self.stack:
            self._refill()
        return entry

    def end(self) -> None:
        assert (self.state, self.stack) == (0, []), "the words do not end where the codes do"

    def _refill(self) -> None:
        self.state = self.state << 32 | self.stack.pop()


def decode(data: bytes, model: EntropyModel) -> list[Decoded]:
    """The codes of all scans of a file, in order."""
    chunks = _file(data)
    head, strides = _head(chunks[0][1], model)
    scans = _scans(zlib.decompress(chunks[1][1], wbits=-15), len(strides[0]))
    sizes = [size for slices, size, *_ in scans for _ in range(slices)]
    found: list[NDArray[np.int64]] = []
    for payload in (payload for kind, payload in chunks if kind == b"GRUP"):
        part = Bytes(payload)
        first, count = part.number(), part.number()
        runs = [1] * count
        if head:
            runs = []
            while sum(runs) < count:
                runs.append(part.number())
        assert (first, count) == (len(found), sum(runs))
        grids = [tuple(n // s for n, s in zip(sizes[first], stride, strict=True)) for stride in strides]
        found += _group(part.take(len(payload) - part.at), runs, grids, model)
    assert len(found) == len(sizes), "as many slices as the table tells"
    decoded, done = [], 0
    for slices, size, frame, name, subject in scans:
        decoded.append(Decoded(name, subject, size, frame, np.stack(found[done : done + slices])))
        done += slices
    return decoded


def pixels(data: bytes) -> list[bytes]:
    """Of each group of a lossless file what `lossless/reference.py` decodes."""
    return [payload for kind, payload in _file(data) if kind == b"PIXL"]


def _file(data: bytes) -> list[tuple[bytes, bytes]]:
    assert data[:8] == b"\x89BVQ\r\n\x1a\n"
    assert data[8] in (1, 2), "another version"
    chunks = list(_chunks(data[9:]))
    group = [b"GRUP", b"PIXL"][: data[8]]
    groups = group * ((len(chunks) - 3) // len(group))
    assert [kind for kind, _ in chunks] == [b"HEAD", b"SCAN", *groups, b"INDX"], "chunks out of order"
    return chunks


def _chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    rest = Bytes(data)
    while rest.at < len(data):
        start = rest.at
        kind, (length,) = rest.take(4), struct.unpack("<I", rest.take(4))
        payload = rest.take(length)
        assert struct.pack("<I", zlib.crc32(data[start : rest.at])) == rest.take(4), "a wrong checksum"
        yield kind, payload


def _head(payload: bytes, model: EntropyModel) -> tuple[bool, list[list[int]]]:
    """Whether slices have the one before as context; the strides of each level."""
    part = Bytes(payload)
    part.take(16)  # of the tokenizer, which is of no use here
    assert part.take(16).hex() == model.sha256[:32], "another entropy model"
    assert part.text().decode() == model.kind
    part.text()  # the name of a shipped model
    previous, axes, levels = part.number(), part.number(), part.number()
    assert [part.number() for _ in range(levels)] == list(model.entries)
    return bool(previous), [[part.number() for _ in range(axes)] for _ in range(levels)]


def _scans(table: bytes, axes: int) -> list[tuple[int, tuple[int, ...], bytes, bytes, bytes]]:
    """(slices, size, frame, name, subject) of each."""
    part = Bytes(table)
    shared = [(part.number(), tuple(part.number() for _ in range(axes)), part.text()) for _ in range(part.number())]
    count = part.number()
    which = [part.number() for _ in range(count)]
    names, subjects = _texts(part, count), _texts(part, count)
    assert part.at == len(table)
    return [(*shared[one], name, subject) for one, name, subject in zip(which, names, subjects, strict=True)]


def _texts(part: Bytes, count: int) -> list[bytes]:
    """Each as so many bytes of the beginning of the one before, others, and so many of its end."""
    heads, tails, lengths = ([part.number() for _ in range(count)] for _ in range(3))
    found, last = [], b""
    for head, tail, length in zip(heads, tails, lengths, strict=True):
        last = last[:head] + part.take(length) + last[len(last) - tail :]
        found.append(last)
    return found


def _group(words: bytes, runs: Sequence[int], grids: Any, model: EntropyModel) -> list[NDArray[np.int64]]:
    """The codes of each slice."""
    coder = Words(words)
    length = sum(math.prod(grid) for grid in grids)
    slices = [np.full(length, -1, np.int64) for _ in range(sum(runs))]
    firsts = [sum(runs[:run]) for run in range(len(runs))]
    for t in range(max(runs)):
        now = [first + t for first, run in zip(firsts, runs, strict=True) if t < run]
        for number, codes in enumerate(model.passes(grids)):
            for one in now:
                before = slices[one - 1] if t else np.full(length, -1, np.int64)
                table = model.tables(number, grids, slices[one][None], before[None])[0]
                rows = np.broadcast_to(table, (len(codes), table.shape[1])).tolist()
                slices[one][codes] = [coder.entry(row) for row in rows]
    coder.end()
    return slices
