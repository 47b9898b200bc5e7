"""Picture codecs for `benchmarks/rate_distortion.py`: 8-bit grey slices into bytes and back.

A codec's function takes slices (N, H, W) and one of its quality settings, and returns what came back and two sizes of
each slice: the file, and its payload, which leaves out all that is the same for every picture of a size and a setting
(containers, signatures, tables of steps), because our codes are counted without any header too. Comparisons use the
payload, which favours the codecs.

imagecodecs serves for all but AVIF: it writes grey AVIF only without loss, and as colour with empty chroma costs more
than grey. Pillow writes AVIF as 4:0:0, full range, and several frames as an AV1 sequence with prediction between them.
WebP knows no grey: three equal channels go in, hence limited range (220 of 256 levels) and empty chroma.

The options were chosen on training slices: slow enough that slower ones gain little.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import imagecodecs
import numpy as np
from numpy.typing import NDArray
from PIL import Image, features

Slices = NDArray[np.uint8]

AVIF_SPEED, JXL_EFFORT, WEBP_METHOD, JPEG_2000_LEVELS = 4, 7, 6, 6
STILL_TUNE, SEQUENCE_TUNE = "ssim", "psnr"
EXACT = 100
"""The quality at which an AV1 sequence loses nothing."""
TEMPORAL_DELIMITER, SEQUENCE_HEADER = 2, 1
"""OBU types of AV1 (its specification, section 6.2.2)."""
START_OF_DATA, START_OF_CODESTREAM, END_OF_CODESTREAM = b"\xff\x93", b"\xff\x4f", b"\xff\xd9"
VP8_HEADER = 10  # bytes: frame tag, start code, width and height (RFC 6386, section 9.1)


@dataclass(frozen=True, eq=False)
class Coded:
    """Slices (N, H, W) as they came back; bytes of each one's file and of its payload, (N,). Slices of one sequence
    share its bytes evenly."""

    slices: Slices
    file: NDArray[np.float64]
    payload: NDArray[np.float64]


@dataclass(frozen=True)
class Codec:
    """`run(slices, setting)`; `settings`: its quality settings, from few bits to many; `sequence`: slices of a subject
    are coded together."""

    name: str
    label: str
    quality: str
    settings: tuple[float, ...]
    options: str
    version: str
    run: Callable[[Slices, float], Coded]
    sequence: bool = False


def _avif(slice_: Slices, quality: float) -> tuple[Slices, int, int]:
    data = avif_file(slice_[None], quality)
    return avif_slices(data)[0], len(data), av1_payload(data)


def _avif_sequence(slices: Slices, quality: float) -> Coded:
    data = avif_file(slices, quality, SEQUENCE_TUNE)
    decoded = avif_slices(data)
    shares = np.full(len(slices), 1 / len(slices))
    return Coded(decoded, len(data) * shares, av1_payload(data) * shares)


def avif_file(slices: Slices, quality: float, tune: str = STILL_TUNE) -> bytes:
    first, *others = (Image.fromarray(each) for each in slices)
    file = io.BytesIO()
    first.save(
        file,
        "AVIF",
        quality=int(quality),
        subsampling="4:0:0",
        range="full",
        speed=AVIF_SPEED,
        codec="aom",
        max_threads=1,
        advanced={"tune": tune},
        save_all=bool(others),
        append_images=others,
    )
    return file.getvalue()


def avif_slices(data: bytes) -> Slices:
    decoded: Slices = imagecodecs.avif_decode(data, numthreads=1)
    return decoded if decoded.ndim == 3 else decoded[None]


def _jpeg_xl(slice_: Slices, distance: float) -> tuple[Slices, int, int]:
    data = jpeg_xl_file(slice_, distance)
    return jpeg_xl_slice(data), len(data), len(data)


def jpeg_xl_file(slice_: Slices, distance: float) -> bytes:
    return bytes(
        imagecodecs.jpegxl_encode(
            slice_, distance=distance, lossless=False, effort=JXL_EFFORT, usecontainer=False, numthreads=1
        )
    )


def jpeg_xl_slice(data: bytes) -> Slices:
    decoded: Slices = imagecodecs.jpegxl_decode(data, numthreads=1)
    return decoded


def _jpeg_2000(slice_: Slices, psnr: float) -> tuple[Slices, int, int]:
    data = jpeg_2000_file(slice_, psnr)
    return jpeg_2000_slice(data), len(data), jpeg_2000_payload(data)


def jpeg_2000_file(slice_: Slices, psnr: float) -> bytes:
    return bytes(
        imagecodecs.jpeg2k_encode(
            slice_, int(psnr), codecformat="j2k", reversible=False, resolutions=JPEG_2000_LEVELS, numthreads=1
        )
    )


def jpeg_2000_slice(data: bytes) -> Slices:
    decoded: Slices = imagecodecs.jpeg2k_decode(data, numthreads=1)
    return decoded


def _webp(slice_: Slices, quality: float) -> tuple[Slices, int, int]:
    colour = np.repeat(slice_[:, :, None], 3, axis=2)
    data = imagecodecs.webp_encode(colour, quality, lossless=False, method=WEBP_METHOD)
    return imagecodecs.webp_decode(data)[:, :, 0], len(data), webp_payload(data)


def _each(code: Callable[[Slices, float], tuple[Slices, int, int]]) -> Callable[[Slices, float], Coded]:
    """Slice by slice."""

    def run(slices: Slices, setting: float) -> Coded:
        decoded, file, payload = zip(*(code(each, setting) for each in slices), strict=True)
        return Coded(np.stack(decoded), np.array(file, dtype=float), np.array(payload, dtype=float))

    return run


def av1_payload(data: bytes) -> int:
    """Bytes of an AVIF file's frames: its `mdat` boxes without temporal delimiters and sequence headers."""
    found = [body for kind, body in _boxes(data) if kind == b"mdat"]
    headers = (TEMPORAL_DELIMITER, SEQUENCE_HEADER)
    return sum(size for body in found for kind, size in _obus(body) if kind not in headers)


