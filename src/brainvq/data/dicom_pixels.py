"""The pixels of one DICOM file: where they lie, and each frame decoded to the integers that the header promises.

Source: DICOM PS3.5, section 8 (native pixel data, unused bits) and annexes A.4 and G (fragments, RLE); ISO/IEC 15444-1
A.5.1 and ITU-T T.81 B.2.2 for the sizes that a compressed frame tells of itself. pydicom and its plug-ins decode.
Where we are stricter: every length is compared with the file, and the size within a compressed frame with the header,
before anything is decoded; decoders would allocate what a frame claims, fill up what is cut short, and broadcast a
frame of one pixel to a whole slice.
"""

import mmap
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.encaps import encapsulate, generate_frames
from pydicom.pixels.decoders.base import get_decoder
from pydicom.uid import UID

from brainvq.data.dicom_guard import Refused, guarded

NATIVE = {"1.2.840.10008.1.2": "<", "1.2.840.10008.1.2.1": "<", "1.2.840.10008.1.2.2": ">"}  # and their byte order
RLE = "1.2.840.10008.1.2.5"
JPEG_2000 = ("1.2.840.10008.1.2.4.90", "1.2.840.10008.1.2.4.91")
PLUGINS = {  # one each: a second decoder would hide that the first one found the frame broken
    RLE: "pydicom",
    **dict.fromkeys(JPEG_2000, "pylibjpeg"),
    "1.2.840.10008.1.2.4.50": "pillow",  # JPEG baseline, 8 bit
    "1.2.840.10008.1.2.4.80": "pyjpegls",  # JPEG-LS, lossless and nearly so
    "1.2.840.10008.1.2.4.81": "pyjpegls",
}
PIXEL_DATA, ITEM, DELIMITER, UNDEFINED = (0x7FE0, 0x0010), (0xFFFE, 0xE000), (0xFFFE, 0xE0DD), 0xFFFFFFFF
MOST_FRAGMENTS = 1 << 16
JPEG_SIZES = {*range(0xFFC0, 0xFFD0), 0xFFF7} - {0xFFC4, 0xFFC8, 0xFFCC}  # markers that begin with rows and columns
CUT_SHORT = "cut short within its pixels. Replace it or remove it."


