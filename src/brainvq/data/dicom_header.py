"""One DICOM file: what its header says of geometry and pixels, checked. No pixel is read.

Source: DICOM PS3.10 (the file), PS3.3 C.7.6.2 (image plane), C.7.6.3 (image pixel) and C.7.6.16 (the functional groups
of enhanced multi-frame files). pydicom takes the elements apart; only those of `ELEMENTS` are looked at, so that no
name and no date of a patient enters the program. The numbers of patient and examination are read to tell whether two
series are of one person, and leave here as hashes under a key that ends with the process. Where we are stricter:
pydicom ends without a word where a file does, and inflates a deflated file whatever it grows to.
"""

import hashlib
import math
import mmap
import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from pydicom import Dataset, dcmread
from pydicom.filereader import read_dataset
from pydicom.uid import UID

from brainvq.data.dicom_guard import NotAnImage, Refused, guarded
from brainvq.data.dicom_pixels import NATIVE, PLUGINS, Pixels, locate
from brainvq.data.scan import LARGEST_VOLUME

OWNERS = ("StudyInstanceUID", "PatientID")
ELEMENTS = (
    *OWNERS,
    *("SOPClassUID", "ImageType", "SeriesInstanceUID", "SeriesNumber", "EchoNumbers"),
    *("SamplesPerPixel", "PhotometricInterpretation", "NumberOfFrames", "Rows", "Columns"),
    *("BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation"),
    *("PixelSpacing", "ImagePositionPatient", "ImageOrientationPatient"),
    *("RescaleSlope", "RescaleIntercept", "ModalityLUTSequence"),
    *("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"),
)
PREAMBLE = 128  # bytes before the mark "DICM"
CAPTURE = "1.2.840.10008.5.1.4.1.1.7"  # secondary capture; those of many frames have one more number
NOWHERE = "says not where it lies in the patient (a screenshot?). Give the series that it was made from."
KEY = secrets.token_bytes(16)
DEFLATED = "1.2.840.10008.1.2.1.99"
LARGEST_NUMBER = 1e9  # of a length in mm, a slope, an intercept: beyond, a header is broken
SKEWED = 5e-3  # of direction cosines, some of which are written with three digits


@dataclass(frozen=True)
class Frame:
    """Where a slice lies in mm of the patient (x to the left, y to the back, z up) and what its values mean.

    `orientation`: unit vectors along a row and down a column; `spacing`: between rows, between columns.
    """

    position: tuple[float, ...]
    orientation: tuple[float, ...]
    spacing: tuple[float, ...]
    slope: float
    intercept: float


@dataclass(frozen=True)
class File:
    """`series` serves to tell series apart, and is never shown. `stack`: echo and kind of image, which part the slices
    of a series. `owners`: of the same examination or patient is what shares one of these hashes. `capture`: a picture
    that was made of others, without geometry. `refusal`: why this image cannot be read, "Reason. Remedy."; then
    `frames` may be empty."""

    path: Path
    series: str
    number: int | None
    stack: tuple[str, ...]
    owners: tuple[str, ...] = field(repr=False)
    localiser: bool
    capture: bool
    pixels: Pixels | None
    frames: tuple[Frame, ...]
    refusal: str | None


def is_dicom(path: Path) -> bool:
    """Whether the mark of a DICOM file is there, whatever the file's name."""
    try:
        with path.open("rb") as file:
            return file.read(PREAMBLE + 4)[PREAMBLE:] == b"DICM"
    except OSError:
        return False


