"""Damage to DICOM: elements change, double, vanish and lie about their length; sequences nest; syntaxes are mixed up.

Source: DICOM PS3.5, section 7. Elements are found by the bytes of their tag, little endian, so that damaged files can
be damaged again.
"""

from __future__ import annotations

import struct
from random import Random

from benchmarks.fuzz import blind
from benchmarks.fuzz.blind import integer, put, real

TAGS = {
    "shape": ((0x0028, 0x0010), (0x0028, 0x0011), (0x0028, 0x0008), (0x0028, 0x0002)),
    "bits": ((0x0028, 0x0100), (0x0028, 0x0101), (0x0028, 0x0102), (0x0028, 0x0103), (0x0028, 0x0004)),
    "place": ((0x0020, 0x0032), (0x0020, 0x0037), (0x0028, 0x0030), (0x0028, 0x1052), (0x0028, 0x1053)),
    "series": ((0x0020, 0x000E), (0x0020, 0x0011), (0x0008, 0x0008), (0x0008, 0x0016), (0x0002, 0x0000)),
    "groups": ((0x5200, 0x9229), (0x5200, 0x9230), (0x0028, 0x9110), (0x0020, 0x9113), (0x0020, 0x9116)),
    "pixels": ((0x7FE0, 0x0010), (0xFFFE, 0xE000), (0xFFFE, 0xE0DD), (0xFFFE, 0xE00D)),
}
SYNTAX, PIXELS = (0x0002, 0x0010), (0x7FE0, 0x0010)
LONG = {b"OB", b"OW", b"OF", b"OD", b"SQ", b"UN", b"UT", b"UC", b"UR"}  # types whose length takes 4 bytes, after 2
TYPES = (b"US", b"SS", b"UL", b"DS", b"IS", b"CS", b"OB", b"OW", b"SQ", b"UN", b"FD", b"LO", b"ZZ")
TEXTS = (
    *(
        b"",
        b"0",
        b"-1",
        b"nan",
        b"inf",
        b"1e400",
        b"1e-400",
        b"0\\0\\0",
        b"1\\2\\3",
        b"1\\0\\0\\0\\1\\0",
        b"99999999999",
    ),
    *(b"\\", b"1\\", b"\xd9\xa1", b"x" * 70, b"1" * 400, b"1\\" * 5000, b"MONOCHROME1", b"PALETTE COLOR", b"RGB"),
)
SYNTAXES = (
    *(b"1.2.840.10008.1.2", b"1.2.840.10008.1.2.1", b"1.2.840.10008.1.2.2", b"1.2.840.10008.1.2.1.99"),
    *(b"1.2.840.10008.1.2.4.50", b"1.2.840.10008.1.2.4.70", b"1.2.840.10008.1.2.4.80", b"1.2.840.10008.1.2.4.90"),
    *(b"1.2.840.10008.1.2.5", b"1.2.3.4"),
)
SEQUENCE = struct.pack("<HH2sHI", 0x0008, 0x1140, b"SQ", 0, 0xFFFFFFFF)
ITEM = struct.pack("<HHI", 0xFFFE, 0xE000, 0xFFFFFFFF)


def damage(name: str, data: bytes, other: bytes, chance: Random) -> bytes:
    """Blind, or of an element."""
    known = (_value, _value, _value, _length, _length, _moved, _type, _nested, _syntax, _codestream)
    return chance.choice(blind.ALL if chance.random() < 0.3 else known)(data, other, chance)


def _value(data: bytes, other: bytes, chance: Random) -> bytes:
    """Another value of the right length, mostly; else a length that is wrong for it."""
    at, length, start, stop = _element(data, chance)
    kind = data[at + 4 : at + 6]
    if kind in (b"US", b"SS", b"UL") or (kind not in LONG and not kind.isalpha()):
        return put(data, start, integer(min(stop - start, 8) or 2, "<", chance))
    if kind == b"FD":
        return put(data, start, real(8, "<", chance))
    text = chance.choice(TEXTS)
    text += b" " * (len(text) % 2)
    size = 4 if kind in LONG else 2
    return data[:length] + len(text).to_bytes(size, "little") + data[length + size : start] + text + data[stop:]


def _length(data: bytes, other: bytes, chance: Random) -> bytes:
    """An element that is said to be longer, shorter, or of unknown length."""
    _, length, start, _ = _element(data, chance)
    size = min(4, start - length)
    return put(data, length, chance.choice((b"\xff" * size, bytes(size), integer(size, "<", chance))))


def _moved(data: bytes, other: bytes, chance: Random) -> bytes:
    """An element that is lost, is there twice, or stands before an earlier one."""
    at, _, _, stop = _element(data, chance)
    one, rest = data[at:stop], data[:at] + data[stop:]
    to, *_ = _element(rest, chance)
    return chance.choice((rest, put(data, at, one, 0), put(rest, to, one, 0)))


def _type(data: bytes, other: bytes, chance: Random) -> bytes:
    at, *_ = _element(data, chance)
    return put(data, at + 4, chance.choice(TYPES))


def _nested(data: bytes, other: bytes, chance: Random) -> bytes:
    """Sequences in sequences, a few or thousands, which end, or do not."""
    to, *_ = _element(data, chance)
    deep = chance.choice((2, 15, 17, 200, 3000))
    ends = struct.pack("<HHIHHI", 0xFFFE, 0xE00D, 0, 0xFFFE, 0xE0DD, 0) * (deep if chance.random() < 0.7 else 0)
    return put(data, to, (SEQUENCE + ITEM) * deep + ends, 0)


def _syntax(data: bytes, other: bytes, chance: Random) -> bytes:
    """Bytes of one transfer syntax under the name of another."""
    at = data.find(struct.pack("<HH", *SYNTAX))
    if at < 0:
        return data
    (size,) = struct.unpack_from("<H", data[at + 6 :] + b"\0\0")
    name = chance.choice(SYNTAXES)
    name += b"\0" * (len(name) % 2)
    return data[: at + 6] + struct.pack("<H", len(name)) + name + data[at + 8 + size :]


def _codestream(data: bytes, other: bytes, chance: Random) -> bytes:
    """Blind damage to the first bytes of the pixels, where a compressed frame has its header."""
    at = data.rfind(struct.pack("<HH", *PIXELS))
    if at < 0:
        return data
    at += chance.choice((8, 12, 20, 28, 36))
    return data[:at] + chance.choice(blind.ALL)(data[at:], other[-len(data) + at :], chance)


def _element(data: bytes, chance: Random) -> tuple[int, int, int, int]:
    """Offsets of an element, of its length, of its value and of its end; of whatever, where none is found."""
    group, element = chance.choice(TAGS[chance.choice(sorted(TAGS))])
    tag = struct.pack("<HH", group, element)
    at = data.find(tag) if chance.random() < 0.7 else data.rfind(tag)
    at = blind.place(data, chance) if at < 0 else at
    kind, head = data[at + 4 : at + 6], data[at : at + 12] + bytes(12)
    if kind in LONG:
        length, start, (size,) = at + 8, at + 12, struct.unpack_from("<I", head, 8)
    elif kind.isalpha() and kind.isupper():
        length, start, (size,) = at + 6, at + 8, struct.unpack_from("<H", head, 6)
    else:
        length, start, (size,) = at + 4, at + 8, struct.unpack_from("<I", head, 4)
    return at, length, start, max(start, min(len(data), start + (0 if size == 0xFFFFFFFF else size)))
