"""Numbers, texts and chunks as bytes: what the format is made of. Reading trusts nothing."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from brainvq.errors import InputError

MAGIC = b"\x89BVQ\r\n\x1a\n"
"""As PNG's: it tells a text from a file of bytes, and a file that was carried as a text."""
VERSION, LOSSLESS = 1, 2
"""Of files of codes alone, and of those that hold the very pixels too."""
START = len(MAGIC) + 1
"""Where the first chunk begins."""
AROUND = 12
"""Bytes of a chunk besides its payload: kind, length and CRC-32."""
LARGEST_NUMBER = (1 << 63) - 1


def number(value: int) -> bytes:
    """LEB128: seven bits a byte, the least significant first; the highest bit is set in all bytes but the last."""
    found = bytearray()
    while value > 127:
        found.append(value & 127 | 128)
        value >>= 7
    found.append(value)
    return bytes(found)


def numbers(values: Iterable[int]) -> bytes:
    return b"".join(map(number, values))


def text(data: bytes) -> bytes:
    """With its length before it."""
    return number(len(data)) + data


def texts(each: Sequence[bytes]) -> bytes:
    """Names in a row are alike: of each how many bytes it shares with the beginning and then with the end of the one
    before, and what lies between. All first numbers, all second ones, all lengths between, all bytes between."""
    heads, tails, middles, last = [], [], [], b""
    for one in each:
        most = min(len(one), len(last))
        head = next((i for i in range(most) if one[i] != last[i]), most)
        tail = next((i for i in range(most - head) if one[-1 - i] != last[-1 - i]), most - head)
        heads.append(head)
        tails.append(tail)
        middles.append(one[head : len(one) - tail])
        last = one
    return numbers(heads) + numbers(tails) + numbers(map(len, middles)) + b"".join(middles)


class Fields:
    """A cursor over bytes. All methods raise InputError where they end early."""

    def __init__(self, data: bytes) -> None:
        self.data, self.at = data, 0

    @property
    def left(self) -> int:
        return len(self.data) - self.at

    def take(self, count: int) -> bytes:
        if count > self.left:
            raise InputError("it ends early")
        self.at += count
        return self.data[self.at - count : self.at]

    def number(self, most: int = LARGEST_NUMBER, least: int = 0) -> int:
        """The inverse of `number`, within bounds."""
        value = shift = 0
        while True:
            byte = self.take(1)[0]
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                break
            if shift > 63:
                raise InputError("it holds a number without end")
        if not least <= value <= most:
            raise InputError(f"it says {value:,} where {least:,} to {most:,} is possible")
        return value

    def numbers(self, count: int, most: int = LARGEST_NUMBER, least: int = 0) -> list[int]:
        if count > self.left:  # each has a byte at least
            raise InputError("it ends early")
        return [self.number(most, least) for _ in range(count)]

    def text(self, most: int) -> bytes:
        return self.take(self.number(most))

    def texts(self, count: int, most: int) -> list[bytes]:
        """The inverse of `texts`; each of at most so many bytes."""
        heads, tails, lengths = (self.numbers(count, most) for _ in range(3))
        found, last = [], b""
        for head, tail, length in zip(heads, tails, lengths, strict=True):
            if head + tail > len(last) or head + length + tail > most:
                raise InputError("it holds a name that cannot be")
            last = last[:head] + self.take(length) + last[len(last) - tail :]
            found.append(last)
        return found

    def end(self) -> None:
        if self.left:
            raise InputError(f"{self.left:,} bytes follow where it should end")


def deflated(data: bytes) -> bytes:
    """A raw deflate stream (RFC 1951)."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    return packer.compress(data) + packer.flush()


def inflated(data: bytes, most: int, what: str) -> bytes:
    """The inverse of `deflated`, of at most so many bytes. Raises InputError for anything else; `what` it should be."""
    unpacker = zlib.decompressobj(-15)
    try:
        raw = unpacker.decompress(data, most + 1)
    except zlib.error as error:
        raise InputError(f"it cannot be inflated ({error})") from error
    if len(raw) > most or not unpacker.eof or unpacker.unused_data:
        raise InputError(f"it is not one deflated {what} of at most {most:,} bytes")
    return raw


@dataclass(frozen=True)
class Chunk:
    """`end`: of its bytes in the file, with kind, length and checksum."""

    kind: bytes
    payload: bytes
    end: int


def chunk(kind: bytes, payload: bytes) -> bytes:
    """[kind, 4 bytes][length, u32][payload][CRC-32 of all these, u32]; the least significant byte first."""
    body = kind + struct.pack("<I", len(payload)) + payload
    return body + struct.pack("<I", zlib.crc32(body))


def chunk_at(data: bytes, start: int) -> Chunk:
    """Raises InputError for what is no whole and sound chunk."""
    if start + AROUND > len(data):
        raise InputError("the file ends early")
    (length,) = struct.unpack_from("<I", data, start + 4)
    end = start + AROUND + length
    if end > len(data):
        raise InputError("the file ends early, or a length is wrong")
    if zlib.crc32(data[start : end - 4]) != struct.unpack_from("<I", data, end - 4)[0]:
        raise InputError("a checksum is wrong")
    return Chunk(data[start : start + 4], data[start + 8 : end - 4], end)