def parse(path: Path) -> File:
    """The header. Raises Refused where it cannot be made out at all, NotAnImage for reports and the like."""
    with guarded(), _mapped(path) as data:
        syntax = _syntax(data)
        data.seek(0)
        elements = dcmread(data, stop_before_pixels=True, specific_tags=list(ELEMENTS))  # type: ignore[arg-type]
        kind = str(elements.get("SOPClassUID") or "")
        if kind and not _is_image(kind, elements):
            raise NotAnImage("a report, plan or map, not an image. Give the series of images.")
        number, image_type = str(elements.get("SeriesNumber")), _texts(elements.get("ImageType"))
        file = File(
            path=path,
            series=str(elements.get("SeriesInstanceUID") or path.parent),
            number=int(number) if number.isascii() and number.isdigit() else None,
            stack=(*_texts(elements.get("EchoNumbers")), *image_type),
            owners=tuple(_owners(elements)),
            localiser="LOCALIZER" in image_type,
            capture=(kind == CAPTURE or kind.startswith(f"{CAPTURE}.") or "SECONDARY" in image_type)
            and not _is_placed(elements),
            pixels=None,
            frames=(),
            refusal=None,
        )
        try:
            with guarded():
                pixels = _pixels(elements, syntax)
                start, stop = locate(data, pixels)  # reading the elements has left `data` there
                frames = _frames(elements, pixels.frames)
            return replace(file, pixels=replace(pixels, start=start, stop=stop), frames=frames)
        except Refused as refusal:
            return replace(file, refusal=str(refusal))


@contextmanager
def _mapped(path: Path) -> Iterator[mmap.mmap]:
    """A map onto the file gives no more bytes than there are, however many are asked for: nothing is allocated."""
    with path.open("rb") as file:
        if path.stat().st_size <= PREAMBLE + 4:
            raise Refused("not a DICOM file. Replace it or remove it.")
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            yield data


def _syntax(data: mmap.mmap) -> str:
    if data[PREAMBLE : PREAMBLE + 4] != b"DICM":
        raise Refused("not a DICOM file. Replace it or remove it.")
    data.seek(PREAMBLE + 4)
    meta = read_dataset(data, False, True, stop_when=lambda tag, vr, length: tag >> 16 != 2)  # type: ignore[arg-type]
    syntax = str(meta.get("TransferSyntaxUID") or "")
    if not syntax:
        raise Refused("does not say how it is encoded (no transfer syntax). Export it again.")
    if syntax == DEFLATED:
        raise Refused("a deflated file. Export it again without compression.")
    return syntax


def _is_image(kind: str, elements: Dataset) -> bool:
    name = UID(kind).name
    return "Rows" in elements if name == kind else "Image Storage" in name  # the name of an unknown kind is its number


def _is_placed(elements: Dataset) -> bool:
    groups = [(elements.get(f"{which}FunctionalGroupsSequence") or ())[:1] for which in ("Shared", "PerFrame")]
    holders = (elements, *(item for group in groups for item in group))
    return any("ImagePositionPatient" in one or "PlanePositionSequence" in one for one in holders)


def _owners(elements: Dataset) -> Iterator[str]:
    for keyword in OWNERS:
        if value := str(elements.get(keyword) or "").strip():
            text = f"{keyword}\0{value}".encode("utf-8", "surrogateescape")
            yield hashlib.blake2b(text, key=KEY, digest_size=16).hexdigest()


def _texts(value: Any) -> tuple[str, ...]:
    return () if value is None else (str(value),) if isinstance(value, str | int) else tuple(str(one) for one in value)


def _integer(elements: Dataset, keyword: str, default: int | None = None) -> int:
    value = elements.get(keyword)
    return default if value is None and default is not None else int(value)


def _numbers(value: Any, count: int) -> tuple[float, ...]:
    numbers = tuple(float(one) for one in ([value] if isinstance(value, str | int | float) else value))
    if len(numbers) != count or not all(math.isfinite(one) and abs(one) <= LARGEST_NUMBER for one in numbers):
        raise Refused("a number of its geometry or scaling is missing or not finite. Export it again.")
    return numbers