def _boxes(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Type and content of the boxes of an ISO media file, outermost level (ISO/IEC 14496-12, section 4.2)."""
    start = 0
    while start < len(data):
        size = int.from_bytes(data[start : start + 4])
        assert size >= 8, "boxes without a size of 32 bits are not met in files this small"
        yield data[start + 4 : start + 8], data[start + 8 : start + size]
        start += size


def _obus(data: bytes) -> Iterator[tuple[int, int]]:
    """Type and bytes, header included, of the units of an AV1 stream (its specification, section 5.3)."""
    start = 0
    while start < len(data):
        head = data[start]
        assert head & 2, "every unit in an AVIF file but the last says its size; libaom says it of all"
        place = start + 1 + (head >> 2 & 1)
        size = shift = 0
        while True:
            byte = data[place]
            size |= (byte & 127) << shift
            place, shift = place + 1, shift + 7
            if byte < 128:
                break
        yield head >> 3 & 15, place + size - start
        start = place + size


def jpeg_2000_payload(data: bytes | bytearray) -> int:
    """Bytes of a codestream of one tile part between the start of its data and its end: without the main header, which
    is the same for every picture of a size."""
    assert data.startswith(START_OF_CODESTREAM)
    assert data.endswith(END_OF_CODESTREAM)
    start = len(START_OF_CODESTREAM)
    while (marker := data[start : start + 2]) != START_OF_DATA:
        assert marker[0] == 255, f"no marker at byte {start}"
        start += 2 + int.from_bytes(data[start + 2 : start + 4])
    return len(data) - start - len(START_OF_DATA) - len(END_OF_CODESTREAM)


def webp_payload(data: bytes | bytearray) -> int:
    """Bytes of a lossy WebP file's frame, without RIFF, chunk header, and what says that it is a frame of this size."""
    assert (data[:4], data[8:16]) == (b"RIFF", b"WEBPVP8 ")
    return int.from_bytes(data[16:20], "little") - VP8_HEADER


def _optimised_png(slice_: Slices) -> bytes:
    file = io.BytesIO()
    Image.fromarray(slice_).save(file, "PNG", optimize=True)
    return file.getvalue()


def _lossless_webp(slice_: Slices) -> bytes:
    return bytes(
        imagecodecs.webp_encode(np.repeat(slice_[:, :, None], 3, axis=2), 100, lossless=True, method=WEBP_METHOD)
    )


@dataclass(frozen=True)
class Lossless:
    """A codec that gives back the very slice; `options`: how it is asked to."""

    name: str
    label: str
    options: str
    version: str
    file: Callable[[Slices], bytes]
    slice: Callable[[bytes], Slices]


LOSSLESS = (
    Lossless(
        "jpeg_xl",
        "JPEG XL",
        "effort 7, bare codestream",
        imagecodecs.jpegxl_version(),
        lambda one: bytes(imagecodecs.jpegxl_encode(one, lossless=True, effort=7, usecontainer=False, numthreads=1)),
        jpeg_xl_slice,
    ),
    Lossless(
        "jpeg_xl_9",
        "JPEG XL, slowest",
        "effort 9, bare codestream",
        imagecodecs.jpegxl_version(),
        lambda one: bytes(imagecodecs.jpegxl_encode(one, lossless=True, effort=9, usecontainer=False, numthreads=1)),
        jpeg_xl_slice,
    ),
    Lossless(
        "jpeg_ls",
        "JPEG-LS",
        "",
        imagecodecs.jpegls_version(),
        lambda one: bytes(imagecodecs.jpegls_encode(one)),
        lambda data: np.asarray(imagecodecs.jpegls_decode(data)),
    ),
    Lossless(
        "webp",
        "WebP",
        f"three equal channels, level 100, method {WEBP_METHOD}",
        imagecodecs.webp_version(),
        _lossless_webp,
        lambda data: imagecodecs.webp_decode(data)[:, :, 0],
    ),
    Lossless(
        "jpeg_2000",
        "JPEG 2000",
        f"5/3 wavelet, {JPEG_2000_LEVELS} resolutions, bare codestream",
        imagecodecs.jpeg2k_version(),
        lambda one: bytes(
            imagecodecs.jpeg2k_encode(
                one, codecformat="j2k", reversible=True, resolutions=JPEG_2000_LEVELS, numthreads=1
            )
        ),
        jpeg_2000_slice,
    ),
    Lossless(
        "png",
        "PNG",
        "optimised by Pillow",
        imagecodecs.png_version(),
        _optimised_png,
        lambda data: np.asarray(imagecodecs.png_decode(data)),
    ),
)

AVIF_LIBRARY = f"libavif {features.version('avif')}, libaom (Pillow)"
AVIF_OPTIONS = f"4:0:0, full range, speed {AVIF_SPEED}, tune "
CODECS = (
    Codec("avif", "AVIF", "quality", (0, 7, 14, 24, 36, 50, 76), AVIF_OPTIONS + STILL_TUNE, AVIF_LIBRARY, _each(_avif)),
    Codec(
        "jpeg_xl",
        "JPEG XL",
        "distance",
        (25, 12, 6, 3, 1.5),
        f"grey, lossy, effort {JXL_EFFORT}, bare codestream",
        imagecodecs.jpegxl_version(),
        _each(_jpeg_xl),
    ),
    Codec(
        "jpeg_2000",
        "JPEG 2000",
        "PSNR dB",
        (26, 29, 32, 35, 38, 41, 44),
        f"grey, 9/7 wavelet, {JPEG_2000_LEVELS} resolutions, bare codestream",
        imagecodecs.jpeg2k_version(),
        _each(_jpeg_2000),
    ),
    Codec(
        "webp",
        "WebP",
        "quality",
        (0, 10, 20, 40, 65, 85),
        f"lossy, three equal channels, method {WEBP_METHOD}",
        imagecodecs.webp_version(),
        _each(_webp),
    ),
    Codec(
        "av1_sequence",
        "AV1, each subject's slices as one sequence",
        "quality",
        (0, 10, 25, 40, 58, 82),
        AVIF_OPTIONS + SEQUENCE_TUNE,
        AVIF_LIBRARY,
        _avif_sequence,
        sequence=True,
    ),
)
