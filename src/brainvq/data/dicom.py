"""A volume out of a DICOM series: one file a slice, or one enhanced multi-frame file with all of them.

`dicom_series.py` finds the files of a series, `dicom_header.py` and `dicom_pixels.py` read one of them,
`dicom_geometry.py` puts the slices in order; here they become a Scan. Values come out as stored, with slope and
intercept beside them where all slices share these; where slices have their own (Philips, PET), or the slope is
negative, they are applied. MONOCHROME1 (low is white) is turned into its mirror image within the stored bits. Only
geometry and intensities leave these files: no name, date or identifier of a patient, and `subject` is for the caller.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from brainvq.data.dicom_geometry import arrange
from brainvq.data.dicom_guard import Refused
from brainvq.data.dicom_header import File, Frame, parse
from brainvq.data.dicom_header import is_dicom as is_dicom
from brainvq.data.dicom_pixels import Pixels, frames
from brainvq.data.dicom_series import Series as Series
from brainvq.data.dicom_series import find_series as find_series
from brainvq.data.dicom_series import only_series as only_series
from brainvq.data.scan import LARGEST_VOLUME, Header, Scan, Storage
from brainvq.errors import InputError


@dataclass(frozen=True, eq=False)
class _Volume:
    """`places`: of each frame, in the order of files and frames, its slice. `applied`: values are to be scaled."""

    files: tuple[tuple[Path, Pixels], ...]
    slices: tuple[Frame, ...]
    places: NDArray[np.intp]
    affine: NDArray[np.float64]
    pixels: Pixels
    applied: bool

    @property
    def shape(self) -> tuple[int, int, int]:
        return self.pixels.columns, self.pixels.rows, len(self.slices)

    @property
    def dtype(self) -> np.dtype[Any]:
        """float32 holds any scaled 16-bit integer to its own precision, float64 those of 32 bits."""
        return np.dtype("f4" if self.pixels.allocated <= 16 else "f8") if self.applied else self.pixels.dtype

    @property
    def storage(self) -> Storage:
        if self.applied:
            return Storage(format="dicom")
        return Storage(format="dicom", slope=self.slices[0].slope, intercept=self.slices[0].intercept)


def read(files: Sequence[Path], *, path: Path, name: str, subject: str | None) -> Scan:
    """(X, Y, Z): columns, rows, slices. `path` is what errors call the series.

    Raises InputError for files that cannot be read in full, and for slices that do not make one even volume.
    """
    volume = _volume(files, path)
    voxels = np.empty(volume.shape[::-1], volume.dtype)  # slices lie one after the other, as they are read
    at = 0
    for file, pixels in volume.files:
        try:
            for values in frames(file, pixels):
                frame = volume.slices[at]
                voxels[volume.places[at]] = values * frame.slope + frame.intercept if volume.applied else values
                at += 1
        except Refused as refusal:
            raise _named(refusal, file, path) from None
    return Scan(voxels.transpose(2, 1, 0), volume.affine, subject, name, volume.storage)


def header(files: Sequence[Path], *, path: Path) -> Header:
    """What `read` would give, from the headers alone. Raises InputError as `read`, but for what only pixels tell."""
    volume = _volume(files, path)
    return Header(volume.shape, volume.dtype.name, volume.affine, volume.storage)


def _volume(files: Sequence[Path], path: Path) -> _Volume:
    parsed = tuple(_parsed(file, path) for file in files)
    slices = tuple(frame for file in parsed for frame in file.frames)
    images = tuple((file.path, file.pixels) for file in parsed if file.pixels)
    try:
        pixels = _shared([pixels for _, pixels in images])
        if pixels.frame_bytes * len(slices) > LARGEST_VOLUME:
            raise Refused(f"is larger than {LARGEST_VOLUME:,} bytes. Make it smaller.")
        order, affine = arrange(slices)
    except Refused as refusal:
        raise InputError(f"{path}: {refusal}") from None
    slopes = {(frame.slope, frame.intercept) for frame in slices}
    return _Volume(images, slices, np.argsort(order), affine, pixels, len(slopes) > 1 or slices[0].slope < 0)


def _parsed(file: Path, path: Path) -> File:
    try:
        parsed = parse(file)
        if parsed.refusal:
            raise Refused(parsed.refusal)
        return parsed
    except Refused as refusal:
        raise _named(refusal, file, path) from None


def _named(refusal: Refused, file: Path, path: Path) -> InputError:
    return InputError(f"{path}: {refusal}" if file == path else f"{path}: {file.name}: {refusal}")


def _shared(pixels: Sequence[Pixels]) -> Pixels:
    """What all files say alike."""
    if not pixels:
        raise Refused("no files. Give the folder that holds the slices.")
    sizes = {(one.rows, one.columns) for one in pixels}
    if len(sizes) > 1:
        listed = " and ".join(f"{rows} x {columns}" for rows, columns in sorted(sizes)[:2])
        raise Refused(
            f"its slices are of {len(sizes)} sizes, {listed} (rows x columns) among them. Give each size by itself."
        )
    if len({(one.dtype, one.inverted, one.inverted and one.stored) for one in pixels}) > 1:
        raise Refused("its slices differ in how they store values. Export it again.")
    return pixels[0]
