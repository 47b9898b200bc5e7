"""Damage to NIfTI: fields of the header become extreme, compressed voxels change and are compressed again."""

from __future__ import annotations

import gzip
import zlib
from random import Random

from benchmarks.fuzz import blind
from benchmarks.fuzz.blind import integer, put, real

MOST = 1 << 26  # bytes inflated here
LONG = 100_000  # bytes of a compressed file, beyond which it takes too long to compress it again
FIRST = [  # fields of NIfTI-1: offset, bytes, how many
    *((0, "i4", 1), (40, "i2", 8), (70, "i2", 2), (76, "f4", 8), (108, "f4", 3), (123, "i1", 1)),
    *((252, "i2", 2), (256, "f4", 6), (280, "f4", 12), (344, "i1", 4)),
]
SECOND = [
    *((0, "i4", 1), (4, "i1", 8), (12, "i2", 2), (16, "i8", 8), (104, "f8", 8), (168, "i8", 1), (176, "f8", 2)),
    *((344, "i4", 2), (352, "f8", 6), (400, "f8", 12), (500, "i4", 1)),
]
KINDS = (2, 4, 8, 16, 32, 64, 128, 256, 512, 768, 1024, 1280, 1536, 1792, 2048, 2304)  # of voxels, real and complex


def field(data: bytes, other: bytes, chance: Random) -> bytes:
    """One to three numbers."""
    order, fields = _layout(data)
    for _ in range(chance.randint(1, 3)):
        start, kind, count = chance.choice(fields)
        size = int(kind[1])
        new = (integer if kind[0] == "i" else real)(size, order, chance)
        data = put(data, start + size * chance.randrange(count), new)
    return data


def voxel_type(data: bytes, other: bytes, chance: Random) -> bytes:
    """Another type of voxels, and, as often as not, the number of bits that another type has."""
    order, fields = _layout(data)
    start = next(start for start, kind, count in fields if (kind, count) == ("i2", 2))
    numbers = (chance.choice(KINDS), chance.choice((1, 8, 16, 24, 32, 64, 96, 128, 256)))
    pieces = [value.to_bytes(2, "little" if order == "<" else "big") for value in numbers]
    return put(data, start, b"".join(pieces[: chance.randint(1, 2)]))


def _layout(data: bytes) -> tuple[str, list[tuple[int, str, int]]]:
    order = "<" if data[1:2] in (b"\x01", b"\x02") else ">"
    return order, SECOND if b"+2" in data[4:8] or b"i2" in data[4:8] else FIRST


def damage(name: str, data: bytes, other: bytes, chance: Random) -> bytes:
    """Of a file of that name, compressed or not."""
    if name.endswith(".gz"):
        return _zipped(name.removesuffix(".gz"), data, other, chance)
    known = () if name.endswith(".img") or chance.random() < 0.4 else (field, field, voxel_type)
    return chance.choice(known or blind.ALL)(data, other, chance)


def _zipped(name: str, data: bytes, other: bytes, chance: Random) -> bytes:
    """The compressed bytes, what is in them, or much more than the header asks for."""
    way = chance.random()
    inside = _inflated(data) if len(data) < LONG and way > 0.35 else None
    if inside is None:
        return chance.choice(blind.ALL)(data, other, chance)
    if way < 0.4:
        return chance.choice((b"", data)) + _endless(field(inside, other, chance))
    return gzip.compress(damage(name, inside, _inflated(other) or other, chance), 1, mtime=0)


def _inflated(data: bytes) -> bytes | None:
    try:
        return zlib.decompressobj(31).decompress(data, MOST)
    except zlib.error:
        return None


def _endless(data: bytes) -> bytes:
    """gzip (RFC 1952) of the header, and of zeros after it."""
    packer = zlib.compressobj(1, wbits=31)
    return packer.compress(data[:352]) + packer.flush(zlib.Z_FULL_FLUSH) + blind.bomb()
