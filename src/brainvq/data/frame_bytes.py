"""A Frame as few bytes, for files that hold many scans. The layout is told in docs/format.md.

Everything that a Frame holds comes back exactly: real numbers are stored as the 64 bits that they are.
"""

from __future__ import annotations

import struct
from typing import Any, get_args

from brainvq.data.planes import AXES
from brainvq.data.scan import Storage, Units
from brainvq.data.transforms import DTYPES, Frame
from brainvq.errors import InputError

PLANES = tuple(AXES)
FORMATS = ("nifti1", "nifti2", "analyze", "dicom")
UNITS = get_args(Units)
AFFINE, REACH, PLANE, STORAGE = 1, 2, 4, 8
"""Bits of the first byte: what is there besides."""
STORED = struct.Struct("<BBddiiB")
MOST_AXES = 3


def frame_to_bytes(frame: Frame) -> bytes:
    """The inverse of `frame_from_bytes`.

    Raises:
        InputError: numbers beyond what any scan has.
    """
    there = (frame.affine, frame.reach, frame.plane, frame.storage)
    flags = sum(bit for bit, part in zip((AFFINE, REACH, PLANE, STORAGE), there, strict=True) if part is not None)
    ends = [n for pair in frame.padding for n in pair]
    counts = [flags, DTYPES.index(frame.dtype), len(frame.shape), len(frame.padding)]
    try:
        parts = [
            struct.pack(f"<4B{len(frame.shape)}I{len(ends)}I2d", *counts, *frame.shape, *ends, *frame.window),
            b"" if frame.affine is None else struct.pack("<16d", *(n for row in frame.affine for n in row)),
            b"" if frame.reach is None else struct.pack("<2d", *frame.reach),
            b"" if frame.plane is None else struct.pack("<B", PLANES.index(frame.plane)),
            b"" if frame.storage is None else _storage_to_bytes(frame.storage),
        ]
    except struct.error as error:
        raise InputError(f"a scan of {frame.shape} with numbers that no file here can hold ({error}).") from error
    return b"".join(parts)


def frame_from_bytes(data: bytes) -> Frame:
    """What `frame_to_bytes` was given.

    Raises:
        InputError: it cannot have given these bytes.
    """
    try:
        found, rest = _read(data)
    except (struct.error, IndexError, ValueError) as error:
        raise InputError(f"its frame cannot be read ({error})") from error
    if rest:
        raise InputError(f"its frame is followed by {len(rest)} bytes")
    return Frame.from_json(found)


def _read(data: bytes) -> tuple[dict[str, Any], bytes]:
    """The fields, and what follows them."""
    flags, dtype, axes, padded = struct.unpack_from("<4B", data)
    if flags >= 16 or not (0 < axes <= MOST_AXES and 0 < padded <= MOST_AXES):
        raise ValueError(f"flags {flags}, {axes} axes of which {padded} are padded")
    fields = struct.Struct(f"<{axes}I{2 * padded}I2d")
    *sides, low, high = fields.unpack_from(data, 4)
    shape, ends = sides[:axes], sides[axes:]
    rest = data[4 + fields.size :]
    found: dict[str, Any] = {
        "shape": shape,
        "padding": list(zip(ends[::2], ends[1::2], strict=True)),
        "window": (low, high),
        "dtype": DTYPES[dtype],
        "affine": None,
        "reach": None,
        "plane": None,
        "storage": None,
    }
    if flags & AFFINE:
        found["affine"], rest = [struct.unpack_from("<4d", rest, 32 * row) for row in range(4)], rest[128:]
    if flags & REACH:
        found["reach"], rest = struct.unpack_from("<2d", rest), rest[16:]
    if flags & PLANE:
        found["plane"], rest = PLANES[rest[0]], rest[1:]
    if flags & STORAGE:
        found["storage"], rest = _storage_from_bytes(rest), rest[STORED.size :]
    return found, rest


def _storage_to_bytes(storage: Storage) -> bytes:
    format, units = FORMATS.index(storage.format), UNITS.index(storage.units)
    return STORED.pack(format, units, storage.slope, storage.intercept, storage.qform, storage.sform, storage.axes)


def _storage_from_bytes(data: bytes) -> dict[str, Any]:
    format, units, slope, intercept, qform, sform, axes = STORED.unpack_from(data)
    return {
        "format": FORMATS[format],
        "units": UNITS[units],
        "slope": slope,
        "intercept": intercept,
        "qform": qform,
        "sform": sform,
        "axes": axes,
    }