@dataclass(frozen=True)
class Pixels:
    """What a header says of its pixels. `inverted`: MONOCHROME1, low is white. `start`, `stop`: bytes of the file."""

    rows: int
    columns: int
    frames: int
    allocated: int
    stored: int
    signed: bool
    inverted: bool
    syntax: str
    start: int = 0
    stop: int = 0

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of a stored value in memory."""
        return np.dtype(f"{'i' if self.signed else 'u'}{self.allocated // 8}")

    @property
    def frame_bytes(self) -> int:
        return self.rows * self.columns * self.allocated // 8


def locate(data: mmap.mmap, pixels: Pixels) -> tuple[int, int]:
    """Start and stop of the pixels in a file that stands at the element Pixel Data; all of it lies within the file."""
    order = NATIVE.get(pixels.syntax, "<")
    head = data.read(12)
    if len(head) < 12 or struct.unpack(f"{order}HH", head[:4]) != PIXEL_DATA:
        raise Refused("has no pixels of integers, or is cut short before them. Replace it or remove it.")
    explicit = head[4:6] in (b"OB", b"OW", b"UN")  # as a length these would be odd, which lengths are not
    (length,) = struct.unpack(f"{order}L", head[8:] if explicit else head[4:8])
    start = data.tell() - (0 if explicit else 4)
    if pixels.syntax not in NATIVE:
        if length != UNDEFINED:
            raise Refused("says that it is compressed, but its pixels are not. Replace it or remove it.")
        return start, _end_of_fragments(data, start)
    expected = pixels.frame_bytes * pixels.frames
    if length not in (expected, expected + expected % 2):
        raise Refused(f"its pixels take {length:,} bytes, its size asks for {expected:,}. Replace it or remove it.")
    if start + expected > len(data):
        raise Refused(CUT_SHORT)
    return start, start + expected


def _end_of_fragments(data: mmap.mmap, at: int) -> int:
    for _ in range(MOST_FRAGMENTS):
        group, element, length = struct.unpack("<HHL", data[at : at + 8])
        at += 8
        if (group, element) == DELIMITER:
            return at
        if (group, element) != ITEM:
            break
        at += length
    raise Refused("its compressed pixels are in disorder. Replace it or remove it.")


def frames(path: Path, pixels: Pixels) -> Iterator[NDArray[Any]]:
    """Each frame (rows, columns) in the order of the file, as stored; inverted where low is white, which is exact."""
    if pixels.syntax in NATIVE:
        read = _native(path, pixels)
    else:
        read = (_decoded(frame, pixels) for frame in _compressed(path, pixels))
    for values in read:
        yield _inverted(_signed(values, pixels), pixels)


def _bytes(path: Path, start: int, stop: int) -> bytes:
    with guarded(), path.open("rb") as file:
        file.seek(start)
        data = file.read(stop - start)
        if len(data) < stop - start:
            raise Refused(CUT_SHORT)
        return data


def _native(path: Path, pixels: Pixels) -> Iterator[NDArray[Any]]:
    stored = pixels.dtype.newbyteorder(NATIVE[pixels.syntax])  # type: ignore[arg-type]
    for start in range(pixels.start, pixels.stop, pixels.frame_bytes):
        values = np.frombuffer(_bytes(path, start, start + pixels.frame_bytes), stored)
        yield values.reshape(pixels.rows, pixels.columns).astype(pixels.dtype, copy=False)


def _compressed(path: Path, pixels: Pixels) -> tuple[bytes, ...]:
    data = _bytes(path, pixels.start, pixels.stop)
    with guarded():
        found = tuple(generate_frames(data, number_of_frames=pixels.frames))
    if len(found) != pixels.frames:
        raise Refused(f"holds {len(found)} compressed frames instead of {pixels.frames}. Replace it or remove it.")
    return found


def _decoded(frame: bytes, pixels: Pixels) -> NDArray[Any]:
    with guarded():
        _check_codestream(frame, pixels)
        values, _ = get_decoder(UID(pixels.syntax)).as_array(
            encapsulate([frame]),
            index=0,
            raw=True,
            decoding_plugin=PLUGINS[pixels.syntax],
            pixel_keyword="PixelData",  # type: ignore[arg-type]
            rows=pixels.rows,  # type: ignore[arg-type]
            columns=pixels.columns,  # type: ignore[arg-type]
            number_of_frames=1,  # type: ignore[arg-type]
            samples_per_pixel=1,  # type: ignore[arg-type]
            photometric_interpretation="MONOCHROME2",  # type: ignore[arg-type]
            bits_allocated=pixels.allocated,  # type: ignore[arg-type]
            bits_stored=pixels.stored,  # type: ignore[arg-type]
            pixel_representation=int(pixels.signed),  # type: ignore[arg-type]
        )
    if values.shape != (pixels.rows, pixels.columns) or values.dtype != pixels.dtype:
        raise Refused("a compressed frame is not what the header says. Replace it or remove it.")
    return values


def _check_codestream(frame: bytes, pixels: Pixels) -> None:
    """Whether a compressed frame is of the header's size, by what it says itself. That it is whole, decoders check."""
    if len(frame) > 2 * pixels.frame_bytes + 4096:  # no codec doubles; RLE of this length could be a bomb
        raise Refused("a compressed frame is longer than its pixels. Replace it or remove it.")
    if pixels.syntax == RLE:
        return  # tells no size; its decoder checks the length of what comes out
    rows, columns, components, precision = (_jpeg_2000 if pixels.syntax in JPEG_2000 else _jpeg)(frame)
    if (rows, columns, components) != (pixels.rows, pixels.columns, 1) or precision > pixels.allocated:
        raise Refused(
            f"a compressed frame is {rows} x {columns} of {components} x {precision} bit where the header says"
            f" {pixels.rows} x {pixels.columns} of {pixels.allocated}. Replace it or remove it."
        )


def _jpeg_2000(frame: bytes) -> tuple[int, int, int, int]:
    """Rows, columns, components, bits. A subsampled frame has more columns here than it would decode to: refused."""
    if frame[:4] != b"\xff\x4f\xff\x51":
        raise Refused("a compressed frame is not JPEG 2000. Replace it or remove it.")
    right, bottom, left, top = struct.unpack(">4L", frame[8:24])
    components, bits, x, y = struct.unpack(">H3B", frame[40:45])
    return (bottom - top) * y, (right - left) * x, components, (bits & 0x7F) + 1


def _jpeg(frame: bytes) -> tuple[int, int, int, int]:
    """Rows, columns, components, bits of JPEG and JPEG-LS."""
    at = 2
    while True:
        marker, length = struct.unpack(">HH", frame[at : at + 4])
        if marker in JPEG_SIZES:
            precision, rows, columns, components = struct.unpack(">BHHB", frame[at + 4 : at + 10])
            return rows, columns, components, precision
        if marker < 0xFF01:
            raise Refused("a compressed frame is not JPEG. Replace it or remove it.")
        at += 2 + length


def _signed(values: NDArray[Any], pixels: Pixels) -> NDArray[Any]:
    """With the sign that the stored bits give; the bits above them are to be empty or copies of the sign."""
    spare = pixels.allocated - pixels.stored
    if not spare:
        return values
    exact = (values << spare) >> spare
    if ((values != exact) & (values != exact & ((1 << pixels.stored) - 1))).any():
        raise Refused(f"has values beyond its {pixels.stored} bits (an overlay?). Export it again without overlays.")
    return exact


def _inverted(values: NDArray[Any], pixels: Pixels) -> NDArray[Any]:
    if not pixels.inverted:
        return values
    return ~values if pixels.signed else ((1 << pixels.stored) - 1) - values
