"""What a file tells before any code: the models that made it, and the scans that it holds.

Frames are bytes that are handed on (`data/frame_bytes.py`). Scans that share slices, size and frame share one record.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from brainvq.codec.entropy import MOST_ENTRIES
from brainvq.codec.fields import Fields, deflated, inflated, number, numbers, text, texts
from brainvq.codes import CodeSpec
from brainvq.errors import InputError

HASH = 16
"""Bytes that are kept of a SHA-256: enough to tell two models apart."""
MOST_SCANS = 1 << 16
MOST_SLICES = 1 << 24
MOST_CODES = 1 << 22
"""Of a slice, and of a group of several."""
MOST_PIXELS = 1 << 23
"""Of a lossless group of several slices, with padding."""
DENSEST = 4096
"""Codes a byte of a group, at most: what a small file can make a reader compute is bounded. Shorter ones are padded."""
LARGEST_SIDE = 1 << 24
LARGEST_NAME = 1024
LARGEST_FRAME = 1024
LARGEST_TABLE = 1 << 24
"""Bytes of the table of scans, inflated."""
LARGEST_FILE = 1 << 30
"""Bytes of a file that is written, and of one that is read."""


@dataclass(frozen=True)
class Header:
    """`tokenizer`, `entropy`: the first 32 hexadecimal digits of the SHA-256 of the weights, and of the entropy model,
    which is of this `kind`. `model`: the name of the shipped model, or "". `previous`: slices have the one before as
    context."""

    tokenizer: str
    entropy: str
    kind: str
    model: str
    spec: CodeSpec
    previous: bool

    def to_bytes(self) -> bytes:
        spec = self.spec
        strides = [n for stride in spec.strides for n in stride]
        return (
            bytes.fromhex(self.tokenizer + self.entropy)
            + text(self.kind.encode())
            + text(self.model.encode())
            + numbers([self.previous, spec.axes, len(spec.entries), *spec.entries, *strides])
        )

    @classmethod
    def from_bytes(cls, data: bytes) -> Header:
        """Raises InputError for what `to_bytes` cannot have given."""
        part = Fields(data)
        hashes = part.take(HASH).hex(), part.take(HASH).hex()
        kind, model = _word(part.text(64)), _word(part.text(LARGEST_NAME))
        previous, axes, levels = part.number(1), part.number(3, 2), part.number(64, 1)
        entries = part.numbers(levels, MOST_ENTRIES, 1)
        strides = [tuple(part.numbers(axes, LARGEST_SIDE, 1)) for _ in range(levels)]
        part.end()
        return cls(*hashes, kind, model, CodeSpec(tuple(entries), tuple(strides)), bool(previous))


@dataclass(frozen=True)
class Item:
    """One scan of a file: `slices` images of `size` pixels with padding, the bytes of its frame."""

    name: str
    subject: str | None
    slices: int
    size: tuple[int, ...]
    frame: bytes


def pack_items(items: Sequence[Item]) -> bytes:
    """The table of scans, deflated.

    Raises:
        InputError: too many of them, or a name too long, for one file.
    """
    records = list(dict.fromkeys((item.slices, item.size, item.frame) for item in items))
    index = {record: i for i, record in enumerate(records)}
    parts = [number(len(records)), *(numbers([slices, *size]) + text(frame) for slices, size, frame in records)]
    parts += [number(len(items)), numbers(index[item.slices, item.size, item.frame] for item in items)]
    parts += [texts([name_bytes(item.name) for item in items])]
    parts += [texts([b"" if item.subject is None else b"+" + name_bytes(item.subject) for item in items])]
    raw = b"".join(parts)
    refuse_many(len(items), sum(item.slices for item in items))
    if len(raw) > LARGEST_TABLE:
        raise InputError(f"the names and frames of {len(items):,} scans are too long for one file. Make several.")
    return deflated(raw)


def refuse_many(scans: int, slices: int) -> None:
    """Raises InputError where they are more than a file takes."""
    if scans > MOST_SCANS or slices > MOST_SLICES:
        raise InputError(
            f"{scans:,} scans of {slices:,} slices are too many for one file. Make several, of at most {MOST_SCANS:,} "
            f"scans and {MOST_SLICES:,} slices."
        )


def unpack_items(data: bytes, spec: CodeSpec) -> tuple[Item, ...]:
    """The inverse of `pack_items`. Raises InputError for what it cannot have given."""
    part = Fields(inflated(data, LARGEST_TABLE, "table"))
    records = [
        (part.number(MOST_SLICES, 1), tuple(part.numbers(spec.axes, LARGEST_SIDE, 1)), part.text(LARGEST_FRAME))
        for _ in range(part.number(MOST_SCANS))
    ]
    for _, size, _ in records:
        if not 0 < sum(math.prod(grid) for grid in spec.grids(size)) <= MOST_CODES:
            raise InputError(f"an image of {size} pixels has more than {MOST_CODES:,} codes")
    count = part.number(MOST_SCANS)
    if count and not records:
        raise InputError("it describes no scan")
    which = part.numbers(count, max(0, len(records) - 1))
    names, subjects = part.texts(count, LARGEST_NAME), part.texts(count, LARGEST_NAME + 1)
    part.end()
    if sum(records[one][0] for one in which) > MOST_SLICES:
        raise InputError(f"it tells of more than {MOST_SLICES:,} slices")
    return tuple(
        Item(_word(name), _subject(subject), *records[one])
        for one, name, subject in zip(which, names, subjects, strict=True)
    )


def name_bytes(name: str) -> bytes:
    """A file's name need be no text; what it is made of comes back.

    Raises:
        InputError: it is too long, or of what no name is made of.
    """
    try:
        found = name.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError as error:
        raise InputError(f"{name!r} is no name of a file. Rename it.") from error
    if len(found) > LARGEST_NAME:
        raise InputError(f"{name}: a name of {len(found):,} bytes; at most {LARGEST_NAME:,} are possible. Rename it.")
    return found


def _word(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape")


def _subject(data: bytes) -> str | None:
    if data[:1] not in (b"", b"+"):
        raise InputError("it holds a subject without its mark")
    return _word(data[1:]) if data else None