def _pixels(elements: Dataset, syntax: str) -> Pixels:
    if syntax not in NATIVE and syntax not in PLUGINS:
        name = UID(syntax).name
        raise Refused(f"encoded as {'unknown' if name == syntax else name}. Export it again without compression.")
    if "MOSAIC" in _texts(elements.get("ImageType")):
        raise Refused("a mosaic, many slices in one picture. Convert it to NIfTI.")
    photometric = str(elements.get("PhotometricInterpretation"))
    if _integer(elements, "SamplesPerPixel", 1) != 1 or photometric not in ("MONOCHROME1", "MONOCHROME2"):
        raise Refused("a colour image; grey is expected. Give the series that it was made from.")
    if "ModalityLUTSequence" in elements:
        raise Refused("its values stand for others by a table (modality LUT). Export it again without one.")
    pixels = Pixels(
        rows=_integer(elements, "Rows"),
        columns=_integer(elements, "Columns"),
        frames=_integer(elements, "NumberOfFrames", 1),
        allocated=_integer(elements, "BitsAllocated"),
        stored=_integer(elements, "BitsStored"),
        signed=bool(_integer(elements, "PixelRepresentation")),
        inverted=photometric == "MONOCHROME1",
        syntax=syntax,
    )
    high = _integer(elements, "HighBit", pixels.stored - 1)
    if pixels.allocated not in (8, 16, 32) or not 1 <= pixels.stored <= pixels.allocated or high != pixels.stored - 1:
        raise Refused(
            f"{pixels.stored} bits up to bit {high} of {pixels.allocated}; whole numbers of 8, 16 or 32 bits from bit 0"
            " on are expected. Export it again."
        )
    if NATIVE.get(syntax) == ">" and pixels.allocated == 8:
        raise Refused("8 bits with the high byte first, which is ambiguous. Export it again as little endian.")
    if min(pixels.rows, pixels.columns, pixels.frames) < 1:
        raise Refused("has no pixels. Replace it or remove it.")
    if pixels.frame_bytes * pixels.frames > LARGEST_VOLUME:
        raise Refused(f"is larger than {LARGEST_VOLUME:,} bytes. Make it smaller.")
    return pixels


def _frames(elements: Dataset, count: int) -> tuple[Frame, ...]:
    shared: Sequence[Dataset] = elements.get("SharedFunctionalGroupsSequence") or ()
    groups: Sequence[Dataset] = elements.get("PerFrameFunctionalGroupsSequence") or ()
    if not groups and count > 1:
        raise Refused(f"holds {count} frames that say not where they lie. Export it as one file a slice.")
    if groups and len(groups) != count:
        raise Refused(f"describes {len(groups)} frames but holds {count}. Replace it or remove it.")
    return tuple(_frame([group, *shared[:1]]) for group in groups) or (_frame([elements]),)


def _frame(holders: list[Dataset]) -> Frame:
    """`holders`: the groups of the frame and of all frames, or the dataset itself where a file is one slice."""

    def find(sequence: str, keyword: str) -> Any:
        inner = [item for holder in holders for item in (holder.get(sequence) or ())[:1]]
        return next((item.get(keyword) for item in (*inner, *holders) if item.get(keyword) is not None), None)

    position = find("PlanePositionSequence", "ImagePositionPatient")
    orientation = find("PlaneOrientationSequence", "ImageOrientationPatient")
    spacing = find("PixelMeasuresSequence", "PixelSpacing")
    if position is None or orientation is None or spacing is None:
        raise Refused(NOWHERE)
    slope = find("PixelValueTransformationSequence", "RescaleSlope")
    intercept = find("PixelValueTransformationSequence", "RescaleIntercept")
    frame = Frame(
        position=_numbers(position, 3),
        orientation=_unit_vectors(_numbers(orientation, 6)),
        spacing=_numbers(spacing, 2),
        slope=1.0 if slope is None else _numbers(slope, 1)[0],
        intercept=0.0 if intercept is None else _numbers(intercept, 1)[0],
    )
    if min(frame.spacing) < 1 / LARGEST_NUMBER or abs(frame.slope) < 1e-30:
        raise Refused("its pixels have no size, or its values no scale. Export it again.")
    return frame


def _unit_vectors(orientation: tuple[float, ...]) -> tuple[float, ...]:
    axes = np.reshape(orientation, (2, 3))
    if np.abs(axes @ axes.T - np.eye(2)).max() > SKEWED:
        raise Refused("its rows and columns are not at right angles. Export it again.")
    return tuple((axes / np.linalg.norm(axes, axis=1, keepdims=True)).ravel().tolist())
