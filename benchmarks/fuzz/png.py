"""Damage to PNG: chunks change, move and lie, with the right checksum, so that decoders look at what is in them.

Source: W3C, "Portable Network Graphics (PNG) Specification (Third Edition)", 2025, section 5.
"""

from __future__ import annotations

import struct
import zlib
from random import Random

from benchmarks.fuzz import blind
from benchmarks.fuzz.blind import integer, noise, place, put

MARK = 8  # bytes
ZLIB = b"\x78\x9c"  # how a zlib stream begins
FIELDS = ((0, 4), (4, 4), (8, 1), (9, 1), (10, 1), (11, 1), (12, 1))  # of IHDR: offset and bytes
SMALL = (0, 1, 2, 3, 4, 5, 6, 8, 16, 32)
STRANGE = (b"PLTE", b"tRNS", b"acTL", b"fcTL", b"fdAT", b"iCCP", b"zTXt", b"iTXt", b"eXIf", b"gAMA", b"IDAT", b"IHDR")

Chunk = tuple[bytes, bytes]


def damage(name: str, data: bytes, other: bytes, chance: Random) -> bytes:
    """Half blind; half within its chunks, each then with a right checksum."""
    parts = chunks(data)
    if len(parts) < 2 or chance.random() < 0.5:
        return chance.choice(blind.ALL)(data, other, chance)
    changed = chance.choice((_field, _field, _order, _contents, _strange, _pixels, _pixels))(parts, other, chance)
    return data[:MARK] + b"".join(map(packed, changed))


def chunks(data: bytes) -> list[Chunk]:
    """Type and contents of each, as far as there are whole ones."""
    found, at = [], MARK
    while at + 12 <= len(data):
        (size,) = struct.unpack_from(">I", data, at)
        if at + 12 + size > len(data):
            break
        found.append((data[at + 4 : at + 8], data[at + 8 : at + 8 + size]))
        at += 12 + size
    return found


def packed(chunk: Chunk) -> bytes:
    kind, contents = chunk
    return struct.pack(">I", len(contents)) + kind + contents + struct.pack(">I", zlib.crc32(kind + contents))


def _field(parts: list[Chunk], other: bytes, chance: Random) -> list[Chunk]:
    """A number of the header: a size, bits, colours, a filter, interlacing."""
    at, size = chance.choice(FIELDS)
    new = bytes([chance.choice(SMALL)]) if size == 1 else integer(size, ">", chance)
    return [(parts[0][0], put(parts[0][1], at, new)), *parts[1:]]


def _order(parts: list[Chunk], other: bytes, chance: Random) -> list[Chunk]:
    """One chunk less, twice, or elsewhere."""
    rest = list(parts)
    one = rest.pop(chance.randrange(len(rest)))
    for _ in range(chance.randrange(3)):
        rest.insert(chance.randint(0, len(rest)), one)
    return rest


def _contents(parts: list[Chunk], other: bytes, chance: Random) -> list[Chunk]:
    n = chance.randrange(len(parts))
    kind, contents = parts[n]
    return [*parts[:n], (kind, chance.choice(blind.ALL)(contents, other, chance)), *parts[n + 1 :]]


def _strange(parts: list[Chunk], other: bytes, chance: Random) -> list[Chunk]:
    """A chunk that does not belong: of the other file, of noise, or one that inflates to much."""
    kind = chance.choice(STRANGE)
    contents = chance.choice(
        (b"", noise(chance.choice((1, 4, 26, 768)), chance), b"a\0\0" + ZLIB + blind.bomb(), other[:99])
    )
    new = chance.choice((*chunks(other), (kind, contents), (kind, contents), (kind, contents)))
    at = chance.randint(1, len(parts))
    return [*parts[:at], new, *parts[at:]]


def _pixels(parts: list[Chunk], other: bytes, chance: Random) -> list[Chunk]:
    """Other filters and values, fewer rows, or many more, compressed again."""
    try:
        rows = zlib.decompress(b"".join(contents for kind, contents in parts if kind == b"IDAT"))
    except zlib.error:
        return _contents(parts, other, chance)
    way = chance.random()
    if way < 0.1:
        changed = ZLIB + blind.bomb()
    elif way < 0.2:
        changed = zlib.compress(rows)[: place(rows, chance)]
    else:
        changed = zlib.compress(chance.choice(blind.ALL)(rows, other, chance))
    first = next(n for n, (kind, _) in enumerate(parts) if kind == b"IDAT")
    rest = [part for part in parts[first:] if part[0] != b"IDAT"]
    return [*parts[:first], (b"IDAT", changed), *rest]
