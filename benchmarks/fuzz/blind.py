"""Damage that knows no format: bytes flipped, lost and doubled, files grown together, numbers become extreme."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from functools import cache
from random import Random

HEAD = 600  # bytes of a file, where its headers are, that are changed as often as all the rest
INTEGERS = (0, 1, 2, 3, 5, 7, 8, 16, 64, 255, 1024, 32767, 65535, 1 << 20, (1 << 31) - 1, (1 << 40) + 1, (1 << 63) - 1)
REALS = (0.0, -0.0, 1.0, -1.0, 0.5, 352.0, 544.0, 1e-45, 1e-20, 1e9, 3e38, float("nan"), float("inf"), float("-inf"))

Damage = Callable[[bytes, bytes, Random], bytes]
"""A file's contents, those of another of its format, chance -> contents."""


def place(data: bytes, chance: Random) -> int:
    """Somewhere; as often within the first bytes as anywhere."""
    return chance.randrange(max(1, len(data) if chance.random() < 0.5 else min(len(data), HEAD)))


def put(data: bytes, at: int, new: bytes, instead: int | None = None) -> bytes:
    """`new` at `at` instead of as many bytes, or of `instead`."""
    return data[:at] + new + data[at + (len(new) if instead is None else instead) :]


def integer(size: int, order: str, chance: Random) -> bytes:
    """Of `size` bytes; `order` as of `struct`."""
    value = chance.choice(INTEGERS) * chance.choice((1, 1, -1)) % (1 << 8 * size)
    return value.to_bytes(size, "little" if order == "<" else "big")


def real(size: int, order: str, chance: Random) -> bytes:
    return struct.pack(order + ("f" if size == 4 else "d"), chance.choice(REALS))


def noise(size: int, chance: Random) -> bytes:
    return chance.getrandbits(8 * size).to_bytes(size, "little")


@cache
def bomb() -> bytes:
    """2 MiB of deflate (RFC 1951) that inflate to 2 GiB: a flushed block of zeros over and over, with no end."""
    packer = zlib.compressobj(9, wbits=-15)
    return (packer.compress(bytes(1 << 20)) + packer.flush(zlib.Z_FULL_FLUSH)) * (1 << 11)


def flip(data: bytes, other: bytes, chance: Random) -> bytes:
    for _ in range(chance.randint(1, 8)):
        at = place(data, chance)
        data = put(data, at, bytes(byte ^ 1 << chance.randrange(8) for byte in data[at : at + 1]))
    return data


def cut(data: bytes, other: bytes, chance: Random) -> bytes:
    return data[: place(data, chance)]


def lose(data: bytes, other: bytes, chance: Random) -> bytes:
    return put(data, place(data, chance), b"", chance.choice((1, 2, 4, 64, 1024)))


def insert(data: bytes, other: bytes, chance: Random) -> bytes:
    return put(data, place(data, chance), noise(chance.choice((1, 2, 4, 64)), chance), 0)


def double(data: bytes, other: bytes, chance: Random) -> bytes:
    at, size = place(data, chance), chance.choice((1, 4, 64, 4096))
    return put(data, at, data[at : at + size], 0)


def fill(data: bytes, other: bytes, chance: Random) -> bytes:
    return put(data, place(data, chance), chance.choice((b"\0", b"\xff")) * chance.choice((2, 8, 64, 1024)))


def number(data: bytes, other: bytes, chance: Random) -> bytes:
    size, order = chance.choice((1, 2, 4, 8)), chance.choice("<>")
    kind = real if size > 2 and chance.random() < 0.4 else integer
    return put(data, place(data, chance) // size * size, kind(size, order, chance))


def splice(data: bytes, other: bytes, chance: Random) -> bytes:
    """The beginning of the one, the end of the other."""
    return data[: place(data, chance)] + other[place(other, chance) :]


def swap(data: bytes, other: bytes, chance: Random) -> bytes:
    """A piece of the other where one of ours was."""
    at, there, size = place(data, chance), place(other, chance), chance.choice((4, 64, 1024))
    return put(data, at, other[there : there + size])


def append(data: bytes, other: bytes, chance: Random) -> bytes:
    return data + chance.choice((b"\0", noise(64, chance), other))


ALL: tuple[Damage, ...] = (flip, cut, lose, insert, double, fill, number, splice, swap, append)
